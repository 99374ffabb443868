# Certificate and key, as Kamailio will find them: tls.reload reads them as its own user.
folder=/etc/kamailio/tls
domain=$(sed -n 's/^#!substdef "!DOMAIN!\(.*\)!g"$/\1/p' /etc/kamailio/kamailio.cfg)
for file in "$folder/server.crt" "$folder/server.key"; do
    runuser -u kamailio -- test -r "$file" || complain "$file" 0 'the user `kamailio` cannot read it'
done
if ! openssl x509 -in "$folder/server.crt" -noout 2>/dev/null; then
    complain "$folder/server.crt" 0 'it is not a certificate'
    return 0
fi
openssl x509 -in "$folder/server.crt" -noout -checkend 0 >/dev/null ||
    complain "$folder/server.crt" 0 "it ran out: $(openssl x509 -in "$folder/server.crt" -noout -enddate)"
openssl x509 -in "$folder/server.crt" -noout -checkhost "$domain" | grep -q 'does match' ||
    complain "$folder/server.crt" 0 "it is not for $domain"
certified=$(openssl x509 -in "$folder/server.crt" -noout -pubkey)
[ "$certified" = "$(openssl pkey -in "$folder/server.key" -pubout 2>/dev/null)" ] ||
    complain "$folder/server.key" 0 'it is not the key of the certificate'
