# Hangs up the calls that users who are gone have with Asterisk: with services and mailboxes. NUMBER...
numbers=" $* "
# CHANNEL!CONTEXT!...!CALLERID!ACCOUNT!PEERACCOUNT!FLAGS!SECONDS!BRIDGE!ID: counted from the end, for what an
# application was given stands before it, and may have the mark too.
channels=$(timeout 60 asterisk -rx 'core show channels concise') || fail "asterisk does not tell which calls there are"
printf '%s\n' "$channels" | awk -F '!' -v numbers="$numbers" 'NF >= 14 && index(numbers, " " $(NF - 6) " ") { print $1 }' |
    while read -r channel; do asterisk -rx "channel request hangup $channel" </dev/null >/dev/null; done
section ended
