# Prints a release as a tar: release.json, tree/, and the versions of its packages if they are known. STATE NUMBER
cd "$1/releases/$2" 2>/dev/null || exit 3
if [ -e versions ]; then exec tar -cf - release.json versions tree; fi
exec tar -cf - release.json tree
