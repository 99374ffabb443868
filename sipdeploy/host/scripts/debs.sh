# Packages that the host keeps in $state/debs, so that the way back needs no network. Sourced before `fetch_debs`, `swap`,
# `restore` and `confirm`.
policy_file=/usr/sbin/policy-rc.d
# NAME VERSION
deb_of() { printf '%s/debs/%s_%s.deb' "$state" "$1" "$(printf '%s' "$2" | sed 's/:/%3a/g')"; }
# Prints NAME and VERSION of the installed packages of DAEMON...
versions_of() {
    for daemon; do
        dpkg-query -W -f='${Package}\t${Version}\t${db:Status-Status}\n' "$daemon" "$daemon-*" 2>/dev/null
    done | sed -n "s/${tab}installed\$//p" | sort -u
}
# Whether each package of a table has the version in a column; a package that it does not have there may stay. TABLE COLUMN
has_versions() {
    while IFS=$tab read -r name was becomes <&4; do
        if [ "$2" = before ]; then version=$was; else version=$becomes; fi
        [ "$version" != - ] || continue
        [ "$(dpkg-query -W -f='${Version} ${db:Status-Status}' "$name" 2>/dev/null)" = "$version installed" ] || return 1
    done 4<"$1"
}
# Prints mode, owner and path of the files of the daemons, a directory before what is in it.
owners_of_files() {
    newline='
'
    find /etc/kamailio /etc/asterisk /etc/coturn /etc/nginx \( -type f -o -type d \) ! -name "*$newline*" -printf '%m\t%u:%g\t%p\n' 2>/dev/null
    find /var/lib/asterisk /var/log/asterisk /var/spool/asterisk -maxdepth 0 -type d -printf '%m\t%u:%g\t%p\n' 2>/dev/null
    return 0 # not all of them exist
}
# Maintainer scripts give files to other owners: that of Asterisk gives all of /etc/asterisk to its account, which could
# then change what root reads. A directory comes first, so afterwards nobody can put a link in the place of a file. dpkg
# leaves its own versions of our files beside them. TABLE
put_back_owners() {
    find /etc/kamailio /etc/asterisk /etc/coturn /etc/nginx -type f -name '*.dpkg-dist' 2>/dev/null | while IFS= read -r path; do
        cut -f3 "$1" | grep -qxF -e "$path" || rm -f "$path"
    done
    while IFS=$tab read -r mode owner path <&4; do
        if [ -e "$path" ] && [ ! -h "$path" ]; then chown -h "$owner" "$path" && [ ! -h "$path" ] && chmod "$mode" "$path"; fi
    done 4<"$1"
}
# Installs the packages of a table without the network, and starts no daemon. TABLE COLUMN
install_debs() {
    if has_versions "$1" "$2"; then return 0; fi
    table=$1 column=$2
    set --
    while IFS=$tab read -r name was becomes <&4; do
        if [ "$column" = before ]; then version=$was; else version=$becomes; fi
        if [ "$version" != - ]; then set -- "$@" "$(deb_of "$name" "$version")"; fi
    done 4<"$table"
    own_policy=
    if [ ! -e "$policy_file" ] || grep -qF "$no_daemons" "$policy_file"; then
        own_policy=yes
        printf '#!/bin/sh\n%s\nexit 101\n' "$no_daemons" >"$policy_file.sipdeploy-new" &&
            chmod 755 "$policy_file.sipdeploy-new" && mv -f "$policy_file.sipdeploy-new" "$policy_file" || return 1
    fi
    await_apt "$(title upgrade)"
    (
        umask 022
        export DEBIAN_FRONTEND=noninteractive
        # dpkg must first finish what an interrupted run began
        if [ -n "$(ls /var/lib/dpkg/updates 2>/dev/null)" ] || [ -n "$(dpkg --audit)" ]; then
            dpkg --configure -a --force-confdef --force-confold
        fi
        dpkg -i --force-confdef --force-confold --force-downgrade "$@"
    ) </dev/null 2>&1 9>&-
    status=$?
    if [ -n "$own_policy" ]; then rm -f "$policy_file"; fi
    return "$status"
}
