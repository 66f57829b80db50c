# A nats-server with JetStream on the loopback, and its storage in a temporary directory.
package Siphon::Nats;

use strict;
use warnings FATAL => 'all';

use parent 'Siphon::Process';

use IO::Socket::INET;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(sleep time);

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

	return ('nats-server', '--jetstream', '--addr', '127.0.0.1', '--port', $self->{port}, '--store_dir', $self->{store});
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

# Asks JetStream's API, such as STREAM.INFO.siphon_main, and returns its answer.
sub api
{
	my ($self, $subject, $request) = @_;
	my $body = defined $request ? encode_json($request) : '';
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{port}) or die "no nats-server: $!";
	my $inbox = "_INBOX.$$." . int rand 1e9;
	my $answer;

	print $socket qq(CONNECT {"verbose":false,"pedantic":false}\r\nSUB $inbox 1\r\n)
	  . "PUB \$JS.API.$subject $inbox " . length($body) . "\r\n$body\r\n";
	while (defined(my $line = <$socket>))
	{
		print $socket "PONG\r\n" if $line =~ /^PING/;
		die "nats-server says $line" if $line =~ /^-ERR/;
		next unless $line =~ /^MSG .* (\d+)\r\n$/;
		read($socket, $answer, $1);
		last;
	}
	return decode_json($answer // die "no answer from JetStream to $subject");
}

# Messages that a stream holds, by subject. A filter may have wildcards.
sub subjects
{
	my ($self, $stream, $filter) = @_;
	my $info = $self->api("STREAM.INFO.$stream", { subjects_filter => $filter // '>' });

	return $info->{state}{subjects} // {};
}

1;
