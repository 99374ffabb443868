# Puts back what `swap` replaced and the services as they were. STATE HOW HOLDER LOG
# HOW: `apply` (whoever deploys asks for it), `timer` (nobody confirmed in time), `boot` (after a power
# cut). HOLDER, unless empty, is the only one whose run may be undone.
# Safe twice, and after a swap that stopped anywhere; goes on past what fails, and tells it.
state=$1 how=$2 only=$3 log=$4
undo=$state/undo
bad=0
if [ ! -d "$state" ]; then section restored; exit 0; fi
take_turn "$state"
complain() { printf '%s\n' "$*" >&2; bad=1; }
holder=$(cat "$undo/holder" 2>/dev/null)
# Cut off before its journal was whole, a run has changed nothing.
if [ ! -e "$undo/index" ]; then rm -rf "$undo"; if [ "$how" = apply ]; then disarm; fi; section restored; exit 0; fi
if [ -n "$only" ] && [ "$holder" != "$only" ]; then section restored; exit 0; fi
if [ "$how" = apply ]; then disarm; fi
# Cut off behind its point of no return, a confirmation is ended, not undone.
if [ "$(cat "$state/confirmed" 2>/dev/null)" = "$holder" ]; then
    rm -f "$undo/index" && rm -rf "$undo" "$state/candidate"
    drop_lock "$holder"
    section confirmed; exit 0
fi
# While the machine boots, a unit that waits for us must not be waited for.
wait_or_not=
if [ "$how" = boot ]; then wait_or_not=--no-block; fi

# What was not swapped is left alone. Where a full disk has no room for both, the new one goes first.
put_back_file() {
    kept=$undo/tree$1
    if [ ! -h "$1" ] && cmp -s "$kept" "$1" && [ "$(stat -c '%a %u %g' "$kept")" = "$(stat -c '%a %u %g' "$1")" ]; then
        return 0
    fi
    mkdir -p "${1%/*}" && cp -a "$kept" "$1.sipdeploy-new" && mv -fT "$1.sipdeploy-new" "$1" && return 0
    rm -f "$1.sipdeploy-new"
    cp -a --remove-destination "$kept" "$1"
}
put_back() {
    rm -f "$2.sipdeploy-new"
    case $1 in
    file) put_back_file "$2" ;;
    directory) chown "$4" "$2" && chmod "$3" "$2" ;;
    # A directory that somebody has put a file into since then stays.
    absent) if [ -d "$2" ]; then rmdir "$2" 2>/dev/null || :; else rm -f "$2"; fi ;;
    esac
}
reload_all() {
    while read -r line <&4; do
        IFS=$tab; set -- $line; unset IFS
        "$@" </dev/null >/dev/null 2>&1 9>&- || return 1
    done 4<"$undo/reloads"
}
# A unit that did not run goes first, while the files that it stops by are still there.
stop_unit() {
    [ "$2" != active ] || return 0
    systemctl $wait_or_not stop "$1"; systemctl reset-failed "$1" 2>/dev/null
    if [ "$3" != enabled ]; then systemctl disable -q "$1"; fi
}
put_back_unit() {
    [ "$2" = active ] || return 0
    if [ "$3" = enabled ] && [ "$4" = stop ]; then systemctl enable -q "$1"; fi
    # At boot the others start by themselves, after us.
    if [ "$how" = boot ]; then
        if [ "$4" = stop ]; then systemctl --no-block start "$1"; fi
        return 0
    fi
    case $4 in
    restart | stop | start) systemctl restart "$1" || complain "$1 does not start with its former configuration" ;;
    esac
}
each_unit() {
    while IFS=$tab read -r unit active enabled action <&3; do
        "$1" "$unit" "$active" "$enabled" "$action"
    done 3<"$undo/units"
}
set -f
if [ -e "$undo/services" ]; then each_unit stop_unit; fi
tac "$undo/index" >"$undo/reversed"
while IFS=$tab read -r kind path mode owner <&3; do
    put_back "$kind" "$path" "$mode" "$owner" || complain "$path could not be put back"
done 3<"$undo/reversed"
files_bad=$bad
if [ -e "$undo/services" ]; then
    if [ -e "$undo/daemon-reload" ]; then systemctl daemon-reload; fi
    each_unit put_back_unit
    # A reload that fails is made good by a restart of what would have reloaded.
    if [ "$how" != boot ] && [ -s "$undo/reloads" ] && ! reload_all; then
        for unit in $(awk -F "$tab" '$2 == "active" && $4 == "reload" { print $1 }' "$undo/units"); do
            systemctl restart "$unit" || complain "$unit does not start with its former configuration"
        done
    fi
fi
sync -f "$state"
now=$(date +%s)
if [ "$how" != apply ]; then
    printf '%s\t%s\t%s\n' "$now" "$how" "$holder" >"$state/outcome"
    drop_lock "$holder"
fi
printf '%s rolled back (%s): %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$how" "$holder" >>"$log"
# With every file back the run is over, also when the old configuration does not start: the next
# apply may be the one that mends it, and must not be stopped by an undo that cannot succeed.
if [ "$files_bad" = 0 ]; then rm -f "$undo/index" && sync -f "$state" && rm -rf "$undo"; fi
date +%s.%N >"$state/serial"
[ "$bad" = 0 ] || exit 1
section restored
