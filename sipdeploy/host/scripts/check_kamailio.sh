# Kamailio's own parser over the candidate. It opens no socket and no file of data.
exec kamailio -c -f /etc/kamailio/kamailio.cfg
