set -u
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
umask 077
tab=$(printf '\t')
# What follows belongs to this section, up to the next one (ASCII record separator). The token came with
# the script on its standard input: a mark without it, in a file or in what a program prints, divides
# nothing. It must not be exported, nor stand in arguments, which every account can read.
token=${token-}
section() { printf '\036%s %s\n' "$token" "$*"; }
# Ends the script; the last line of stderr is what the user reads.
fail() { printf '%s\n' "$*" >&2; exit 1; }
# The line by which our policy-rc.d is known.
no_daemons='# sipdeploy: no daemon starts while packages are being installed'
# What changes the host does so alone: a command whose connection was lost lives on, and an undo
# waits for its end. The kernel gives the turn back when the last holder of the descriptor ends, so
# no daemon may inherit it.
take_turn() {
    exec 9<"$1" || fail "$1 cannot be opened"
    flock -w 120 9 || fail "an earlier command of sipdeploy has been running here for 120 s"
}
systemctl() { command systemctl "$@" 9>&-; }
# Tells that a part of a script begins; an empty title tells nothing.
step() { if [ -n "$1" ]; then section "step $1"; fi; }
# Runs a command as Asterisk's user: the folders below /var are that user's, and a link there must not
# lead root elsewhere.
as_asterisk() {
    setpriv --reuid asterisk --regid asterisk --clear-groups --no-new-privs -- "$@" </dev/null 9>&-
}
# Removes the lock in $state if HOLDER has it; never another's.
drop_lock() {
    gone=$state/.unlocked.$$
    [ "$(cat "$state/lock/holder" 2>/dev/null)" = "$1" ] && mv -T "$state/lock" "$gone" 2>/dev/null || return 0
    [ "$(cat "$gone/holder")" = "$1" ] || mv -T "$gone" "$state/lock"
    rm -rf "$state"/.unlocked.*
}
# Stops the host's timer, if one is armed; harmless where there is none.
disarm() {
    if [ -e /run/systemd/transient/sipdeploy-rollback.timer ]; then systemctl stop sipdeploy-rollback.timer; fi
    systemctl reset-failed sipdeploy-rollback.service 2>/dev/null || :
}
# The numbers of the releases that are kept in $state, the oldest first.
kept_releases() {
    for release in "$state"/releases/[0-9]*; do
        if [ -e "$release" ]; then printf '%s\n' "${release##*/}"; fi
    done | grep -x '[0-9]*' | sort -n
}
