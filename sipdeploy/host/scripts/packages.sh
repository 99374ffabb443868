# Fetches the archive's lists, or installs packages without starting them, and without having UNITS
# (divided by spaces) started at the next boot. update | install UNITS PACKAGE...
umask 022
exec 2>&1 </dev/null
export DEBIAN_FRONTEND=noninteractive APT_LISTCHANGES_FRONTEND=none NEEDRESTART_SUSPEND=1
policy=/usr/sbin/policy-rc.d held=
mark="$no_daemons ($$)"
# The mark tells our file from the administrator's, also after a run that was cut off; the number
# tells it from that of a run that was cut off and is still ending its work.
cleanup() {
    if grep -qsxF "$mark" "$policy"; then rm -f "$policy"; fi
    for unit in $held; do systemctl disable -q "$unit" 2>/dev/null; done
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
held=$1; shift
if [ ! -e "$policy" ] || grep -qF "$no_daemons" "$policy"; then
    printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy.sipdeploy-new" &&
        chmod 755 "$policy.sipdeploy-new" && mv -f "$policy.sipdeploy-new" "$policy" ||
        { echo "E: $policy cannot be written"; exit 1; }
fi
# An earlier run may have been cut off: dpkg first ends what it began. Its apt may live on for a
# while and hold the lock, for which dpkg itself does not wait.
interrupted() { [ -n "$(ls /var/lib/dpkg/updates)" ] || [ -n "$(dpkg --audit)" ]; }
settle() {
    tries=0
    until said=$(dpkg --configure -a $keep 2>&1); do
        case $said in *"frontend lock"*) ;; *) break ;; esac
        tries=$((tries + 1))
        [ "$tries" -le 60 ] || break
        [ "$tries" -gt 1 ] || echo "waiting for another installation to end"
        sleep 2
    done
    printf '%s\n' "$said"
}
if interrupted; then
    echo "ending an interrupted installation"
    settle
    apt --fix-broken install || exit
fi
apt --no-install-recommends install "$@"
