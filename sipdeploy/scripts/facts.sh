# Reads everything that a plan is made from, and changes nothing.
# STATE DOMAIN PACKAGES UNITS TREES DIRECTORIES CERTIFICATE KEY; lists are separated by spaces.
# PACKAGES has a line for each `ID/CODENAME` of os-release that differs, and one for `other`.
state=$1 domain=$2 choices=$3 units=$4 trees=$5 directories=$6 certificate=$7 key=$8
exec </dev/null 2>/dev/null

section clock; date +%s.%N
section os; cat /etc/os-release
section systemd; if [ -d /run/systemd/system ]; then echo yes; fi
section disk; df -Pk / /var /etc | tail -n +2
section memory; grep MemTotal /proc/meminfo
section sockets; ss -H -tulnp
section addresses; ip -o addr show

system=$(. /etc/os-release; echo "${ID:-}/${VERSION_CODENAME:-}")
packages=$(printf '%s\n' "$choices" | awk -v id="$system" '
    $1 == id { found = $0 } $1 == "other" { other = $0 }
    END { $0 = found ? found : other; $1 = ""; print }')

section packages
found=$(dpkg-query -W -f='${Package}\t${Version}\t${db:Status-Status}\n' $packages)
printf '%s\n' "$found"
wanted=$(echo $packages | wc -w)
present=$(printf '%s\n' "$found" | grep -c "${tab}installed$")
# Only a host that still lacks something is asked what costs time: its archive, and the DNS.
if [ "$present" -lt "$wanted" ]; then
    section candidates; apt-cache policy $packages
    section domain; timeout 3 getent ahosts "$domain" || echo none
fi
# apt leaves the server's date on the lists; the folder in which it downloads tells when it last did.
section lists; ls /var/lib/apt/lists | grep -c Packages; stat -c %Y /var/lib/apt/lists/partial

section units
systemctl show -p Id,ActiveState,UnitFileState,NeedDaemonReload $units

# A file that is there; what is not there costs no process.
show() { if [ -e "$1" ]; then cat "$1"; fi; }
# Names with a backslash or a line break are none of ours and are passed over.
files() {
    if [ -f "$state/managed" ]; then cut -f1 "$state/managed" | tr '\n' '\0'; fi
    find $trees -type f -print0
}
section digests; files | sort -zu | xargs -0 -r sha256sum
section modes; files | sort -zu | xargs -0 -r stat -c '%a %U:%G %n'
section directories; stat -c '%a %U:%G %n' $directories
section managed; cat "$state/managed"
section serial; show "$state/serial"
section lock; show "$state/lock/holder"
section purpose; show "$state/lock/purpose"
section since; if [ -e "$state/lock" ]; then stat -c %Y "$state/lock"; fi
section release; show "$state/release"
section abandoned; if [ -e "$state/undo/index" ]; then echo yes; fi
section runner; show "$state/undo/holder"
section outcome; show "$state/outcome"
section timer; if [ -e /run/systemd/transient/sipdeploy-rollback.timer ]; then echo yes; fi
section connection; echo "${SSH_CONNECTION:-}"
section ufw; grep -x ENABLED=yes /etc/ufw/ufw.conf
section chains; nft list chains
section certificate; cat "$certificate"
section key; openssl pkey -in "$key" -pubout
section end
