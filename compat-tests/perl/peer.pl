# A scripted AEMP peer, written from docs/protocol.md alone: it shakes hands as it is told, rightly
# or wrongly, and reports what the other side does. It knows nothing of AnyEvent::MP.
#
# Commands come on standard input, events go to standard output, one JSON object a line.
#   {"do":"dial","conn":NAME,"port":PORT, OPTION...}     connects to 127.0.0.1:PORT
#   {"do":"listen","conn":NAME, OPTION...}               connections are called NAME.1, NAME.2, ...
#   {"do":"send","conn":NAME,"packet":[...]}
#   {"do":"raw","conn":NAME,"hex":OCTETS}
#   {"do":"finish","conn":NAME}                          half-closes: no more octets from us
#   {"do":"close","conn":NAME}
# Events, each with "conn" and "at" (seconds, monotonic):
#   listening (port), connected, greeting (lines, fields), tls (role), auth (method, framing, ok),
#   up, packet (packet), closed (why, after: seconds since we last sent something)
# Options:
#   node       our node ID                      secret     octets as text
#   framings   what we accept: ["json", ...]    auth       what we accept: ["hmac_sha3_512", ...]
#   protocol   "aemp"                           version    "1"
#   keys       {KEY: VALUE} besides the usual   pad        so many octets in one more key
#   nonce      instead of a random one          eol        "\n"
#   method     what to send, against the rule   framing    what to send, against the rule
#   token      what to send, against the rule   mirror     send the other's greeting back
#   cert       PEM of key and certificate: TLS  answer     false: do not answer relayed echoes
#   late       send nothing before the other    stop       "greeting" or "auth": send no more
#   relax      do not close when the other is wrong
#   more       appended to the authentication line, such as ";key=value"
#   early      octets (hex) sent with the authentication line
#   dribble    send one octet at a time
use strict;
use warnings;
use AnyEvent;
use AnyEvent::Handle;
use AnyEvent::Socket;
use CBOR::XS ();
use Digest::HMAC ();
use Digest::SHA3 ();
use JSON::XS ();
use MIME::Base64 ();
use Storable ();
use Time::HiRes ();
use Types::Serialiser ();

$| = 1;

my $LINES = JSON::XS->new->utf8->canonical->allow_nonref->allow_blessed;
my %conns;
my %listeners;

sub now { Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC()) }

sub report {
   my ($conn, $event, %more) = @_;
   print $LINES->encode({ %more, conn => $conn, event => $event, at => now() }), "\n";
}

sub options {
   my ($command) = @_;
   utf8::downgrade $_ for grep { defined && !ref } values %$command;
   return {
      node     => "peer",
      secret   => "secret",
      protocol => "aemp",
      version  => "1",
      framings => ["json", "cbor", "storable"],
      auth     => ["tls_sha3_512", "hmac_sha3_512", "tls_anon", "cleartext"],
      keys     => {},
      eol      => "\n",
      answer   => 1,
      more     => "",
      early    => "",
      %$command,
   };
}

# The two greeting lines, without line ends.
sub greeting {
   my ($o) = @_;
   my %keys = (provider => "compat-1.0", mproto => 1, gproto => 1, %{ $o->{keys} });
   $keys{tls} = "1.0" if $o->{cert} && !exists $keys{tls};
   $keys{pad} = "x" x $o->{pad} if $o->{pad};
   my $first = join ";", $o->{protocol}, $o->{version}, $o->{node},
      (join ",", @{ $o->{auth} }), (join ",", @{ $o->{framings} }),
      map "$_=$keys{$_}", sort keys %keys;
   my $nonce = $o->{nonce} // MIME::Base64::encode_base64(join("", map chr rand 256, 1 .. 66), "");
   ($first, $nonce)
}

sub adopt {
   my ($name, $o, $fh) = @_;
   my $c = $conns{$name} = { name => $name, o => $o, sent_at => now() };
   $c->{handle} = AnyEvent::Handle->new(
      fh       => $fh,
      no_delay => 1,
      on_eof   => sub { closed($c, "end of file") },
      on_error => sub { closed($c, "$_[2]") },
   );
   report($name, "connected");
   $c->{ours} = [greeting($o)];
   send_greeting($c) unless $o->{late} || $o->{mirror};
   $c->{handle}->push_read(line => sub {
      my $first = $_[1];
      $c->{handle}->push_read(line => sub { greeted($c, $first, $_[1]) });
   });
}

sub closed {
   my ($c, $why) = @_;
   return if $c->{closed}++;
   report($c->{name}, "closed", why => $why, after => now() - $c->{sent_at});
   (delete $c->{handle})->destroy if $c->{handle};
   delete $conns{ $c->{name} };
}

sub put {
   my ($c, $octets) = @_;
   $c->{sent_at} = now();
   return $c->{handle}->push_write($octets) unless $c->{o}{dribble};
   return $c->{unsent} .= $octets if length($c->{unsent} // "");
   $c->{unsent} = $octets;
   dribble($c);
}

sub dribble {
   my ($c) = @_;
   return unless $c->{handle} && length $c->{unsent};
   $c->{handle}->push_write(substr $c->{unsent}, 0, 1, "");
   $c->{dribble} = AE::timer(0.001, 0, sub { dribble($c) });
}

sub send_greeting {
   my ($c) = @_;
   return if $c->{o}{stop} && $c->{o}{stop} eq "greeting";
   put($c, join "", map "$_$c->{o}{eol}", @{ $c->{ours} });
}

sub greeted {
   my ($c, @theirs) = @_;
   my $o = $c->{o};
   $c->{theirs} = \@theirs;
   my ($protocol, $version, $node, $auth, $framings, @pairs) = split /;/, $theirs[0], -1;
   my %keys = map { my ($key, $value) = split /=/, $_, 2; ($key => $value) } @pairs;
   report($c->{name}, "greeting", lines => \@theirs, protocol => $protocol, version => $version,
      node => $node, keys => \%keys, auth => [split /,/, $auth // ""],
      framings => [split /,/, $framings // ""]);

   $c->{ours} = [@theirs] if $o->{mirror};
   send_greeting($c) if $o->{late} || $o->{mirror};

   my $tls = $o->{cert} && int($keys{tls} || 0) == 1;
   if ($tls) {
      # The smaller nonce is the TLS client.
      my $role = $c->{ours}[1] lt $theirs[1] ? "connect" : "accept";
      $c->{handle}->starttls($role, {
         cert => $o->{cert}, ca_cert => $o->{cert}, verify => 1, verify_require_client_cert => 1,
      });
      report($c->{name}, "tls", role => $role);
   }

   my ($method) = grep {
      $_ eq "hmac_sha3_512" && !$tls && defined $o->{secret} || $_ eq "tls_sha3_512" && $tls
   } split /,/, $auth // "";
   my ($framing) = grep /^(?:json|cbor|storable)\z/, split /,/, $framings // "";
   $method  = $o->{method}  // $method  // "hmac_sha3_512";
   $framing = $o->{framing} // $framing // "json";
   $c->{sends} = $framing;

   my $token = $o->{token} // token($method, $o->{secret}, @{ $c->{ours} }, @theirs);
   put($c, "$method;$token;$framing$o->{more}$o->{eol}" . pack "H*", $o->{early})
      unless $o->{stop};
   $c->{handle}->push_read(line => sub { authenticated($c, $_[1]) });
}

# The token of the side that sent the first two lines.
sub token {
   my ($method, $secret, @lines) = @_;
   my $said = join "", map "$_\n", @lines;
   return Digest::HMAC::hmac_hex($said, $secret // "", \&Digest::SHA3::sha3_512, 72)
      if $method eq "hmac_sha3_512";
   return Digest::SHA3::sha3_512_hex($said) if $method eq "tls_sha3_512";
   return unpack "H*", $secret // "" if $method eq "cleartext";
   ""
}

sub authenticated {
   my ($c, $line) = @_;
   my $o = $c->{o};
   my ($method, $token, $framing) = split /;/, $line, -1;
   my $right = token($method, $o->{secret}, @{ $c->{theirs} }, @{ $c->{ours} });
   my $ok = $token eq $right && grep($_ eq $method, @{ $o->{auth} })
      && grep($_ eq $framing, @{ $o->{framings} });
   report($c->{name}, "auth", method => $method, framing => $framing,
      ok => $ok ? Types::Serialiser::true : Types::Serialiser::false);
   return closed($c, "the other side authenticates wrongly") unless $ok || $o->{relax};
   $c->{receives} = $framing;
   report($c->{name}, "up");
   $c->{handle}->on_read(sub { packets($c) });
}

my %write = (
   json     => sub { JSON::XS->new->utf8->encode($_[0]) },
   cbor     => sub { CBOR::XS->new->encode($_[0]) },
   storable => sub { pack "w/a*", Storable::nfreeze $_[0] },
);

# Each returns one packet, or nothing until the packet is complete.
my %read = (
   json => sub {
      my ($c) = @_;
      my $reader = $c->{reader} ||= JSON::XS->new->utf8;
      $reader->incr_parse(delete $c->{handle}{rbuf});
      $c->{handle}{rbuf} = "";
      $reader->incr_parse
   },
   cbor => sub {
      my ($c) = @_;
      ($c->{reader} ||= CBOR::XS->new)->incr_parse($c->{handle}{rbuf})
   },
   storable => sub {
      my ($c) = @_;
      $c->{handle}{rbuf} =~ /^([\x80-\xff]*[\x00-\x7f])/ or return;
      my ($head, $len) = (length $1, unpack "w", $1);
      return if length $c->{handle}{rbuf} < $head + $len;
      substr $c->{handle}{rbuf}, 0, $head, "";
      Storable::thaw substr $c->{handle}{rbuf}, 0, $len, ""
   },
);

sub packets {
   my ($c) = @_;
   while ($c->{handle}) {
      my $packet = eval { $read{ $c->{receives} }->($c) };
      return closed($c, "undecodable: $@") if $@;
      return unless defined $packet;
      report($c->{name}, "packet", packet => $packet);
      relay($c, @$packet) if $c->{o}{answer};
   }
}

# The generic echo: anybody may ask a node to send something to a port.
sub relay {
   my ($c, $port, $request, $to, @elements) = @_;
   return unless defined $to && "$port" eq "" && "$request" eq "snd";
   my (undef, $name) = split /#/, $to, 2;
   put($c, $write{ $c->{sends} }->([$name, @elements]));
}

my %command = (
   dial => sub {
      my ($o) = @_;
      tcp_connect "127.0.0.1", $o->{port}, sub {
         my ($fh) = @_ or return report($o->{conn}, "closed", why => "$!", after => 0);
         adopt($o->{conn}, $o, $fh);
      };
   },
   listen => sub {
      my ($o) = @_;
      my $count = 0;
      $listeners{ $o->{conn} } = tcp_server "127.0.0.1", undef, sub {
         my ($fh) = @_;
         adopt("$o->{conn}." . ++$count, $o, $fh);
      }, sub {
         my (undef, undef, $port) = @_;
         report($o->{conn}, "listening", port => $port);
         0
      };
   },
   send => sub {
      my ($o) = @_;
      my $c = $conns{ $o->{conn} } or return;
      put($c, $write{ $c->{sends} }->($o->{packet}));
   },
   raw => sub {
      my ($o) = @_;
      my $c = $conns{ $o->{conn} } or return;
      put($c, pack "H*", $o->{hex});
   },
   finish => sub {
      my ($o) = @_;
      my $c = $conns{ $o->{conn} } or return;
      $c->{handle}->push_shutdown;
   },
   close => sub {
      my ($o) = @_;
      if (my $c = $conns{ $o->{conn} }) {
         closed($c, "told to");
      } else {
         delete $listeners{ $o->{conn} };
      }
   },
);

my $input = AnyEvent::Handle->new(
   fh       => \*STDIN,
   on_eof   => sub { exit 0 },
   on_error => sub { exit 0 },
);
$input->on_read(sub {
   $input->push_read(line => sub {
      my $command = $LINES->decode($_[1]);
      $command{ $command->{do} }->(options($command));
   });
});
AnyEvent->condvar->recv;
