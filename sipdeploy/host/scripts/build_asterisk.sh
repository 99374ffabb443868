# Builds Asterisk in the current folder, to be installed in HOME. HOME MODULES TARBALLS
# TARBALLS has a line `FILE SHA256 URL` for each. A marker file (unpacked, configured, done) skips a
# step that is complete.
set -eu
PATH=/usr/local/bin:/usr/bin:/bin LC_ALL=C
export PATH LC_ALL
home=$1 modules=$2 tarballs=$3
flags="ASTDATADIR=/usr/share/asterisk DEBUG= OPTIMIZE=-O2"
step() { printf '\036step %s\n' "$*"; }
fetch() {
    if [ -e "$1" ]; then return 0; fi
    step "fetch $3"
    # asterisk.org moves superseded releases there
    older=$(printf '%s\n' "$3" | sed 's,/asterisk/releases/,/asterisk/old-releases/,')
    wget -nv -c --tries=3 -O "$1.part" "$3" || wget -nv -O "$1.part" "$older"
    actual=$(sha256sum <"$1.part")
    if [ "${actual%% *}" != "$2" ]; then
        rm -f "$1.part"
        echo "$3 has the wrong SHA-256: ${actual%% *}, not $2"
        return 1
    fi
    mv "$1.part" "$1"
}
printf '%s\n' "$tarballs" | while read -r file sum url; do fetch "$file" "$sum" "$url" || exit 1; done
if [ ! -e unpacked ]; then
    step "unpack"
    rm -rf source cache
    mkdir source cache
    tar -xf asterisk -C source --strip-components=1 --no-same-owner
    : >unpacked
fi
cd source
if [ ! -e ../configured ]; then
    step "configure"
    . third-party/versions.mak
    if [ -e ../pjproject ]; then cp ../pjproject "../cache/pjproject-$PJPROJECT_VERSION.tar.bz2"; fi
    ./configure --prefix="$home" --sysconfdir=/etc --localstatedir=/var --disable-xmldoc \
        --with-pjproject-bundled --with-externals-cache="${PWD%/*}/cache"
    make menuselect.makeopts
    set -- --disable-all --enable OPTIONAL_API
    for module in $modules; do set -- "$@" --enable "$module"; done
    menuselect/menuselect "$@" menuselect.makeopts
    : >../configured
fi
step "compile"
# Files that an interrupted build was writing may be incomplete: delete the newest ones.
newest=$(find . -name '*.o' -printf '%Ts\n' | sort -n | tail -n 1)
if [ -n "$newest" ]; then
    find . \( -name '*.o' -o -name '*.a' -o -name '*.so' \) \( -size 0 -o -newermt "@$((newest - 5))" \) -delete
fi
make -j"$(nproc)" $flags
step "collect"
rm -rf ../root
make install $flags DESTDIR="${PWD%/*}/root"
mkdir "../root$home/etc" "../root$home/etc/samples"
for name in acl ccss cdr cel features indications pjproject udptl; do
    cp "configs/samples/$name.conf.sample" "../root$home/etc/samples/$name.conf"
done
printf '[directories]\nastkeydir => /var/lib/asterisk\n#tryinclude "/etc/asterisk/local/asterisk.conf"\n' >"../root$home/etc/asterisk.conf"
for module in $modules; do
    [ -e "../root$home/lib/asterisk/modules/$module.so" ] || { echo "make did not build the module $module"; exit 1; }
done
: >../done
