# Prints a release as a tar: release.json and tree/. STATE NUMBER
cd "$1/releases/$2" 2>/dev/null || exit 3
exec tar -cf - release.json tree
