# The rules as nft reads them; nothing is loaded, and this network is not even the host's. Where the
# candidate has no such rules any more there is nothing to judge.
status=0
for rules in /etc/sipdeploy/firewall.nft /etc/sipdeploy/loopback.nft; do
    if [ -e "$rules" ]; then nft -c -f "$rules" || status=1; fi
done
exit "$status"
