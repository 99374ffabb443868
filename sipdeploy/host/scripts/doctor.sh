# What `sipdeploy doctor` reads of a host beyond the facts. Runs after `facts`, which has closed standard input and
# standard error, in the same exchange. Changes nothing, and prints no secret. The last argument of `facts`
# is a number, or empty.
number=$more
db=/etc/kamailio/sipdeploy.db etc=/etc/asterisk
# The limits are for daemons that are stopped or stuck; a console of Asterisk that waits for one ignores SIGTERM.
ask() { timeout -s KILL 4 kamcmd "$@" 2>&1; }
console() { timeout -s KILL 4 asterisk -rx "$1" 2>&1; }
events() { journalctl -q --no-pager "$@"; }
# Prints PART unless Asterisk shows the digest of its files, as in reload.sh. PART QUESTION FILE...
unless_loaded() {
    part=$1 question=$2; shift 2
    digest=$(cd $etc && cat "$@" | sed -n 's/^; digest \([0-9a-f]*\)$/\1/p')
    case $(console "$question") in *"$digest"*) ;; *) echo "$part" ;; esac
}

section daemons
systemctl show -p Id,ActiveState,SubState,Result,NRestarts kamailio.service asterisk.service coturn.service certbot.service
section processes; ps -C kamailio,asterisk -o comm=,stat=
section queue; ss -H -ltn
for unit in kamailio asterisk coturn certbot; do section "log $unit"; events -b -p err -n 5 -o cat -u "$unit"; done
section times; stat -c %Y /etc/kamailio/dialog-key.cfg /run/kamailio/kamailio.pid "$state/release"
section calls
events -o json --output-fields=MESSAGE,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT --since=-24h -n 3000 \
    _SYSTEMD_UNIT=kamailio.service SYSLOG_IDENTIFIER=sipdeploy-calls

# The first changed lines of each file that somebody has edited since the last apply; none of these has secrets.
section edits
tree=$state/releases/$(cat "$state/release")/tree
for file in /etc/kamailio/kamailio.cfg /etc/kamailio/tls.cfg /etc/sipdeploy/firewall.nft $etc/pjsip.conf $etc/pjsip_transport.conf \
    $etc/rtp.conf $etc/extensions.conf $etc/modules.conf $etc/asterisk.conf $etc/voicemail.conf; do
    if [ -f "$tree$file" ] && ! cmp -s "$tree$file" "$file"; then
        diff -U0 "$tree$file" "$file" | sed -n '1,2d; /^[-+]/p' | head -n 6 | sed "s#^#$file$tab#"
    fi
done
section own; ls -d /etc/kamailio/local.cfg $etc/local/*.conf /etc/sipdeploy/local*.nft

section uptime
if ask core.uptime; then
    section connections; ask core.tcp_info
    section shared; ask core.shmmem
    rows=$(ask htable.stats | awk '$1 == "name:" { name = $2 } $1 == "all:" && name == "users" { print $2 }')
    if [ "${rows:-0}" -le 20000 ]; then
        section held
        for table in users services; do ask htable.dump $table | awk -v table=$table '$1 == "name:" { print table, $2 }'; done
        # The numbers whose HA1 in memory is nowhere in the file. A pipe alone sees them.
        section differing
        held=$(ask htable.dump credentials | awk '$1 == "name:" { name = $2 } $1 == "value:" { print name, $2 }')
        if [ -n "$held" ]; then
            {
                printf '%s\n' "$held" | cut -d' ' -f2 | grep -aoF -f - "$db"
                printf '%s\n' "$held"
            } | awk 'NF == 1 { written[$1] } NF == 2 && !($2 in written) { print $1 }' | head -n 20
        fi
    fi
    if [ -n "$number" ]; then
        section user; ask htable.get users "s:$number"
        section phones; ask ul.lookup location "$number@$domain"
        section failures
        ask htable.dump failures | awk -v of="$number@" '
            $1 == "name:" { name = $2 } $1 == "value:" && index(name, of) == 1 { print substr(name, length(of) + 1), $2 }'
    fi
fi

section asterisk
if console 'core show uptime seconds'; then
    section channels; console 'core show channels count'
    section running; console 'module show' | awk '/ Running / && !/ Not Running / { print $1 }'
    section wanted; sed -n 's/^load *=>* *//p' $etc/modules.conf
    section identify; console 'pjsip show identifies'
    section trunk; console 'pjsip show endpoint trunk'
    section rtp; console 'rtp show settings'
    section unloaded
    unless_loaded endpoints 'pjsip show endpoint loaded' pjsip.conf pjsip_users.conf
    unless_loaded dialplan 'dialplan show digest@loaded' extensions.conf
fi
# What is said to callers, and the room for what they say.
section sounds
for sound in digits/1 vm-intro; do
    if [ -n "$(find -L /usr/share/asterisk/sounds /var/lib/asterisk/sounds -path "*/$sound.*" -print -quit)" ]; then echo $sound; fi
done
spool=/var/spool/asterisk
if [ ! -d $spool/voicemail/default ]; then boxes=$spool; else boxes=$spool/voicemail/default; fi
section spool; df -Pk $spool; df -Pi $spool; if as_asterisk test -w $boxes; then echo writable; fi
section boxes
as_asterisk timeout 20 find $boxes -mindepth 3 -maxdepth 3 -path '*/INBOX/msg*.txt' -printf '%P\n' |
    awk -F / '$1 ~ /^[0-9]+$/ && NF == 3 { waiting[$1]++ } END { for (box in waiting) print box, waiting[box] }'
section examined
