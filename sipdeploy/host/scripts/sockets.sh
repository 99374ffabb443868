# Whether a program listens, according to $sockets, the output of `ss -H -tulnp`. PROTOCOL ADDRESS PORT PROGRAM
has_port() {
    printf '%s\n' "$sockets" | awk -v proto="$1" -v address="$2" -v port="$3" -v program="$4" '
        $1 == proto && index($0, "((\"" program "\",") {
            at = match($5, /:[0-9]+$/)
            host = substr($5, 1, at - 1)
            gsub(/[\[\]]/, "", host); sub(/%.*/, "", host)
            wild = host == "*" || host == "0.0.0.0" || host == "::"
            if (substr($5, at + 1) == port && (wild || host == address)) listens = 1
        }
        END { exit !listens }'
}
# Prints a complaint for each port in TABLE on which PROGRAM does not listen within 3 s: a daemon may
# answer on its console before it listens. PROGRAM TABLE
deaf() {
    tries=0
    while :; do
        sockets=$(ss -H -tulnp)
        left=$(while IFS=$(printf '\t') read -r kind protocol address number program; do
            [ "$kind:$program" = "port:$1" ] && ! has_port "$protocol" "$address" "$number" "$1" &&
                echo "it starts, but does not listen on $protocol $address port $number"
        done <"$2")
        tries=$((tries + 1))
        if [ -z "$left" ] || [ "$tries" -ge 30 ]; then break; fi
        sleep 0.1
    done
    if [ -n "$left" ]; then printf '%s\n' "$left"; fi
}
