# Queries the host's first name server (RFC 1035, RFC 8659); Debian's base system has no tool for CAA
# records. Sourced before `facts`. For each argument `TYPE NAME` that the server answers, prints a line
# `TYPE NAME`, and then `TYPE NAME DATA` for each record.
dns() {
    server=$(sed -n 's/^nameserver *//p' /etc/resolv.conf | head -n 1)
    [ -n "$server" ] || return 0
    timeout 15 perl -MSocket=inet_ntop,AF_INET,AF_INET6 -MIO::Socket::IP -e '
        my %number = (A => 1, AAAA => 28, CAA => 257);
        my $server = shift;
        for my $question (@ARGV) {
            my ($type, $name) = split / /, $question;
            my $socket = IO::Socket::IP->new(PeerAddr => $server, PeerPort => 53, Proto => "udp") or next;
            my $id = int rand 65536;
            my $ask = pack("n6", $id, 0x0100, 1, 0, 0, 0)
                . join("", map { pack "C/a*", $_ } split /\./, $name) . pack("Cnn", 0, $number{$type}, 1);
            my $answer = "";
            for (1, 2) {
                $socket->send($ask);
                my $ready = "";
                vec($ready, $socket->fileno, 1) = 1;
                if (select($ready, undef, undef, 2)) { $socket->recv($answer, 4096); last }
            }
            next if length $answer <= length $ask && length $answer < 12;
            my ($answered, $flags, undef, $count) = unpack "n4", $answer;
            next if $answered != $id || ($flags & 15) != 0 && ($flags & 15) != 3;
            print "$type $name\n";
            my $at = length $ask;
            for (1 .. $count) {
                while (my $length = ord substr $answer, $at, 1) {
                    if ($length >= 192) { $at++; last }
                    $at += 1 + $length;
                }
                my ($kind, undef, undef, $size) = unpack "nnNn", substr $answer, $at + 1, 10;
                my $data = substr $answer, $at + 11, $size;
                $at += 11 + $size;
                next if $kind != $number{$type};
                my $shown = $type eq "A" ? inet_ntop(AF_INET, $data)
                    : $type eq "AAAA" ? inet_ntop(AF_INET6, $data)
                    : join " ", unpack "C C/a a*", $data;
                $shown =~ s/[^ -~]//g;
                print "$type $name $shown\n";
            }
        }' "$server" "$@"
}
# CAA records apply to all names below (RFC 8659, section 3), so query the parents too.
ask_dns() {
    set -- "A $1" "AAAA $1" "CAA $1"
    above=${1#A }
    while above=${above#*.}; case $above in *.*) ;; *) false ;; esac; do set -- "$@" "CAA $above"; done
    dns "$@"
}
