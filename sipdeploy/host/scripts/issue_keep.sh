# Backup of the files that `issue` replaces, so a failure can restore them. Sourced before `issue` and
# `unissue`. $issue has the files that certbot needs and the files that they replaced.
forget() { rm -rf "$issue"; }
save_path() {
    if [ -e "$1" ] || [ -h "$1" ]; then
        mkdir -p "$issue/kept${1%/*}" && cp -a "$1" "$issue/kept$1" && echo "there $1"
    else
        echo "absent $1"
    fi >>"$issue/entries"
}
# HOW: all, or but-the-lineage, which keeps a first certificate: the ACME server limits how many it
# issues.
take_back() {
    [ -e "$issue/index" ] || { forget; return 0; }
    bad=
    while read -r was path <&3; do
        case $1:$was:$path in but-the-lineage:absent:/etc/letsencrypt/*) [ -e "$path.parked" ] || continue ;; esac
        rm -rf "$path.sipdeploy-new"
        if [ "$was" = absent ]; then rm -rf "$path"; continue; fi
        cp -a "$issue/kept$path" "$path.sipdeploy-new" && rm -rf "$path" && mv -T "$path.sipdeploy-new" "$path" || bad="$bad $path"
    done 3<"$issue/index"
    [ -z "$bad" ] || fail "cannot restore$bad"
    forget
}
