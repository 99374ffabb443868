#!/bin/sh
# Managed by sipdeploy: makes Asterisk load a part of its configuration, and fails unless it has. `asterisk -rx` exits with 0
# also if a module is missing or another reload is under way, and each version says so in other words. So the files of a part
# have a digest, which Asterisk must show.
# reload.sh endpoints | dialplan | mailboxes | conferences | users
cd /etc/asterisk || exit 1
ask() { timeout 20 asterisk -rx "$1" </dev/null 2>&1; }
case $1 in
endpoints) command="module reload res_pjsip.so" question="pjsip show endpoint loaded" files="pjsip.conf pjsip_users.conf" ;;
dialplan) command="dialplan reload" question="dialplan show digest@loaded" files=extensions.conf ;;
mailboxes) command="voicemail reload" question="voicemail show users for default" files="voicemail.conf voicemail_users.conf" ;;
conferences) command="module reload app_confbridge.so" question="confbridge show profile bridges" files="confbridge.conf confbridge_users.conf" ;;
users) # Asterisk reads a row when it needs it
    live=/run/sipdeploy-asterisk/users.db
    sqlite3 "$live" ".restore /etc/asterisk/users.db" || exit 1
    # the first 100 bytes count changes
    cmp -i 100 "$live" users.db && exit 0
    exit 1 ;;
esac
digest=$(cat $files 2>/dev/null | sed -n 's/^; digest \([0-9a-f]*\)$/\1/p')
[ -n "$digest" ] || { echo "no digest in $files"; exit 1; }
end=$(($(date +%s) + 40))
while :; do
    said=$(ask "$command")
    for pause in 0.1 0.3 0.6 1 2; do
        case $(ask "$question") in *"$digest"*) exit 0 ;; esac
        sleep $pause
    done
    [ "$(date +%s)" -lt "$end" ] || break
done
printf '%s\n' "$said" "Asterisk has not loaded the new $files"
exit 1
