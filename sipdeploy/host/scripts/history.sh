# Prints the releases that the host keeps, oldest first. STATE
state=$1
section current; cat "$state/release" 2>/dev/null
for number in $(kept_releases); do
    section "release $number"; cat "$state/releases/$number/release.json"; echo
done
section end
