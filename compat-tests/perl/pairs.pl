# Loaded into nodes of node.pl: one exchanges values with another through whatever stands between
# them, and the other says what it got: class, value, and the flags by which Perl's encoders choose.
#
# Pairs::listen()                    at B; result: the port that takes values and barriers
# Pairs::relay($b, $to, @route)      at A: sends each value along the route, waits for B to answer
# Pairs::database($b, $to, @route)   at A: enters each value into the database, which B monitors
#    $to is the framing in which B gets them, and @route = (\@back, @there) what messages begin with.
# Pairs::got()                       at B; result: what came, by the name of the value
# Pairs::forward()                   a program in between; result: its port, which sends on what it gets
# Pairs::enter(@names)               at A: enters these values into the database
# Pairs::native()                    at A: sends images as Storable's freeze makes them from now on
# Pairs::look()                      at B: asks for the family, and reports "family" (got)
# A reports "pairs" with the names of the values after which B did not answer.
package Pairs;
use strict;
use warnings;
use AnyEvent;
use AnyEvent::MP;
use B ();
use CBOR::XS ();
use JSON::XS ();
# Imported, as only that lets them choose the library with which they calculate.
use Math::BigFloat;
use Math::BigInt;
use Math::BigRat;
use Scalar::Util ();
use Types::Serialiser ();

our (%GOT, %GUARD, $ACK);

# A class with everything that encoders ask for.
package Pairs::Frozen {
   sub new    { my ($class, @values) = @_; bless [@values], $class }
   sub FREEZE { my ($self) = @_; @$self }
   sub THAW   { my ($class, $serialiser, @values) = @_; bless [@values], $class }
}

# Classes with what only one of the encoders asks for.
package Pairs::ForCbor {
   sub new     { my ($class, $value) = @_; bless {value => $value}, $class }
   sub TO_CBOR { my ($self) = @_; {as => "cbor", value => $self->{value}} }
}

package Pairs::ForJson {
   sub new     { my ($class, $value) = @_; bless {value => $value}, $class }
   sub TO_JSON { my ($self) = @_; {as => "json", value => $self->{value}} }
}

package Pairs::Hooked {
   sub new             { my ($class, $text) = @_; bless {text => $text}, $class }
   sub STORABLE_freeze { my ($self, $cloning) = @_; "<$self->{text}>" }
   sub STORABLE_thaw {
      my ($self, $cloning, $frozen) = @_;
      $self->{text} = substr $frozen, 1, -1;
   }
}

package Pairs::Composed {
   sub new             { my ($class, $text, @others) = @_; bless {text => $text, others => \@others}, $class }
   sub STORABLE_freeze { my ($self, $cloning) = @_; ("<$self->{text}>", @{ $self->{others} }) }
   sub STORABLE_thaw {
      my ($self, $cloning, $frozen, @others) = @_;
      $self->{text}   = substr $frozen, 1, -1;
      $self->{others} = \@others;
   }
}

package Pairs::Overloaded {
   use overload '""' => sub { "text of $_[0][0]" }, fallback => 1;
   sub new { my ($class, $value) = @_; bless [$value], $class }
}

package Pairs;

sub flagged { my ($text) = @_; utf8::upgrade($text); $text }

sub values_to_send {
   my $shared = [1, "two"];
   my $used   = 42;
   my $unused = "$used";
   my @values = (
      "empty"             => "",
      "text"              => "hello",
      "flagged text"      => flagged("hello"),
      "octets"            => "\x00\xe9\xff",
      "flagged octets"    => flagged("\xe9\xff"),
      "wide text"         => "\x{20ac}\x{1f600}",
      "surrogate"         => do { no warnings; "\x{d800}a" },
      "beyond Unicode"    => do { no warnings; "\x{110000}" },
      "number as string"  => "42",
      "used as string"    => $used,
      "undef"             => undef,
      "perl true"         => !!1,
      "perl false"        => !!0,
      "true"              => Types::Serialiser::true,
      "false"             => Types::Serialiser::false,
      "booleans"          => [(Types::Serialiser::true) x 3, Types::Serialiser::false],
      "nested"            => [1, {a => [], b => {}, c => [undef, "x", [[2.5]]]}],
      "wide keys"         => {"\x{20ac}" => 1, "\xe9" => 2, "" => 3},
      "shared"            => [$shared, $shared, {again => $shared}],
      (map { ("integer $_" => $_) }
         0, 1, -1, 23, 24, -24, -25, 127, 128, -128, -129, 255, 256, 65535, 65536, 2147483647,
         2147483648, -2147483648, -2147483649, 4294967295, 4294967296, 9007199254740993,
         9223372036854775807, -9223372036854775807 - 1, 18446744073709551615),
      (map { ("float $_" => $_) }
         0.5, 1.5, -0.1, 1e16, 1e-7, 1.5e300, -2.5e-300, 3.14159265358979, 0.1 + 0.2, 1 / 3),
      "infinity"          => 9**9**9,
      "bare one"          => \1,
      "bare zero"         => \0,
      "reference to text" => \"text",
      "references"        => \\[1],
      "big integer"       => Math::BigInt->new("36893488147419103233"),
      "negative big"      => Math::BigInt->new("-36893488147419103234"),
      "small big integer" => Math::BigInt->new("5"),
      "big float"         => Math::BigFloat->new("1.5"),
      "long big float"    => Math::BigFloat->new("-1234567890123456789012345.678e-100"),
      "ratio"             => Math::BigRat->new("1/3"),
      "nested big"        => {price => [Math::BigFloat->new("0.07"), Math::BigInt->new(2)**100]},
      "for CBOR"          => Pairs::ForCbor->new(1),
      "for JSON"          => Pairs::ForJson->new(1),
      "frozen"            => Pairs::Frozen->new("one"),
      "frozen to several" => Pairs::Frozen->new("one", [2], {three => 3}),
      "hooked"            => Pairs::Hooked->new("text"),
      "hooked twice"      => [Pairs::Hooked->new("a"), Pairs::Hooked->new("b" x 300)],
      "hash object"       => bless({a => 1, b => [2]}, "Pairs::Plain"),
      "objects"           => [map { bless([$_], "Pairs::Plain") } 1 .. 3],
      "scalar object"     => bless(\(my $text = "inside"), "Pairs::Plain"),
      "reference object"  => bless(\(my $inner = [1]), "Pairs::Plain"),
      "overloaded"        => Pairs::Overloaded->new(7),
      "object in object"  => bless({in => bless([1], "Pairs::Inner")}, "Pairs::Plain"),
      "shared object"     => do { my $object = bless([1], "Pairs::Plain"); [$object, $object] },
      "pattern"           => qr/a.b/i,
      "version"           => v1.2.3,
      "error"             => Types::Serialiser::error,
      (map { ("tag $_" => CBOR::XS::tag($_, [$_, "x"])) } 6, 100, 258, 1000, 65536, 4294967296),
      (map { ("typed array $_" => CBOR::XS::tag($_, "\x01" x 16)) } 64 .. 87),
      "date as text"      => CBOR::XS::tag(0, "2013-03-21T20:04:00Z"),
      "date as number"    => CBOR::XS::tag(1, 1363896240),
      "address"           => CBOR::XS::tag(32, "http://www.example.com/a?b"),
      "decimal fraction"  => CBOR::XS::tag(4, [-2, 27315]),
      "binary fraction"   => CBOR::XS::tag(5, [-1, 3]),
      "wide fraction"     => CBOR::XS::tag(264, [-2, CBOR::XS::tag(2, "\x01" x 9)]),
      "set"               => CBOR::XS::tag(258, [1, "two", [3]]),
      "tag in tag"        => CBOR::XS::tag(100, CBOR::XS::tag(101, {a => CBOR::XS::tag(102, 1)})),
      "embedded"          => CBOR::XS::tag(24, "\x82\x01\x02"),
      cyclic(),
      composed(),
   );
   (@values, generated(18, 40))
}

# Values that contain themselves, except for $x = \$x, which ends a process that encodes it as CBOR. They are never freed, which does no harm here.
sub cyclic {
   my $array = [1, "two"];
   push @$array, $array;
   my $hash = {a => 1};
   $hash->{self} = [$hash, {b => $hash}];
   my $object = bless {name => "x"}, "Pairs::Plain";
   $object->{self} = $object;
   my $inside;
   $inside = {text => "a", ref => \$inside};
   my @list = map { {v => $_} } 1 .. 4;
   for (1 .. 3) {
      $list[$_ - 1]{next} = $list[$_];
      $list[$_]{prev} = $list[$_ - 1];
   }
   my $tree = {kids => [], name => "root"};
   for (1 .. 3) {
      my $kid = {name => $_, up => $tree};
      Scalar::Util::weaken($kid->{up});
      push @{ $tree->{kids} }, $kid;
   }
   my @net = map { [] } 1 .. 5;
   push @$_, @net for @net;
   my $pattern = [qr/a.b/i, v1.2.3, Types::Serialiser::true, "\x{20ac}"];
   push @$pattern, $pattern, $pattern->[0], $pattern->[3];
   (
      "contains itself"      => $array,
      "hash in itself"       => $hash,
      "object in itself"     => $object,
      "reference around"     => $inside,
      "list with tail"       => {head => $list[0], tail => $list[3]},
      "tail with list"       => [$list[3], $list[0], $list[1]],
      "tree with parents"    => $tree,
      "all in all"           => $net[0],
      "some in all"          => [$net[1], [$net[2], $array], $array],
      "kinds in itself"      => $pattern,
      "tag in itself"        => do { my $in = [1]; push @$in, CBOR::XS::tag(100, $in); $in },
   )
}

# Objects that are frozen with other values.
sub composed {
   my $shared = [1, "two"];
   my $self   = Pairs::Composed->new("self");
   push @{ $self->{others} }, $self, [$self];
   my $deep = [0];
   $deep = Pairs::Composed->new($_, $deep, {k => $deep}) for 1 .. 6;
   (
      "composed"             => Pairs::Composed->new("a", [1], {b => 2}, \"text", \\"text"),
      "composed of shared"   => [$shared, Pairs::Composed->new("a", $shared, $shared, [$shared])],
      "composed of composed" => Pairs::Composed->new("a", Pairs::Composed->new("b", [1]), Pairs::Hooked->new("c")),
      "composed in hashes"   => {x => {y => Pairs::Composed->new("a", {z => [1]})}, w => 2},
      "composed of itself"   => $self,
      "composed deeply"      => $deep,
      "composed of many"     => Pairs::Composed->new("a" x 300, map { [$_] } 1 .. 300),
      "composed of objects"  => Pairs::Composed->new("a", bless([1], "Pairs::Plain"), bless({}, "Pairs::Inner")),
   )
}

# From now on this node sends Storable images as freeze makes them, not nfreeze.
sub native {
   AnyEvent::Handle::register_write_type(storable => sub { pack "w/a*", Storable::freeze($_[1]) });
   ()
}

# Values of random shape, the same in each process.
sub generated {
   my ($seed, $count) = @_;
   my $state = $seed;
   my $below = sub {
      $state = ($state * 1103515245 + 12345) % 2**31;
      int($state / 65536) % $_[0]
   };
   my $digits = sub { join "", 1 + $below->(9), map { $below->(10) } 1 .. $below->(40) };
   my $sign   = sub { $below->(2) ? "-" : "" };
   my $text   = sub {
      my @ranges = ([32, 95], [0, 32], [128, 128], [0x100, 0x2000], [0x10000, 0x1000]);
      my ($first, $size) = @{ $ranges[$below->(scalar @ranges)] };
      my $made = join "", map { chr($first + $below->($size)) } 1 .. $below->(30);
      $below->(2) ? flagged($made) : $made
   };
   my ($any, @leaves, @nodes);
   @leaves = (
      sub { my $n = 2**$below->(63); $below->(2) ? -$n : $n },
      sub { $below->(2**16) - 2**15 },
      sub { ($below->(2**14) - 2**13) / 2**$below->(20) },
      sub { 0 + ($sign->() . $digits->() . "e" . ($below->(200) - 100)) },
      sub { "" . $below->(1000) },
      $text, $text, $text,
      sub { undef },
      sub { $below->(2) ? Types::Serialiser::true : Types::Serialiser::false },
   );
   my @special = (
      sub { Math::BigInt->new($sign->() . $digits->()) },
      sub { Math::BigFloat->new($sign->() . $digits->() . "e" . ($below->(40) - 20)) },
      sub { Math::BigRat->new($digits->() . "/" . $digits->()) },
      sub { CBOR::XS::tag(1000 + $below->(2**15), $any->(1)) },
      sub { Pairs::Frozen->new(map { $any->(2) } 0 .. $below->(3)) },
      sub { bless({map { ($text->() => $any->(2)) } 1 .. $below->(3)}, "Pairs::Plain") },
      sub { bless([map { $any->(2) } 1 .. $below->(3)], "Pairs::Plain") },
      sub { Pairs::Hooked->new($text->()) },
      sub { \$below->(2) },
   );
   @nodes = (
      sub { my ($depth) = @_; [map { $any->($depth) } 1 .. $below->(5)] },
      sub { my ($depth) = @_; +{map { ($text->() => $any->($depth)) } 1 .. $below->(5)} },
      sub { my ($depth) = @_; my $same = $any->($depth); [$same, $same] },
   );
   my $with_special;
   $any = sub {
      my ($depth) = @_;
      my $kind = $below->(10);
      return $nodes[$below->(scalar @nodes)]->($depth + 1) if $kind < 4 && $depth < 4;
      return $special[$below->(scalar @special)]->() if $kind < 6 && $with_special;
      $leaves[$below->(scalar @leaves)]->()
   };
   map {
      $with_special = $_ > $count / 2;
      ("generated $_" => $nodes[$below->(scalar @nodes)]->(1))
   } 1 .. $count
}

# What this node cannot send is left out. What the framing of the way out cannot express comes last,
# as a Perl node in between may not recover from it.
sub in_order {
   my ($to) = @_;
   my ($from) = @{ JSON::XS::decode_json($ARGV[0] || "{}")->{framing_format} || [] };
   my @values = values_to_send();
   # An encoder that looks at a number may leave it a string, so what is tried is not what is sent.
   my @tried = values_to_send();
   my (@first, @last);
   while (my ($name, $value) = splice @values, 0, 2) {
      my (undef, $tried) = splice @tried, 0, 2;
      my %can = (
         cbor => scalar eval { CBOR::XS::encode_cbor([$tried]); 1 },
         json => scalar eval { JSON::XS::decode_json(JSON::XS::encode_json([$tried])); 1 },
         storable => 1,
      );
      next if defined $from && !$can{$from};
      push @{ $can{$to} ? \@first : \@last }, [$name, $value];
   }
   (@first, @last)
}

# What is there, as text: the same text means that a program sees no difference.
# Values may contain themselves, so both depth and size of the text are limited.
our $LEFT;

sub describe {
   my ($depth, $value) = ($_[0], $_[1]);
   return "..." if $depth > 20 || --$LEFT < 0;
   my $class = Scalar::Util::blessed($value);
   if (defined $class && $class eq "Types::Serialiser::Error") { return "error" }
   if (ref $value) {
      my $shown = defined $class ? "$class=" : "";
      return "$shown" . lc Types::Serialiser::is_true($value) if Types::Serialiser::is_bool($value);
      return "$shown$value" if defined $class && $class =~ /^(Math::Big|Regexp|URI)/;
      my $type = Scalar::Util::reftype($value);
      return $shown . "[" . join(",", map { describe($depth + 1, $_) } @$value) . "]"
         if $type eq "ARRAY";
      return $shown . "{"
         . join(",", map { text($_) . "=>" . describe($depth + 1, $value->{$_}) } sort keys %$value) . "}"
         if $type eq "HASH";
      return $shown . "\\" . describe($depth + 1, $$value);
   }
   return "undef" unless defined $value;
   my $flags = B::svref_2object(\$value)->FLAGS;
   my $shown = "";
   $shown .= "vstring:" if Scalar::Util::isvstring($value);
   $shown .= utf8::is_utf8($value) ? "text:" . text($value) : "octets:" . text($value)
      if $flags & B::SVf_POK;
   $shown .= "integer:$value" if $flags & B::SVf_IOK;
   $shown .= sprintf "float:%.17g", $value if $flags & B::SVf_NOK && !($flags & B::SVf_IOK);
   $shown
}

sub text { my ($text) = @_; join "", map { sprintf $_ > 32 && $_ < 127 ? "%c" : "<%x>", $_ } unpack "W*", $text }

sub listen {
   %GOT = ();
   my $port = port;
   rcv $port,
      value   => sub { my $name = shift; $GOT{$name} = described($_[0]); () },
      barrier => sub { my ($count, @reply) = @_; snd @reply, ack => $count };
   $GUARD{port} = mon $port, sub { $GOT{"the port"} = "died: @_" };
   $GUARD{db}   = db_mon pairs => sub {
      my ($content, $added, $changed) = @_;
      $GOT{$_} = described($content->{$_}) for @$added, @$changed;
   };
   $port
}

sub forward {
   my $port = port;
   rcv $port, sub { my $to = shift; snd $to, @_; () };
   $port
}

sub enter {
   my %wanted = map { ($_ => 1) } @_;
   my @values = values_to_send();
   while (my ($name, $value) = splice @values, 0, 2) {
      db_set pairs => $name => $value if $wanted{$name};
   }
   ()
}

sub look {
   db_family pairs => sub {
      my ($content) = @_;
      main::report("family", got => {map { ($_ => described($content->{$_})) } keys %$content});
   };
   ()
}

# A value that looking at it kills has to be told apart from one that did not come.
sub described {
   my ($value) = @_;
   local $LEFT = 3000;
   my $shown = eval { describe(0, $value) };
   defined $shown ? $shown : "broken: $@"
}

sub got { my %got = %GOT; %GOT = (); \%got }

# Sends all values, one after the other, each when B has said that it got what came before.
sub exchange {
   my ($send, $after, $b, $to, $back, @there) = @_;
   my @left = in_order($to);
   my $count = 0;
   my (@lost, $name, $tries, $timer, $next, $in_a_row);
   my $reply = port;
   my $try   = sub {
      # Patience is for the first loss: behind it, a Perl node in between may have given up.
      if (++$tries > (@lost ? 5 : 30)) {
         push @lost, $name;
         @left = () if ++$in_a_row > 3;
         return $next->();
      }
      eval { snd @there, $b, "barrier", $count, @$back, $reply };
   };
   $next = sub {
      $after->($name) if defined $name;
      undef $name;
      my $entry = shift @left;
      unless ($entry) {
         undef $timer;
         main::report("pairs", lost => \@lost);
         return;
      }
      ($name, $tries) = ($entry->[0], 0);
      ++$count;
      eval { $send->($name, $entry->[1]); 1 } or push @lost, $name;
      $timer = AE::timer 0.01, 0.2, $try;
   };
   rcv $reply, ack => sub {
      return () unless $_[0] == $count && defined $name;
      $in_a_row = 0;
      $next->();
   };
   $next->();
   ()
}

sub relay {
   my ($b, $to, $back, @there) = @_;
   exchange(sub { snd @there, $b, "value", @_ }, sub { }, $b, $to, $back, @there);
}

sub database {
   my ($b, $to, $back, @there) = @_;
   exchange(sub { db_set pairs => $_[0] => $_[1] }, sub { db_del pairs => $_[0] }, $b, $to, $back, @there);
}

1
