#!/bin/sh
# Managed by sipdeploy. start: shuts what Asterisk hears on beside SIP and media, which are ports that the kernel chose
# for the resolver of its SIP library; stop: opens them again. MAINPID is systemd's.
table="table inet sipdeploy_asterisk"
nft "add $table; delete $table"
[ "$1" = start ] || exit 0
ports=$(ss -Hlunp | awk -v pid="pid=$MAINPID," 'index($0, pid) {
    port = $4; sub(/.*:/, "", port)
    if ($4 !~ /^127\./ && (port < 10000 || port > 20000)) print port
}' | sort -u | paste -sd , -)
[ -n "$ports" ] || exit 0
nft "add $table; add chain inet sipdeploy_asterisk input { type filter hook input priority filter; }
    add rule inet sipdeploy_asterisk input iif != lo udp dport { $ports } counter drop"
