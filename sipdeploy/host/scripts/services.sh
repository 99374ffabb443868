# Makes the new files count: the least that does it for each unit. Sourced before `swap`.

# Tells a failure with what the unit itself said last, and ends.
give_up() {
    section failed; printf '%s\n' "$1" "$2"
    if [ -n "$3" ]; then section journal; journalctl -q -u "$3" -n 15 --no-pager -o cat; fi
    exit 0
}
# What the site has no more goes while the files that it stops by are still there.
stop_units() {
    while IFS=$tab read -r unit active enabled action <&3; do
        [ "$action" = stop ] || continue
        step "stop ${unit%.service}"
        : >"$undo/services"
        said=$(systemctl disable -q --now "$unit" 2>&1) || give_up "systemctl disable --now $unit" "$said" "$unit"
    done 3<"$candidate/units"
}
services() {
    : >"$undo/services" || fail "$undo cannot be written"
    if [ -e "$candidate/daemon-reload" ]; then
        said=$(systemctl daemon-reload 2>&1) || give_up "systemctl daemon-reload" "$said" ''
    fi
    set -f
    while IFS=$tab read -r unit active enabled action <&3; do
        case $action in
        stop) continue ;;
        restart | start)
            step "$action ${unit%.service}"
            systemctl reset-failed "$unit" 2>/dev/null
            said=$(systemctl restart "$unit" 2>&1) || give_up "systemctl $action $unit" "$said" "$unit" ;;
        esac
        if [ "$enabled" != enabled ]; then
            said=$(systemctl enable -q "$unit" 2>&1) || give_up "systemctl enable $unit" "$said" ''
        fi
    done 3<"$candidate/units"
    if [ -s "$candidate/reloads" ]; then step "$(title reload)"; fi
    while read -r line <&3; do
        IFS=$tab; set -- $line; unset IFS
        said=$(timeout 90 "$@" 2>&1 9>&-) || give_up "$*" "$said" ''
        # kamcmd and asterisk -rx end with 0 also when they were refused.
        case $said in [Ee]rror* | ERROR* | "No such command"*) give_up "$*" "$said" '' ;; esac
    done 3<"$candidate/reloads"
    set +f
}
