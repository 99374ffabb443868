# Ends a run for good: what was replaced becomes the previous release. STATE HOLDER LOG; audit line on stdin
state=$1 holder=$2 log=$3
rm -rf "$state/previous"
if [ -e "$state/undo/index" ]; then
    mv -T "$state/undo" "$state/previous" || fail "$state/previous cannot be written"
fi
if [ -e "$state/candidate/managed" ]; then mv -f "$state/candidate/managed" "$state/managed"; fi
date +%s.%N >"$state/serial"
sed "s/^/$(date -u +%Y-%m-%dT%H:%M:%SZ) /" >>"$log"
rm -rf "$state/candidate"
if [ "$(cat "$state/lock/holder" 2>/dev/null)" = "$holder" ]; then rm -rf "$state/lock"; fi
section confirmed
