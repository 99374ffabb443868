# Carries out the rows of an uninstall, in their order: KIND and cells, separated by tabs. STATE HOLDER; the rows on stdin
# It goes on after a failure and reports it. Each row can be repeated, so the next uninstall continues.
state=$1 holder=$2
rows=$(cat)
exec </dev/null
take_turn "$state"
[ "$(cat "$state/lock/holder" 2>/dev/null)" = "$holder" ] || fail "another run has taken the lock in the meantime"
[ ! -e "$state/undo/index" ] || fail "an apply is unfinished"
bad=0
complain() { printf '%s\n' "$*" >&2; bad=1; }
export DEBIAN_FRONTEND=noninteractive
disarm
put_back() { rm -rf "$1.sipdeploy-new" && cp -a "$state/original$1" "$1.sipdeploy-new" && mv -fT "$1.sipdeploy-new" "$1"; }
# A package that is purged would take the messages with it.
purge() {
    boxes=/var/spool/asterisk/voicemail aside=/var/spool/sipdeploy-voicemail
    if [ -d "$boxes" ] && [ ! -e "$aside" ]; then mv -T "$boxes" "$aside"; fi
    apt-get -y -q -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 purge "$@" 2>&1
    status=$?
    if [ -d "$aside" ]; then mkdir -p "${boxes%/*}" && mv -T "$aside" "$boxes"; fi
    return $status
}
certbot=/etc/letsencrypt
one() {
    case $1 in
    step) step "$2" ;;
    stop) systemctl disable -q --now "$2" 2>/dev/null; systemctl reset-failed "$2" 2>/dev/null; [ "$(systemctl is-active "$2")" != active ] ;;
    restore) put_back "$2" ;;
    delete) rm -f "$2" "$2.sipdeploy-new" "$2.sipdeploy-old" ;;
    tree) rm -rf "$2" ;;
    directory) [ ! -d "$2" ] || { chmod "$3" "$2" && chown "$4" "$2"; } ;;
    rmdir) [ ! -d "$2" ] || rmdir "$2" 2>/dev/null || : ;;
    park) [ ! -e "$certbot/renewal/$2" ] || mv -fT "$certbot/renewal/$2" "$certbot/renewal/$2.parked" ;;
    lineage) rm -rf "$certbot/live/$2" "$certbot/archive/$2" "$certbot/renewal/$2.conf" "$certbot/renewal/$2.conf.parked" ;;
    account) find "$certbot/accounts" -depth -type d -name "$2" -exec rm -rf {} + ;;
    reload) systemctl daemon-reload ;;
    purge) shift; purge "$@" ;;
    messages) ! getent passwd asterisk >/dev/null || (cd / && as_asterisk find /var/spool/asterisk/voicemail -mindepth 1 -delete) ;;
    user) ! getent passwd "$2" >/dev/null || userdel "$2" ;;
    start) systemctl restart "$2" ;;
    enable) systemctl enable -q "$2" ;;
    esac
}
while IFS= read -r line <&3; do
    set -f; IFS=$tab; set -- $line; unset IFS; set +f
    one "$@" || complain "cannot $*"
done 3<<EOF
$rows
EOF
if grep -qsF "$no_daemons" /usr/sbin/policy-rc.d; then rm -f /usr/sbin/policy-rc.d; fi
[ "$bad" = 0 ] || exit 1
logger -t sipdeploy -p daemon.notice -- "uninstalled: $holder"
rm -rf "$state" || fail "cannot delete $state"
section uninstalled
