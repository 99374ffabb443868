# Lets the account of Asterisk put received mailboxes into place. STATE HOLDER WHAT; the script `messages` on stdin
state=$1 holder=$2 what=$3
program=$(cat)
exec </dev/null
take_turn "$state"
if [ "$what" = place ]; then printf '%s\n' "$holder" >"$state/placed" || fail "cannot write $state"; fi
cd / && as_asterisk sh -c "$program" messages "$what" /var/spool/asterisk || fail "cannot rename the mailboxes"
if [ "$what" = finish ]; then rm -f "$state/placed"; fi
# Asterisk tells phones about messages that it knows.
if [ "$what" != finish ] && [ "$(systemctl is-active asterisk)" = active ]; then
    timeout 20 asterisk -rx "voicemail reload" >/dev/null 2>&1
fi
section "done"
