# A nats-server with JetStream on the loopback, and its storage in a temporary directory.
package Siphon::Nats;

use strict;
use warnings FATAL => 'all';

use parent 'Siphon::Process';

use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Siphon::NatsClient;
use Time::HiRes qw(sleep time);

# Options: name; arguments, a list of further ones; conf, what its configuration file has beside that.
sub new
{
	my ($class, %options) = @_;

	return $class->SUPER::new(
		$options{name} // 'nats',
		port => PostgreSQL::Test::Cluster::get_free_port(),
		store => PostgreSQL::Test::Utils::tempdir(),
		%options);
}

sub command
{
	my ($self) = @_;
	my @at = ('nats-server', '--addr', '127.0.0.1', '--port', $self->{port});

	return (@at, '--config', $self->write_conf, @{ $self->{arguments} // [] }) if defined $self->{conf};
	return (@at, '--jetstream', '--store_dir', $self->{store}, @{ $self->{arguments} // [] });
}

# With what a reload must find there, which forgets what the command line says of JetStream. Returns the file.
sub write_conf
{
	my ($self) = @_;
	my $path = "$self->{store}.conf";

	open my $file, '>', $path or die "$path: $!";
	print $file "$self->{conf}\njetstream { store_dir: '$self->{store}' }\n";
	close $file or die "$path: $!";
	return $path;
}

# Goes on with another configuration.
sub reload
{
	my ($self, $conf) = @_;

	$self->{conf} = $conf;
	$self->write_conf;
	kill 'HUP', $self->{pid};
	return;
}

sub url
{
	my ($self) = @_;

	return "nats://127.0.0.1:$self->{port}";
}

# Starts it and waits until it answers.
sub start
{
	my ($self) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;

	$self->SUPER::start;
	until (IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{port}))
	{
		die "nats-server does not start:\n" . $self->log if time > $deadline || !$self->running;
		sleep 0.02;
	}
	return $self;
}

# What JetStream says of an application's stream; an empty hash if there is none.
sub stream
{
	my ($self, $application) = @_;

	return Siphon::NatsClient->new($self->url)
	  ->api('STREAM.INFO.siphon_' . ($application // 'main') =~ s/\./_/gr, { subjects_filter => '>' });
}

# How many messages an application's stream holds on each subject, as a hash.
sub subjects
{
	my ($self, $application) = @_;

	return $self->stream($application)->{state}{subjects} // {};
}

# How many held changes an application's stream of held changes has. Its last message stays whatever it is, so one may be
# left when nothing is held any more.
sub held
{
	my ($self, $application) = @_;

	return Siphon::NatsClient::held_messages($self->stream(($application // 'main') . '_held'));
}

# Of the last message of an application's stream; 0 if there is none.
sub last_sequence
{
	my ($self, $application) = @_;

	return $self->stream($application)->{state}{last_seq} // 0;
}

1;
