# Prints the releases that the host keeps, oldest first. STATE
state=$1
section current; cat "$state/release" 2>/dev/null
section configurations; configurations
for number in $(kept_releases); do
    section "release $number"; cat "$state/releases/$number/release.json"; echo
done
if [ -e "$state/undo/trial" ]; then
    section trial; echo $(($(cat "$state/undo/trial") - $(date +%s)))
    section tried; cat "$state/candidate/release.json"
fi
section end
