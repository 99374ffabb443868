# Lets nginx parse its configuration, and read the certificate. It also binds: the network namespace is not the host's, so
# it gets the address first. A candidate without the configuration passes.
config=/etc/sipdeploy/phone/nginx.conf
[ -e "$config" ] || exit 0
ip link set lo up
case $(sed -n 's/^[[:space:]]*listen \(.*\):[0-9]* ssl;$/\1/p' "$config") in
0.0.0.0 | "[::]" | 127.*) ;;
"["*) ip addr add "$(sed -n 's/^[[:space:]]*listen \[\(.*\)\]:[0-9]* ssl;$/\1/p' "$config")/128" dev lo nodad ;;
*) ip addr add "$(sed -n 's/^[[:space:]]*listen \(.*\):[0-9]* ssl;$/\1/p' "$config")/32" dev lo ;;
esac
nginx -t -q -c "$config"
