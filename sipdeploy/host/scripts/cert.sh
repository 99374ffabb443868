# Prints the certificate that each port serves, the one on disk, and the state of its renewal.
# Changes nothing. STATE DOMAIN CERTIFICATE KEY PORTS LINEAGE; LINEAGE is empty without certbot.
state=$1 domain=$2 certificate=$3 key=$4 ports=$5 lineage=$6
exec </dev/null 2>/dev/null
section clock; date +%s
section kamailio; systemctl is-active kamailio
for port in $ports; do
    section "served $port"; timeout 8 openssl s_client -connect "$port" -servername "$domain" | openssl x509
done
section certificate; cat "$certificate"
section key; openssl pkey -in "$key" -pubout
if [ -n "$lineage" ]; then
    section lineage; cat "/etc/letsencrypt/live/$lineage/fullchain.pem"
    section next
    when=$(systemctl show certbot.timer -p NextElapseUSecRealtime --value)
    if [ -n "$when" ]; then date -d "$when" +%s; fi
    section result; cat "$state/certificate.result"
    section unit; systemctl is-failed certbot.service
    # certbot renews all lineages in one run. It lists the certificates that failed, and names a configuration that it
    # cannot read.
    section failures
    run=$(systemctl show certbot.service -p InvocationID --value)
    [ -z "$run" ] || journalctl -q -o cat "_SYSTEMD_INVOCATION_ID=$run" | sed -n -e '/^Processing /d' \
        -e 's|.*/live/\([^/]*\)/fullchain\.pem (failure).*|\1|p' -e 's|.*/etc/letsencrypt/renewal/\([^/ ]*\)\.conf.*|\1|p'
fi
section end
