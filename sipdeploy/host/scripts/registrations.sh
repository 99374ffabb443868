# Prints the registrations, and the number of new messages in each mailbox. The addresses of record
# of the site (NUMBER@DOMAIN) are on stdin; others that are registered are printed too. Changes nothing.
site=$(cat)
if ! reason=$(timeout 10 kamcmd core.uptime 2>&1); then
    section failed
    printf 'kamailio.service is %s\n%s\n' "$(systemctl is-active kamailio.service)" "$reason"
    exit 0
fi
section contacts
listed=$(timeout 60 kamcmd ul.dump brief 2>/dev/null)
case $listed in
*Max-Slots:*) printf '%s\n' "$listed" | sed -n 's/^[[:space:]]*AoR: *//p' ;;
*) printf '%s\n' "$site" ;; # the list is incomplete: look up those of the site
esac | sed 's/^/ul.lookup location /' | timeout 120 kamcmd 2>/dev/null | awk -v OFS='\t' '
    $1 == "AoR:" { aor = $2 }
    $1 == "Received:" { sub(/^sip:/, "", $2); sub(/;.*/, "", $2); source = $2 }
    $1 == "User-Agent:" { sub(/^[ \t]*User-Agent: */, ""); gsub(/\t/, " "); device = $0 }
    $1 == "Last-Modified:" { print aor, source, $2, device }'
section messages
# The account `asterisk` can create any name here: accept only numbers as mailboxes.
cd / || exit 1
as_asterisk timeout 60 find /var/spool/asterisk/voicemail/default -mindepth 3 -maxdepth 3 \
    -path '*/INBOX/msg*.txt' -printf '%P\n' 2>/dev/null |
    awk -F / -v OFS='\t' '$1 ~ /^[0-9]+$/ && NF == 3 { waiting[$1]++ } END { for (box in waiting) print box, waiting[box] }'
section end
