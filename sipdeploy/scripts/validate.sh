# Lets the host's own daemons judge the candidate. Sourced before `stage`, which calls `validate`.
#
# Each check is a script of the candidate, run in a unit of its own (systemd.exec(5)). There the
# candidate stands where it will stand, with what is beside it in /etc: the administrator's own
# includes too. Nothing else can be written but /tmp and /run, which are that unit's alone, and the
# network has nothing but loopback: a daemon that is started on trial finds its ports free, reaches
# nobody and is reached by nobody. All checks run at the same time, and end with their units.
USERS_ON_TRIAL=200 # Asterisk takes 3 ms for each, and one is like the other

view() {
    binds='' made='' view=$candidate/view
    for service in kamailio asterisk sipdeploy; do
        [ -d "$tree/etc/$service" ] || continue
        mkdir -p "$view/$service" || return 1
        if [ -d "/etc/$service" ]; then cp -a "/etc/$service/." "$view/$service/" || return 1
        else mkdir "/etc/$service" && made="$made /etc/$service" || return 1; fi # to be covered
        cp -a "$tree/etc/$service/." "$view/$service/" || return 1
        binds="$binds $view/$service:/etc/$service"
    done
    view_folders && view_asterisk
}
# Folders as they are, and what the plan makes of them; those of the tree have no modes of their own.
view_folders() {
    find "$view" -mindepth 1 -type d | while read -r folder; do
        live=/etc/${folder#"$view"/}
        chmod 755 "$folder" || return 1
        if [ -d "$live" ]; then
            chown --reference="$live" "$folder" && chmod --reference="$live" "$folder" || return 1
        fi
    done
    while IFS=$tab read -r kind mode owner path <&3; do
        there=$view${path#/etc}
        case $kind:$path in
        delete:/etc/kamailio/* | delete:/etc/asterisk/* | delete:/etc/sipdeploy/*) rm -f "$there" ;;
        directory:/etc/kamailio | directory:/etc/asterisk | directory:/etc/sipdeploy | \
        directory:/etc/kamailio/* | directory:/etc/asterisk/* | directory:/etc/sipdeploy/*)
            mkdir -p "$there" && chown "$owner" "$there" && chmod "$mode" "$there" || return 1 ;;
        esac
    done 3<"$candidate/changes"
}
# What Asterisk complains of goes to a log of its own, and some users stand for all.
view_asterisk() {
    [ -d "$view/asterisk" ] || return 0
    printf '\n[logfiles](+)\ntrial => warning,error\n' >>"$view/asterisk/logger.conf" || return 1
    for name in pjsip_users:'^[[][0-9]+[]][(]user[)]' extensions_hints:'^exten' voicemail_users:'^[0-9]+ =>'; do
        file=$view/asterisk/${name%%:*}.conf
        [ -e "$file" ] || continue
        awk -v most="$USERS_ON_TRIAL" -v begin="${name#*:}" '
            $0 ~ begin && ++count > most { exit }
            { print }' "$tree/etc/asterisk/${file##*/}" >"$file" || return 1
    done
}

# What the scripts of checks share: sourced in their units, before the script that is named first.
judge_text() {
    cat <<EOF
candidate=$candidate tree=$tree
EOF
    cat <<'EOF'
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
verdict=0
# complain PATH LINE TEXT: a verdict of ours; line 0 is none.
complain() { printf 'judge: %s:%s: %s\n' "$1" "$2" "$3"; verdict=1; }
# The ports that PROCESS must have, one a line: protocol, address, number.
ports_of() { awk -F '\t' -v who="$1" '$1 == "port" && $5 == who { print $2, $3, $4 }' "$candidate/probes"; }
# listens_not PROCESS: the ports that nobody listens on in this network.
listens_not() {
    ss -H -tuln >/tmp/sockets
    ports_of "$1" | while read -r protocol address number; do
        case $address in *:*) address="[$address]" ;; esac
        awk -v protocol="$protocol" -v at="$address:$number" -v any="*:$number" -v all="0.0.0.0:$number" '
            $1 == protocol && ($5 == at || $5 == any || $5 == all || $5 == "[::]:" substr(any, 3)) { found = 1 }
            END { exit !found }' /tmp/sockets || echo "$protocol $address:$number"
    done
}
if [ "$(readlink /proc/self/ns/net)" = "$(readlink /proc/1/ns/net)" ]; then exit 77; fi
script=$1; shift
. "$script"
exit "$verdict"
EOF
}
judge() {
    systemd-run --quiet --pipe --wait --collect -p RuntimeMaxSec=60 -p KillSignal=SIGKILL \
        -p PrivateNetwork=yes -p PrivateTmp=yes -p ProtectSystem=strict \
        -p TemporaryFileSystem=/run:mode=0755 -p "BindReadOnlyPaths=${binds# }" -- \
        sh "$candidate/judge" "$@"
}

# Ports of ours that another program has: a start would fail on them.
taken_ports() {
    ss -H -tulnp >"$candidate/sockets"
    awk -F '\t' '$1 == "port" { print $2, $3, $4, $5 }' "$candidate/probes" |
        while read -r protocol address number process; do
            awk -v protocol="$protocol" -v address="$address" -v number="$number" -v process="$process" '
                $1 == protocol && $5 ~ (":" number "$") && !index($0, "((\"" process "\",") {
                    host = $5; sub(/:[0-9]+$/, "", host); gsub(/[\[\]]/, "", host); sub(/%.*/, "", host)
                    wild = host ~ /^(\*|0\.0\.0\.0|::)$/ || address ~ /^(0\.0\.0\.0|::)$/
                    if (!wild && host != address) next
                    who = $0; if (!sub(/.*users:\(\("/, "", who)) who = ""; sub(/".*/, "", who)
                    print protocol "\t" number "\t" who; exit
                }' "$candidate/sockets"
        done
}

validate() {
    taken=$(taken_ports)
    if [ -n "$taken" ]; then section taken; printf '%s\n' "$taken"; fi
    [ -s "$candidate/checks" ] || return 0
    view && judge_text >"$candidate/judge" || fail "$candidate cannot be written: is the disk full?"
    number=0
    while read -r line <&3; do
        set -f; IFS=$tab; set -- $line; unset IFS; set +f
        shift 2; script=$1; shift
        {
            judge "$candidate/scripts/$script" "$@" </dev/null >"$candidate/said.$number" 2>&1 3<&-
            echo $? >"$candidate/status.$number"
        } &
        number=$((number + 1))
    done 3<"$candidate/checks"
    wait
    count=0
    while [ "$count" -lt "$number" ]; do
        # 77: the network is the host's own; 225, 226: systemd cannot make such a unit here.
        case $(cat "$candidate/status.$count") in
        77 | 225 | 226) section "skipped $count"; cat "$candidate/said.$count" ;;
        *) section "check $count"; cat "$candidate/status.$count" "$candidate/said.$count" ;;
        esac
        count=$((count + 1))
    done
    if [ -f "$view/kamailio/local.cfg" ]; then section local; tr -d '\036' <"$view/kamailio/local.cfg"; fi
    rm -rf "$view"
    for folder in $made; do rmdir "$folder"; done
}
