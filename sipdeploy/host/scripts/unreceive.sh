# Deletes what `receive` has brought, and restores what certbot had. STATE; the script `messages` on stdin
state=$1
program=$(cat)
issue=$state/issue
exec </dev/null
[ -d "$state" ] || exit 0
take_turn "$state"
take_back all
rm -rf "$state/received"
if getent passwd asterisk >/dev/null; then cd / && as_asterisk sh -c "$program" messages drop /var/spool/asterisk || fail "cannot delete the received mailboxes"; fi
section unreceived
