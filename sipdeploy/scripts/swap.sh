# Makes the candidate live, file by file, each by one rename. STATE
# What was there is kept first: $state/undo is all that `restore` needs. While its index exists, the
# run is unfinished.
state=$1
candidate=$state/candidate undo=$state/undo
take_turn "$state"
rm -rf "$undo"
mkdir -p "$undo/tree" && cp "$candidate/units" "$candidate/reloads" "$undo/" || fail "$undo cannot be written"
if [ -e "$candidate/daemon-reload" ]; then : >"$undo/daemon-reload"; fi
: >"$undo/index" || fail "$undo cannot be written"

save() {
    if [ -d "$1" ]; then
        printf 'directory\t%s\t%s\n' "$1" "$(stat -c "%a$tab%U:%G" "$1")"
    elif [ -e "$1" ] || [ -h "$1" ]; then
        mkdir -p "$undo/tree${1%/*}" && cp -a "$1" "$undo/tree$1" || return 1
        printf 'file\t%s\n' "$1"
    else
        printf 'absent\t%s\n' "$1"
    fi >>"$undo/index"
}
# Missing parents are made for everyone to enter, and taken away again by an undo.
parents() {
    [ -d "$1" ] && return 0
    parents "$(dirname "$1")" && save "$1" && mkdir -m 755 "$1"
}
put() {
    cp -p "$candidate/tree$1" "$1.sipdeploy-new" && mv -fT "$1.sipdeploy-new" "$1" ||
        { rm -f "$1.sipdeploy-new"; return 1; }
}
change() {
    parents "$(dirname "$4")" && save "$4" || return 1
    case $1 in
    directory) mkdir -p "$4" && chown "$3" "$4" && chmod "$2" "$4" ;;
    mode) chown "$3" "$4" && chmod "$2" "$4" ;;
    delete) rm -f "$4" ;;
    *) put "$4" ;;
    esac
}
while IFS=$tab read -r kind mode owner path <&3; do
    change "$kind" "$mode" "$owner" "$path" || fail "$path could not be changed ($kind)"
done 3<"$candidate/changes"
section swapped
