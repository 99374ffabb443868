# Gets a certificate with certbot; changes nothing live. STATE HOLDER LINEAGE ROOT ACCOUNTS EMAIL ARGUMENT...
# ROOT is not empty if the ACME server has its own root certificate. ACCOUNTS is the directory of certbot's
# accounts on that server. The files that certbot needs come as a tar on stdin; tree/... is the host's /.
state=$1 holder=$2 lineage=$3 root=$4 accounts=$5 email=$6
shift 6
renewal=/etc/letsencrypt/renewal/$lineage.conf
issue=$state/issue
take_turn "$state"
[ "$(cat "$state/lock/holder" 2>/dev/null)" = "$holder" ] || fail "another run has taken the lock in the meantime"
take_back all # what an interrupted run left
mkdir -p "$issue/tree" && tar -xzpmf - -C "$issue" || fail "cannot write $issue"
exec </dev/null
(cd "$issue/tree" && find . -type f) | sed 's/^\.//' >"$issue/files"
for path in $(cat "$issue/files") "$renewal" "/etc/letsencrypt/live/$lineage" "/etc/letsencrypt/archive/$lineage"; do
    save_path "$path" || fail "cannot back up $path: is the disk full?"
done
sync -f "$issue" && mv "$issue/entries" "$issue/index" && sync -f "$issue" || fail "cannot write $issue"
while read -r path <&3; do
    mkdir -p "${path%/*}" && chmod 755 "${path%/*}" && cp -p "$issue/tree$path" "$path.sipdeploy-new" &&
        mv -fT "$path.sipdeploy-new" "$path" || fail "cannot write $path"
done 3<"$issue/files"
# certbot creates no lineage whose files exist without a renewal configuration: restore the parked one.
if [ ! -e "$renewal" ] && [ -e "$renewal.parked" ] && [ -e "/etc/letsencrypt/live/$lineage" ]; then cp -p "$renewal.parked" "$renewal"; fi

# certbot asks which of several accounts to use, and cannot ask here. Use the one that has renewed this certificate, or has
# the e-mail address, or is the newest.
account() {
    [ "$(ls "$accounts" 2>/dev/null | wc -l)" -gt 1 ] || return 0
    mine=$(grep -lF "\"mailto:$email\"" "$accounts"/*/regr.json | head -n 1)
    mine=${mine%/regr.json}
    for id in $(sed -n 's/^account = //p' "$renewal") "${mine##*/}" $(ls -t "$accounts"); do
        if [ -n "$id" ] && [ -e "$accounts/$id/private_key.json" ]; then echo "$id"; return; fi
    done
}
chosen=$(account 2>/dev/null)
if [ -n "$chosen" ]; then
    step "certbot has several accounts on this server: use $chosen"
    set -- "$@" --account "$chosen"
fi
script=/etc/sipdeploy/certificate.sh
if [ -n "$root" ]; then
    sh "$script" roots || fail "cannot write the root certificates"
    REQUESTS_CA_BUNDLE=/run/sipdeploy-acme-roots.pem
    export REQUESTS_CA_BUNDLE
fi
# Port 80 closes however this script ends; if the trap cannot run, it closes by itself.
trap 'sh "$script" close' EXIT
trap 'exit 130' HUP INT TERM PIPE
sh "$script" open
# After badNonce the client should retry (RFC 8555, section 6.5); certbot retries only once.
for try in 1 2 3; do
    { run_certbot "$@" 2>&1 9>&-; echo $? >"$issue/status"; } | tee "$issue/output"
    if [ "$(cat "$issue/status")" = 0 ]; then
        section issued; cat "/etc/letsencrypt/live/$lineage/fullchain.pem"
        exit 0
    fi
    [ "$(kinds | grep '^urn:')" = urn:ietf:params:acme:error:badNonce ] || break
done
output=$(cat "$issue/output")
take_back all
section refused; printf '%s\n' "$output"
section kinds; kinds
section account; if [ -n "$chosen" ]; then echo "$accounts/$chosen"; else ls -d "$accounts"/*; fi 2>/dev/null
exit 0
