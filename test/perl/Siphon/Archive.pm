# Keeps what a stream has, for who looks at it later, while limits make the stream itself forget: a nats-server of its own,
# with a stream of the same name, into which messages are copied, in their order and without the headers that are for NATS.
package Siphon::Archive;

use strict;
use warnings FATAL => 'all';

use List::Util qw(max);
use MIME::Base64;
use Siphon;
use Siphon::NatsClient;

# JetStream's number for a place where nothing is.
my $NO_MESSAGE = 10037;

# Where the stream is, a Siphon::Nats or a Siphon::NatsCluster; its name; its subjects.
sub new
{
	my ($class, $from, $stream, $subjects) = @_;
	my $self = bless {
		from => $from,
		stream => $stream,
		nats => siphon_nats(name => "archive_$stream"),
		# The last place of which the message is here, and how many messages are.
		place => 0,
		count => 0
	}, $class;

	$self->{client} = Siphon::NatsClient->new($self->{nats}->url);
	$self->{client}->make_stream($stream, $subjects);
	return $self;
}

sub url
{
	my ($self) = @_;

	return $self->{nats}->url;
}

# Copies what has come since the last time. False if the stream can't be asked now.
sub follow
{
	my ($self) = @_;

	# Whoever leads the stream has an answer of its own, without a way to it over others.
	my $info = $self->{from}->ask("STREAM.INFO.$self->{stream}");
	my $state = $info->{state} or return 0;
	my ($node) = grep { $_->{name} eq ($info->{cluster}{leader} // $_->{name}) } $self->{from}->nodes;

	die "the stream has forgotten what was not copied: it begins at $state->{first_seq}, and all up to $self->{place} is copied"
	  if $self->{forgetting} && $state->{first_seq} > $self->{place} + 1;
	return eval {
		Siphon::NatsClient->new($node->url, timeout => 10)
		  ->each_place($self->{stream}, max($self->{place} + 1, $state->{first_seq}), $state->{last_seq}, sub { $self->take(@_) });
		1;
	} // 0;
}

sub take
{
	my ($self, $place, $answer) = @_;

	# By hand, as there are many, and JSON::PP takes a millisecond for each. None has a character that would be escaped.
	if ($answer =~ /"message":\{"subject":"([^"\\]+)"/)
	{
		my $subject = $1;
		my $headers = decode_base64($answer =~ /"hdrs":"([^"]*)"/ ? $1 : '') =~ s/^Nats-.*?\r\n//gmr;
		my $body = decode_base64($answer =~ /"data":"([^"]*)"/ ? $1 : '');

		$self->{client}->say("HPUB $subject " . length($headers) . ' ' . (length($headers) + length($body)));
		$self->{client}->say($headers . $body);
		$self->{count}++;
	}
	elsif ($answer !~ /"err_code":$NO_MESSAGE\b/)
	{
		die "message $place: $answer";
	}
	$self->{place} = $place;
	return;
}

# Copies all up to the end that the stream has now, and returns when it can be read here.
sub finish
{
	my ($self) = @_;
	my $end;

	wait_until('the stream says where it ends',
		sub { $end = ($self->{from}->ask("STREAM.INFO.$self->{stream}")->{state} // return)->{last_seq} });
	wait_until('all is copied', sub { $self->{place} >= $end || ($self->follow && $self->{place} >= $end) });
	wait_until('all is there', sub { ($self->{client}->api("STREAM.INFO.$self->{stream}")->{state}{messages} // 0) >= $self->{count} });
	return;
}

sub stop
{
	my ($self) = @_;

	$self->{nats}->stop;
	return;
}

1;
