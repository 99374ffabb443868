# Deletes the mailboxes of removed users: messages and greetings. NUMBER...
for number; do
    case $number in *[!0-9]* | '') fail "$number is not a number" ;; esac
done
cd / || exit 1
for number; do
    as_asterisk rm -rf -- "/var/spool/asterisk/voicemail/default/$number" ||
        fail "cannot delete the mailbox of $number"
done
section deleted
