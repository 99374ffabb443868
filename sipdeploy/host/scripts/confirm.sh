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

# A release has the files of the site, without those that the host generates. They are hard links to the
# candidate's files, so an interrupted confirmation can start again.
if [ "$(cat "$state/confirmed" 2>/dev/null)" != "$holder" ]; then
    number=$(($(cat "$state/release" 2>/dev/null || echo 0) + 1))
    new=$state/releases/$number
    rm -rf "$new.new" "$new"
    mkdir -p "$new.new" && cp -al "$candidate/tree" "$candidate/release.json" "$new.new/" ||
        fail "cannot write $new: is the disk full?"
    cut -f4 "$candidate/generated" | while read -r path; do rm -f "$new.new/tree$path"; done
    cp "$candidate/managed" "$state/managed.new" && printf '%s\n' "$number" >"$state/release.new" &&
        printf '%s\n' "$holder" >"$state/confirmed.new" && mv -T "$new.new" "$new" &&
        mv -fT "$state/managed.new" "$state/managed" && mv -fT "$state/release.new" "$state/release" &&
        mv -fT "$state/confirmed.new" "$state/confirmed" || fail "cannot write $state: is the disk full?"
    for old in $(kept_releases | head -n -5); do
        rm -rf "$state/releases/$old"
    done
    # Remove builds that no release uses.
    for build in /opt/sipdeploy/asterisk-*; do
        grep -qsF "\"${build##*/}\"" "$state"/releases/*/release.json || rm -rf "$build"
    done
fi
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
