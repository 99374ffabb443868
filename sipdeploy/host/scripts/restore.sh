# Restores the files that `swap` replaced, and the services. STATE HOW HOLDER LOG
# HOW: `apply` (the deploying machine asks for it), `timer` (nobody confirmed in time), `trial` (the same at the end of a
# trial), `boot` (after a power cut). HOLDER, unless empty, is the only owner whose run this script may undo.
# Idempotent, also after a swap that stopped anywhere. Continues after a failure, and reports it.
state=$1 how=$2 only=$3 log=$4
undo=$state/undo
bad=0
if [ ! -d "$state" ]; then section restored; exit 0; fi
take_turn "$state"
complain() { printf '%s\n' "$*" >&2; bad=1; }
holder=$(cat "$undo/holder" 2>/dev/null)
# A run that stopped before its journal was complete has changed nothing.
if [ ! -e "$undo/index" ]; then rm -rf "$undo"; if [ "$how" = apply ]; then disarm; fi; section restored; exit 0; fi
if [ -n "$only" ] && [ "$holder" != "$only" ]; then section restored; exit 0; fi
# A confirmation that stopped after its point of no return is completed, not undone.
if [ "$(cat "$state/confirmed" 2>/dev/null)" = "$holder" ]; then
    if [ "$how" = apply ]; then disarm; fi
    rm -f "$undo/index" && rm -rf "$undo" "$state/candidate"
    drop_lock "$holder"
    section confirmed; exit 0
fi
# At boot, units wait for this script, so it must not wait for them.
wait_or_not=
if [ "$how" = boot ]; then wait_or_not=--no-block; fi

# Skips a file that was not swapped. If the disk has no space for both files, removes the new one first.
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
    # A directory stays if somebody has created a file in it since then.
    absent) if [ -d "$2" ]; then rmdir "$2" 2>/dev/null || :; else rm -f "$2"; fi ;;
    esac
}
reload_all() {
    while read -r line <&4; do
        IFS=$tab; set -- $line; unset IFS
        output=$(timeout 90 "$@" </dev/null 2>&1 9>&-) || return 1
        case $output in [Ee]rror*) return 1 ;; esac # kamcmd exits with 0 even then
    done 4<"$undo/reloads"
}
# Stop units that did not run before first, because stopping them needs the files that are removed next.
stop_unit() {
    [ "$2" != active ] || return 0
    systemctl $wait_or_not stop "$1"; systemctl reset-failed "$1" 2>/dev/null
    if [ "$3" != enabled ]; then systemctl disable -q "$1"; fi
}
put_back_unit() {
    [ "$2" = active ] || return 0
    if [ "$3" = enabled ] && [ "$4" = stop ]; then systemctl enable -q "$1"; fi
    # At boot the other units start by themselves, after this script.
    if [ "$how" = boot ]; then
        if [ "$4" = stop ]; then systemctl --no-block start "$1"; fi
        return 0
    fi
    case $4 in
    restart | stop | start) systemctl restart "$1" || complain "$1 does not start with its previous configuration" ;;
    esac
}
each_unit() {
    while IFS=$tab read -r unit active enabled action <&3; do
        "$1" "$unit" "$active" "$enabled" "$action"
    done 3<"$undo/units"
}
title() { echo "restore the packages"; }
set -f
if [ -e "$undo/services" ]; then each_unit stop_unit; fi
if [ -e "$undo/unpacked" ]; then
    set +f
    output=$(install_debs "$undo/packages" before) || complain "cannot restore the packages: $(printf '%s\n' "$output" | tail -n 5)"
    put_back_owners "$undo/owners"
    if grep -qsF "$no_daemons" "$policy_file"; then rm -f "$policy_file"; fi
    set -f
fi
tac "$undo/index" >"$undo/reversed"
while IFS=$tab read -r kind path mode owner <&3; do
    put_back "$kind" "$path" "$mode" "$owner" || complain "cannot restore $path"
done 3<"$undo/reversed"
files_bad=$bad
# A file that still cannot be restored: the timer tries again, but the services were restarted already.
is_timer=
case $how in timer | trial) is_timer=yes ;; esac
if [ "$files_bad" = 1 ] && [ -n "$is_timer" ] && [ -e "$undo/tried" ]; then exit 1; fi
if [ -e "$undo/services" ]; then
    if [ -e "$undo/daemon-reload" ]; then systemctl daemon-reload; fi
    each_unit put_back_unit
    # If a reload fails, restart the units instead.
    if [ "$how" != boot ] && [ -s "$undo/reloads" ] && ! reload_all; then
        for unit in $(awk -F "$tab" '$2 == "active" && $4 == "reload" { print $1 }' "$undo/units"); do
            systemctl restart "$unit" || complain "$unit does not start with its previous configuration"
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
# Once every file is restored the undo is complete, even if the old configuration does not start: an
# undo that cannot succeed must not block the next apply, which may fix it.
# Until then the host's own timer stays armed, and tries again.
if [ "$files_bad" = 0 ]; then
    if [ "$how" = apply ]; then disarm; fi
    rm -f "$undo/index" && sync -f "$state" && rm -rf "$undo"
else
    : >"$undo/tried"
fi
date +%s.%N >"$state/serial"
[ "$bad" = 0 ] || exit 1
section restored
