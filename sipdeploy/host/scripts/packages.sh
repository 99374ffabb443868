# Updates the package lists, or installs packages without starting their daemons now, or UNITS
# (separated by spaces) at the next boot. update | install UNITS PACKAGE...
umask 022
exec 2>&1 </dev/null
export DEBIAN_FRONTEND=noninteractive APT_LISTCHANGES_FRONTEND=none NEEDRESTART_SUSPEND=1
policy=/usr/sbin/policy-rc.d units=
mark="$no_daemons ($$)"
# The mark identifies sipdeploy's file, also after an interrupted run; the process number identifies the
# file of this run, because an interrupted one may still be running.
cleanup() {
    if grep -qsxF "$mark" "$policy"; then rm -f "$policy"; fi
    for unit in $units; do systemctl disable -q "$unit" 2>/dev/null; done
}
trap cleanup EXIT
trap 'exit 130' HUP INT TERM PIPE
keep='--force-confdef --force-confold'
apt() {
    apt-get -y -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 -o Acquire::Retries=2 \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}

what=$1; shift
if [ "$what" = update ]; then
    apt update
    exit $?
fi
units=$1; shift
if [ ! -e "$policy" ] || grep -qF "$no_daemons" "$policy"; then
    printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy.sipdeploy-new" &&
        chmod 755 "$policy.sipdeploy-new" && mv -f "$policy.sipdeploy-new" "$policy" ||
        { echo "E: cannot write $policy"; exit 1; }
fi
# dpkg must first finish what an interrupted run began. The apt of that run may still hold the lock,
# and dpkg itself does not wait for it.
interrupted() { [ -n "$(ls /var/lib/dpkg/updates)" ] || [ -n "$(dpkg --audit)" ]; }
settle() {
    tries=0
    until output=$(dpkg --configure -a $keep 2>&1); do
        case $output in *"frontend lock"*) ;; *) break ;; esac
        tries=$((tries + 1))
        [ "$tries" -le 60 ] || break
        [ "$tries" -gt 1 ] || echo "waiting for another installation to end"
        sleep 2
    done
    printf '%s\n' "$output"
}
if interrupted; then
    echo "finishing an interrupted installation"
    settle
    apt --fix-broken install || exit
fi
apt --no-install-recommends install "$@"
