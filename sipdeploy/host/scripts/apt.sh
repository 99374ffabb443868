# Runs apt-get when no other program uses apt. Sourced before `packages` and `repository`.
# DPkg::Lock::Timeout waits only for dpkg's locks, and not for those of lists and downloads (apt.conf(5)).
apt_locks='/var/lib/apt/lists/lock /var/cache/apt/archives/lock /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock'
apt_seconds=300
# Prints `NAME (pid NUMBER)` of each program that has a lock open. Only the holder has: who does not get a
# lock closes it again. /proc/locks does not identify files on every file system.
apt_users() {
    set --
    for lock in $apt_locks; do set -- "$@" -o -lname "$lock"; done
    shift
    find /proc/[0-9]*/fd -maxdepth 1 \( "$@" \) 2>/dev/null | cut -d/ -f3 | sort -nu | while read -r pid; do
        if name=$(cat "/proc/$pid/comm" 2>/dev/null); then printf '%s (pid %s)\n' "$name" "$pid"; fi
    done | paste -sd , - | sed 's/,/, /g'
}
# Waits until no other program uses apt, at most to the time $end. TITLE is that of the step which waits.
await_apt() {
    end=${end:-$(($(date +%s) + apt_seconds))} users=$(apt_users)
    [ -n "$users" ] || return 0
    step "wait for $users to release apt"
    while [ -n "$users" ] && [ "$(date +%s)" -lt "$end" ]; do sleep 1; users=$(apt_users); done
    step "$1"
}
# Tries again if a program came in between. When the time is over, the section `held` names it. TITLE WORD...
apt() {
    title=$1 end=; shift
    while :; do
        await_apt "$title"
        apt-get -y -o DPkg::Lock::Timeout=20 -o Dpkg::Use-Pty=0 -o Acquire::Retries=2 \
            -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@" && return 0
        status=$? users=$(apt_users)
        [ -n "$users" ] || return $status
        if [ "$(date +%s)" -ge "$end" ]; then section held; printf '%s\n' "$users"; return $status; fi
    done
}
