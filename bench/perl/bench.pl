# Perl's processes: bench.pl CASE PART SIZE ARGUMENTS...
use strict;
use warnings;
use AnyEvent;
use AnyEvent::MP;
use AnyEvent::MP::Kernel ();
use AnyEvent::MP::Global ();
use Time::HiRes ();
use constant BATCH => 5000;

my ($case, $part, $size, @arguments) = @ARGV;
my $text = "hello world";
$| = 1;

sub now { Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC()) }

sub wait_until {
    my ($ready) = @_;
    my $done = AE::cv;
    my $poll = AE::timer 0, 0.01, sub { $done->send if $ready->() };
    $done->recv;
}

sub start {
    my ($id) = @_;
    configure
        nodeid => $id, secret => "geheim", norc => 1,
        framing_format => [$case eq "oneway_json" ? "json" : ("cbor", "json")],
        binds => ["127.0.0.1:*"], seeds => [@arguments ? $arguments[0] : ()];
    my $address;
    if (@arguments) {
        wait_until(sub { AnyEvent::MP::Kernel::up_nodes() });
    }
    $address = $AnyEvent::MP::Kernel::BINDS[0] // "none" if 0;
    return;
}

# Where this node listens.
sub address {
    my $listen = (keys %AnyEvent::MP::Kernel::LISTENER)[0];
    return $listen if defined $listen;
    my $found;
    db_family "'l" => sub { $found = $_[0]{$NODE}[0] };
    wait_until(sub { defined $found });
    return $found;
}

sub result { print "RESULT @_\n"; AE::cv->recv }

if ($part eq "receiver") {
    # A node that is its own seed is global, and so can be joined by others.
    start("perl-receiver");
    my $seen = 0;
    my $port = port;
    rcv $port,
        msg => sub { $seen++ },
        echo => sub { my ($number, $text, $reply) = @_; snd $reply, "echo", $number, $text },
        add => sub { my ($number, $reply) = @_; snd $reply, $number + 1 },
        end => sub { my ($reply) = @_; snd $reply, "end", $seen; $seen = 0 };
    print "READY ", address(), " $port\n";
    AE::cv->recv;
}
elsif ($part eq "sender") {
    start("perl-sender");
    my $to = $arguments[1];
    if ($case eq "rtt") {
        my ($begun, @times);
        my $done = AE::cv;
        my $own = port;
        my $next = sub { $begun = now(); snd $to, "echo", scalar @times, $text, $own };
        rcv $own, echo => sub {
            push @times, now() - $begun;
            @times < $size ? $next->() : $done->send;
        };
        $next->();
        $done->recv;
        @times = sort { $a <=> $b } @times;
        result($times[@times / 2] * 1e6, $times[@times * 0.99] * 1e6);
    }
    elsif ($case eq "calls") {
        my ($sent, $answered) = (0, 0);
        my $done = AE::cv;
        my $begun = now();
        my $next;
        $next = sub {
            return if $sent >= $size;
            $sent++;
            cal $to, "add", $sent, sub { ++$answered == $size ? $done->send : $next->() };
        };
        $next->() for 1 .. 1000;
        $done->recv;
        result($size / (now() - $begun) / 1e6);
    }
    else {
        my ($sent, $seen, $ends) = (0, 0, 0);
        my $done = AE::cv;
        my $own = port;
        my $begun = now();
        my $batch = sub {
            return if $sent >= $size;
            snd $to, "msg", $_, $text for 1 .. BATCH;
            $sent += BATCH;
            snd $to, "end", $own;
        };
        rcv $own, end => sub { $seen += $_[0]; $batch->(); $done->send if $seen >= $size };
        # Two batches are under way, so that nobody waits for the other.
        $batch->(), $batch->();
        $done->recv;
        result($size / (now() - $begun) / 1e6);
    }
}
elsif ($part eq "alone") {
    start("perl-alone");
    my $seen = 0;
    my $port = port;
    rcv $port, msg => sub { $seen++ };
    my $begun = now();
    snd $port, "msg", $_, $text for 1 .. $size;
    result($size / (now() - $begun) / 1e6);
}
elsif ($part eq "master") {
    start("perl-master");
    print "READY ", address(), "\n";
    AE::cv->recv;
}
elsif ($part eq "watcher") {
    start("perl-watcher");
    my ($seen, $begun, $first) = (0);
    my $guard = db_mon bench => sub {
        my ($family, $added, $changed) = @_;
        $first = 1;
        for (@$added, @$changed) {
            if ($_ eq "begun") { $begun = $family->{$_} }
            else { $seen++ }
        }
        print "RESULT ", $size / (now() - $begun) / 1e6, "\n" if $seen == $size;
    };
    wait_until(sub { $first });
    print "READY\n";
    AE::cv->recv;
}
elsif ($part eq "setter") {
    start("perl-setter");
    db_set bench => begun => now();
    db_set bench => "key$_" => $_ for 1 .. $size;
    AE::cv->recv;
}
