#!/bin/sh
# Managed by sipdeploy. certbot and systemd call this script for the certificate of this host:
#   open    opens port 80 for a challenge; it closes by itself after ten minutes
#   close   closes port 80 again
#   deploy  makes the daemons serve certbot's certificate; on failure the old one stays in use and the failure is logged
#   mend    restores certificate and key if a power cut left a pair that does not match
#   roots   writes the list of authorities that certbot trusts when it connects to the ACME server
# The script may be interrupted anywhere: the old pair is kept beside the live one, and a rename needs no disk space.
set -u
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
umask 077
domain=sip.example.com
firewall=nftables
lineage=/etc/letsencrypt/live/sipdeploy-sip.example.com
ports='127.0.0.1:8443'
live=/etc/kamailio/tls/server
state=/var/lib/sipdeploy
result=$state/certificate.result

tell() { logger -t sipdeploy -p "daemon.$1" -- "$2"; printf 'sipdeploy: %s\n' "$2"; }
# Writes the result for `sipdeploy cert`: time, result, reason. If that fails, removes the old result, which is wrong now.
record() {
	printf '%s\t%s\t%s\n' "$(date +%s)" "$1" "$2" >"$result.new" && mv -fT "$result.new" "$result" || rm -f "$result" "$result.new"
}
fail() {
	rm -f "$live.crt.sipdeploy-new" "$live.key.sipdeploy-new"
	record failed "$1"
	tell err "the certificate of $domain: $1; the old certificate stays in use" >&2
	exit 1
}
fingerprint() { openssl x509 -noout -fingerprint -sha256 2>/dev/null | sed 's/.*=//'; }
# Whether key file $2 belongs to the first certificate in file $1.
belongs() {
	half=$(openssl pkey -in "$2" -pubout 2>/dev/null) && [ -n "$half" ] &&
		[ "$(openssl x509 -in "$1" -noout -pubkey 2>/dev/null)" = "$half" ]
}
# Prints the first port that does not serve the certificate with fingerprint $1; nothing if all ports serve it.
astray() {
	for port in $ports; do
		found=$(timeout 8 openssl s_client -connect "$port" -servername "$domain" </dev/null 2>/dev/null | fingerprint)
		if [ "$found" != "$1" ]; then echo "$port"; return; fi
	done
}
# Adds the other daemons that serve the certificate. One that does not run cannot keep it from being used.
readers=''
join_readers() {
	if systemctl is-active -q coturn.service; then readers="$readers coturn.service" ports="$ports 203.0.113.10:443"; fi
	if systemctl is-active -q sipdeploy-nginx.service; then readers="$readers sipdeploy-nginx.service" ports="$ports 127.0.0.1:8444"; fi
}
# kamcmd exits with 0 even if Kamailio refused, so its output decides.
reload() {
	said=$(timeout 60 kamcmd tls.reload 2>&1 9>&-) || { said="kamcmd tls.reload: ${said:-no answer}"; return 1; }
	case $said in [Ee]rror* | ERROR*) said="kamcmd tls.reload: $said"; return 1 ;; esac
	for unit in $readers; do
		said=$(systemctl reload "$unit" 2>&1 9>&-) || { said="systemctl reload $unit: $said"; return 1; }
	done
}
put_back() {
	for half in key crt; do
		if [ -e "$live.$half.sipdeploy-old" ]; then mv -fT "$live.$half.sipdeploy-old" "$live.$half"; fi
	done
	reload
}
# Waits until no apply and no other call of this script is running.
take_turn() {
	exec 9<"$state" || fail "cannot open $state"
	flock -w 600 9 || fail "an apply has been running here for ten minutes"
}
judge() {
	[ -s "$1" ] && [ -s "$2" ] || fail "certbot has no certificate in $lineage"
	belongs "$1" "$2" || fail "the key in $lineage does not belong to the certificate"
	openssl x509 -in "$1" -noout -checkhost "$domain" | grep -q 'does match' || fail "the certificate in $lineage is for another domain"
	openssl x509 -in "$1" -noout -checkend 0 >/dev/null || fail "the certificate in $lineage has expired"
	# Options in certbot's cli.ini hold for renewals too: browsers refuse what they may lead to.
	text=$(openssl x509 -in "$1" -noout -text)
	case $text in *"TLS Feature"* | *1.3.6.1.5.5.7.1.24*)
		fail "the certificate in $lineage demands OCSP stapling, which browsers refuse here: delete must-staple in certbot's cli.ini" ;;
	esac
	case $text in *"ASN1 OID: prime256v1"* | *"ASN1 OID: secp384r1"* | *"Public Key Algorithm: rsaEncryption"*) ;;
	*) fail "browsers refuse the kind of key in $lineage: see key-type and elliptic-curve in certbot's cli.ini" ;;
	esac
}
swap() {
	install -o root -g kamailio -m 0644 "$1" "$live.crt.sipdeploy-new" &&
		install -o root -g kamailio -m 0640 "$2" "$live.key.sipdeploy-new" &&
		cmp -s "$1" "$live.crt.sipdeploy-new" && cmp -s "$2" "$live.key.sipdeploy-new" &&
		sync -f "$live.key.sipdeploy-new" || fail "cannot copy it to ${live%/*}: is the disk full?"
	for half in key crt; do
		if [ -e "$live.$half" ]; then ln -f "$live.$half" "$live.$half.sipdeploy-old" || fail "cannot back up $live.$half"; fi
	done
	for half in key crt; do
		mv -fT "$live.$half.sipdeploy-new" "$live.$half" || { put_back; fail "cannot replace $live.$half"; }
	done
}
deploy() {
	take_turn
	mend
	crt=$lineage/fullchain.pem key=$lineage/privkey.pem
	judge "$crt" "$key"
	wanted=$(fingerprint <"$crt")
	join_readers
	if cmp -s "$crt" "$live.crt" && cmp -s "$key" "$live.key" && [ -z "$(astray "$wanted")" ]; then
		record served ''
		return 0
	fi
	swap "$crt" "$key"
	trap 'put_back; exit 130' HUP INT TERM
	reload || { why=$said; put_back; fail "$why"; }
	tries=0
	while port=$(astray "$wanted") && [ -n "$port" ]; do
		tries=$((tries + 1))
		[ "$tries" -lt 20 ] || { put_back; fail "$port does not serve the new one after a reload"; }
		sleep 0.5
	done
	trap - HUP INT TERM
	rm -f "$live.crt.sipdeploy-old" "$live.key.sipdeploy-old"
	record served ''
	tell notice "the new certificate of $domain is in use on $ports"
}
mend() {
	belongs "$live.crt" "$live.key" && return 0
	if [ -e "$live.crt.sipdeploy-old" ] || [ -e "$live.key.sipdeploy-old" ]; then put_back; fi
	return 0
}
# ufw rules of this script have this comment; it does not touch port 80 if the administrator has opened it.
mark='sipdeploy challenge'
open() {
	case $firewall in
	nftables) nft add element inet sipdeploy challenge '{ 80 timeout 10m }' 2>/dev/null ;;
	ufw)
		ufw show added | grep -q '^ufw allow 80/tcp' && return 0
		ufw allow 80/tcp comment "$mark" >/dev/null &&
			systemd-run --quiet --collect --on-active=600 --unit=sipdeploy-challenge "$0" close ;;
	esac
	return 0
}
close() {
	case $firewall in
	nftables) nft delete element inet sipdeploy challenge '{ 80 }' 2>/dev/null ;;
	ufw)
		systemctl stop sipdeploy-challenge.timer 2>/dev/null
		if ufw show added | grep -qxF "ufw allow 80/tcp comment '$mark'"; then ufw delete allow 80/tcp >/dev/null; fi ;;
	esac
	return 0
}
roots() { cat /etc/ssl/certs/ca-certificates.crt /etc/sipdeploy/acme-root.pem >/run/sipdeploy-acme-roots.pem; }

case ${1:-} in
open | close | deploy | mend | roots) "$1" ;;
*) echo "usage: $0 open | close | deploy | mend | roots" >&2; exit 2 ;;
esac
