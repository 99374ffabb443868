# Proves that users can register: each does so over WSS, with digest (RFC 7616), and takes it back.
# STATE ADDRESS PORT DOMAIN SECONDS WORKERS ORIGIN; on each line of stdin a number and its HA1, which no
# process is told in its arguments and no file keeps: printf is the shell's own. Several go at it at once;
# who has not begun when the seconds are up is left out, and how many have is told.
proof=$1/candidate/proof address=$2 port=$3 domain=$4 seconds=$5 workers=$6 origin=$7
patience=300
md5() { printf '%s' "$1" | md5sum | cut -c1-32; }
# Reads the first challenge: $nonce and $opaque.
challenge() {
    line=$(grep -aim1 '^WWW-Authenticate:' "$candidate/answer")
    nonce=${line#*nonce=\"} opaque=
    nonce=${nonce%%\"*}
    case $line in *opaque=\"*) opaque=${line#*opaque=\"} opaque=${opaque%%\"*} ;; esac
}
# The status of the answer to each of the three requests, with tabs between.
statuses() {
    awk -v OFS="$tab" '{ sub(/\r$/, "") }
        match($0, /SIP\/2\.0 [0-9][0-9][0-9]/) { status = substr($0, RSTART + 8, 3) }
        tolower($1) == "cseq:" { found[$2] = status }
        END { print found[1], found[2], found[3] }' "$candidate/answer"
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
# Who was not answered is asked once more: that a host at its limits is slow undoes nothing.
prove() {
    for attempt in 1 2; do
        once=$once$attempt
        : >"$candidate/answer"
        converse | timeout 15 openssl s_client -quiet -no_ign_eof -connect "$address:$port" -servername "$domain" \
            >"$candidate/answer" 2>/dev/null
        found=$(statuses)
        case $found in [0-9]*"$tab"[0-9]*"$tab"[0-9]*) break ;; esac
    done
    case $found in *"${tab}200${tab}200") ;; *) printf '%s\t%s\n' "$number" "$found" >"$candidate/refused.$number" ;; esac
    : >"$candidate/tried.$number"
}
# Each worker takes its own, in turn with the others. WORKER
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
