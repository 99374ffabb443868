# Lets one apply at a time work on the host. STATE HOLDER SERIAL STALE
# SERIAL is what the facts saw: if it has changed since, another apply was faster and they are old.
# STALE is a holder that the caller knows to be dead.
state=$1 holder=$2 serial=$3 stale=$4
mkdir -p "$state" && chmod 700 "$state" || fail "$state cannot be made"
if [ -n "$stale" ] && [ "$(cat "$state/lock/holder" 2>/dev/null)" = "$stale" ]; then
    rm -rf "$state/lock"
fi
if ! mkdir "$state/lock" 2>/dev/null; then
    [ -d "$state/lock" ] || fail "$state/lock cannot be made: is the disk full?"
    section busy; cat "$state/lock/holder"; exit 0
fi
if ! printf '%s\n' "$holder" >"$state/lock/holder"; then
    rm -rf "$state/lock"; fail "$state/lock cannot be written: is the disk full?"
fi
if [ "$(cat "$state/serial" 2>/dev/null)" != "$serial" ]; then
    rm -rf "$state/lock"; section changed; exit 0
fi
section locked
