# Puts the new files into use with the least action for each unit. Sourced before `swap`.

# Reports a failure with the last messages of the unit, and ends the script.
give_up() {
    section failed; printf '%s\n' "$1" "$2"
    if [ -n "$3" ]; then section journal; journalctl -q -u "$3" -n 15 --no-pager -o cat; fi
    exit 0
}
# Stop units that the site no longer has first, because stopping them needs files that the swap removes.
stop_units() {
    while IFS=$tab read -r unit active enabled action <&3; do
        [ "$action" = stop ] || continue
        step "stop ${unit%.service}"
        : >"$undo/services"
        output=$(systemctl disable -q --now "$unit" 2>&1) || give_up "systemctl disable --now $unit" "$output" "$unit"
    done 3<"$candidate/units"
}
services() {
    : >"$undo/services" || fail "cannot write $undo"
    if [ -e "$candidate/daemon-reload" ]; then
        output=$(systemctl daemon-reload 2>&1) || give_up "systemctl daemon-reload" "$output" ''
    fi
    set -f
    while IFS=$tab read -r unit active enabled action <&3; do
        case $action in
        stop) continue ;;
        restart | start)
            step "$action ${unit%.service}"
            systemctl reset-failed "$unit" 2>/dev/null
            output=$(systemctl restart "$unit" 2>&1) || give_up "systemctl $action $unit" "$output" "$unit" ;;
        esac
        if [ "$enabled" != enabled ]; then
            output=$(systemctl enable -q "$unit" 2>&1) || give_up "systemctl enable $unit" "$output" ''
        fi
    done 3<"$candidate/units"
    if [ -s "$candidate/reloads" ]; then step "$(title reload)"; fi
    while read -r line <&3; do
        IFS=$tab; set -- $line; unset IFS
        output=$(timeout 90 "$@" 2>&1 9>&-) || give_up "$*" "$output" ''
        # kamcmd exits with 0 even if Kamailio refused, and prints `error: CODE - REASON`
        case $output in [Ee]rror*) give_up "$*" "$output" '' ;; esac
    done 3<"$candidate/reloads"
    set +f
}
