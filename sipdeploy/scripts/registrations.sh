# Tells who is registered, and how many messages wait in each box. An address of record
# (NUMBER@DOMAIN) on each line of stdin; changes nothing.
section contacts
sed 's/^/ul.lookup location /' | timeout 120 kamcmd 2>/dev/null | awk -v OFS='\t' '
    $1 == "AoR:" { aor = $2 }
    $1 == "Received:" { sub(/^sip:/, "", $2); sub(/;.*/, "", $2); source = $2 }
    $1 == "User-Agent:" { sub(/^[ \t]*User-Agent: */, ""); gsub(/\t/, " "); device = $0 }
    $1 == "Last-Modified:" { print aor, source, $2, device }'
section messages
cd /var/spool/asterisk/voicemail/default 2>/dev/null && for box in *; do
    printf '%s\t%s\n' "$box" "$(find "$box" -path '*/INBOX/msg*.txt' | wc -l)"
done
section end
