# Confirms a run: the candidate becomes a release. STATE HOLDER LOG POLICY; audit line on stdin
# Idempotent. Prints `late` if the host has undone the run in the meantime.
state=$1 holder=$2 log=$3 policy=$4
undo=$state/undo candidate=$state/candidate
take_turn "$state"
if [ ! -e "$undo/index" ]; then
    if [ "$(cat "$state/confirmed" 2>/dev/null)" = "$holder" ]; then section confirmed; exit 0; fi
    section late; exit 0
fi
if [ "$(cat "$undo/holder" 2>/dev/null)" != "$holder" ]; then section late; exit 0; fi

# Keeps each file that sipdeploy replaced first permanently, unless sipdeploy or its certbot created it.
is_ours() {
    case $1 in /etc/letsencrypt/renewal/sipdeploy-*) return 0 ;; esac
    cut -f1 "$state/managed" 2>/dev/null | grep -qxF -e "$1" ||
        cut -f4 "$candidate/generated" | grep -qxF -e "$1"
}
keep_original() {
    kept=$state/original$1
    if [ -e "$kept" ] || [ -h "$kept" ] || is_ours "$1"; then return 0; fi
    mkdir -p "${kept%/*}" && cp -a "$undo/tree$1" "$kept.sipdeploy-new" &&
        mv -fT "$kept.sipdeploy-new" "$kept"
}
while IFS=$tab read -r kind path <&3; do
    if [ "$kind" = file ]; then
        keep_original "$path" || fail "cannot write $state/original"
    fi
done 3<"$undo/index"

# What units and directories were like before sipdeploy changed them first, for `uninstall`. An older sipdeploy did
# not write it down: then its units did not run, except the timer of certbot, which others may need.
first=
if [ ! -e "$state/original.units" ] && [ -e "$state/release" ]; then first=unknown; fi
is_noted() { cut -f1 "$state/original.$1" 2>/dev/null | grep -qxF -e "$2"; }
while IFS=$tab read -r unit active enabled action <&3; do
    if is_noted units "$unit"; then continue; fi
    if [ -n "$first" ]; then active=inactive enabled=disabled; fi
    if [ -n "$first" ] && [ "$unit" = certbot.timer ]; then active=active enabled=enabled; fi
    printf '%s\t%s\t%s\n' "$unit" "$active" "$enabled"
done 3<"$candidate/units" >"$candidate/noted"
cat "$candidate/noted" >>"$state/original.units" || fail "cannot write $state/original.units"
while IFS=$tab read -r kind path mode owner <&3; do
    if is_noted directories "$path"; then continue; fi
    case $kind in
    directory) printf '%s\t%s\t%s\n' "$path" "$mode" "$owner" ;;
    absent) if [ -d "$path" ]; then printf '%s\tabsent\t-\n' "$path"; fi ;;
    esac
done 3<"$undo/index" >"$candidate/noted"
cat "$candidate/noted" >>"$state/original.directories" || fail "cannot write $state/original.directories"

# A release has the files of the site, without those that the host generates. They are hard links to the
# candidate's files, so an interrupted confirmation can start again.
if [ "$(cat "$state/confirmed" 2>/dev/null)" != "$holder" ]; then
    number=$(($(cat "$state/release" 2>/dev/null || echo 0) + 1))
    new=$state/releases/$number
    rm -rf "$new.new" "$new"
    mkdir -p "$new.new" && cp -al "$candidate/tree" "$candidate/release.json" "$candidate/configuration" "$new.new/" ||
        fail "cannot write $new: is the disk full?"
    cut -f4 "$candidate/generated" | while read -r path; do rm -f "$new.new/tree$path"; done
    set --
    while read -r daemon <&3; do set -- "$@" "$daemon"; done 3<"$candidate/daemons"
    versions_of "$@" >"$new.new/versions" || fail "cannot write $new: is the disk full?"
    cp "$candidate/managed" "$state/managed.new" && printf '%s\n' "$number" >"$state/release.new" &&
        printf '%s\n' "$holder" >"$state/confirmed.new" && mv -T "$new.new" "$new" &&
        mv -fT "$state/managed.new" "$state/managed" && mv -fT "$state/release.new" "$state/release" &&
        mv -fT "$state/confirmed.new" "$state/confirmed" || fail "cannot write $state: is the disk full?"
    # Five configurations stay, and apart from them five changes of users, so that these do not push those out.
    kinds=$(configurations | awk '{ print (($2 == last) ? "users" : "configuration"), $1; last = $2 }')
    for kind in configuration users; do
        for old in $(printf '%s\n' "$kinds" | sed -n "s/^$kind //p" | head -n -5); do rm -rf "$state/releases/$old"; done
    done
    # Remove packages and builds that no release uses.
    for deb in "$state"/debs/*.deb; do
        [ -e "$deb" ] || continue
        name=${deb##*/} version=${deb##*_}
        version=$(printf '%s' "${version%.deb}" | sed 's/%3a/:/g')
        cat "$state"/releases/*/versions 2>/dev/null | grep -qxF -e "${name%%_*}$tab$version" || rm -f "$deb"
    done
    for build in /opt/sipdeploy/asterisk-*; do
        grep -qsF "\"${build##*/}\"" "$state"/releases/*/release.json || rm -rf "$build"
    done
fi
# The proof from outside was one of this release.
if [ -e "$candidate/proof" ]; then mv -fT "$candidate/proof" "$state/proof"; fi
# A new certificate is in use, so the failure of an earlier renewal is obsolete.
if cut -f4 "$candidate/changes" 2>/dev/null | grep -qxF /etc/kamailio/tls/server.crt; then rm -f "$state/certificate.result"; fi
date +%s.%N >"$state/serial"
disarm
# Point of no return: after this, a power cut leaves the new release.
sync -f "$state" && rm -f "$undo/index" && sync -f "$state" || fail "cannot remove $undo/index"
rm -rf "$undo" "$state/outcome"
sed "s/^/$(date -u +%Y-%m-%dT%H:%M:%SZ) /" >>"$log"
rm -rf "$candidate" "$state/issue" "$state/received"
# An installation that a power cut ended may have left this file, which stops every daemon from starting.
if grep -qsF "$no_daemons" "$policy"; then rm -f "$policy"; fi
drop_lock "$holder"
section confirmed
