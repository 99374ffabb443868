# Has certbot fetch a certificate; nothing that is live changes. STATE HOLDER LINEAGE ROOT ARGUMENT...
# ROOT is not empty where the ACME server has a root of its own; the files that certbot needs come as a
# tar on stdin, tree/... is the host's /.
state=$1 holder=$2 lineage=$3 root=$4
shift 4
renewal=/etc/letsencrypt/renewal/$lineage.conf
issue=$state/issue
take_turn "$state"
[ "$(cat "$state/lock/holder" 2>/dev/null)" = "$holder" ] || fail "the lock was taken away in the meantime"
take_back all # of a run that was cut off
mkdir -p "$issue/tree" && tar -xzpmf - -C "$issue" || fail "$issue cannot be written"
exec </dev/null
(cd "$issue/tree" && find . -type f) | sed 's/^\.//' >"$issue/files"
for path in $(cat "$issue/files") "$renewal" "/etc/letsencrypt/live/$lineage" "/etc/letsencrypt/archive/$lineage"; do
    save_path "$path" || fail "$path could not be kept: is the disk full?"
done
sync -f "$issue" && mv "$issue/entries" "$issue/index" && sync -f "$issue" || fail "$issue cannot be written"
while read -r path <&3; do
    mkdir -p "${path%/*}" && chmod 755 "${path%/*}" && cp -p "$issue/tree$path" "$path.sipdeploy-new" &&
        mv -fT "$path.sipdeploy-new" "$path" || fail "$path could not be written"
done 3<"$issue/files"
# certbot makes no second lineage of a name whose files are there.
if [ ! -e "$renewal" ] && [ -e "$renewal.parked" ] && [ -e "/etc/letsencrypt/live/$lineage" ]; then cp -p "$renewal.parked" "$renewal"; fi

script=/etc/sipdeploy/certificate.sh
if [ -n "$root" ]; then
    sh "$script" roots || fail "the roots cannot be written"
    REQUESTS_CA_BUNDLE=/run/sipdeploy-acme-roots.pem
    export REQUESTS_CA_BUNDLE
fi
# Whatever ends this, port 80 is shut; when nothing can, it shuts by itself.
trap 'sh "$script" close' EXIT
trap 'exit 130' HUP INT TERM PIPE
sh "$script" open
# The type of the error (RFC 8555, section 6.7) stands in certbot's log alone, which each run begins anew.
kind() { grep -ohE 'urn:ietf:params:acme:error:[A-Za-z]+' /var/log/letsencrypt/letsencrypt.log | tail -n 1; }
# A nonce that is out of date is no verdict (RFC 8555, section 6.5); certbot makes up for one in a row.
for try in 1 2 3; do
    { certbot "$@" 2>&1 9>&-; echo $? >"$issue/status"; } | tee "$issue/said"
    if [ "$(cat "$issue/status")" = 0 ]; then section issued; exit 0; fi
    case $(kind) in *:badNonce) ;; *) break ;; esac
done
said=$(cat "$issue/said")
take_back all
section refused; printf '%s\n' "$said"
kind
