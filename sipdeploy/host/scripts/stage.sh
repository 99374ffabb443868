# Takes the lock, unpacks the candidate from stdin beside the live files, and lets the host's daemons
# check it. Changes nothing live. STATE DOMAIN HOLDER PURPOSE SERIAL BREAKS
state=$1 domain=$2
candidate=$state/candidate tree=$state/candidate/tree
lock_host "$3" "$4" "$5" "$6"
rm -rf "$candidate"
mkdir -p "$tree" || fail "cannot create $candidate"
tar -xzpmf - -C "$candidate" || fail "cannot write the candidate to $candidate"

for owner in $(cat "$candidate/owners"); do
    getent passwd "${owner%:*}" >/dev/null || fail "the host has no user ${owner%:*}"
    getent group "${owner#*:}" >/dev/null || fail "the host has no group ${owner#*:}"
done

# The host generates its keys itself; they never leave it.
make_certificate() {
    openssl ecparam -name prime256v1 -genkey -noout -out "$2" &&
    openssl req -new -x509 -key "$2" -out "$1" -days 825 -sha256 -config /dev/stdin <<EOF
[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = sipdeploy self-signed
[extensions]
subjectAltName = DNS:$domain
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
EOF
}
make_dialog_key() {
    random=$(openssl rand -hex 32) && [ ${#random} -eq 64 ] &&
    printf '#!substdef "!DIALOG_KEY!%s!g"\n' "$random" >"$1"
}

while IFS=$tab read -r what mode owner path <&3; do
    mkdir -p "$tree${path%/*}"
    case $what in
    keep) cp -p "$path" "$tree$path" ;;
    certificate) make_certificate "$tree$path" "$tree${path%.crt}.key" ;;
    key) [ -s "$tree$path" ] ;;
    dialog-key) make_dialog_key "$tree$path" ;;
    /*) cp -L "$what" "$tree$path" ;;
    esac >"$candidate/output" 2>&1 || fail "cannot create $path: $(tail -n 3 "$candidate/output")"
    chown "$owner" "$tree$path" && chmod "$mode" "$tree$path" || fail "cannot give $path the owner $owner and mode $mode"
done 3<"$candidate/generated"

certificate=$tree/etc/kamailio/tls/server.crt key=$tree/etc/kamailio/tls/server.key
if [ -e "$certificate" ] && [ "$(openssl x509 -in "$certificate" -noout -pubkey)" != "$(openssl pkey -in "$key" -pubout)" ]; then
    fail "the key in the candidate does not belong to its certificate"
fi
if [ -e "$certificate" ] && ! openssl x509 -in "$certificate" -noout -checkhost "$domain" | grep -q 'does match'; then
    fail "the certificate in the candidate is not for $domain"
fi
validate
section staged
