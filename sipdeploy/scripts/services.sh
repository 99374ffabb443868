# Makes the new files count: the least that does it for each unit. STATE
state=$1
candidate=$state/candidate
take_turn "$state"
: >"$state/undo/services" || fail "$state/undo cannot be written"
exec </dev/null

# Tells a failure with what the unit itself said last, and ends.
give_up() {
    section failed; printf '%s\n' "$1" "$2"
    if [ -n "$3" ]; then section journal; journalctl -q -u "$3" -n 15 --no-pager -o cat; fi
    exit 0
}
if [ -e "$candidate/daemon-reload" ]; then
    said=$(systemctl daemon-reload 2>&1) || give_up "systemctl daemon-reload" "$said" ''
fi
set -f
while IFS=$tab read -r unit active enabled action <&3; do
    if [ "$enabled" != enabled ]; then
        said=$(systemctl enable -q "$unit" 2>&1) || give_up "systemctl enable $unit" "$said" ''
    fi
    case $action in restart | start)
        systemctl reset-failed "$unit" 2>/dev/null
        said=$(systemctl restart "$unit" 2>&1) || give_up "systemctl $action $unit" "$said" "$unit"
    esac
done 3<"$candidate/units"
while read -r line <&3; do
    IFS=$tab; set -- $line; unset IFS
    said=$(timeout 90 "$@" 2>&1 9>&-) || give_up "$*" "$said" ''
    # kamcmd and asterisk -rx end with 0 also when they were refused.
    case $said in [Ee]rror* | ERROR* | "No such command"*) give_up "$*" "$said" '' ;; esac
done 3<"$candidate/reloads"
section done
