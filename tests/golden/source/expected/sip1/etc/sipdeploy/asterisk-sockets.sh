#!/bin/sh
# Managed by sipdeploy. start: blocks the UDP ports that the kernel chose for the DNS resolver of Asterisk's SIP library;
# SIP and media ports stay open. stop: removes the block. systemd sets MAINPID.
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
