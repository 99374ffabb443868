# Prints what sipdeploy has brought to this host, and what was there before. Changes nothing. STATE
state=$1
exec </dev/null 2>/dev/null
[ -d "$state" ] || { section none; exit 0; }
section release; cat "$state/release"
section serial; cat "$state/serial"
section lock; cat "$state/lock/holder"
section purpose; cat "$state/lock/purpose"
section since; if [ -e "$state/lock" ]; then echo $(($(date +%s) - $(stat -c %Y "$state/lock"))); fi
section abandoned; if [ -e "$state/undo/index" ]; then echo yes; fi
section managed; cut -f1 "$state/managed"
section originals; if [ -d "$state/original" ]; then (cd "$state/original" && find . ! -type d) | sed 's/^\.//'; fi
section directories; cat "$state/original.directories"
section units; cat "$state/original.units"
section loaded; systemctl show -p Id,ActiveState,UnitFileState kamailio.service asterisk.service sipdeploy-firewall.service \
    sipdeploy-recover.service sipdeploy-nginx.service certbot.timer
section others
for unit in $(cut -f1 "$state/original.units"); do systemctl show -p Id,ActiveState,UnitFileState "$unit"; echo; done
section present
for path in /etc/kamailio/dialog-key.cfg /etc/kamailio/tls/server.* /etc/systemd/system/sipdeploy-recover.service \
    /etc/systemd/system/multi-user.target.wants/sipdeploy-*.service /etc/apt/keyrings/sipdeploy-kamailio.gpg \
    /opt/sipdeploy /var/cache/sipdeploy /var/log/sipdeploy.log /var/log/letsencrypt/sipdeploy \
    /run/sipdeploy-asterisk /run/sipdeploy-acme-roots.pem /var/spool/asterisk/.sipdeploy-*; do
    if [ -e "$path" ] || [ -h "$path" ]; then printf '%s\n' "$path"; fi
done
section packages
for name in $(cat "$state/packages" || dpkg-query -W -f='${Package}\n' 'kamailio*' 'asterisk*'); do
    if [ "$(dpkg-query -W -f='${db:Status-Status}' "$name")" = installed ]; then echo "$name"; fi
done
section renewals; for path in /etc/letsencrypt/renewal/*.conf /etc/letsencrypt/renewal/*.conf.parked; do if [ -e "$path" ]; then echo "${path##*/}"; fi; done
section accounts; grep -h '^account = ' /etc/letsencrypt/renewal/sipdeploy-*
section user; getent passwd sipdeploy-build
section messages; as_asterisk find /var/spool/asterisk/voicemail/default -name 'msg*.txt' ! -path '*/tmp/*' | wc -l
section local
for path in /etc/kamailio/local.cfg /etc/asterisk/local/* /etc/sipdeploy/local*.nft; do if [ -e "$path" ]; then printf '%s\n' "$path"; fi; done
section tables; timeout 5 kamcmd htable.stats
section contacts; timeout 5 kamcmd stats.get_statistics usrloc:
section channels; timeout 5 asterisk -rx "core show channels count"
section end
