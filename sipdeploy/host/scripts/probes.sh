# Sets the probe accounts of a proof, or removes them. set SECONDS DOMAIN | remove - DOMAIN; on each line of
# stdin a number and, to set it, its HA1; to remove, also `failures KEY COUNT`. No process gets an HA1 in its arguments, and no file of a release
# holds one: Kamailio has it in memory and, in mode `asterisk`, Asterisk in its database of run-time values.
# The host removes the accounts by itself after SECONDS: the timer runs before they exist.
action=$1 seconds=$2 domain=$3
accounts=$(cat)
numbers=$(printf '%s\n' "$accounts" | sed -n 's/^\([0-9][0-9]*\).*/\1/p')
unit=sipdeploy-probes-$(printf '%s\n' "$numbers" | head -n 1)
pjsip=/etc/asterisk/pjsip.conf
# In mode `asterisk`, the template of the users' passwords names its type; empty in the other mode.
type=$(sed -n 's/^auth_type=//p' "$pjsip" 2>/dev/null | head -n 1)
# DOMAIN NUMBER...; the timer runs it too, without the rest of this script.
clean='PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; domain=$1; shift
for number; do
    printf "htable.delete %s\n" "probes s:$number" "held s:$number"
    printf "htable.delete added s:%s:$number\n" contacts calls subscriptions addresses
    printf "ul.rm location %s\n" "$number@$domain"
done | timeout 20 kamcmd >/dev/null 2>&1
for number; do
    for kind in auth aor endpoint; do
        timeout 20 asterisk -rx "database del probes/$kind $number" </dev/null >/dev/null 2>&1
    done
done; :'
# KEY COUNT...: the failures that a proof has made on purpose count no longer against its address.
forgive() {
    while read -r key count; do
        now=$(timeout 20 kamcmd htable.get failures "s:$key" </dev/null 2>/dev/null | sed -n 's/.*value: *\([0-9]*\).*/\1/p')
        if [ "${now:-0}" -gt "$count" ]; then
            printf 'htable.seti failures s:%s %s\n' "$key" "$((now - count))"
        else
            printf 'htable.delete failures s:%s\n' "$key"
        fi
    done | timeout 20 kamcmd >/dev/null 2>&1
}
if [ "$action" = remove ]; then
    printf '%s\n' "$accounts" | sed -n 's/^failures //p' | forgive
    # shellcheck disable=SC2086 # numbers are words
    sh -c "$clean" sh "$domain" $numbers
    systemctl stop "$unit.timer" 2>/dev/null
    section removed
    exit 0
fi
# shellcheck disable=SC2086
systemd-run --quiet --on-active="$seconds" --timer-property=AccuracySec=500ms --unit="$unit" --collect -- \
    /bin/sh -c "$clean" sh "$domain" $numbers || fail "cannot start $unit.timer"
# Commands for Asterisk's console on stdin, over its socket: `asterisk -rx` would have them in its arguments.
console() {
    timeout 20 perl -MIO::Socket::UNIX -ne 'chomp;
        $socket = IO::Socket::UNIX->new(Peer => "/run/asterisk/asterisk.ctl") or die "Asterisk does not answer: $!\n";
        print $socket "cli quit after $_\0"; $socket->flush; print while <$socket>'
}
# KIND NUMBER; a JSON object on stdin, in which the console reads no quotation marks of its own
put() { printf 'database put probes/%s %s "%s"\n' "$1" "$2" "$(sed 's/"/\\"/g')"; }
in_asterisk() {
    printf '%s\n' "$accounts" | while read -r number ha1; do
        case $type in
        digest) key=password_digest ha1=MD5:$ha1 ;;
        *) key=md5_cred ;;
        esac
        printf '{"auth_type":"%s","username":"%s","realm":"%s","%s":"%s"}' "$type" "$number" "$domain" "$key" "$ha1" |
            put auth "$number"
        printf '{"max_contacts":"1","remove_existing":"yes","minimum_expiration":"30","maximum_expiration":"600"}' |
            put aor "$number"
        printf '{"identify_by":"username","context":"from-user","auth":"%s","aors":"%s"}' "$number" "$number" |
            put endpoint "$number"
    done | console 2>&1
}
# Accounts whose timer a restart of the host ended.
forget_old() {
    timeout 20 asterisk -rx 'database show probes/auth' </dev/null 2>/dev/null | sed -n 's#^/probes/auth/\([0-9]*\) .*#\1#p' |
        while read -r number; do
            if ! grep -qs "$number" /run/systemd/transient/sipdeploy-probes-*.service; then sh -c "$clean" sh "$domain" "$number" </dev/null; fi
        done
}
if [ -n "$type" ]; then
    forget_old
    said=$(in_asterisk)
    if [ "$(printf '%s\n' "$said" | grep -c 'Updated database successfully')" -ne "$(($(printf '%s\n' "$numbers" | wc -l) * 3))" ]; then
        section failed; printf 'asterisk\n%s\n' "$said"
    fi
fi
said=$(printf '%s\n' "$accounts" | sed 's/^\([0-9]*\) \(.*\)/htable.sets probes s:\1 s:\2/' | timeout 20 kamcmd 2>&1)
case $said in
*"o such htable"* | *rror* | *ERROR*) section failed; printf 'kamailio\n%s\n' "$said" ;;
esac
section certificate; cat /etc/kamailio/tls/server.crt 2>/dev/null
section set
