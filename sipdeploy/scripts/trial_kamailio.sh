# Starts the candidate's Kamailio in a network of its own, and asks it. What its parser passes and a
# start does not: a route or a table that is not there, a bad pattern, an address that cannot be.
config=/etc/kamailio/kamailio.cfg
unit=$tree/etc/systemd/system/kamailio.service.d/sipdeploy.conf
mkdir /run/kamailio && chown kamailio: /run/kamailio || exit 1
ip link set lo up
ports_of kamailio | while read -r protocol address number; do
    case $address in
    127.* | 0.0.0.0 | ::*) ;;
    *:*) ip addr add "$address/128" dev lo nodad ;;
    *) ip addr add "$address/32" dev lo ;;
    esac
done
# Shared memory for the tables and one connection, not for the thousands that are provided for.
shared=$(sed -n 's/^ExecStart=.* -m \([0-9]*\).*/\1/p' "$unit")
private=$(sed -n 's/^ExecStart=.* -M \([0-9]*\).*/\1/p' "$unit")
if [ "${shared:=256}" -gt 512 ]; then shared=512; fi
ulimit -n 65536 2>/dev/null
kamailio -f "$config" -DD -E -m "$shared" -M "${private:-64}" -u kamailio -g kamailio >/tmp/said 2>&1 &
main=$!
tries=0
until kamcmd -s unix:/run/kamailio/kamailio_ctl core.uptime >/dev/null 2>&1; do
    tries=$((tries + 1))
    if ! kill -0 "$main" 2>/dev/null || [ "$tries" -ge 400 ]; then
        cat /tmp/said
        if kill -0 "$main" 2>/dev/null; then complain "$config" 0 'it starts, but is not ready within 20 s'; fi
        exit 1
    fi
    sleep 0.05
done
listens_not kamailio >/tmp/silent
while read -r port; do complain "$config" 0 "it starts, but does not listen on $port"; done </tmp/silent
where=$(awk -F '\t' '$1 == "wss" { print $2 ":" $3; exit }' "$candidate/probes")
if [ "$verdict" = 0 ] && [ -n "$where" ]; then
    printf 'GET /healthz HTTP/1.1\r\nHost: trial\r\nConnection: close\r\n\r\n' |
        timeout 5 openssl s_client -quiet -connect "$where" 2>/tmp/tls | head -n 1 >/tmp/answer
    grep -q '^HTTP/1\.[01] 200' /tmp/answer ||
        complain "$config" 0 "it starts, but https://$where/healthz gives no answer: $(tail -n 1 /tmp/tls)"
fi
if [ "$verdict" != 0 ]; then cat /tmp/said; fi
