# Starts a second Asterisk with the candidate's configuration, in a network and with folders of its
# own, and gives what it complains of. Nothing of the one that runs is touched.
work=/tmp/trial
mkdir "$work" "$work/db" "$work/run" "$work/log" "$work/spool" "$work/keys" "$work/keys/keys" || exit 1
modules=$(sed -n 's/^astmoddir *=>* *//p' /etc/asterisk/asterisk.conf 2>/dev/null | head -n 1)
cat >"$work/asterisk.conf" <<END
[directories]
astetcdir => /etc/asterisk
astmoddir => ${modules:-/usr/lib/$(uname -m)-linux-gnu/asterisk/modules}
astvarlibdir => /var/lib/asterisk
astdbdir => $work/db
astkeydir => $work/keys
astdatadir => /usr/share/asterisk
astagidir => /usr/share/asterisk/agi-bin
astspooldir => $work/spool
astrundir => $work/run
astlogdir => $work/log
END
chown -R asterisk: "$work" || exit 1
ip link set lo up
asterisk -f -U asterisk -G asterisk -C "$work/asterisk.conf" >"$work/said" 2>&1 &
main=$!
ask() { timeout 20 asterisk -C "$work/asterisk.conf" -rx "$1" 2>/dev/null; }
tries=0
until [ -S "$work/run/asterisk.ctl" ] || [ "$tries" -ge 400 ] || ! kill -0 "$main" 2>/dev/null; do
    tries=$((tries + 1)); sleep 0.05
done
if ! ask 'core waitfullybooted' | grep -q booted; then
    cat "$work/log/trial" 2>/dev/null; tail -n 5 "$work/said"
    exit 1
fi
listens_not asterisk >/tmp/silent
while read -r port; do complain /etc/asterisk/pjsip.conf 0 "it starts, but does not listen on $port"; done </tmp/silent
# Endpoints that are written and not loaded.
sed -n 's/^\[\(trunk\)\](webrtc).*/\1/p; s/^\[\([0-9]*\)\](user).*/\1/p' \
    /etc/asterisk/pjsip.conf /etc/asterisk/pjsip_users.conf | sort >/tmp/written
ask 'pjsip list endpoints' | sed -n 's/^ *Endpoint: *\([^ /]*\).*/\1/p' | sort >/tmp/loaded
for name in $(comm -23 /tmp/written /tmp/loaded | head -n 10); do
    complain /etc/asterisk/pjsip_users.conf 0 "the endpoint $name is not loaded"
done
# Applications that no module has: Asterisk notices when a call comes to them.
ask 'core show applications' >/tmp/applications
ask 'dialplan show' | awk '
    NR == FNR { if (sub(/:.*/, "", $1)) known[tolower($1)] = 1; next }
    match($0, /[0-9]+\. [A-Za-z][A-Za-z0-9_]*\(/) {
        name = substr($0, RSTART, RLENGTH - 1); sub(/^[0-9]+\. /, "", name)
        if (tolower(name) in known || !match($0, /\[[^]: ]+:[0-9]+\] *$/)) next
        place = substr($0, RSTART + 1, RLENGTH - 1); sub(/\] *$/, "", place)
        sub(/^.*\/etc\/asterisk\//, "", place)
        print "judge: /etc/asterisk/" place ": there is no application " name
    }' /tmp/applications - >/tmp/unknown
if [ -s /tmp/unknown ]; then cat /tmp/unknown; verdict=1; fi
# A warning that names a line of a file has dropped what stands there.
if grep -E ' ERROR\[| WARNING\[.* line [0-9]+ of |nable to register extension' "$work/log/trial" |
    grep -qv deprecated; then
    verdict=1
fi
if [ "$verdict" != 0 ]; then cat "$work/log/trial"; fi
