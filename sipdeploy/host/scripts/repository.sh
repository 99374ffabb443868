# Adds an apt repository if apt accepts its signature; changes nothing otherwise.
# SOURCE KEYRING URL-OF-THE-KEY PACKAGE; the content of SOURCE on stdin
source=$1 keyring=$2 url=$3 package=$4
umask 022
work=$(mktemp -d /tmp/sipdeploy.XXXXXX) && trap 'rm -rf "$work"' EXIT && chmod 755 "$work" && mkdir "$work/lists" &&
    cat >"$work/source" || fail "cannot write /tmp: is the disk full?"
output=$(/usr/lib/apt/apt-helper download-file "$url" "$work/armored" 2>&1) ||
    fail "$(printf '%s\n' "$output" | grep -a '^[EW]:'; echo "cannot fetch $url")"
if grep -qa '^-----BEGIN PGP' "$work/armored"; then
    sed -e '1,/^\r*$/d' -e '/^=/,$d' "$work/armored" | base64 -di >"$work/key.gpg"
else
    cp "$work/armored" "$work/key.gpg"
fi
# Test the repository first, with separate package lists.
sed "s,$keyring,$work/key.gpg," "$work/source" >"$work/aside.sources"
aside="-o Dir::Etc::SourceList=$work/aside.sources -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists=$work/lists"
aside="$aside -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache="
output=$(apt-get $aside -o Acquire::Retries=2 update 2>&1) || fail "$(printf '%s\n' "$output" | grep '^[EW]:')"
apt-cache $aside show "$package" >/dev/null 2>&1 || fail "$(printf '%s\n' "$output" | grep '^[EW]:'; echo "the repository has no $package for this system")"
install -d "${keyring%/*}" "${source%/*}" && cp "$work/key.gpg" "$keyring.new" && mv -f "$keyring.new" "$keyring" &&
    cp "$work/source" "$source.new" && mv -f "$source.new" "$source" || fail "cannot write $source"
apt "read the lists of the repository" -o Dir::Etc::SourceList="$source" -o Dir::Etc::SourceParts=/dev/null \
    -o APT::Get::List-Cleanup=0 update 2>&1 || [ -n "$users" ] ||
    fail "apt-get update failed, although the test of the repository succeeded"
section added
