# Renews the certificate now with certbot, or tests the renewal. The hooks put it into use.
# HOW LINEAGE SERVER; HOW: renew, test
how=$1 lineage=$2 server=$3
script=/etc/sipdeploy/certificate.sh
exec </dev/null
[ -x "$script" ] && [ -s "/etc/letsencrypt/renewal/$lineage.conf" ] || fail "certbot has no certificate for this domain here"
if [ -e /etc/sipdeploy/acme-root.pem ]; then
    "$script" roots || fail "cannot write the root certificates"
    REQUESTS_CA_BUNDLE=/run/sipdeploy-acme-roots.pem
    export REQUESTS_CA_BUNDLE
fi
trap '"$script" close' EXIT
trap 'exit 130' HUP INT TERM PIPE
case $how in
renew) set -- --force-renewal ;;
test) set -- --dry-run ${server:+--server "$server"} ;;
esac
output=$(run_certbot renew --cert-name "$lineage" --no-random-sleep-on-renew "$@" 2>&1)
if [ $? = 0 ]; then section "done"; exit 0; fi
section refused; printf '%s\n' "$output"
section kinds; kinds
section account; sed -n 's/^account = //p' "/etc/letsencrypt/renewal/$lineage.conf"
exit 0
