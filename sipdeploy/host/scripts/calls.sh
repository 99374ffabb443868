# Hangs up the calls of removed users with Asterisk (services and mailboxes). NUMBER...
numbers=" $* "
# CHANNEL!CONTEXT!...!CALLERID!ACCOUNT!PEERACCOUNT!FLAGS!SECONDS!BRIDGE!ID: counted from the end, because the data of
# an application come before these fields and may contain `!`.
channels=$(timeout 60 asterisk -rx 'core show channels concise') || fail "asterisk does not list its calls"
printf '%s\n' "$channels" | awk -F '!' -v numbers="$numbers" 'NF >= 14 && index(numbers, " " $(NF - 6) " ") { print $1 }' |
    while read -r channel; do asterisk -rx "channel request hangup $channel" </dev/null >/dev/null; done
section ended
