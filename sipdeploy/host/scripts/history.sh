# Tells the releases that are kept, oldest first. STATE
state=$1
section current; cat "$state/release" 2>/dev/null
for number in $(ls "$state/releases" 2>/dev/null | grep -x '[0-9]*' | sort -n); do
    section "release $number"; cat "$state/releases/$number/release.json"; echo
done
section end
