# Builds Asterisk beside the running one, and installs it below /opt/sipdeploy. NAME MODULES TARBALLS;
# the builder's script on stdin. The build is a systemd unit of an unprivileged user with low priority,
# because the host may have calls. It survives a lost connection: the next run follows it, or continues
# where it stopped.
name=$1 modules=$2 tarballs=$3
cache=/var/cache/sipdeploy builder=sipdeploy-build
home=/opt/sipdeploy/$name work=$cache/$name log=$cache/$name.log unit=sipdeploy-build-$name.service
system=$(. /etc/os-release; echo "${ID:-}/${VERSION_CODENAME:-}")
umask 022
account() {
    getent passwd "$1" >/dev/null ||
        useradd --system --user-group --no-create-home --home-dir "$2" --shell /usr/sbin/nologin "$1" ||
        fail "cannot create the user $1"
}
account asterisk /var/lib/asterisk
account $builder /nonexistent
for folder in /var/lib/asterisk /var/log/asterisk /var/spool/asterisk; do
    [ -d "$folder" ] || install -d -o asterisk -g asterisk -m 750 "$folder" || fail "cannot create $folder"
done
as_asterisk mkdir -p -m 750 /var/lib/asterisk/keys || fail "cannot create /var/lib/asterisk/keys"
is_built() { [ "$(cat "$home/.built" 2>/dev/null)" = "$system" ]; }
if is_built; then exit 0; fi
install -d /opt/sipdeploy $cache && install -d -o $builder -g $builder "$work" || fail "cannot create $work"
pid_of() { systemctl show -p MainPID --value "$unit"; }
pid=$(pid_of)
if [ "$pid" = 0 ]; then
    cat >"$work.sh" && : >"$log" || fail "cannot write $cache: is the disk full?"
    systemd-run --quiet --collect --unit="$unit" -p User=$builder -p WorkingDirectory="$work" \
        -p StandardOutput="append:$log" -p StandardError="append:$log" -p Nice=10 -p IOSchedulingClass=idle \
        -p NoNewPrivileges=yes -p PrivateTmp=yes -p PrivateDevices=yes -p ProtectHome=yes \
        -p ProtectSystem=strict -p ReadWritePaths="$work" \
        -- /bin/sh "$work.sh" "$home" "$modules" "$tarballs" || fail "cannot start the build"
    pid=$(pid_of)
fi
# The builder's marks have no token, because it must not know it: accept only `step` from it.
follow() {
    mark=$(printf '\036step ')
    while IFS= read -r line; do
        case $line in "$mark"*) step "${line#"$mark"}" ;; *) printf '%s\n' "$line" ;; esac
    done
}
if [ "$pid" != 0 ]; then tail -n +1 --pid="$pid" -f "$log" | follow; else follow <"$log"; fi
# The script of a lost connection may still be running and installing the same build.
exec 8>"$cache/lock" && flock 8 || fail "cannot lock $cache/lock"
if is_built; then exit 0; fi
if [ ! -e "$work/done" ]; then
    tail -n 4 "$log" >&2
    fail "the build failed; its log on the host: $log"
fi
step "install below $home"
rm -rf "$home.new" && cp -R "$work/root$home" "$home.new" && printf '%s\n' "$system" >"$home.new/.built" &&
    sync -f "$home.new" && rm -rf "$home" && mv -T "$home.new" "$home" || fail "cannot write $home: is the disk full?"
rm -rf "$work" "$work.sh"
# Default files that Asterisk needs. As with a package, they belong to the administrator afterwards.
mkdir -p /etc/asterisk
for file in "$home"/etc/samples/*.conf; do
    [ -e "/etc/asterisk/${file##*/}" ] || cp "$file" /etc/asterisk/ || fail "cannot write /etc/asterisk"
done
