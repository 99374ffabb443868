"""Substitutes for download servers: a release of Asterisk, and the apt repository of Kamailio.

A lab host serves them over HTTP, from files of the Debian archive: the source package of Asterisk
is a release without sounds, and the packages of Kamailio get another version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.hosts import Host

SUFFIX = "+lab"  # makes a version newer than that of the distribution
_TOOLS = """\
set -e
export DEBIAN_FRONTEND=noninteractive
sed -n 's/^deb /deb-src /p' /etc/apt/sources.list >/etc/apt/sources.list.d/sources.list
apt-get update -q
apt-get install -q -y --no-install-recommends bzip2 xz-utils gnupg python3
mkdir -p /srv
systemd-run --quiet --unit=origin -p WorkingDirectory=/srv python3 -m http.server 80
"""
# Debian removes a driver from pjproject, so its name must leave the Makefile.
_ASTERISK = """\
set -e
mkdir /tmp/a && cd /tmp/a
apt-get -q source --download-only asterisk
mkdir tree pj
tar -xf asterisk_*.orig.tar.xz -C tree --strip-components=1
tar -xf asterisk_*.orig-Xpjproject.tar.xz -C pj
. tree/third-party/versions.mak
version=$(cat tree/.version)
mv pj/* "pjproject-$PJPROJECT_VERSION"
sed -i 's/ bdimad_dev[.]o//' "pjproject-$PJPROJECT_VERSION/pjmedia/build/Makefile"
tar -cjf "/srv/pjproject-$PJPROJECT_VERSION.tar.bz2" "pjproject-$PJPROJECT_VERSION"
sums=tree/third-party/pjproject/pjproject-$PJPROJECT_VERSION.tar.bz2.md5
(cd /srv && md5sum pjproject-*.tar.bz2) >"$sums"
mv tree "asterisk-$version"
tar -czf "/srv/asterisk-$version.tar.gz" "asterisk-$version"
cd /srv && sha256sum asterisk-*.tar.gz pjproject-*.tar.bz2
"""
_KAMAILIO = """\
set -e
suite=$(. /etc/os-release; echo "$VERSION_CODENAME") repo=/srv/kamailio lists=main/binary-amd64
mkdir -p /tmp/k $repo/pool $repo/dists/$suite/$lists && cd /tmp/k
apt-get -q download kamailio kamailio-sqlite-modules kamailio-tls-modules \\
    kamailio-systemd-modules kamailio-websocket-modules
for package in *.deb; do
    dpkg-deb -R "$package" tree
    old=$(dpkg-deb -f "$package" Version)
    sed -i "s/$old/${old%-*}$1/g" tree/DEBIAN/control
    dpkg-deb -Zgzip -z1 --root-owner-group -b tree "$repo/pool/${package%%_*}.deb"
    rm -rf tree
done
cd $repo
for package in pool/*.deb; do
    dpkg-deb -f "$package"
    printf 'Filename: %s\\nSize: %s\\n' "$package" "$(stat -c %s "$package")"
    printf 'SHA256: %s\\n\\n' "$(sha256sum "$package" | cut -d ' ' -f 1)"
done >dists/$suite/$lists/Packages
cd dists/$suite
printf 'Suite: %s\\nCodename: %s\\n' $suite $suite >Release
printf 'Architectures: amd64\\nComponents: main\\nDate: %s\\nSHA256:\\n' "$(date -Ru)" >>Release
sum=$(sha256sum $lists/Packages | cut -d ' ' -f 1)
printf ' %s %s %s\\n' "$sum" "$(stat -c %s $lists/Packages)" $lists/Packages >>Release
for name in right wrong; do
    gpg --batch --quiet --passphrase '' --quick-gen-key "$name@example.test" rsa3072 sign never
    gpg --armor --export "$name@example.test" >/srv/$name.asc
    gpg --with-colons --list-keys "$name@example.test" | sed -n 's/^fpr:*\\([0-9A-F]*\\):$/\\1/p'
done
gpg --batch --quiet -u right@example.test --clearsign -o InRelease Release
"""
# An unsigned archive on the host itself, with the packages of both daemons in another version.
_REBUILD = """\
set -e
suffix=$1 only=$2 edit=$3
rm -rf /tmp/r /srv/repo /etc/apt/sources.list.d/lab.list && mkdir -p /tmp/r /srv/repo && cd /tmp/r
apt-get -q update
names=$(dpkg-query -W -f='${Package} ${db:Status-Status}\\n' 'kamailio*' 'asterisk*' |
    sed -n '/-sounds-/d; s/ installed$//p')
apt-get -q download $names
for package in *.deb; do
    name=${package%%_*}
    dpkg-deb -R "$package" tree
    old=$(dpkg-deb -f "$package" Version)
    sed -i "s/$old/${old%-*}$suffix/g" tree/DEBIAN/control
    if [ "$name" = "$only" ]; then sh -ec "$edit"; fi
    dpkg-deb -Zgzip -z1 --root-owner-group -b tree "/srv/repo/$name.deb"
    rm -rf tree
done
cd /srv/repo
for package in *.deb; do
    dpkg-deb -f "$package"
    printf 'Filename: ./%s\\nSize: %s\\n' "$package" "$(stat -c %s "$package")"
    printf 'SHA256: %s\\n\\n' "$(sha256sum "$package" | cut -d ' ' -f 1)"
done >Packages
echo 'deb [trusted=yes] file:/srv/repo ./' >/etc/apt/sources.list.d/lab.list
apt-get -q update
"""


def rebuild(host: Host, suffix: str, *, package: str = "", edit: str = "") -> None:
    """Offer newer packages of both daemons to a host; `edit` changes the tree of one of them."""
    host.run(["sh", "-c", _REBUILD, "sh", suffix, package, edit], check=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A release of Asterisk: version, and (URL, SHA-256) of both tarballs."""

    version: str
    asterisk: tuple[str, str]
    pjproject: tuple[str, str]


class Origin:
    """A lab host with Debian sid that serves downloads."""

    def __init__(self, host: Host) -> None:
        """Start the HTTP server; `release` and `repository` create the files."""
        self.host = host
        self.url = f"http://{host.address}"
        self._run(_TOOLS)

    def release(self) -> Release:
        """Create a release from the Asterisk of sid, in the form of upstream."""
        rows = [line.split() for line in self._run(_ASTERISK).splitlines()[-2:]]
        (sum1, name1), (sum2, name2) = rows
        return Release(
            version=name1.removeprefix("asterisk-").removesuffix(".tar.gz"),
            asterisk=(f"{self.url}/{name1}", sum1),
            pjproject=(f"{self.url}/{name2}", sum2),
        )

    def repository(self) -> tuple[str, str, str]:
        """Create an apt repository: its URL, the fingerprint of its key, and that of another key.

        The host serves the keys as `right.asc` and `wrong.asc`.
        """
        right, wrong = self._run(_KAMAILIO, SUFFIX).splitlines()[-2:]
        return f"{self.url}/kamailio", right, wrong

    def _run(self, script: str, *arguments: str) -> str:
        return self.host.run(["sh", "-c", script, "sh", *arguments], check=True).stdout
