# Kamailio's own parser over the candidate, and the sockets that it has read out of it. It opens none
# of them, and no file of data.
config=/etc/kamailio/kamailio.cfg
kamailio -c -f "$config" >/tmp/said 2>&1
verdict=$?
cat /tmp/said
if [ "$verdict" = 0 ] && grep -q '^Listening on' /tmp/said; then
    ports_of kamailio >/tmp/ports
    while read -r protocol address number; do
        if [ "$protocol" = tcp ]; then protocol='t(cp|ls)'; fi
        grep -Eq "^ *$protocol: .*\]:$number( |\$)" /tmp/said ||
            complain "$config" 0 "it does not listen on $address port $number"
    done </tmp/ports
fi
