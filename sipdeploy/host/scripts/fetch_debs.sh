# Keeps the packages of an upgrade: those to come, and those installed now, which the way back needs. Changes no package.
# STATE HOLDER DAEMONS; on stdin NAME BEFORE AFTER, each line with `-` for a version that there is not
state=$1 holder=$2 daemons=$3
rows=$(cat)
exec </dev/null
[ "$(cat "$state/lock/holder" 2>/dev/null)" = "$holder" ] || fail "another run has taken the lock in the meantime"
pool=$state/debs work=$state/debs/work
rm -rf "$work"
mkdir -p "$work/got" || fail "cannot write $pool: is the disk full?"
trap 'rm -rf "$work"' EXIT
# FILE NAME VERSION
is_deb() { [ -f "$1" ] && [ "$(dpkg-deb -f "$1" Package 2>/dev/null) $(dpkg-deb -f "$1" Version 2>/dev/null)" = "$2 $3" ]; }
keep() { cp "$1" "$2.new" && sync "$2.new" && mv -f "$2.new" "$2"; }
# Packs an installed package again, as dpkg-repack(1) does: the archive may not have its version any more. NAME FILE
repack() {
    tree=$work/tree
    rm -rf "$tree"
    mkdir -p "$tree/DEBIAN" && chmod 755 "$tree" "$tree/DEBIAN" || return 1
    dpkg-query -L "$1" | while IFS= read -r path; do
        case $path in /. | /bin | /sbin | /lib | /lib32 | /lib64 | /libx32) continue ;; esac
        if [ -e "$path" ] || [ -h "$path" ]; then printf '%s\n' "${path#/}"; fi
    done >"$work/list"
    tar --no-recursion --verbatim-files-from -C / -cf - -T "$work/list" 2>/dev/null | tar -xpf - -C "$tree" || return 1
    dpkg-query -s "$1" | awk '/^[^ ]/ { skip = /^(Status|Conffiles|Config-Version):/ } !skip' >"$tree/DEBIAN/control" || return 1
    for part in $(dpkg-query --control-list "$1"); do
        [ "$part" != md5sums ] || continue
        dpkg-query --control-show "$1" "$part" >"$tree/DEBIAN/$part" || return 1
        case $part in preinst | postinst | prerm | postrm | config) chmod 755 "$tree/DEBIAN/$part" ;; *) chmod 644 "$tree/DEBIAN/$part" ;; esac
    done
    if [ -e "$tree/DEBIAN/conffiles" ]; then
        while IFS= read -r path; do if [ -e "$tree$path" ]; then printf '%s\n' "$path"; fi; done <"$tree/DEBIAN/conffiles" >"$work/conffiles"
        cat "$work/conffiles" >"$tree/DEBIAN/conffiles"
    fi
    chmod 644 "$tree/DEBIAN/control" && dpkg-deb -Zgzip -b "$tree" "$2.new" >/dev/null && mv -f "$2.new" "$2"
}
# NAME VERSION
get() {
    deb=$(deb_of "$1" "$2")
    if is_deb "$deb" "$1" "$2"; then return 0; fi
    for cached in /var/cache/apt/archives/"$1"_*.deb; do
        if is_deb "$cached" "$1" "$2"; then keep "$cached" "$deb" && return 0; fi
    done
    rm -f "$work"/got/*
    said=$(cd "$work/got" && apt-get -q -o Acquire::Retries=2 download "$1=$2" 2>&1)
    for fetched in "$work"/got/*.deb; do
        if is_deb "$fetched" "$1" "$2"; then keep "$fetched" "$deb" && return 0; fi
    done
    if [ "$(dpkg-query -W -f='${Version}' "$1" 2>/dev/null)" = "$2" ]; then
        echo "the archive does not have $1 $2 any more: packing the installed files"
        repack "$1" "$deb" && is_deb "$deb" "$1" "$2" && return 0
    fi
    section missing; printf '%s %s\n' "$1" "$2"; printf '%s\n' "$said" | grep '^[EW]:'
    exit 0
}
while IFS=$tab read -r name before after <&3; do
    echo "$name"
    if [ "$after" != - ]; then get "$name" "$after"; fi
    if [ "$before" != - ]; then get "$name" "$before"; fi
done 3<<EOT
$rows
EOT
# The current release runs with these versions, whoever has installed them.
current=$state/releases/$(cat "$state/release" 2>/dev/null)
if [ -e "$current/release.json" ]; then
    versions_of $daemons >"$current/versions.new" && mv -f "$current/versions.new" "$current/versions" || fail "cannot write $current"
fi
section fetched
