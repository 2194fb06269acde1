# Encodes and decodes packets as AnyEvent::Handle does for a Perl node, one request a line.
#
# In:  encode FRAMING VALUE         out: ok HEX
#      decode FRAMING HEX           out: ok VALUE ...   (every packet in the octets)
#      hmac_sha3_512 KEY DATA       out: ok HEX         (both in hex, "-" for nothing)
#      sha3_512 DATA                out: ok HEX
# or "error TEXT". VALUE is the notation of compat-tests/src/neutral.rs.
use strict;
use warnings;
use B ();
use CBOR::XS ();
use Digest::HMAC ();
use Digest::SHA3 ();
use JSON::XS ();
use Storable ();
use Types::Serialiser ();

$| = 1;

my $json = JSON::XS->new->utf8;
my $cbor = CBOR::XS->new;

my %encode = (
   json     => sub { $json->encode($_[0]) },
   cbor     => sub { $cbor->encode($_[0]) },
   storable => sub { pack "w/a*", Storable::nfreeze $_[0] },
);

# Each takes one packet off the front of its argument.
my %decode_one = (
   json => sub {
      my $reader = JSON::XS->new->utf8;
      my $packet = $reader->incr_parse($_[0]);
      defined $packet or die "incomplete\n";
      $_[0] = $reader->incr_text;
      $packet
   },
   cbor => sub {
      my ($packet, $octets) = $cbor->decode_prefix($_[0]);
      substr $_[0], 0, $octets, "";
      $packet
   },
   storable => sub {
      my ($image) = unpack "w/a*", $_[0];
      substr $_[0], 0, length(pack "w/a*", $image), "";
      Storable::thaw $image
   },
);

sub parse {
   my ($words) = @_;
   my $word = shift @$words;
   defined $word or die "the value is cut off\n";
   my ($kind, $rest) = (substr($word, 0, 1), substr $word, 1);

   if ($kind eq "[") {
      my @items;
      push @items, parse($words) while @$words && $words->[0] ne "]";
      shift @$words;
      return \@items;
   }
   if ($kind eq "{") {
      my %hash;
      while (@$words && $words->[0] ne "}") {
         my $key = parse($words);
         $hash{$key} = parse($words);
      }
      shift @$words;
      return \%hash;
   }
   return undef                    if $kind eq "u";
   return Types::Serialiser::true  if $kind eq "t";
   return Types::Serialiser::false if $kind eq "f";
   return 0 + $rest                if $kind eq "i";
   return unpack "d>", pack "H*", $rest if $kind eq "d";
   return pack "H*", $rest if $kind eq "o";
   if ($kind eq "c") {
      my $text = pack "H*", $rest;
      utf8::decode $text;
      utf8::upgrade $text;
      return $text;
   }
   # What only Perl has: scalars that were used as another type than they were made of, its own
   # true and false, and references to scalars.
   if ($kind eq "n") { my $number = 0 + $rest; my $used = "$number"; return $number }
   if ($kind eq "q") { no warnings; my $text = pack "H*", $rest; my $used = $text + 0; return $text }
   return 1 == 1 if $kind eq "y";
   return 1 == 0 if $kind eq "z";
   return $rest ? \1 : \0 if $kind eq "r";
   die "no such kind of value: $word\n";
}

sub show_string {
   my ($string) = @_;
   if (utf8::is_utf8 $string) {
      utf8::encode $string;
      return "c" . unpack "H*", $string;
   }
   "o" . unpack "H*", $string
}

sub show {
   my ($value) = @_;
   return "u" unless defined $value;
   if (my $ref = ref $value) {
      return $value ? "t" : "f" if Types::Serialiser::is_bool $value;
      return join " ", "[", (map show($_), @$value), "]" if $ref eq "ARRAY";
      return join " ", "{", (map { (show_string($_), show($value->{$_})) } keys %$value), "}"
         if $ref eq "HASH";
      die "unexpected reference to $ref\n";
   }
   my $flags = B::svref_2object(\$value)->FLAGS;
   return show_string($value) if $flags & B::SVf_POK;
   return "i$value" if $flags & B::SVf_IOK;
   "d" . unpack "H*", pack "d>", $value
}

sub octets { my ($hex) = @_; $hex eq "-" ? "" : pack "H*", $hex }

my %request = (
   encode => sub {
      my ($framing, @words) = @_;
      my $coder = $encode{$framing} or die "no framing $framing\n";
      unpack "H*", $coder->(parse(\@words))
   },
   decode => sub {
      my ($framing, $hex) = @_;
      my $octets = octets($hex);
      my $coder  = $decode_one{$framing} or die "no framing $framing\n";
      my @packets;
      push @packets, show($coder->($octets)) while length $octets;
      join " ", @packets
   },
   hmac_sha3_512 => sub {
      Digest::HMAC::hmac_hex(octets($_[1]), octets($_[0]), \&Digest::SHA3::sha3_512, 72)
   },
   sha3_512 => sub { Digest::SHA3::sha3_512_hex(octets($_[0])) },
);

while (my $line = <STDIN>) {
   my ($name, @arguments) = split " ", $line;
   my $answer = eval {
      my $code = $request{$name} or die "no such request: $name\n";
      $code->(@arguments)
   };
   if (defined $answer) {
      print "ok $answer\n";
   } else {
      my $error = $@ =~ s/\s+/ /gr;
      print "error $error\n";
   }
}
