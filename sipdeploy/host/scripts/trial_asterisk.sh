# Starts a second Asterisk with the candidate's configuration, in its own network namespace and with its
# own folders, and prints its errors. It does not touch the running Asterisk.
candidate=${0%/scripts/*}
work=$(mktemp -d /tmp/trial.XXXXXX) && mkdir "$work/db" "$work/run" "$work/log" "$work/spool" "$work/keys" || exit 1
# The candidate's wrapper, if it has one, selects the build; otherwise use the package, even if an old
# wrapper still exists. Each Asterisk finds its own modules.
own=$candidate/tree/usr/local/sbin
[ -e "$own/asterisk" ] || own=/usr/sbin
PATH=$own:$PATH
cat >"$work/asterisk.conf" <<EOF
[directories]
astetcdir => $work/etc
astvarlibdir => /var/lib/asterisk
astdbdir => $work/db
astkeydir => $work
astdatadir => /usr/share/asterisk
astagidir => /usr/share/asterisk/agi-bin
astspooldir => $work/spool
astrundir => $work/run
astlogdir => $work/log
EOF
cp -a /etc/asterisk "$work/etc" && printf '[logfiles]\ntrial => warning,error\n' >"$work/etc/logger.conf" &&
    chown -R asterisk: "$work" && chmod 755 "$work" || exit 1
if [ -e "$work/etc/users.db" ]; then sed -i "s#^dbfile=.*#dbfile=$work/etc/users.db#" "$work/etc/res_config_sqlite3.conf"; fi
ip link set lo up
asterisk -f -U asterisk -G asterisk -C "$work/asterisk.conf" >"$work/output" 2>&1 &
main=$!
ask() { timeout 40 asterisk -C "$work/asterisk.conf" -rx "$1" 2>/dev/null; }
tries=0
until [ -S "$work/run/asterisk.ctl" ] || [ "$tries" -ge 600 ] || ! kill -0 "$main" 2>/dev/null; do
    tries=$((tries + 1)); sleep 0.05
done
verdict=1
complain() { echo "[trial] ERROR[0]: trial.c: $*" >>"$work/log/trial"; }
# Asterisk looks up an application only when a call reaches it; this checks all of them before. Like
# Asterisk, it ignores case.
applications() {
    ask "core show applications" | sed -n 's/^ *\([A-Za-z0-9_]*\): .*/\1/p' >"$work/applications"
    ask "dialplan show" | tr -d '\r' |
        sed -n 's/^ .* [0-9]*\. \([A-Za-z0-9_]*\)(.*\[\([^][]*\)\]$/\1 \2/p' >"$work/steps"
    awk 'NR == FNR { known[tolower($1)]; next } !(tolower($1) in known)' "$work/applications" "$work/steps" |
        while read -r name place; do
            # Asterisk shows the name of a file without its folder
            [ ! -e "/etc/asterisk/dialplan/${place%:*}" ] || place=dialplan/$place
            name="$name, or has not loaded it (\`load=\` in /etc/asterisk/local/modules.conf)"
            case $place in
            *:*) complain "Asterisk has no application $name, at line ${place##*:} of '${place%:*}'" ;;
            *) complain "Asterisk has no application $name, which the dialplan uses" ;;
            esac
        done
}
# A service of kind `dialplan` leads to its number in a context of the user's own files.
numbers() {
    sed -n 's/^exten => \([0-9*]*\),1,Goto(\([^,()]*\),\1,1)$/\1 \2/p' /etc/asterisk/extensions.conf |
        grep -v ' sipdeploy-' | while read -r number context; do
            ask "dialplan show $number@$context" </dev/null | grep -q '=> *1\. ' && continue
            place=$(cd /etc/asterisk && grep -HnE "^[[:space:]]*\[$context\]" dialplan/*.conf 2>/dev/null | head -n 1)
            line=${place#*:}
            complain "the context $context has no extension $number with priority 1, at line ${line%%:*} of '${place%%:*}'"
        done
}
# In a file of /etc/asterisk/local, Asterisk ignores what is below a second `[general]`, and lines that
# precede the first section belong to whatever section is open where the file is included.
places() {
    for file in /etc/asterisk/local/*.conf; do
        case ${file##*/} in
        asterisk.conf) own=options bare=yes ;;
        modules.conf) own=modules bare=yes ;;
        logger.conf) own="general logfiles" bare=yes ;;
        rtp.conf | http.conf | manager.conf) own=general bare=yes ;;
        voicemail.conf) own=general bare=keys ;;
        pjsip.conf | extensions.conf | confbridge.conf) own=general bare=no ;;
        *) continue ;;
        esac
        awk -v own=" $own " -v bare="$bare" '
            { sub(/;.*/, "") }
            /^[ \t]*\[[^]]*\]/ {
                name = $0; sub(/^[ \t]*\[/, "", name); rest = name; sub(/\].*/, "", name); sub(/^[^]]*\]/, "", rest)
                if (index(own, " " name " ") && rest !~ /^\([^)]*\+/) print NR, "Asterisk ignores a second section [" name "]: write [" name "](+)"
                is_in = 1; next
            }
            /^[ \t]*#/ { is_in = 1 } # what it includes may have sections
            /[^ \t]/ && !is_in {
                if (bare == "no") { print NR, "the line is in no section: write one above it, such as [name](+)"; is_in = 1 }
                if (bare == "keys" && /=>/) print NR, "a mailbox is in no context: write [default] above it"
            }' "$file" | while read -r line text; do complain "$text, at line $line of 'local/${file##*/}'"; done
    done
}
if ask "core waitfullybooted" | grep -q booted; then
    verdict=0
    wanted=$(cat /etc/asterisk/pjsip.conf /etc/asterisk/pjsip_users.conf 2>/dev/null | grep -cE '^\[(trunk\]\(webrtc\)|[0-9]+\]\(user\))')
    loaded=$(ask "pjsip show endpoints" | sed -n 's/^Objects found: *//p')
    [ "${loaded:-0}" -ge "$wanted" ] || complain "Asterisk loaded only ${loaded:-0} of $wanted endpoints in pjsip.conf"
    if [ -e "$work/etc/users.db" ]; then
        number=$(sqlite3 "$work/etc/users.db" 'SELECT number FROM users LIMIT 1')
        ask "pjsip show endpoint $number" | grep -q "^ *Endpoint: *$number" || complain "user $number in users.db has no endpoint"
        ask "pjsip show aor $number" | grep -q "^ *Aor: *$number" || complain "user $number in users.db has no AOR"
    fi
    deaf asterisk "$candidate/probes" | while read -r line; do complain "$line"; done
    applications
    numbers
    places
fi
# Most warnings concern the trial itself; warnings with a file and line never do.
grep -qE ' ?ERROR\[|WARNING\[.* line [0-9]+ of ' "$work/log/trial" && verdict=1
kill -9 "$main" 2>/dev/null
if [ "$verdict" != 0 ]; then cat "$work/log/trial"; tail -n 5 "$work/output"; fi
exit "$verdict"
