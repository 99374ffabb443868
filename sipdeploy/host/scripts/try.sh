# Opens the trial of a run: after SECONDS the host goes back by itself, unless `confirm` follows.
# STATE HOLDER SECONDS LOG; the line for the log on stdin. Idempotent. Prints `late` if the host has undone the run.
state=$1 holder=$2 seconds=$3 log=$4
undo=$state/undo
audit=$(cat)
exec </dev/null
take_turn "$state"
if [ ! -e "$undo/index" ] || [ "$(cat "$undo/holder" 2>/dev/null)" != "$holder" ]; then section late; exit 0; fi
if [ ! -e "$undo/trial" ]; then
    printf '%s\n' "$audit" >"$undo/audit" || fail "cannot write $undo"
    # The new timer runs before the other one stops, so that the host always has one.
    if [ "$seconds" -gt 0 ] && [ ! -e /run/systemd/transient/sipdeploy-trial.timer ]; then start_timer sipdeploy-trial "$seconds" trial; fi
    printf '%s\n' "$(($(date +%s) + seconds))" >"$undo/trial.new" && sync -f "$undo" && mv -f "$undo/trial.new" "$undo/trial" ||
        fail "cannot write $undo"
fi
stop_timer sipdeploy-rollback
section open; cat "$undo/trial"
