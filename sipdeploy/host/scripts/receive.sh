# Takes a backup beside the live files; only the files of certbot come into their place. `unreceive` undoes it.
# STATE HOLDER LINEAGE ACCOUNT OWN PROGRAM; LINEAGE is empty without a certificate of certbot, ACCOUNT without its account.
# On stdin: a tar of OWN bytes, the script `messages` of PROGRAM bytes, and a tar of the mailboxes.
state=$1 holder=$2 lineage=$3 account=$4 own=$5 size=$6
received=$state/received issue=$state/issue certbot=/etc/letsencrypt
take_turn "$state"
[ "$(cat "$state/lock/holder" 2>/dev/null)" = "$holder" ] || fail "another run has taken the lock in the meantime"
take_back all # what an interrupted run left
rm -rf "$received"
mkdir -p "$received" || fail "cannot write $received"
head -c "$own" | tar -xf - -C "$received" --no-same-owner || fail "cannot write $received: is the disk full?"
program=$(head -c "$size")
if ! getent passwd asterisk >/dev/null; then fail "the host has no user asterisk"; fi
# The mailboxes of a restore that was confirmed stay, even if its end was lost.
if [ -e "$state/placed" ] && cmp -s "$state/placed" "$state/confirmed"; then
    (cd / && as_asterisk sh -c "$program" messages finish /var/spool/asterisk)
fi
rm -f "$state/placed"
cd / && setpriv --reuid asterisk --regid asterisk --clear-groups --no-new-privs -- \
    sh -c "$program" messages receive /var/spool/asterisk 9>&- >"$received/conflicts" || fail "cannot write the mailboxes"
exec </dev/null
section conflict; cat "$received/conflicts"
# The certificate becomes a lineage of certbot with one version.
put() { mkdir -p "${2%/*}" && cp "$received$1" "$2.sipdeploy-new" && chmod "$3" "$2.sipdeploy-new" && mv -fT "$2.sipdeploy-new" "$2"; }
place() {
    live=$certbot/live/$lineage archive=$certbot/archive/$lineage renewal=$certbot/renewal/$lineage.conf
    mkdir -p "$issue" && : >"$issue/entries" || return 1
    for path in "$renewal" "$renewal.parked" "$live" "$archive" $account; do save_path "$path" || return 1; done
    sync -f "$issue" && mv "$issue/entries" "$issue/index" && sync -f "$issue" || return 1
    [ -d "$certbot" ] || mkdir -m 755 "$certbot" || return 1
    [ -d "$certbot/renewal" ] || mkdir -m 755 "$certbot/renewal" || return 1
    rm -rf "$live" "$archive" "$renewal.parked" && mkdir -p "$live" "$archive" || return 1
    for half in cert chain fullchain privkey; do
        mode=644
        if [ "$half" = privkey ]; then mode=600; fi
        put "$live/$half.pem" "$archive/${half}1.pem" "$mode" && ln -s "../../archive/$lineage/${half}1.pem" "$live/$half.pem" || return 1
    done
    for file in $account/meta.json $account/private_key.json $account/regr.json; do
        [ -n "$account" ] || break
        mode=644
        case $file in */private_key.json) mode=400 ;; esac
        put "$file" "$file" "$mode" || return 1
    done
    put "$renewal" "$renewal" 644 && sync -f "$archive"
}
if [ -n "$lineage" ]; then place || fail "cannot write $certbot: is the disk full?"; fi
section received
