# Ends the sessions of numbers that were removed or have a new password. Sourced before `swap`.
# A managed file has each number with a checksum of its credential. The comparison with the previous
# file shows the changes, whatever caused them: a command, an edit of the inventory, a rollback.
sums=/etc/kamailio/credentials.sum
ask_kamailio() { timeout 60 kamcmd 2>/dev/null; }
# Ends connections on which Kamailio has sent a close frame. Kamailio itself closes one up to five
# seconds later (TCP_CHILD_TIMEOUT in its tcp_conn.h), and a silent one after 25 s: so the kernel does it,
# if it can (`ss -K`). ADDRESS:PORT of each on stdin.
cut_off() {
    port=$(awk -F "$tab" '$1 == "wss" { print $3; exit }' "$candidate/probes")
    grep -x '[][0-9a-fA-F.:]*' | xargs -r -n 50 sh -c '
        far=$(printf " or dst %s" "$@")
        ss -K -H -t state established "sport = :$0 and ( ${far# or } )"' "$port" >/dev/null 2>&1
}
# If more than 500 numbers changed, look up only those that are registered. An incomplete list is ignored.
registered_alone() {
    if [ "$(wc -l <"$candidate/ended")" -le 500 ]; then return 0; fi
    timeout 60 kamcmd ul.dump brief >"$candidate/listed" 2>/dev/null && grep -q 'Max-Slots:' "$candidate/listed" || return 0
    sed -n 's/^[[:space:]]*AoR: *//p' "$candidate/listed" | sort >"$candidate/registered"
    comm -12 "$candidate/registered" "$candidate/ended" >"$candidate/both" && mv -f "$candidate/both" "$candidate/ended"
}
contacts() { sed 's/^/ul.lookup location /' "$candidate/ended" | ask_kamailio; }
# Prints ADDRESS:PORT of each connection that has proved one of these numbers. The registrations do not show all of them:
# two connections may have registered one Contact, and in mode `asterisk` a connection may have removed its own.
proven() {
    timeout 60 kamcmd htable.dump proven 2>/dev/null | awk '
        NR == FNR { sub(/@.*/, ""); ended[$0]; next }
        $1 == "name:" { source = $2 }
        $1 == "value:" && ($2 in ended) { print source }' "$candidate/numbers" -
}
end_sessions() {
    if [ ! -f "$undo/tree$sums" ]; then return 0; fi
    comm -23 "$undo/tree$sums" "$sums" | cut -d' ' -f1 >"$candidate/ended"
    if [ ! -s "$candidate/ended" ]; then return 0; fi
    step "$(title sessions)"
    cp "$candidate/ended" "$candidate/numbers"
    proven >"$candidate/proven"
    registered_alone
    if [ ! -s "$candidate/ended" ] && [ ! -s "$candidate/proven" ]; then return 0; fi
    # In mode `asterisk` a connection may send for its number while it is in the table `registered`.
    contacts | awk '
        $1 == "Received:" { sub(/^sip:/, "", $2); sub(/;.*/, "", $2); source = $2 }
        $1 == "Tcpconn-Id:" {
            print "htable.delete registered s:" source
            if ($2 > 0) print "ws.close " $2
            print "cut " source
        }' >"$candidate/closing"
    sed 'h; s/^/htable.delete proven s:/p; g; s/^/htable.delete registered s:/p; g; s/^/cut /' "$candidate/proven" >>"$candidate/closing"
    { grep '^htable' "$candidate/closing"; sed 's/^/ul.rm location /' "$candidate/ended"; grep '^ws' "$candidate/closing"; } |
        ask_kamailio >/dev/null
    sleep 0.2
    sed -n 's/^cut //p' "$candidate/closing" | cut_off
    if contacts | grep -q 'Tcpconn-Id:' || proven | grep -q .; then
        give_up "kamcmd ul.rm" "a number that was removed or has a new password is still registered" kamailio.service
    fi
}
