set -u
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
umask 077
tab=$(printf '\t')
# What follows belongs to this section, up to the next one (ASCII record separator).
section() { printf '\036%s\n' "$*"; }
# Ends the script; the last line of stderr is what the user reads.
fail() { printf '%s\n' "$*" >&2; exit 1; }
