# The rules as nft reads them; nothing is loaded, and this network is not even the host's.
exec nft -c -f /etc/sipdeploy/firewall.nft
