# Lets the host's own daemons check the candidate. Sourced before `stage`, which calls `validate`.
#
# Each check is a script of the candidate in its own systemd unit. In it, the candidate is mounted over
# /etc together with the other files there (systemd.exec(5), BindReadOnlyPaths), and the network has only
# loopback: a trial daemon finds all its ports free, and can neither reach anybody nor be reached. All
# checks run at the same time.
view() {
    binds="" view=$candidate/view
    for service in kamailio asterisk sipdeploy; do
        [ -d "$tree/etc/$service" ] || continue
        mkdir -p "$view/$service" && chmod 755 "$view" "$view/$service" || return 1
        if [ -d "/etc/$service" ]; then cp -a "/etc/$service/." "$view/$service/" || return 1; fi
        cp -a "$tree/etc/$service/." "$view/$service/" || return 1
        while IFS=$tab read -r kind mode owner path <&3; do
            case $kind:$path in delete:/etc/$service/*) rm -f "$view/${path#/etc/}" ;; esac
        done 3<"$candidate/changes"
        find "$view" -type d -exec chmod a+rx {} + # the swap, not this view, sets the modes of folders
        mkdir -p "/etc/$service" && binds="$binds $view/$service:/etc/$service"
    done
    unit=/etc/systemd/system/kamailio.service.d
    if [ -d "$tree$unit" ] && [ -d "$unit" ]; then binds="$binds $tree$unit:$unit"; fi
}
judge() {
    systemd-run --quiet --pipe --wait --collect -p RuntimeMaxSec=90 $sandbox -p "BindReadOnlyPaths=${binds# }" -- "$@"
}
validate() {
    [ -s "$candidate/checks" ] || return 0
    view || fail "cannot write $candidate: is the disk full?"
    number=0
    while read -r line <&3; do
        set -f; IFS=$tab; set -- $line; unset IFS; set +f
        shift 2; script=$1; shift
        {
            judge sh "$candidate/scripts/$script" "$@" </dev/null >"$candidate/output.$number" 2>&1 3<&-
            echo $? >"$candidate/status.$number"
        } &
        number=$((number + 1))
    done 3<"$candidate/checks"
    wait
    count=0
    while [ "$count" -lt "$number" ]; do
        section "check $count"; cat "$candidate/status.$count" "$candidate/output.$count"
        count=$((count + 1))
    done
    rm -rf "$view"
}
