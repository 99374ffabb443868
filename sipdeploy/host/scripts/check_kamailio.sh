# Lets Kamailio parse the candidate. It opens no socket and no database.
exec kamailio -c -f /etc/kamailio/kamailio.cfg
