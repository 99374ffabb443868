# Puts back what `swap` replaced and the services as they were. STATE
# Safe twice, and after a swap that stopped anywhere; goes on past what fails, and tells it.
state=$1
undo=$state/undo
bad=0
if [ ! -d "$state" ]; then section restored; exit 0; fi
take_turn "$state"
complain() { printf '%s\n' "$*" >&2; bad=1; }
if [ ! -e "$undo/index" ]; then section restored; exit 0; fi

put_back() {
    rm -f "$2.sipdeploy-new"
    case $1 in
    file) cp -a "$undo/tree$2" "$2.sipdeploy-new" && mv -fT "$2.sipdeploy-new" "$2" ;;
    directory) chown "$4" "$2" && chmod "$3" "$2" ;;
    # A directory that somebody has put a file into since then stays.
    absent) if [ -d "$2" ]; then rmdir "$2" 2>/dev/null || :; else rm -f "$2"; fi ;;
    esac
}
tac "$undo/index" >"$undo/reversed"
while IFS=$tab read -r kind path mode owner <&3; do
    put_back "$kind" "$path" "$mode" "$owner" || complain "$path could not be put back"
done 3<"$undo/reversed"
files_bad=$bad

reload_all() {
    while read -r line <&4; do
        IFS=$tab; set -- $line; unset IFS
        "$@" </dev/null >/dev/null 2>&1 9>&- || return 1
    done 4<"$undo/reloads"
}
put_back_unit() {
    if [ "$2" != active ]; then
        systemctl stop "$1"; systemctl reset-failed "$1" 2>/dev/null
        if [ "$3" != enabled ]; then systemctl disable -q "$1"; fi
    elif [ "$4" = restart ]; then
        systemctl restart "$1" || complain "$1 does not start with its former configuration"
    elif [ "$4" = reload ]; then
        reload_all || systemctl restart "$1" || complain "$1 does not start with its former configuration"
    fi
}
set -f
if [ -e "$undo/services" ]; then
    if [ -e "$undo/daemon-reload" ]; then systemctl daemon-reload; fi
    while IFS=$tab read -r unit active enabled action <&3; do
        put_back_unit "$unit" "$active" "$enabled" "$action"
    done 3<"$undo/units"
fi
# With every file back the run is over, also when the old configuration does not start: the next
# apply may be the one that mends it, and must not be stopped by an undo that cannot succeed.
if [ "$files_bad" = 0 ]; then rm -rf "$undo"; fi
[ "$bad" = 0 ] || exit 1
section restored
