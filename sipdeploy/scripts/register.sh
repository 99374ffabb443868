# Proves that users can register: each does so over WSS, with digest (RFC 7616), and takes it back.
# STATE ADDRESS PORT DOMAIN ORIGIN; on each line of stdin a number and its HA1, which no process is told
# in its arguments: printf is the shell's own.
candidate=$1/candidate address=$2 port=$3 domain=$4 origin=$5
md5() { printf '%s' "$1" | md5sum | cut -c1-32; }
# What the challenge says. NAME
challenge() { sed -n "s/^WWW-Authenticate:.*$1=\"\\([^\"]*\\)\".*/\\1/Ip" "$candidate/answer" | head -n 1; }
# The status of the answer to the request CSEQ.
status() { sed -n "s/.*SIP\\/2\\.0 \\([0-9][0-9][0-9]\\) .*/\\1/p; /^CSeq: *$1 /q" "$candidate/answer" | tail -n 1; }
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
    nonce=$(challenge nonce) opaque=$(challenge opaque)
    response=$(md5 "$ha1:$nonce:0000000$1:$once:auth:$(md5 "REGISTER:sip:$domain")")
    printf '%s' "Digest username=\"$number\", realm=\"$domain\", nonce=\"$nonce\", uri=\"sip:$domain\"," \
        " response=\"$response\", algorithm=MD5, qop=auth, cnonce=\"$once\", nc=0000000$1" \
        "${opaque:+, opaque=\"$opaque\"}"
}
reply() { await "^CSeq: *$1 " 100; }
converse() {
    handshake "$domain" "$origin" || return 1
    frame "$(message 1 60)" && reply 1 || return 1
    frame "$(message 2 60 "$(authorization 1)")" && reply 2 || return 1
    frame "$(message 3 0 "$(authorization 2)")" && reply 3
}
: >"$candidate/proof"
while read -r number ha1; do
    once=$(date +%s%N)
    : >"$candidate/answer"
    converse | timeout 15 openssl s_client -quiet -no_ign_eof -connect "$address:$port" -servername "$domain" \
        >"$candidate/answer" 2>/dev/null
    if [ "$(status 2)" != 200 ] || [ "$(status 3)" != 200 ]; then
        printf '%s\t%s\t%s\t%s\n' "$number" "$(status 1)" "$(status 2)" "$(status 3)" >>"$candidate/proof"
    fi
done
section refused; cat "$candidate/proof"
section proved
