# Prints as a tar what an inventory cannot rebuild. STATE; the script `snapshot` on stdin
# It reads while no apply works. The member `header` has a line `KEY VALUE` for each fact about the host.
state=$1 work=
snapshot=$(cat)
exec </dev/null
[ -e "$state/release" ] || fail "sipdeploy has not configured this host"
take_turn "$state"
renice -n 10 $$ >/dev/null 2>&1
trap 'rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM PIPE
rm -rf "$state"/.backup.*
work=$(mktemp -d "$state/.backup.XXXXXX") || fail "cannot write $state: is the disk full?"
version() { dpkg-query -W -f='${Version}' "$1" 2>/dev/null || echo none; }
{
    printf 'release %s\n' "$(cat "$state/release")"
    printf 'domain %s\n' "$(sed -n 's/^  "domain": "\(.*\)",*$/\1/p' "$state/releases/$(cat "$state/release")/release.json" | head -n 1)"
    printf 'os %s\n' "$(. /etc/os-release; echo "${PRETTY_NAME:-}")"
    printf 'kamailio %s\nasterisk %s\n' "$(version kamailio)" "$(version asterisk)"
} >"$work/header"
# What sipdeploy writes from the inventory is not needed.
is_managed() { cut -f1 "$state/managed" | grep -qxF -e "$1"; }
list() {
    for path in /etc/kamailio/dialog-key.cfg /etc/kamailio/tls/server.crt /etc/kamailio/tls/server.key /etc/kamailio/local.cfg \
        /etc/asterisk/local/* /etc/sipdeploy/local*.nft /etc/systemd/system/kamailio.service.d/*.conf \
        /etc/systemd/system/asterisk.service.d/*.conf /etc/systemd/system/certbot.service.d/*.conf \
        /etc/systemd/system/nftables.service.d/*.conf /etc/systemd/system/sipdeploy-firewall.service.d/*.conf \
        /etc/systemd/system/coturn.service.d/*.conf /etc/systemd/system/sipdeploy-nginx.service.d/*.conf; do
        if [ -f "$path" ] && ! is_managed "$path"; then printf '%s\n' "${path#/}"; fi
    done
    for renewal in /etc/letsencrypt/renewal/sipdeploy-*.conf; do
        [ -f "$renewal" ] || continue
        lineage=${renewal##*/}
        printf '%s\n' "${renewal#/}"
        for half in cert chain fullchain privkey; do echo "etc/letsencrypt/live/${lineage%.conf}/$half.pem"; done
        server=$(sed -n 's,^server = https*://,,p' "$renewal") account=$(sed -n 's/^account = //p' "$renewal")
        for path in "/etc/letsencrypt/accounts/$server/$account"/*.json; do
            if [ -f "$path" ]; then printf '%s\n' "${path#/}"; fi
        done
    done
}
list >"$work/list"
calls=var/lib/sipdeploy/calls.log
mkdir -p "$work/${calls%/*}"
cat "/$calls" >"$work/$calls" 2>/dev/null
journalctl -q -t sipdeploy-calls -o json --output-fields=MESSAGE 2>/dev/null | tail -c 60000000 >>"$work/$calls"
if [ -s "$work/$calls" ]; then set -- "$calls"; else set --; fi
# One archive follows the other, so the first must not have the two blocks that end it.
tar --format=ustar --blocking-factor=1 --dereference --verbatim-files-from -cf "$work/own" \
    -C "$work" header "$@" -C / -T "$work/list" || fail "cannot read these files"
exec 9<&-
head -c -1024 "$work/own" || exit 1
if ! getent passwd asterisk >/dev/null; then tar --format=ustar -cf - -T /dev/null; exit; fi
cd / && as_asterisk sh -c "$snapshot" snapshot /var/spool/asterisk
