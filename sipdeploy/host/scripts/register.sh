# Checks that users can register: registers as each of them over WSS with digest (RFC 7616), and
# unregisters. STATE ADDRESS PORT DOMAIN SECONDS WORKERS ORIGIN; on each line of stdin a number and its
# HA1. No process gets an HA1 in its arguments (printf is a builtin of the shell) and no file holds one.
# WORKERS run in parallel; after SECONDS no user is begun any more, and `proved` counts those tried.
proof=$1/candidate/proof address=$2 port=$3 domain=$4 seconds=$5 workers=$6 origin=$7
patience=300
md5() { printf '%s' "$1" | md5sum | cut -c1-32; }
# Sets $nonce and $opaque from the first challenge.
challenge() {
    line=$(grep -aim1 '^WWW-Authenticate:' "$candidate/answer")
    nonce=${line#*nonce=\"} opaque=
    nonce=${nonce%%\"*}
    case $line in *opaque=\"*) opaque=${line#*opaque=\"} opaque=${opaque%%\"*} ;; esac
}
# Prints the status of the reply to each of the three requests, separated by tabs.
statuses() {
    awk -v OFS="$tab" '{ sub(/\r$/, "") }
        match($0, /SIP\/2\.0 [0-9][0-9][0-9]/) { status = substr($0, RSTART + 8, 3) }
        tolower($1) == "cseq:" { statuses[$2] = status }
        END { print statuses[1], statuses[2], statuses[3] }' "$candidate/answer"
}
# CSEQ EXPIRES [AUTHORIZATION]
message() {
    printf '%s\r\n' "REGISTER sip:$domain SIP/2.0" "Via: SIP/2.0/WSS probe.invalid;branch=z9hG4bK$once$1" \
        "Max-Forwards: 70" "From: <sip:$number@$domain>;tag=$once" "To: <sip:$number@$domain>" \
        "Call-ID: $once@probe.invalid" "CSeq: $1 REGISTER" "User-Agent: sipdeploy" \
        "Contact: <sip:$number@$once.invalid;transport=ws>;expires=$2" ${3:+"Authorization: $3"} \
        "Content-Length: 0" ""
}
# NC
authorization() {
    response=$(md5 "$ha1:$nonce:0000000$1:$once:auth:$asked")
    printf '%s' "Digest username=\"$number\", realm=\"$domain\", nonce=\"$nonce\", uri=\"sip:$domain\"," \
        " response=\"$response\", algorithm=MD5, qop=auth, cnonce=\"$once\", nc=0000000$1" \
        "${opaque:+, opaque=\"$opaque\"}"
}
converse() {
    handshake "$domain" "$origin" || return 1
    frame "$(message 1 60)" && await '^CSeq: *1 ' || return 1
    challenge
    frame "$(message 2 60 "$(authorization 1)")" && await '^CSeq: *2 ' || return 1
    frame "$(message 3 0 "$(authorization 2)")" && await '^CSeq: *3 '
}
# A second attempt if a reply is missing: a slow host must not cause an undo.
prove() {
    for attempt in 1 2; do
        once=$once$attempt
        : >"$candidate/answer"
        converse | timeout 15 openssl s_client -quiet -no_ign_eof -connect "$address:$port" -servername "$domain" \
            >"$candidate/answer" 2>/dev/null
        answers=$(statuses)
        case $answers in [0-9]*"$tab"[0-9]*"$tab"[0-9]*) break ;; esac
    done
    case $answers in *"${tab}200${tab}200") ;; *) printf '%s\t%s\n' "$number" "$answers" >"$candidate/refused.$number" ;; esac
    : >"$candidate/tried.$number"
}
# The users are dealt to the workers in turn. WORKER
work() {
    candidate=$proof/$1 turn=0
    mkdir -p "$candidate"
    printf '%s\n' "$users" | while read -r number ha1; do
        turn=$(((turn + 1) % workers))
        if [ "$turn" != "$1" ]; then continue; fi
        once=$(date +%s%N)
        if [ "${once%?????????}" -ge "$end" ]; then break; fi
        once=$1$once
        prove
    done
}
rm -rf "$proof"
users=$(cat) asked=$(md5 "REGISTER:sip:$domain")
end=$(($(date +%s) + seconds))
worker=0
while [ "$worker" -lt "$workers" ]; do
    work "$worker" &
    worker=$((worker + 1))
done
wait
section refused; find "$proof" -name 'refused.*' -exec cat {} +
section proved; find "$proof" -name 'tried.*' | wc -l
rm -rf "$proof"
