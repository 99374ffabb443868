# Prints lines of the journal as JSON, at most the newest MOST of them. MOST SINCE CURSOR SECONDS MATCH...
# SINCE is in seconds since 1970. CURSOR, if not empty, is the line after which to begin instead. With SECONDS above 0
# it follows the journal for that long.
most=$1 from=--since=@$2 cursor=$3 seconds=$4; shift 4
exec </dev/null
if [ -n "$cursor" ]; then from=--after-cursor=$cursor; fi
set -- -q --no-pager -o json --output-fields=MESSAGE,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT "$from" "$@"
section journal
if [ "$seconds" -gt 0 ]; then
    timeout "$seconds" journalctl -f --no-tail "$@"
    [ $? = 124 ] || fail "journalctl ended"
else
    journalctl -n "$most" "$@" || fail "journalctl failed"
fi
section end
