# Runs certbot with a log of its own, because the usual one grows with the runs of others. Sourced before `issue` and
# `renew`. The program is that of the package, which the timer runs too; another one may come first in PATH.
logs=/var/log/letsencrypt/sipdeploy
run_certbot() {
    rm -rf "$logs"
    /usr/bin/certbot "$@" --logs-dir "$logs"
    status=$?
    # certbot has noted the directory for renewals, whose log belongs into the usual place
    if [ "$status" = 0 ]; then sed -i '/^logs_dir = /d' "/etc/letsencrypt/renewal/$lineage.conf"; fi
    return "$status"
}
# Prints the kinds of the errors of the last run: types of ACME (RFC 8555, section 6.7), and exceptions of Python.
kinds() {
    grep -ohE 'urn:ietf:params:acme:error:[A-Za-z]+|^[a-z][A-Za-z0-9_.]*\.[A-Z][A-Za-z]+:' "$logs/letsencrypt.log" 2>/dev/null |
        sed 's/:$//' | sort -u
}
