# Ends a run for good: what was replaced becomes the previous release.
# STATE HOLDER LOG POLICY; audit line on stdin
# Safe twice: what the first time has moved away is not looked for again.
state=$1 holder=$2 log=$3 policy=$4
take_turn "$state"

# The files that were there before sipdeploy are kept for good; what it wrote or made is no such.
is_ours() {
    cut -f1 "$state/managed" 2>/dev/null | grep -qxF -e "$1" ||
        cut -f4 "$state/candidate/generated" | grep -qxF -e "$1"
}
keep_original() {
    kept=$state/original$1
    if [ -e "$kept" ] || [ -h "$kept" ] || is_ours "$1"; then return 0; fi
    mkdir -p "${kept%/*}" && cp -a "$state/undo/tree$1" "$kept.sipdeploy-new" &&
        mv -fT "$kept.sipdeploy-new" "$kept"
}
if [ -e "$state/undo/index" ]; then
    while IFS=$tab read -r kind path <&3; do
        if [ "$kind" = file ]; then
            keep_original "$path" || fail "$state/original cannot be written"
        fi
    done 3<"$state/undo/index"
    rm -rf "$state/previous"
    mv -T "$state/undo" "$state/previous" || fail "$state/previous cannot be written"
fi
if [ -e "$state/candidate/managed" ]; then mv -f "$state/candidate/managed" "$state/managed"; fi
date +%s.%N >"$state/serial"
sed "s/^/$(date -u +%Y-%m-%dT%H:%M:%SZ) /" >>"$log"
rm -rf "$state/candidate"
# An installation that a power cut ended may have left this, and no daemon would start by itself.
if grep -qsF "$no_daemons" "$policy"; then rm -f "$policy"; fi
if [ "$(cat "$state/lock/holder" 2>/dev/null)" = "$holder" ]; then rm -rf "$state/lock"; fi
section confirmed
