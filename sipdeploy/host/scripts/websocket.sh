# SIP over a WebSocket, with `openssl s_client`. Sourced before others.
octets() { printf "$(printf '\\%03o' "$@")"; }
# Prints a client's text frame (RFC 6455, section 5.2), masked with zeros. One write, so it is one TLS
# record.
frame() {
    pieces "$1" >"$candidate/frame" && cat "$candidate/frame"
}
pieces() {
    length=$((${#1} + 1)) # $(...) has removed the last line feed
    octets 129 254 $((length / 256)) $((length % 256)) 0 0 0 0
    printf '%s\n' "$1"
}
await() {
    tries=0
    until grep -aq "$1" "$candidate/answer"; do
        tries=$((tries + 1)); [ "$tries" -lt "${2:-${patience:-40}}" ] || return 1; sleep 0.03
    done
}
# DOMAIN ORIGIN
handshake() {
    printf '%s\r\n' "GET /ws HTTP/1.1" "Host: $1" "Upgrade: websocket" "Connection: Upgrade" \
        "Sec-WebSocket-Version: 13" "Sec-WebSocket-Key: c2lwZGVwbG95IHByb2JlIQ==" \
        "Sec-WebSocket-Protocol: sip" ${2:+"Origin: $2"} ""
    await '^HTTP/1.1 101 '
}
