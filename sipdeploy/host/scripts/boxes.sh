# Deletes the mailboxes of users who are gone: messages and greetings. NUMBER...
for number; do
    case $number in *[!0-9]* | '') fail "$number is not a number" ;; esac
done
cd / || exit 1
for number; do
    as_asterisk rm -rf -- "/var/spool/asterisk/voicemail/default/$number" ||
        fail "the box of $number cannot be deleted"
done
section deleted
