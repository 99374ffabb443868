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
what=$1; shift
if [ "$what" = update ]; then
    apt "update package lists" update
    exit $?
fi
# A unit that is enabled already is not the one of a new package.
for unit in $1; do systemctl is-enabled -q "$unit" 2>/dev/null || units="$units $unit"; done
shift
if [ ! -e "$policy" ] || grep -qF "$no_daemons" "$policy"; then
    printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy.sipdeploy-new" &&
        chmod 755 "$policy.sipdeploy-new" && mv -f "$policy.sipdeploy-new" "$policy" ||
        { echo "E: cannot write $policy"; exit 1; }
fi
# `uninstall --purge` purges only what is noted here.
noted=/var/lib/sipdeploy/packages
mkdir -p "${noted%/*}"
for name; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || grep -qsxF -e "$name" "$noted" || printf '%s\n' "$name" >>"$noted"
done
# dpkg must first finish what an interrupted run began. The apt of that run may still be at work, and dpkg
# itself does not wait for it.
interrupted() { [ -n "$(ls /var/lib/dpkg/updates)" ] || [ -n "$(dpkg --audit)" ]; }
title="install $# package$([ $# = 1 ] || echo s)"
if interrupted; then
    echo "finishing an interrupted installation"
    await_apt "$title"
    dpkg --configure -a $keep
    apt "$title" --fix-broken install || exit
fi
apt "$title" --no-install-recommends install "$@"
