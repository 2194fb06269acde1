# A real Perl node that does what it is told: commands on standard input, events on standard output,
# one JSON object a line. Uses the documented interface of AnyEvent::MP only, except for a look at
# the addresses that it bound.
#
# usage: node.pl '{"nodeid": ..., "secret": ...}'    (the arguments of configure)
#
# First event: ready (node, binds). Each command has an "id" and is answered by done (id, result) or
# failed (id, error):
#   port     label, tags, silent      a new port; result: its ID. Reports message (label, message),
#                                     with tags: message (label, tag, message) for these tags.
#                                     silent: made without any receiver
#   snd      to, message              mon       of, label      reports monitor (label, reason)
#   kil      port, reason             unmon     label
#   spawn    node, function, arguments
#   cal      to, message, timeout, label                       reports reply (label, message)
#   db_set   family, key, value       db_del    family, keys
#   db_family, db_keys, db_values     family, label            report database (label, result)
#   db_mon   family, label            reports family (label, content, added, changed, deleted)
#   db_unmon label
#   nodes                             result: the nodes that are up
#   eval     code                     result: the list that it returns
# Unasked: node (node, up, reason), and from Compat::echo spawned (port, arguments).
use strict;
use warnings;
use AnyEvent;
use AnyEvent::Handle;
use AnyEvent::MP;
use AnyEvent::MP::Kernel ();
use JSON::XS ();
use Types::Serialiser ();
use FindBin ();

# The test service, for others to spawn.
require "$FindBin::Bin/service.pl";

$| = 1;

our $JSON = JSON::XS->new->utf8->canonical->allow_nonref->allow_unknown->allow_blessed;
our %GUARDS;    # monitors by label; evaluated code may keep things here too

sub report {
   my ($event, %more) = @_;
   print $JSON->encode({ %more, event => $event }), "\n";
}

sub bool { $_[0] ? Types::Serialiser::true : Types::Serialiser::false }

# What others may spawn here: a port that answers "echo" and dies of "die".
sub Compat::echo {
   my @arguments = @_;
   report("spawned", port => $SELF, arguments => \@arguments);
   rcv $SELF,
      echo => sub { my ($reply, @rest) = @_; snd $reply, @rest, @arguments },
      die  => sub { die "told to die\n" };
}

sub Compat::fail { die "told to fail\n" }

my %command = (
   port => sub {
      my ($c) = @_;
      my $label = $c->{label};
      return port if $c->{silent};
      return port { report("message", label => $label, message => [@_]) } unless $c->{tags};
      my $port = port;
      for my $tag (@{ $c->{tags} }) {
         rcv $port, $tag => sub {
            report("message", label => $label, tag => $tag, message => [@_]);
         };
      }
      $port
   },
   snd => sub { my ($c) = @_; snd $c->{to}, @{ $c->{message} }; () },
   mon => sub {
      my ($c) = @_;
      my $label = $c->{label};
      $GUARDS{$label} = mon $c->{of}, sub { report("monitor", label => $label, reason => [@_]) };
      ()
   },
   unmon => sub { delete $GUARDS{ $_[0]{label} }; () },
   kil   => sub { my ($c) = @_; kil $c->{port}, @{ $c->{reason} || [] }; () },
   spawn => sub {
      my ($c) = @_;
      spawn $c->{node}, $c->{function}, @{ $c->{arguments} || [] }
   },
   cal => sub {
      my ($c) = @_;
      my $label = $c->{label};
      cal $c->{to}, @{ $c->{message} },
         sub { report("reply", label => $label, message => [@_]) },
         defined $c->{timeout} ? $c->{timeout} : ();
      ()
   },
   db_set => sub { my ($c) = @_; db_set $c->{family} => $c->{key} => $c->{value}; () },
   db_del => sub { my ($c) = @_; db_del $c->{family} => @{ $c->{keys} }; () },
   db_family => sub { my ($c) = @_; db_family $c->{family}, database($c); () },
   db_keys   => sub { my ($c) = @_; db_keys $c->{family},   database($c); () },
   db_values => sub { my ($c) = @_; db_values $c->{family}, database($c); () },
   db_mon => sub {
      my ($c) = @_;
      my $label = $c->{label};
      $GUARDS{$label} = db_mon $c->{family} => sub {
         my ($content, $added, $changed, $deleted) = @_;
         report("family", label => $label, content => $content, added => $added,
            changed => $changed, deleted => $deleted);
      };
      ()
   },
   db_unmon => sub { delete $GUARDS{ $_[0]{label} }; () },
   nodes    => sub { [AnyEvent::MP::Kernel::up_nodes()] },
   eval     => sub {
      my ($c) = @_;
      no strict;
      my @result = eval $c->{code};
      die $@ if $@;
      \@result
   },
);

sub database {
   my ($c) = @_;
   my $label = $c->{label};
   sub { report("database", label => $label, result => $_[0]) }
}

$GUARDS{nodes} = AnyEvent::MP::Kernel::mon_nodes(sub {
   my ($node, $up, @reason) = @_;
   report("node", node => $node, up => bool($up), reason => \@reason);
});

configure %{ $JSON->decode($ARGV[0]) };
report("ready", node => $NODE, binds => $AnyEvent::MP::Kernel::BINDS);

my $input = AnyEvent::Handle->new(
   fh       => \*STDIN,
   on_eof   => sub { exit 0 },
   on_error => sub { exit 0 },
);
$input->on_read(sub {
   $input->push_read(line => sub {
      my $c = $JSON->decode($_[1]);
      my @result = eval {
         my $code = $command{ $c->{do} } or die "no such command: $c->{do}\n";
         $code->($c)
      };
      return report("failed", id => $c->{id}, error => "$@") if $@;
      report("done", id => $c->{id}, result => $result[0]);
   });
});
AnyEvent->condvar->recv;
