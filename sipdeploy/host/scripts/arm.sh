# The host's own rollback. Sourced before `swap`, which calls `arm`, and before `try`.
#
# A transient timer undoes the run unless somebody confirms it in time: the deploying machine may
# lose its network, its power or its access. After a power cut, a unit undoes it before the daemons
# start.
rollback=sipdeploy-rollback
recover=/etc/systemd/system/sipdeploy-recover.service

recover_unit() {
    cat <<EOF
[Unit]
Description=sipdeploy: undo an apply that a power cut ended
ConditionPathExists=$state/undo/index
DefaultDependencies=no
After=local-fs.target
Before=sipdeploy-firewall.service asterisk.service kamailio.service coturn.service sipdeploy-nginx.service
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=oneshot
ExecStart=/bin/sh $state/restore $state boot '' $log

[Install]
WantedBy=multi-user.target
EOF
}
# Starts a timer that undoes the run. It tries until it has succeeded: another command may hold the lock for minutes, or
# the disk be full. NAME SECONDS HOW
start_timer() {
    systemd-run --quiet --on-active="$2" --timer-property=AccuracySec=500ms --unit="$1" \
        -p Restart=on-failure -p RestartSec=10 -p StartLimitIntervalSec=0 -- /bin/sh "$state/restore" "$state" "$3" "$holder" "$log" 9>&- || fail "cannot start $1.timer"
}
# TIMEOUT: seconds; 0 arms nothing (a host without systemd)
arm() {
    [ "$1" -gt 0 ] || return 0
    cp "$candidate/restore" "$state/restore.new" && mv -fT "$state/restore.new" "$state/restore" &&
        recover_unit >"$candidate/recover" || fail "cannot write $state/restore"
    if ! cmp -s "$candidate/recover" "$recover"; then
        cp "$candidate/recover" "$recover.sipdeploy-new" && chmod 644 "$recover.sipdeploy-new" &&
            mv -fT "$recover.sipdeploy-new" "$recover" || fail "cannot write $recover"
    fi
    wants=/etc/systemd/system/multi-user.target.wants
    mkdir -p "$wants" && ln -sf "$recover" "$wants/" || fail "cannot write $wants"
    disarm
    start_timer $rollback "$1" timer
}
