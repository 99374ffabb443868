# Lets Kamailio trace the messages of NUMBER, and prints them for SECONDS. NUMBER SECONDS
# Kamailio stops at that time without this script, so nothing stays on if the connection is lost.
number=$1 seconds=$2
exec </dev/null
value() { kamcmd htable.get traced "s:$1" 2>/dev/null | sed -n 's/.*value: *//p'; }
now=$(date +%s)
until=$(value until)
if [ "${until:-0}" -gt "$now" ]; then fail "somebody traces $(value number) for another $((until - now)) s"; fi
# an entry that exists keeps its time of expiry
for key in messages number until; do kamcmd htable.delete traced $key >/dev/null 2>&1; done
said=$(kamcmd htable.sets traced number "s:$number" && kamcmd htable.seti traced until "$((now + seconds))") || fail "$said"
trap 'kamcmd htable.seti traced until 0 >/dev/null 2>&1' EXIT
trap 'exit 1' HUP INT TERM PIPE
[ "$(value number)" = "$number" ] || fail "Kamailio did not begin a trace: $said"
section journal
timeout "$seconds" journalctl -q --no-pager -o json --output-fields=MESSAGE,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT -f --no-tail \
    "--since=@$now" _SYSTEMD_UNIT=kamailio.service SYSLOG_IDENTIFIER=sipdeploy-trace
section end
