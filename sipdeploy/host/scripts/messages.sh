# Replaces mailboxes by received ones. Runs alone, as the user `asterisk`. WHAT SPOOL
# receive: unpacks the tar on stdin beside the live mailboxes, and prints the numbers of mailboxes with files that it lacks.
# place: renames each received mailbox into place. back: undoes that, also after an interruption; drop: and deletes what was
# received. finish: deletes what was replaced.
set -u
PATH=/usr/local/bin:/usr/bin:/bin LC_ALL=C
export PATH LC_ALL
umask 007
what=$1 work=$2/.sipdeploy-restore boxes=$2/voicemail/default
back() {
    if [ ! -e "$work/index" ]; then return 0; fi
    while read -r was box <&3; do
        # which of the two renames had happened?
        if [ "$was" = there ] && [ ! -e "$work/old/$box" ]; then continue; fi
        if [ -e "$boxes/$box" ] && [ ! -e "$work/new/$box" ]; then mv -T "$boxes/$box" "$work/new/$box" || return 1; fi
        if [ "$was" = there ]; then mv -T "$work/old/$box" "$boxes/$box" || return 1; fi
    done 3<"$work/index"
    rm -f "$work/index"
}
numbers() { find "$work/new" -mindepth 1 -maxdepth 1 -type d -printf '%f\n' | grep -x '[0-9]*' | sort; }
# Whether a live mailbox has a file that is not, byte for byte, in the received one. `tmp` has unfinished recordings.
differs() {
    cd "$boxes/$1" && find . -type f ! -path './tmp/*' ! -name '.lock*' >"$work/files" || return 0
    while IFS= read -r file; do
        cmp -s "$boxes/$1/$file" "$work/new/$1/$file" || return 0
    done <"$work/files"
    return 1
}
case $what in
receive)
    back && rm -rf "$work" && mkdir -p "$work/new" "$work/old" && tar -xf - -C "$work/new" --no-same-owner --no-same-permissions || exit 1
    for box in $(numbers); do
        if [ -d "$boxes/$box" ] && differs "$box"; then echo "$box"; fi
    done ;;
place)
    mkdir -p "$boxes" || exit 1
    for box in $(numbers); do
        if [ -e "$boxes/$box" ]; then echo "there $box"; else echo "absent $box"; fi
    done >"$work/entries"
    sync -f "$work" && mv "$work/entries" "$work/index" && sync -f "$work" || exit 1
    while read -r was box <&3; do
        if [ "$was" = there ]; then mv -T "$boxes/$box" "$work/old/$box" || exit 1; fi
        mv -T "$work/new/$box" "$boxes/$box" || exit 1
    done 3<"$work/index"
    sync -f "$boxes" ;;
back) back ;;
drop) back && rm -rf "$work" ;;
finish) rm -rf "$work" ;;
esac
