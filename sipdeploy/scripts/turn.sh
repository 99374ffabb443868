# Whose turn it is: the lock is a folder, for mkdir either makes it or fails. Sourced before others.
# lock_host HOLDER PURPOSE SERIAL BREAKS
# SERIAL is what the facts saw: if it has changed since, another apply was faster and they are old.
# BREAKS is a holder that may be displaced: it is dead, or the user has said so.
lock_host() {
    mkdir -p "$state" && chmod 700 "$state" || fail "$state cannot be made"
    has=$(cat "$state/lock/holder" 2>/dev/null)
    if [ -n "$has" ] && [ "$has" = "$1" ]; then return 0; fi
    if [ -n "$4" ] && [ "$has" = "$4" ]; then rm -rf "$state/lock"; fi
    if ! mkdir "$state/lock" 2>/dev/null; then
        [ -d "$state/lock" ] || fail "$state/lock cannot be made: is the disk full?"
        section busy; cat "$state/lock/holder" 2>/dev/null || echo
        section busy-purpose; cat "$state/lock/purpose" 2>/dev/null
        section busy-seconds; echo $(($(date +%s) - $(stat -c %Y "$state/lock" 2>/dev/null || date +%s)))
        exit 0
    fi
    if ! { printf '%s\n' "$2" >"$state/lock/purpose" && printf '%s\n' "$1" >"$state/lock/holder"; }; then
        rm -rf "$state/lock"; fail "$state/lock cannot be written: is the disk full?"
    fi
    if [ "$(cat "$state/serial" 2>/dev/null)" != "$3" ]; then
        rm -rf "$state/lock"; section changed; exit 0
    fi
}
