#!/usr/bin/perl
# Records a conversation of two nodes, in the form of fixtures/*.jsonl without their first line.
#
# relay.pl TARGET: listens on a free port of 127.0.0.1, says on which on standard error, and relays
# the first connection there to TARGET (host:port). On standard output comes a JSON line for each
# read: milliseconds since the first octet, who sent it (a dialled, b listens), and the octets in
# hexadecimal or the end. It ends with the connection.
use strict;
use warnings;
use AnyEvent;
use AnyEvent::Handle;
use AnyEvent::Socket;

my ($host, $port) = parse_hostport ($ARGV[0] // "") or die "usage: relay.pl HOST:PORT\n";
my ($began, $over) = (undef, AE::cv);
$| = 1;

sub line {
   my ($from, $what) = @_;
   my $now = AE::time;
   $began //= $now;
   printf qq({"ms":%.1f,"from":"%s",%s}\n), 1000 * ($now - $began), $from, $what;
}

# Passes on what `$from` says to the other end, once that is there.
sub side {
   my ($from, $fh, $other) = @_;
   my $end = sub { line $from, '"eof":true'; $over->send };
   AnyEvent::Handle->new (
      fh       => $fh,
      no_delay => 1,
      on_error => $end,
      on_eof   => $end,
      on_read  => sub {
         my $octets = delete $_[0]{rbuf};
         line $from, sprintf '"hex":"%s"', unpack "H*", $octets;
         $$other->push_write ($octets);
      },
   );
}

my ($a, $b, $guard);
$guard = tcp_server "127.0.0.1", 0, sub {
   my ($dialler) = @_;
   undef $guard;
   tcp_connect $host, $port, sub {
      my ($listener) = @_ or die "$ARGV[0]: $!\n";
      $b = side b => $listener, \$a;
      $a = side a => $dialler, \$b;
   };
}, sub { print STDERR "listening on $_[1]:$_[2]\n"; 0 };

$over->recv;
