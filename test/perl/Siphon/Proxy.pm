# A network between a program and NATS that can be spoiled: a TCP proxy on the loopback, in a process of its own, which
# dies with the test. A call returns when what it asked for is in effect.
#
#   my $proxy = Siphon::Proxy->new(to => $nats->url)->start;
#   my $publisher = siphon_publisher($node, $nats, nats_url => $proxy->url);
#
#   $proxy->cut;                  closes all connections and refuses new ones
#   $proxy->reset;                closes all connections; new ones pass
#   $proxy->stall;                takes connections, but moves no bytes; stall('up') only none to the server, stall('down')
#                                 only none to the client; senders find their buffers full
#   $proxy->lose_answers;         what the client sends arrives; what the server sends is dropped, until another call,
#                                 which closes the connections that lost something
#   $proxy->lose_answers($bytes); the same, and passes again by itself once it has dropped so many, and closed those
#   $proxy->delay($seconds);      bytes arrive this much later, in both directions
#   $proxy->hold($text);          from the moment on at which a client sends this text, nothing arrives of what that client
#                                 sends, this included, until another call; it gets what it is sent
#   $proxy->pass;                 all is well again; what a stall held back arrives now
#   $proxy->stop;                 ends it
#
# $proxy->status is a hash: connections (now), accepted (ever), up and down (bytes moved to the server and to the client),
# lost (bytes dropped), losing (lose_answers is in effect), holding (what hold waits for was sent).
#
# A server of a cluster tells its clients where the others are, which leads them past a proxy; Siphon::NatsCluster's don't.
package Siphon::Proxy;

use strict;
use warnings FATAL => 'all';

use parent 'Siphon::Process';

use Fcntl;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use Socket;

my ($script) = __FILE__ =~ /(.*)Proxy\.pm$/;

# Options: to, the server's URL; name, of its log.
sub new
{
	my ($class, %options) = @_;
	my ($address) = $options{to} =~ m{^nats://([^/,]+)$} or die "not a URL of one server: $options{to}";

	return $class->SUPER::new($options{name} // 'proxy', port => PostgreSQL::Test::Cluster::get_free_port(), address => $address);
}

sub command
{
	my ($self) = @_;

	return ($^X, "${script}proxy.pl", fileno $self->{theirs}, $self->{port}, $self->{address});
}

sub url
{
	my ($self) = @_;

	return "nats://127.0.0.1:$self->{port}";
}

sub start
{
	my ($self) = @_;

	socketpair($self->{control}, $self->{theirs}, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "socketpair: $!";
	fcntl $self->{theirs}, F_SETFD, 0;
	$self->{control}->autoflush;
	$self->SUPER::start;
	close delete $self->{theirs};
	$self->pass;
	return $self;
}

sub ask
{
	my ($self, $command) = @_;

	print { $self->{control} } "$command\n" or die "proxy: $!";
	return readline($self->{control}) // die 'the proxy has died: ' . $self->log;
}

sub pass { $_[0]->ask('pass'); return }
sub cut { $_[0]->ask('cut'); return }
sub reset { $_[0]->ask('reset'); return }
sub hold { $_[0]->ask("hold $_[1]"); return }
sub delay { $_[0]->ask("delay $_[1]"); return }

sub stall
{
	my ($self, $direction) = @_;

	$self->ask('stall ' . ($direction // 'both'));
	return;
}

sub lose_answers
{
	my ($self, $bytes) = @_;

	$self->ask('lose ' . ($bytes // 0));
	return;
}

sub status
{
	my ($self) = @_;

	return decode_json($self->ask('status'));
}

1;
