# Reads all facts that a plan needs, and changes nothing.
# STATE DOMAIN PACKAGES UNITS TREES DIRECTORIES CERTIFICATE KEY LINEAGE ORDER; lists are separated by
# spaces. ORDER is empty if the site uses no ACME server.
# PACKAGES has a line for each `ID/CODENAME` of os-release that differs, and one for `other`. A second list,
# after ` / `, is for a host that runs an Asterisk which it built.
# Every apply begins with this script, so it starts few processes.
state=$1 domain=$2 choices=$3 units=$4 trees=$5 directories=$6 certificate=$7 key=$8 lineage=$9 order=${10}
more=${11-} # for a script that continues this one
exec </dev/null 2>/dev/null

# Prints the first line of a file, if it exists.
line_of() { if [ -e "$1" ]; then IFS= read -r line <"$1"; printf '%s\n' "$line"; fi; }
section clock; date +%s.%N
section os; cat /etc/os-release
section systemd; if [ -d /run/systemd/system ]; then echo yes; fi
section disk; df -Pk / /var /etc
section memory; line_of /proc/meminfo
section sockets; ss -H -tulnp
section addresses; ip -o addr show

system=$(. /etc/os-release; echo "${ID:-}/${VERSION_CODENAME:-}")
newline='
'
IFS=$newline other="" packages=""
for line in $choices; do
    case $line in
    "other "*) other=${line#* } ;;
    "$system "*) packages=${line#* } ;;
    esac
done
unset IFS
packages=${packages:-$other}

both=$(printf '%s\n' "$packages" | tr -d /)
if grep -qs /opt/sipdeploy/ /usr/local/sbin/asterisk; then packages=${packages##* / }; fi
packages=${packages%% / *}

section packages
rows=$(dpkg-query -W -f='${Package}\t${Version}\t${db:Status-Status}\n' $both)
printf '%s\n' "$rows"
installed=" " is_missing=
IFS=$newline
for line in $rows; do
    case $line in *"${tab}installed") installed="$installed${line%%"$tab"*} " ;; esac
done
unset IFS
for name in $packages; do
    case $installed in *" $name "*) ;; *) is_missing=yes ;; esac
done
# These two are slow, so query them only if a package is missing.
if [ -n "$is_missing" ]; then
    section candidates; apt-cache policy $both
    # /etc/hosts often maps the host's own name to loopback (127.0.1.1 on Debian); phones ask the DNS
    section domain
    found=$(timeout 3 getent ahosts "$domain")
    case $found in 127.* | ::1*) told=$(timeout 3 getent -s dns ahosts "$domain") ;; *) told= ;; esac
    printf '%s\n' "${told:-${found:-none}}"
fi
# apt gives the lists the server's date; the download folder has the time of the last update.
set -- /var/lib/apt/lists/*Packages*
section lists; if [ -e "$1" ]; then echo $#; else echo 0; fi; stat -c %Y /var/lib/apt/lists/partial

section debs; for deb in "$state"/debs/*.deb; do if [ -e "$deb" ]; then printf '%s\n' "${deb##*/}"; fi; done
section builds
for mark in /opt/sipdeploy/*/.built; do
    if [ -e "$mark" ] && IFS= read -r line <"$mark" && [ "$line" = "$system" ]; then
        mark=${mark%/.built}; printf '%s\n' "${mark##*/}"
    fi
done
section units
systemctl show -p Id,ActiveState,UnitFileState,NeedDaemonReload $units

# sipdeploy has no names with a backslash or a line break: the parser skips them.
# In a trial, the release on trial has written the files.
managed=$state/managed
if [ -e "$state/undo/trial" ]; then managed=$state/candidate/managed; fi
files() {
    if [ -f "$managed" ]; then cut -f1 "$managed" | tr '\n' '\0'; fi
    find $trees -type f -print0
}
# If xargs splits the list, each section occurs twice; the reader joins them.
files | sort -zu | token=$token xargs -0 -r sh -c '
    printf "\036%s digests\n" "$token"; sha256sum "$@"
    printf "\036%s modes\n" "$token"; stat -c "%a %U:%G %n" "$@"' sipdeploy
section room; line_of /etc/systemd/system/kamailio.service.d/sipdeploy.conf
section directories; stat -L -c '%a %U:%G %n' $directories
section managed; cat "$managed"
section serial; line_of "$state/serial"
section lock; line_of "$state/lock/holder"
section purpose; line_of "$state/lock/purpose"
section since; if [ -e "$state/lock" ]; then stat -c %Y "$state/lock"; fi
section release; line_of "$state/release"
if [ -e "$state/release" ]; then
    section applied; sed -n '/^  "domain": "/{s///;s/".*//p;q}' "$state/releases/$(line_of "$state/release")/release.json"
fi
section abandoned; if [ -e "$state/undo/index" ]; then echo yes; fi
section runner; line_of "$state/undo/holder"
section trial; line_of "$state/undo/trial"
section outcome; line_of "$state/outcome"
section timer; for unit in rollback.timer rollback.service trial.timer trial.service; do if [ -e "/run/systemd/transient/sipdeploy-$unit" ]; then echo yes; fi; done
section connection; echo "${SSH_CONNECTION:-}"
section ufw; if [ -e /etc/ufw/ufw.conf ]; then grep -x ENABLED=yes /etc/ufw/ufw.conf; fi
section chains; nft list chains
loaded=$?
# What a container may forbid. Bit 12 of the effective capabilities is CAP_NET_ADMIN (capabilities(7)); the
# status is that of systemd (systemd.exec(5)). A host with a release has passed this once.
while read -r name bits <&3; do
    if [ "$name" = CapEff: ]; then may=$((0x$bits >> 12 & 1)); fi
done 3</proc/self/status
if [ "${may:-1}" = 0 ] || { [ "$loaded" != 0 ] && [ "$loaded" != 127 ]; }; then section denied; echo nft; fi
if [ ! -e "$state/release" ] && [ -d /run/systemd/system ]; then
    systemd-run --quiet --wait --collect $sandbox -p BindReadOnlyPaths=/etc:/etc -p PrivateDevices=yes \
        -p ProtectKernelTunables=yes -- true
    case $? in 225 | 226) section denied; echo namespaces ;; esac
fi
# A packet filter decides about phones whoever wrote its rules. iptables on nftables writes expressions that only
# itself can show; the older iptables has rules only if the kernel lists its tables.
rules=$(nft -j list ruleset | head -c 4000000)
section nft; printf '%s\n' "$rules"
case $rules in "" | *'"xt"'* | *'"name": "INPUT"'*)
    section iptables; iptables-nft-save
    section ip6tables; ip6tables-nft-save
    ;;
esac
if grep -q . /proc/net/ip_tables_names; then section iptables-legacy; iptables-legacy-save; fi
if grep -q . /proc/net/ip6_tables_names; then section ip6tables-legacy; ip6tables-legacy-save; fi
section certificate; cat "$certificate"
section key; openssl pkey -in "$key" -pubout
section renewals
for path in /etc/letsencrypt/renewal/sipdeploy-*.conf; do if [ -e "$path" ]; then printf '%s\n' "$path"; fi; done
live=/etc/letsencrypt/live/$lineage renewal=/etc/letsencrypt/renewal/$lineage.conf
if [ -n "$order" ] || [ -e "$renewal" ] || [ -e "$renewal.parked" ]; then
    section lineage; cat "$live/fullchain.pem"
    section lineage-key; openssl pkey -in "$live/privkey.pem" -pubout
    section renewal; cat "$renewal" || cat "$renewal.parked"
    section cli-ini; grep -HnE '^[[:space:]]*(--)?(must-staple|elliptic-curve)' /etc/letsencrypt/cli.ini /root/.config/letsencrypt/cli.ini
    # a request to the ACME server is near (no certificate, or less than ten days left): check the DNS
    [ -z "$order" ] || openssl x509 -in "$live/fullchain.pem" -noout -checkend 864000 >/dev/null || { section dns; ask_dns "$domain"; }
fi
section end
