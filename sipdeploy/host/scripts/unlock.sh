# Removes what a run leaves beside the live files, if the run is HOLDER's own. STATE HOLDER
state=$1 holder=$2
if [ "$(cat "$state/lock/holder" 2>/dev/null)" != "$holder" ]; then section unlocked; exit 0; fi
rm -rf "$state/candidate"
drop_lock "$holder"
[ ! -d "$state/lock" ] || [ "$(cat "$state/lock/holder")" != "$holder" ] || fail "$state/lock cannot be removed"
section unlocked
