set -u
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
umask 077
tab=$(printf '\t')
# Begins a section of the output; it ends at the next mark (ASCII record separator). The token came with
# the script on standard input, so a mark without it, in a file or in a program's output, does not divide.
# Never export the token or pass it in arguments: every account can read both.
token=${token-}
section() { printf '\036%s %s\n' "$token" "$*"; }
# Ends the script; the last line of stderr is what the user reads.
fail() { printf '%s\n' "$*" >&2; exit 1; }
# The line that identifies sipdeploy's policy-rc.d.
no_daemons='# sipdeploy: no daemon starts while packages are being installed'
# Only one command changes the host at a time: a command whose connection was lost keeps running, and an
# undo waits for its end. The kernel releases the lock when the last process with the descriptor ends
# (flock(2)), so no daemon may inherit it.
take_turn() {
    exec 9<"$1" || fail "$1 cannot be opened"
    flock -w 120 9 || fail "an earlier command of sipdeploy is still running after 120 s"
}
systemctl() { command systemctl "$@" 9>&-; }
# The confinement of a check of the candidate, as options of systemd-run.
sandbox='-p PrivateNetwork=yes -p PrivateTmp=yes -p ProtectSystem=strict -p ProtectHome=yes -p TemporaryFileSystem=/run/kamailio'
# Reports that a part of a script begins; an empty title reports nothing.
step() { if [ -n "$1" ]; then section "step $1"; fi; }
# Runs a command as the user `asterisk`, who owns the folders below /var: root must not follow a link
# there.
as_asterisk() {
    setpriv --reuid asterisk --regid asterisk --clear-groups --no-new-privs -- "$@" </dev/null 9>&-
}
# Removes the lock in $state if its owner is HOLDER.
drop_lock() {
    gone=$state/.unlocked.$$
    [ "$(cat "$state/lock/holder" 2>/dev/null)" = "$1" ] && mv -T "$state/lock" "$gone" 2>/dev/null || return 0
    [ "$(cat "$gone/holder")" = "$1" ] || mv -T "$gone" "$state/lock"
    rm -rf "$state"/.unlocked.*
}
# Stops a timer, and its rollback that waits for the lock or for its next attempt. Call it with the lock, so that it
# stops no rollback at work. NAME
stop_timer() {
    for unit in "$1.timer" "$1.service"; do
        if [ -e "/run/systemd/transient/$unit" ]; then systemctl stop "$unit"; fi
    done
    systemctl reset-failed "$1.service" 2>/dev/null || :
}
# Stops the host's rollback timers, as above.
disarm() { stop_timer sipdeploy-rollback; stop_timer sipdeploy-trial; }
# Prints the numbers of the releases in $state, oldest first, each with the digest of its configuration, without users.
# An older sipdeploy wrote no digest: there each release is a configuration of its own.
configurations() {
    for number in $(kept_releases); do
        printf '%s %s\n' "$number" "$(cat "$state/releases/$number/configuration" 2>/dev/null || echo "$number")"
    done
}
# Prints the numbers of the releases in $state, oldest first.
kept_releases() {
    for release in "$state"/releases/[0-9]*; do
        if [ -e "$release" ]; then printf '%s\n' "${release##*/}"; fi
    done | grep -x '[0-9]*' | sort -n
}
