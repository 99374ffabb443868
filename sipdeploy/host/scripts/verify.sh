# Waits until units are active and ports answer; reports the probes that still fail. Sourced before
# `swap`.
# Over one connection, the WebSocket port must serve the certificate of the file, complete the handshake
# and answer SIP. A REGISTER without credentials gets a challenge, in mode `asterisk` from Asterisk behind
# Kamailio. ADDRESS PORT DOMAIN FILE ORIGIN NUMBER
register() {
    # each attempt has its own branch: a proxy would send the reply to a repeated one to the first sender
    once=$(date +%s%N)
    printf '%s\r\n' "REGISTER sip:$3 SIP/2.0" "Via: SIP/2.0/WSS probe.invalid;branch=z9hG4bK$once" \
        "Max-Forwards: 70" "From: <sip:$6@$3>;tag=$once" "To: <sip:$6@$3>" "Call-ID: $once@probe.invalid" \
        "CSeq: 1 REGISTER" "Contact: <sip:$6@probe.invalid;transport=ws>" "Expires: 60" "Content-Length: 0" ""
}
talk() {
    handshake "$3" "$5" && frame "$(register "$@")" && await '^[^ ]*SIP/2.0 '
}
# The certificate itself is compared, because OpenSSL reads the same one from files that differ in line ends and in
# text around it.
fingerprint() { openssl x509 -noout -fingerprint -sha256 2>/dev/null; }
reason=
# Whether the output of s_client in file $1 has the certificate in file $2.
is_served() {
    served=$(fingerprint <"$1")
    if [ -z "$served" ]; then reason='does not speak TLS'
    elif [ "$served" != "$(fingerprint <"$2")" ]; then reason="serves another certificate than $2"
    else return 0; fi
    return 1
}
answers() {
    : >"$candidate/answer"
    talk "$@" | timeout 8 openssl s_client -connect "$1:$2" -servername "$3" >"$candidate/answer" 2>/dev/null
    is_served "$candidate/answer" "$4" || return 1
    if ! grep -aq '^HTTP/1.1 101 ' "$candidate/answer"; then reason='does not speak WebSocket'
    elif ! grep -aq 'SIP/2.0 ' "$candidate/answer"; then reason='does not answer a REGISTER'
    else return 0; fi
    return 1
}
# Whether a port serves the certificate of the file. ADDRESS PORT DOMAIN FILE
serves() {
    timeout 8 openssl s_client -connect "$1:$2" -servername "$3" </dev/null >"$candidate/answer" 2>/dev/null
    is_served "$candidate/answer" "$4"
}
# Whether a port serves the page too. ADDRESS PORT DOMAIN FILE
shows() {
    printf 'HEAD / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$3" |
        timeout 8 openssl s_client -connect "$1:$2" -servername "$3" -ign_eof >"$candidate/answer" 2>/dev/null
    is_served "$candidate/answer" "$4" || return 1
    grep -aq '^HTTP/1.1 200 ' "$candidate/answer" || { reason='does not serve the page'; return 1; }
}
is_up() {
    [ "$(systemctl is-active "$1")" = active ] || return 1
    case $2 in restart | start) [ "$(systemctl show -p NRestarts --value "$1")" = 0 ] || [ "${1##*.}" = timer ] ;; esac
}
holds() {
    reason=
    case $1 in
    unit) is_up "$2" "$3" ;;
    port) has_port "$2" "$3" "$4" "$5" ;;
    wss) answers "$2" "$3" "$4" "$5" "$6" "$7" ;;
    tls) serves "$2" "$3" "$4" "$5" ;;
    https) shows "$2" "$3" "$4" "$5" ;;
    esac
}
# Whether all connections are in use on a Kamailio that this run has not restarted: a change of users must not be undone
# because strangers fill the port at this moment.
is_full() {
    if grep -q "^kamailio\.service${tab}active${tab}[a-z]*${tab}\(start\|restart\)" "$candidate/units"; then return 1; fi
    timeout 5 kamcmd core.tcp_info 2>/dev/null | awk '
        $1 == "max_connections:" { most = $2 }
        $1 == "opened_connections:" { open = $2 }
        END { exit !(most && open >= most * 0.98) }'
}
# Repeats failed probes until the time is over, because a daemon needs a moment to start.
verify() {
    step "$(title verify)"
    end=$(($(date +%s) + $1))
    while :; do
        sockets=$(ss -H -tulnp)
        : >"$candidate/left"
        while IFS=$tab read -r kind a b c d e f <&3; do
            if [ "$e" = - ]; then e=; fi
            holds "$kind" "$a" "$b" "$c" "$d" "$e" "$f" ||
                printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$kind" "$a" "$b" "$c" "$d" "$reason"
        done 3<"$candidate/probes" >"$candidate/left"
        if [ ! -s "$candidate/left" ] || [ "$(date +%s)" -ge "$end" ]; then break; fi
        sleep 0.2
    done
    if grep -q "^wss$tab" "$candidate/left" && is_full; then
        step "all connections of the port for phones are in use: it was not tested"
        sed -i "/^wss$tab/d" "$candidate/left"
    fi
    if [ -s "$candidate/left" ]; then
        for unit in $(awk -F "$tab" '$1 == "unit" { print $2 }' "$candidate/probes"); do
            section "journal $unit"; journalctl -q -u "$unit" -n 15 --no-pager -o cat
        done
    fi
}
# Prints the number of registered contacts. A restart of Kamailio loses them, and phones register again.
registrations() {
    timeout 5 kamcmd stats.get_statistics usrloc: 2>/dev/null | sed -n 's/.*location[-_]contacts = \([0-9]*\).*/\1/p'
}
count_registrations() {
    before=0
    if grep -q "^kamailio\.service${tab}active${tab}[a-z]*${tab}restart" "$candidate/units"; then
        before=$(registrations)
    fi
    before=${before:-0}
}
# Waits until all are back, or nine in ten are back and no more come. If five or more were registered and
# none returns, the apply fails, because something shuts phones out.
await_registrations() {
    [ "$before" -gt 0 ] || return 0
    step "wait for $before registration$([ "$before" -eq 1 ] || echo s)"
    waited=0 still=0 now=0
    while :; do
        last=$now now=$(registrations) now=${now:-0}
        if [ "$now" -eq "$last" ]; then still=$((still + 1)); else still=0; fi
        if [ "$now" -ge "$before" ] || [ "$waited" -ge $(($1 * 5)) ]; then break; fi
        if [ $((now * 10)) -ge $((before * 9)) ] && [ "$still" -ge 15 ]; then break; fi
        waited=$((waited + 1)); sleep 0.2
    done
    if [ "$now" -eq 0 ] && [ "$before" -ge 5 ]; then printf 'registrations\t%s\n' "$before" >>"$candidate/left"; fi
    if [ "$now" -lt "$before" ]; then step "$now of $before registrations are back"; fi
}
