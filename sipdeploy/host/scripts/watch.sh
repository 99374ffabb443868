# Prints how the host does: registered users, daemons, and the call log of the last SECONDS.
# STATE HOLDER UNTIL SECONDS TIMEOUT LOG
# Without a HOLDER it also says which users are registered.
# With a HOLDER it also keeps the run of that owner open: its rollback timer of TIMEOUT seconds starts anew, so that the
# host goes back soon after the deploying machine is gone. UNTIL is when the watch ends, in seconds since 1970.
state=$1 holder=$2 until=$3 seconds=$4 timeout=$5 log=$6
undo=$state/undo
exec </dev/null
section clock; date +%s.%N
if [ -n "$holder" ]; then
    take_turn "$state"
    if [ ! -e "$undo/index" ] || [ "$(cat "$undo/holder" 2>/dev/null)" != "$holder" ]; then
        section over; cat "$state/confirmed"
        exit 0
    fi
    # systemd forgets a transient timer that stops, so two take turns; the new one runs before the other one stops
    now=sipdeploy-trial then=sipdeploy-rollback
    if [ -e /run/systemd/transient/$now.timer ]; then now=sipdeploy-rollback then=sipdeploy-trial; fi
    if [ "$timeout" -gt 0 ]; then
        stop_timer $now
        start_timer $now "$timeout" timer
        stop_timer $then
    fi
    if [ ! -e "$undo/trial" ]; then printf '%s\n' "$until" >"$undo/trial.new" && mv -f "$undo/trial.new" "$undo/trial"; fi
    exec 9<&-
fi
exec 2>/dev/null
section contacts; timeout 5 kamcmd stats.get_statistics usrloc:
# an incomplete list does not say who is registered
if [ -z "$holder" ] && listed=$(timeout 20 kamcmd ul.dump brief); then
    case $listed in *Max-Slots:*) section registered; printf '%s\n' "$listed" | sed -n 's/^[[:space:]]*AoR: *//p' ;; esac
fi
section units; systemctl show -p Id,ActiveState,NRestarts,ExecMainStartTimestampMonotonic kamailio.service asterisk.service
section journal
journalctl -q --no-pager -n 20000 -o json --output-fields=MESSAGE,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT "--since=-${seconds}s" \
    _SYSTEMD_UNIT=kamailio.service SYSLOG_IDENTIFIER=sipdeploy-calls
section end
