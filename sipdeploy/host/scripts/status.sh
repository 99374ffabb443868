# Prints the state of the running host. STATE CERTIFICATE LINES
# Changes nothing, writes no file (the disk may be full), and asks nothing outside the host. Each section begins even if it
# stays empty, so an absent one was not asked. A daemon that hangs costs five seconds, not one for each question.
state=$1 certificate=$2 most=$3
exec </dev/null 2>/dev/null
ask() { timeout -k 1 5 "$@"; }
section clock; now=$(date +%s); printf '%s\n' "$now"; cat /proc/uptime
number=$(cat "$state/release") release=$state/releases/$number/release.json
section release; printf '%s\n' "$number"
section header; cat "$release"
section lock; cat "$state/lock/holder"
section purpose; cat "$state/lock/purpose"
section since; if [ -e "$state/lock" ]; then stat -c %Y "$state/lock"; fi
section abandoned; if [ -e "$state/undo/index" ]; then echo yes; fi
section outcome; cat "$state/outcome"
section timer; for unit in timer service; do if [ -e "/run/systemd/transient/sipdeploy-rollback.$unit" ]; then echo yes; fi; done
section proof; cat "$state/proof"

# sipdeploy writes release.json with one value on a line
domain=$(sed -n 's/^  "domain": "\([a-z0-9.-]*\)",$/\1/p' "$release" | head -n 1)
units=$(sed -n '/^  "units": {/,/^  }/s/.*: "\([a-z-]*\.[a-z]*\)",\{0,1\}$/\1/p' "$release")
ports=$(awk -F '"' '
    /^    "address": / { address = $4 }
    /^    "number": / { number = $3; gsub(/[^0-9]/, "", number) }
    /^    "process": / { process = $4 }
    /^    "is_tls": true/ {
        if (address == "0.0.0.0") address = "127.0.0.1"
        if (address == "::") address = "::1"
        if (address ~ /:/) address = "[" address "]"
        print process, address, number
    }' "$release")
section units
if [ -n "$units" ]; then
    systemctl show -p Id,LoadState,ActiveState,SubState,Result,NRestarts,UnitFileState,NeedDaemonReload,ActiveEnterTimestampMonotonic,InactiveEnterTimestampMonotonic $units
fi
section chains; nft list chains; echo "status $?"

section kamailio; ask kamcmd core.uptime; status=$?; echo "status $status"
if [ "$status" = 0 ]; then
    section running-kamailio; ask kamcmd core.version
    section memory; ask kamcmd core.shmmem
    section connections; ask kamcmd core.tcp_info
    section contacts; ask kamcmd stats.get_statistics usrloc:
    section tables; ask kamcmd htable.stats
    # The accounts of a proof, which may be under way. Their HA1 stays here.
    probes=$(ask kamcmd htable.dump probes | awk '$1 == "name:" && $2 ~ /^[0-9]+$/ { print $2 }')
    section probes
    for probe in $probes; do ask kamcmd ul.lookup location "$probe@$domain" | grep -c Address:; done
    section probes-up
    if [ -n "$probes" ]; then ask kamcmd htable.dump talks | grep -cE '"from":"[0-9]{16}'; fi
    section probes-ringing
    if [ -n "$probes" ]; then ask kamcmd htable.dump ringing | awk '$1 == "value:" && length($2) > 15' | wc -l; fi
fi
section users; wc -l </etc/kamailio/credentials.sum
# The networks of the phones: of IPv4 the first three numbers, of IPv6 the first 48 bits.
section networks
printf '%s\n' "$ports" | while read -r process address number; do
    if [ "$process" = kamailio ]; then ss -Htn state established "sport = :$number"; fi
done | awk '{
    address = $4; sub(/:[0-9]+$/, "", address); gsub(/[][]/, "", address); sub(/^::ffff:/, "", address); sub(/%.*/, "", address)
    if (address ~ /^127\./ || address == "::1" || address == "") next
    if (address ~ /:/) { split(address, part, ":"); print part[1] ":" (part[2] == "" ? 0 : part[2]) ":" (part[3] == "" ? 0 : part[3]) }
    else { sub(/\.[0-9]+$/, "", address); print address }
}' | sort -u | wc -l
section asterisk; ask asterisk -rx 'core show version'; echo "status $?"

section log
if grep -qs sipdeploy-calls /etc/kamailio/kamailio.cfg; then
    { journalctl -q --no-pager -o cat -n "$most" "--since=@$((now - 3600))" _SYSTEMD_UNIT=kamailio.service \
        SYSLOG_IDENTIFIER=sipdeploy-calls; echo "status $?"; } | grep -E '^status |^\{"event":"(call|refused|limit)"'
else
    echo none
fi

printf '%s\n' "$ports" | while read -r process address number; do
    if [ -z "$number" ]; then continue; fi
    section "served $process $number"
    # Kamailio has not answered: it would not now
    if [ "$process" = kamailio ] && [ "$status" = 124 ]; then continue; fi
    ask openssl s_client -connect "$address:$number" -servername "$domain" | openssl x509
done
section certificate; cat "$certificate"
section renewal; cat "$state/certificate.result"
section certbot; systemctl is-failed certbot.service

section packages; dpkg-query -W -f='${Package}\t${Version}\t${db:Status-Status}\n' kamailio asterisk coturn nginx
section policy; apt-cache policy kamailio asterisk coturn nginx
set -- /var/lib/apt/lists/*Packages*
section lists; if [ -e "$1" ]; then echo $#; else echo 0; fi; stat -c %Y /var/lib/apt/lists/partial

section disk; df -PB1 / /etc /var /var/lib/sipdeploy /var/spool/asterisk/voicemail
section voicemail
if [ -d /var/spool/asterisk/voicemail/default ]; then
    cd / && { as_asterisk timeout 10 find /var/spool/asterisk/voicemail/default -type f -printf '%s %f\n'; echo "status $?"; } |
        awk '$1 == "status" { status = $2; next } { bytes += $1 } $2 ~ /^msg[0-9]+\.txt$/ { messages++ }
            END { if (status == "0") print messages + 0, bytes + 0 }'
else
    echo 0 0
fi
section changed
awk -F "$tab" '$3 != "" { print $3 "  " $1; files++ } END { exit !files }' "$state/managed" | sha256sum -c --quiet; echo "status $?"
section end
