# Whose turn it is: the lock is a folder that names its holder. It comes and goes by a rename, so that
# whatever is cut off, a lock names somebody and can be taken over. Sourced before others.
# lock_host HOLDER PURPOSE SERIAL BREAKS
# SERIAL is what the facts saw: if it has changed since, another apply was faster and they are old.
# BREAKS is a holder that may be displaced: it is dead, or the user has said so.
lock_host() {
    mkdir -p "$state" && chmod 700 "$state" || fail "$state cannot be made"
    has=$(cat "$state/lock/holder" 2>/dev/null)
    if [ -n "$has" ] && [ "$has" = "$1" ]; then return 0; fi
    if [ -n "$4" ]; then drop_lock "$4"; fi
    new=$state/.locking.$$
    if ! { mkdir "$new" && printf '%s\n' "$2" >"$new/purpose" && printf '%s\n' "$1" >"$new/holder"; }; then
        rm -rf "$new"; fail "$state/lock cannot be written: is the disk full?"
    fi
    if ! mv -T "$new" "$state/lock" 2>/dev/null; then
        rm -rf "$new"
        [ -d "$state/lock" ] || fail "$state/lock cannot be made: is the disk full?"
        section busy; cat "$state/lock/holder" 2>/dev/null || echo
        section busy-purpose; cat "$state/lock/purpose" 2>/dev/null
        section busy-seconds; echo $(($(date +%s) - $(stat -c %Y "$state/lock" 2>/dev/null || date +%s)))
        exit 0
    fi
    rm -rf "$state"/.locking.* # of those that were cut off
    if [ "$(cat "$state/serial" 2>/dev/null)" != "$3" ]; then
        drop_lock "$1"; section changed; exit 0
    fi
}
