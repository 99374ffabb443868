# The lock is a folder that names its owner. A rename creates and removes it, so even after an
# interruption a lock names an owner and can be taken over. Sourced before others.
# lock_host HOLDER PURPOSE SERIAL BREAKS
# SERIAL is the serial in the facts: if it has changed, another apply was faster and the facts are old.
# BREAKS is an owner whose lock may be removed: it is dead, or the user said `--break-lock`.
lock_host() {
    mkdir -p "$state" && chmod 700 "$state" || fail "cannot create $state"
    owner=$(cat "$state/lock/holder" 2>/dev/null)
    if [ -n "$owner" ] && [ "$owner" = "$1" ]; then return 0; fi
    if [ -n "$4" ]; then drop_lock "$4"; fi
    new=$state/.locking.$$
    if ! { mkdir "$new" && printf '%s\n' "$2" >"$new/purpose" && printf '%s\n' "$1" >"$new/holder"; }; then
        rm -rf "$new"; fail "cannot write $state/lock: is the disk full?"
    fi
    if ! mv -T "$new" "$state/lock" 2>/dev/null; then
        rm -rf "$new"
        [ -d "$state/lock" ] || fail "cannot create $state/lock: is the disk full?"
        section busy; cat "$state/lock/holder" 2>/dev/null || echo
        section busy-purpose; cat "$state/lock/purpose" 2>/dev/null
        section busy-seconds; echo $(($(date +%s) - $(stat -c %Y "$state/lock" 2>/dev/null || date +%s)))
        exit 0
    fi
    rm -rf "$state"/.locking.* # left by interrupted runs
    if [ "$(cat "$state/serial" 2>/dev/null)" != "$3" ]; then
        drop_lock "$1"; section changed; exit 0
    fi
}
