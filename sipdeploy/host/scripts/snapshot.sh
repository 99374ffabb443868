# Prints all mailboxes as a tar, each in a consistent state. Runs alone, as the user `asterisk`. SPOOL
# Asterisk stores and renumbers messages in several steps. The tar is made from a copy of hard links, and a mailbox whose
# files changed meanwhile is copied again. Asterisk's own lock is not taken: if this script died with it, nobody could
# leave a message any more.
set -u
PATH=/usr/local/bin:/usr/bin:/bin LC_ALL=C
export PATH LC_ALL
umask 077
spool=$1 boxes=$1/voicemail/default
if [ ! -d "$boxes" ]; then exec tar --format=ustar -cf - -T /dev/null; fi
find "$spool" -maxdepth 1 -name '.sipdeploy-backup.*' -mmin +1440 -exec rm -rf {} +
work=$(mktemp -d "$spool/.sipdeploy-backup.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM PIPE
copy=$work/copy
mkdir "$copy" || exit 1
# Prints a line for each file: its path, and what changes with it. `tmp` has recordings that are not finished.
list() { (cd "$1" && find . -mindepth 2 -type f ! -path './*/tmp/*' -printf '%P\t%i\t%s\n') | sort; }
# The mailboxes of these lines.
boxes_of() { cut -d/ -f1 | sort -u | grep -x '[0-9]*'; }
again=$(find "$boxes" -mindepth 1 -maxdepth 1 -type d -printf '%f\n' | grep -x '[0-9]*')
tries=0
while [ -n "$again" ] && [ "$tries" -lt 20 ]; do
    [ "$tries" = 0 ] || sleep 0.3
    list "$boxes" >"$work/before"
    for box in $again; do
        rm -rf "${copy:?}/$box"
        if [ -d "$boxes/$box" ]; then cp -al "$boxes/$box" "$copy/" 2>>"$work/errors"; fi
    done
    list "$boxes" >"$work/after"
    # Asterisk is changing a directory with a file `.lock`.
    again=$({ comm -3 "$work/before" "$work/after" | tr -d '\t'; grep '/\.lock' "$work/after"; } | boxes_of)
    tries=$((tries + 1))
done
if [ -n "$again" ]; then echo "changing all the time: the mailboxes $again" >&2; fi
# Hard links need the same owner and one file system.
list "$copy" >"$work/copied"
missed=$(comm -13 "$work/copied" "$work/after" | boxes_of)
for box in $missed; do
    case " $(echo $again) " in *" $box "*) ;; *) tail -n 3 "$work/errors" >&2; exit 1 ;; esac
done
# A message is complete with its text and its sound. No file of a mailbox has more than 64 MiB.
awk -F '\t' '$3 <= 67108864 { print $1 }' "$work/copied" |
    grep -E '^[0-9]+/([A-Za-z0-9]+/msg[0-9]+\.[A-Za-z0-9]+|(unavail|busy|greet|temp)\.[A-Za-z0-9]+|secret\.conf)$' >"$work/files"
awk -F . '
    NR == FNR { if ($NF == "txt") text[$1]; else sound[$1]; next }
    $1 !~ /\/msg/ || (($1 in text) && ($1 in sound))' "$work/files" "$work/files" >"$work/whole"
cd "$copy" && tar --format=ustar --no-recursion --transform='s,^,var/spool/asterisk/voicemail/default/,' \
    --verbatim-files-from -T "$work/whole" -cf -
