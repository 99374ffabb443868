# Waits until units are active and ports answer; tells what still does not. SECONDS, probes on stdin
seconds=$1
probes=$(cat)
exec </dev/null
end=$(($(date +%s) + seconds))

has_port() {
    printf '%s\n' "$sockets" | awk -v proto="$1" -v address="$2" -v port="$3" -v program="$4" '
        $1 == proto && index($0, "((\"" program "\",") {
            at = match($5, /:[0-9]+$/)
            host = substr($5, 1, at - 1)
            gsub(/[\[\]]/, "", host); sub(/%.*/, "", host)
            wild = host == "*" || host == "0.0.0.0" || host == "::"
            if (substr($5, at + 1) == port && (wild || host == address)) found = 1
        }
        END { exit !found }'
}
# The answer is read to its end: the server closes, as it was asked to.
answers() {
    printf 'GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$4" "$3" |
        timeout 5 openssl s_client -quiet -connect "$1:$2" -servername "$3" 2>/dev/null |
        head -n 1 | grep -q '^HTTP/1\.[01] 200'
}
holds() {
    case $1 in
    unit) systemctl is-active -q "$2" ;;
    port) has_port "$2" "$3" "$4" "$5" ;;
    https) answers "$2" "$3" "$4" "$5" ;;
    esac
}
while :; do
    sockets=$(ss -H -tulnp)
    left=$(printf '%s\n' "$probes" | while IFS=$tab read -r kind a b c d; do
        holds "$kind" "$a" "$b" "$c" "$d" </dev/null || printf '%s\t%s\t%s\t%s\t%s\n' "$kind" "$a" "$b" "$c" "$d"
    done)
    if [ -z "$left" ] || [ "$(date +%s)" -ge "$end" ]; then break; fi
    sleep 0.2
done
section left; printf '%s\n' "$left"
if [ -n "$left" ]; then
    for unit in $(printf '%s\n' "$probes" | awk -F "$tab" '$1 == "unit" { print $2 }'); do
        section "journal $unit"; journalctl -q -u "$unit" -n 15 --no-pager -o cat
    done
fi
section checked
