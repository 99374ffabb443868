# Counts the UDP packets of one port for SECONDS where they enter and leave this machine: those that come in before its
# firewall, those that go out after it. Changes nothing. PORT SECONDS
exec </dev/null
port=$1 seconds=$2
section packets
# A packet socket (packet(7)) with a filter for the port, so that other calls cost nothing; then a line for each
# direction and kind (RFC 7983): its packets, and the address at the other end of the last.
perl -e '
    my ($port, $seconds) = @ARGV;
    socket(my $tap, 17, 2, unpack("S", pack("n", 3))) or die "no packet socket: $!\n"; # AF_PACKET, SOCK_DGRAM, ETH_P_ALL
    my @filter = (
        [0x30, 0, 0, 0], [0x54, 0, 0, 0xf0], [0x15, 0, 7, 0x40], # IPv4
        [0x30, 0, 0, 9], [0x15, 0, 13, 17], [0xb1, 0, 0, 0], # UDP
        [0x48, 0, 0, 0], [0x15, 9, 0, $port], [0x48, 0, 0, 2], [0x15, 7, 8, $port],
        [0x15, 0, 7, 0x60], [0x30, 0, 0, 6], [0x15, 0, 5, 17], # IPv6
        [0x28, 0, 0, 40], [0x15, 2, 0, $port], [0x28, 0, 0, 42], [0x15, 0, 1, $port],
        [0x06, 0, 0, 256], [0x06, 0, 0, 0],
    );
    my $code = join "", map { pack "SCCL", @$_ } @filter;
    setsockopt($tap, 1, 26, pack("S x!8 P", scalar @filter, $code)) or die "no filter: $!\n"; # SO_ATTACH_FILTER
    $| = 1; print "ready\n";
    my (%count, %peer, $end);
    $end = time + $seconds;
    while ((my $left = $end - time) > 0) {
        my $ready = ""; vec($ready, fileno $tap, 1) = 1;
        select($ready, undef, undef, $left) > 0 or next;
        defined(my $from = recv($tap, my $data, 256, 0)) or next;
        my $way = unpack("x10 C", $from) == 4 ? "out" : "in";
        my $is4 = unpack("C", $data) >> 4 == 4;
        my $head = $is4 ? 4 * (unpack("C", $data) & 15) : 40;
        my $first = unpack("x" . ($head + 8) . " C", $data . "\0" x 64);
        my $kind = $first < 4 ? "stun" : $first >= 20 && $first < 64 ? "dtls" : $first >= 128 && $first < 192 ? "rtp" : "other";
        my @far = $is4 ? unpack($way eq "in" ? "x12 C4" : "x16 C4", $data) : ();
        $count{"$way $kind"}++; $peer{"$way $kind"} = @far ? join(".", @far) : "-";
    }
    print "$_ $count{$_} $peer{$_}\n" for sort keys %count;
' "$port" "$seconds"
section statistics; timeout -s KILL 3 asterisk -rx 'pjsip show channelstats' 2>/dev/null
section end
