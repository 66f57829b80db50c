# A nats-server with JetStream on the loopback, and its storage in a temporary directory.
package Siphon::Nats;

use strict;
use warnings FATAL => 'all';

use parent 'Siphon::Process';

use File::Path qw(rmtree);
use HTTP::Tiny;
use IO::Socket::INET;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::RecursiveCopy;
use PostgreSQL::Test::Utils;
use Siphon::NatsClient;
use Time::HiRes qw(sleep time);

# Options: name; arguments, a list of further ones; conf, what its configuration file has beside that; monitor, true to
# have a monitoring port.
sub new
{
	my ($class, %options) = @_;

	return $class->SUPER::new(
		$options{name} // 'nats',
		port => PostgreSQL::Test::Cluster::get_free_port(),
		store => PostgreSQL::Test::Utils::tempdir(),
		%options,
		$options{monitor} ? (monitor => PostgreSQL::Test::Cluster::get_free_port()) : ());
}

sub command
{
	my ($self) = @_;
	my @at = ('nats-server', '--addr', '127.0.0.1', '--port', $self->{port},
		$self->{monitor} ? ('--http_port', $self->{monitor}) : ());

	return (@at, '--config', $self->write_conf, @{ $self->{arguments} // [] }) if defined $self->{conf};
	return (@at, '--jetstream', '--store_dir', $self->{store}, @{ $self->{arguments} // [] });
}

# With what a reload must find there, which forgets what the command line says of JetStream. Returns the file.
sub write_conf
{
	my ($self) = @_;
	my $path = "$self->{store}.conf";

	open my $file, '>', $path or die "$path: $!";
	print $file "$self->{conf}\njetstream { store_dir: '$self->{store}'", ($self->{domain} ? ", domain: '$self->{domain}'" : ''), " }\n";
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

# As of a cluster, see Siphon::NatsCluster: all of its servers.
sub nodes
{
	my ($self) = @_;

	return $self;
}

# What JetStream's API answers.
sub ask
{
	my ($self, $subject, $request) = @_;

	return Siphon::NatsClient->new($self->url)->api($subject, $request);
}

# What this server itself has of each stream, whoever leads it: a hash of the stream's name and its state, as the monitoring
# port tells it. Nothing of one that does not answer.
sub own_streams
{
	my ($self) = @_;
	my $details = $self->stream_details;

	return { map { $_ => $details->{$_}{state} } keys %$details };
}

# The same with all that the monitoring port tells of a stream, such as its config.
sub stream_details
{
	my ($self) = @_;
	my $answer = HTTP::Tiny->new(timeout => 2)->get("http://127.0.0.1:$self->{monitor}/jsz?accounts=1&streams=1&config=1");

	return {} unless $answer->{success};
	return { map { $_->{name} => $_ } map { @{ $_->{stream_detail} // [] } } @{ decode_json($answer->{content})->{account_details} // [] } };
}

# Has this server, by its monitoring port, all of what JetStream wants it to have? False of one that does not answer.
sub is_healthy
{
	my ($self) = @_;

	return HTTP::Tiny->new(timeout => 2)->get("http://127.0.0.1:$self->{monitor}/healthz")->{success};
}

# Copies the storage of a server that does not run. Returns the copy's directory, for put_back().
sub back_up
{
	my ($self) = @_;
	my $copy = PostgreSQL::Test::Utils::tempdir() . '/store';

	die "$self->{name} runs" if $self->running;
	PostgreSQL::Test::RecursiveCopy::copypath($self->{store}, $copy);
	return $copy;
}

# Replaces the storage of a server that does not run by a copy of before.
sub put_back
{
	my ($self, $copy) = @_;

	die "$self->{name} runs" if $self->running;
	rmtree($self->{store}, { keep_root => 1 });
	rmdir $self->{store};
	PostgreSQL::Test::RecursiveCopy::copypath($copy, $self->{store});
	return;
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
