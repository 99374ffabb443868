# Prints the files that a plan would replace, and the load of SERVICES. Changes nothing.
# STATE SERVICES; a path on each line of stdin.
state=$1 services=$2
release=$state/releases/$(cat "$state/release" 2>/dev/null)
if [ -e "$state/undo/trial" ]; then release=$state/candidate; fi
number=0 sums=/etc/kamailio/credentials.sum changes_users=""
while read -r path; do
    if [ "$path" = "$sums" ]; then changes_users=yes; fi
    for file in "$path" "$release/tree$path"; do
        if [ -f "$file" ]; then section "file $number"; base64 <"$file"; fi
        number=$((number + 1))
    done
done
exec </dev/null 2>/dev/null
case " $services " in *" kamailio "*)
    section tables; timeout 5 kamcmd htable.stats
    section contacts; timeout 5 kamcmd stats.get_statistics usrloc:
    # Which of the users that change are registered? An incomplete list does not say.
    if [ -n "$changes_users" ] && listed=$(timeout 20 kamcmd ul.dump brief); then
        case $listed in *Max-Slots:*) section registered; printf '%s\n' "$listed" | sed -n 's/^[[:space:]]*AoR: *//p' ;; esac
    fi ;;
esac
case " $services " in *" asterisk "*)
    section channels; timeout 5 asterisk -rx "core show channels count" ;;
esac
section end
