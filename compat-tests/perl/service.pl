# A real Perl node with the test service of docs/conformance.md, which runs until it is killed.
#
# usage: service.pl KEY VALUE...    (the arguments of configure; lists with commas, cert is a file)
#
# node.pl loads this file for the service alone.
package main;
use strict;
use warnings;
use AnyEvent;
use AnyEvent::MP;

# The test service, written from that page alone.
sub Conform::service {
   my ($reply, @greeting) = @_;
   my %guard;
   my $self = $SELF;
   snd $reply, @greeting;
   rcv $self,
      echo => sub { my ($to, @elements) = @_; snd $to, @elements },
      die  => sub { die "told to die\n" },
      mon  => sub {
         my ($label, $port, $to) = @_;
         $guard{$label} = mon $port, sub { snd $to, $label, @_ };
      },
      unmon     => sub { delete $guard{ $_[0] } },
      kil       => sub { my ($port, @reason) = @_; kil $port, @reason },
      snd       => sub { my ($to, @elements) = @_; snd $to, @elements },
      db_set    => sub { my ($family, $key, $value) = @_; db_set $family => $key => $value },
      db_del    => sub { my ($family, @keys) = @_; db_del $family => @keys },
      db_family => sub { my ($family, $to) = @_; db_family $family, sub { snd $to, $_[0] } },
      db_keys   => sub { my ($family, $to) = @_; db_keys $family, sub { snd $to, $_[0] } },
      db_values => sub { my ($family, $to) = @_; db_values $family, sub { snd $to, $_[0] } },
      db_mon    => sub {
         my ($label, $family, $to) = @_;
         $guard{$label} = db_mon $family => sub { snd $to, $label, @_ };
      },
      db_unmon => sub { delete $guard{ $_[0] } };
   # The guards live as long as the port.
   mon $self, sub { %guard = () };
}

unless (caller) {
   my %settings = (norc => 1, @ARGV);
   for my $key (qw(binds seeds framing_format)) {
      $settings{$key} = [ split /,/, $settings{$key} ] if defined $settings{$key};
   }
   if (defined $settings{cert}) {
      open my $file, "<", $settings{cert} or die "$settings{cert}: $!\n";
      local $/;
      $settings{cert} = <$file>;
   }
   configure %settings;
   AnyEvent->condvar->recv;
}

1
