# Prints what an upgrade of DAEMONS would do, according to apt, and changes nothing. DAEMON...
exec </dev/null 2>&1
held=" $(apt-mark showhold 2>/dev/null | tr '\n' ' ')"
wanted=
for name in $(versions_of "$@" | cut -f1); do
    case $held in *" $name "*) section held-back; echo "$name" ;; *) wanted="$wanted $name" ;; esac
done
section simulated
[ -n "$wanted" ] || { section end; exit 0; }
apt-get -s -o APT::Get::Show-User-Simulation-Note=false --no-install-recommends --only-upgrade install $wanted
status=$?
section status; echo "$status"
section end
