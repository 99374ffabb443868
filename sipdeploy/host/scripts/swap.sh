# Makes the candidate live: arms the rollback timer, swaps files, restarts or reloads services, verifies.
# STATE HOLDER TIMEOUT SECONDS LOG; reports each part when it begins.
# It backs up the current files first: $state/undo has everything that `restore` needs. While
# $state/undo/index exists, the run is unfinished.
state=$1 holder=$2 timeout=$3 seconds=$4 log=$5
candidate=$state/candidate undo=$state/undo tree=$state/candidate/tree
take_turn "$state"
[ "$(cat "$state/lock/holder" 2>/dev/null)" = "$holder" ] || fail "another run has taken the lock in the meantime"
exec </dev/null
title() { sed -n "s/^$1$tab//p" "$candidate/titles"; }

save() {
    if [ -d "$1" ]; then
        printf 'directory\t%s\t%s\n' "$1" "$(stat -c "%a$tab%U:%G" "$1")"
    elif [ -e "$1" ] || [ -h "$1" ]; then
        mkdir -p "$undo/tree${1%/*}" && cp -a "$1" "$undo/tree$1" || return 1
        printf 'file\t%s\n' "$1"
    else
        printf 'absent\t%s\n' "$1"
    fi >>"$undo/entries"
}
# Records missing parent directories, so an undo removes them; make_parents creates them with mode 0755.
missing_parents() {
    [ -d "$1" ] && return 0
    missing_parents "${1%/*}" && grep -qsxF "absent$tab$1" "$undo/entries" || save "$1"
}
make_parents() {
    [ -d "$1" ] && return 0
    make_parents "${1%/*}" && mkdir -m 755 "$1"
}
# Writes a new file beside its target, so the swap is a rename and needs no disk space.
prepare() {
    make_parents "${4%/*}" || return 1
    case $1 in
    directory) mkdir -p "$4" ;;
    create | update) cp -p "$candidate/tree$4" "$4.sipdeploy-new" ;;
    esac
}
change() {
    case $1 in
    directory | mode) chown "$3" "$4" && chmod "$2" "$4" ;;
    delete) rm -f "$4" ;;
    park) [ ! -e "$4" ] || mv -fT "$4" "$4.parked" ;;
    unpark) [ ! -e "$4.parked" ] || mv -fT "$4.parked" "$4" ;;
    *) mv -fT "$4.sipdeploy-new" "$4" ;;
    esac
}

# The journal must be complete, and on disk, before the first live file changes.
rm -rf "$undo"
mkdir -p "$undo/tree" && cp "$candidate/units" "$candidate/reloads" "$candidate/packages" "$undo/" &&
    printf '%s\n' "$holder" >"$undo/holder" && : >"$undo/entries" || fail "cannot write $undo"
if [ -e "$candidate/daemon-reload" ]; then : >"$undo/daemon-reload"; fi
while IFS=$tab read -r kind mode owner path <&3; do
    missing_parents "${path%/*}" && save "$path" || fail "cannot back up $path"
    case $kind in park | unpark) save "$path.parked" || fail "cannot back up $path.parked" ;; esac
done 3<"$candidate/changes"
sync -f "$undo" && mv "$undo/entries" "$undo/index" && sync -f "$undo" || fail "cannot write $undo"
while IFS=$tab read -r kind mode owner path <&3; do
    prepare "$kind" "$mode" "$owner" "$path" || fail "cannot write $path"
done 3<"$candidate/changes"

count_registrations
step "$(title arm)"
arm "$timeout"
# The daemons go on with the files that they have open. They judge the candidate before one of them restarts.
if [ -s "$candidate/packages" ]; then
    step "$(title upgrade)"
    owners_of_files >"$undo/owners" && : >"$undo/unpacked" && sync -f "$undo" || fail "cannot write $undo"
    install_debs "$candidate/packages" after >"$candidate/output" || {
        section unpacked; tail -n 20 "$candidate/output"
        exit 0
    }
    put_back_owners "$undo/owners"
    step "$(title validate)"
    rm -f "$candidate"/status.*
    cp "$candidate/checks-after" "$candidate/checks" || fail "cannot write $candidate"
    validate
    if cat "$candidate"/status.* 2>/dev/null | grep -qvx 0; then section rejected; exit 0; fi
fi
stop_units
step "$(title swap)"
while IFS=$tab read -r kind mode owner path <&3; do
    change "$kind" "$mode" "$owner" "$path" || fail "cannot change $path ($kind)"
done 3<"$candidate/changes"
if [ -s "$candidate/changes" ]; then sync -f "$undo"; fi
section swapped
services
end_sessions
verify "$seconds"
if [ ! -s "$candidate/left" ]; then await_registrations "$seconds"; fi
section left; cat "$candidate/left"
section verified
