# Starts Kamailio on the candidate, in its own network namespace, and queries it. This finds what the
# parser accepts: a missing route or table, an invalid pattern, an address that the host does not have.
config=/etc/kamailio/kamailio.cfg candidate=${0%/scripts/*}
chown kamailio: /run/kamailio || exit 1 # only this trial sees this folder
ip link set lo up
for address in $(sed -n 's/^listen=tls:\[*\([0-9a-fA-F.:]*[0-9a-fA-F]\)\]*:[0-9]* .*/\1/p' "$config"); do
    case $address in
    127.* | 0.0.0.0 | ::) ;;
    *:*) ip addr add "$address/128" dev lo nodad ;;
    *) ip addr add "$address/32" dev lo ;;
    esac
done
port=$(sed -n 's/^listen=tls:.*:\([0-9]*\) advertise.*/\1/p' "$config" | head -n 1)
where=$(sed -n 's/^listen=tls:\(.*\):[0-9]* advertise.*/\1/p' "$config" | sed 's/^0.0.0.0$/127.0.0.1/; s/^\[::\]$/[::1]/' | head -n 1)
private=$(sed -n 's/^ExecStart=.* -M \([0-9]*\).*/\1/p' /etc/systemd/system/kamailio.service.d/sipdeploy.conf 2>/dev/null)
ulimit -n 65536 2>/dev/null
# Shared memory for the tables only: there will be one connection.
setsid kamailio -f "$config" -DD -E -m 512 -M "${private:-64}" -u kamailio -g kamailio -P /run/kamailio/trial.pid >/tmp/output 2>&1 &
main=$!
ask() { kamcmd -s unix:/run/kamailio/kamailio_ctl "$1" >/dev/null 2>&1; }
complain() { echo "trial: $*"; verdict=1; }
# Kamailio starts even if a table is not defined, and reads $null from it: so check their names here.
tables() {
    kamcmd -s unix:/run/kamailio/kamailio_ctl htable.listTables | sed -n 's/^[{[:space:]]*name: *//p' >/tmp/tables
    awk 'NR == FNR { known[$1]; next }
        {
            text = $0; sub(/^[ \t]*#.*/, "", text); at = 0
            while (match(text, /\$sht[a-z]*\([A-Za-z0-9_-]+=>/)) {
                name = substr(text, RSTART, RLENGTH - 2); sub(/.*\(/, "", name)
                if (!(name in known)) printf "%s:%d:%d: there is no table %s\n", FILENAME, FNR, at + RSTART, name
                at += RSTART; text = substr(text, RSTART + 1)
            }
        }' /tmp/tables /etc/kamailio/*.cfg
}
page() {
    printf 'GET /healthz HTTP/1.1\r\nHost: trial\r\nConnection: close\r\n\r\n' |
        timeout 5 openssl s_client -quiet -connect "$where:$port" 2>/tmp/tls | head -n 1 |
        grep -q '^HTTP/1\.[01] 200'
}
tries=0
until ask core.uptime || [ "$tries" -ge 600 ] || ! kill -0 "$main" 2>/dev/null; do
    tries=$((tries + 1)); sleep 0.05
done
verdict=0
if ask core.uptime; then
    { tables; deaf kamailio "$candidate/probes"; } >/tmp/faults
    while read -r line; do complain "$line"; done </tmp/faults
    [ "$verdict" != 0 ] || page || complain "it starts, but does not answer on port $port: $(tail -n 1 /tmp/tls)"
    # errors that do not prevent a start
    if grep -qE ' (ERROR|CRITICAL): ' /tmp/output; then verdict=1; fi
else
    verdict=1
fi
kill "$main" 2>/dev/null
if [ "$verdict" != 0 ]; then cat /tmp/output; fi
exit "$verdict"
