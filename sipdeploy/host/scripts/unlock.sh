# Removes the candidate and the lock of a run, if HOLDER owns the lock. STATE HOLDER
state=$1 holder=$2
if [ "$(cat "$state/lock/holder" 2>/dev/null)" != "$holder" ]; then section unlocked; exit 0; fi
rm -rf "$state/candidate"
drop_lock "$holder"
[ ! -d "$state/lock" ] || [ "$(cat "$state/lock/holder")" != "$holder" ] || fail "cannot remove $state/lock"
section unlocked
