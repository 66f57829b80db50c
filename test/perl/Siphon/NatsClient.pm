# A small client of NATS over a plain socket, for what siphon-tail does not do: streams' raw messages with their
# headers, read and written as they are.
package Siphon::NatsClient;

use strict;
use warnings FATAL => 'all';

use List::Util ();
use Errno;
use IO::Socket::INET;
use JSON::PP;
use MIME::Base64;
use Socket;
use Time::HiRes qw(sleep);

my $INBOX = '_INBOX.siphon-test';
# How many messages are asked for before the first has come.
my $AT_A_TIME = 100;

# Options: timeout, in seconds, after which it dies where no answer comes.
sub new
{
	my ($class, $url, %options) = @_;
	my ($address) = $url =~ m{^nats://([^/]+)$} or die "not a URL of NATS: $url";
	my $socket;

	# The end of a child may interrupt it.
	do { $socket = IO::Socket::INET->new(PeerAddr => $address) } until $socket || !$!{EINTR};
	die "$address: $!" unless $socket;
	my $self = bless { socket => $socket, requests => 0 }, $class;

	$socket->autoflush(0);
	setsockopt $socket, SOL_SOCKET, SO_RCVTIMEO, pack 'l!l!', $options{timeout}, 0 if $options{timeout};
	$self->line;    # INFO
	$self->say('CONNECT ' . encode_json({ verbose => JSON::PP::false, headers => JSON::PP::true, lang => 'perl', version => '1' }));
	$self->say("SUB $INBOX.* 1");
	return $self;
}

sub say
{
	my ($self, $line) = @_;

	print { $self->{socket} } $line, "\r\n" or die "NATS: $!";
	return;
}

# The next line that is not a ping.
sub line
{
	my ($self) = @_;

	for (;;)
	{
		my $line = readline $self->{socket};

		defined $line or die 'NATS closed the connection, or does not answer';
		$line =~ s/\r\n\z//;
		die "NATS: $line" if $line =~ /^-ERR/;
		return $line if $line ne 'PING';
		$self->say('PONG');
		$self->{socket}->flush;
	}
}

# A request to JetStream's API; returns its answer.
sub api
{
	my ($self, $subject, $request) = @_;
	my $payload = $request ? encode_json($request) : '';
	my $inbox = "$INBOX." . ++$self->{requests};

	$self->say("PUB \$JS.API.$subject $inbox " . length $payload);
	$self->say($payload);
	$self->{socket}->flush;
	for (;;)
	{
		my ($to, $size) = $self->line =~ /^MSG (\S+) \S+ (?:\S+ )?(\d+)$/ or next;

		read($self->{socket}, my $body, $size + 2) == $size + 2 or die "NATS: $!";
		return decode_json(substr $body, 0, $size) if $to eq $inbox;
	}
}

# Publishes a message to a subject, and returns when the server has it.
sub publish
{
	my ($self, $subject, $body) = @_;

	$self->say("PUB $subject " . length $body);
	$self->say($body);
	$self->{arrived} = [ $self->arrived ];
	return;
}

# From now on, messages that are published to these subjects arrive here, as core NATS delivers them: before a stream has
# stored them, or without that.
sub subscribe
{
	my ($self, @subjects) = @_;
	my $number = 1;

	$self->say("SUB $_ " . ++$number) for @subjects;
	$self->arrived;
	return;
}

# The messages that have arrived since the last call: subject, reply, headers as they are on the wire, and body.
sub arrived
{
	my ($self) = @_;

	$self->say('PING');
	$self->{socket}->flush;
	while ((my $line = $self->line) ne 'PONG')
	{
		my ($subject, $reply, $headers, $size);

		if ($line =~ /^HMSG (\S+) \d+ (?:(\S+) )?(\d+) (\d+)$/)
		{
			($subject, $reply, $headers, $size) = ($1, $2, $3, $4);
		}
		elsif ($line =~ /^MSG (\S+) \d+ (?:(\S+) )?(\d+)$/)
		{
			($subject, $reply, $headers, $size) = ($1, $2, 0, $3);
		}
		else
		{
			next;
		}
		read($self->{socket}, my $content, $size + 2) == $size + 2 or die "NATS: $!";
		push @{ $self->{arrived} },
		  {
			subject => $subject,
			reply => $reply,
			headers => substr($content, 0, $headers),
			body => substr($content, $headers, $size - $headers)
		  };
	}
	return splice @{ $self->{arrived} //= [] };
}

# All messages of a stream: subject, headers as they are on the wire, and body.
sub messages
{
	my ($self, $stream) = @_;
	my @messages;
	my $sequence = 1;

	for (;;)
	{
		my $answer = $self->api("STREAM.MSG.GET.$stream", { seq => $sequence, next_by_subj => '>' });
		my $message = $answer->{message} or last;

		push @messages, {
			subject => $message->{subject},
			headers => decode_base64($message->{hdrs} // ''),
			body => decode_base64($message->{data} // '')
		};
		$sequence = $message->{seq} + 1;
	}
	return @messages;
}

# Calls the function for each place of a stream between these two: with the place, and with what JetStream's API answers to
# whoever asks for the message there, as it is on the wire. Many are asked for at a time.
sub each_place
{
	my ($self, $stream, $first, $last, $function) = @_;

	for (my $from = $first; $from <= $last; $from += $AT_A_TIME)
	{
		my $to = List::Util::min($last, $from + $AT_A_TIME - 1);
		my %answer;

		for my $place ($from .. $to)
		{
			my $payload = qq({"seq":$place});

			$self->say("PUB \$JS.API.STREAM.MSG.GET.$stream $INBOX.place-$place " . length $payload);
			$self->say($payload);
		}
		$self->{socket}->flush;
		while (keys %answer <= $to - $from)
		{
			my ($place, $size) = $self->line =~ /^MSG \Q$INBOX\E\.place-(\d+) \S+ (?:\S+ )?(\d+)$/ or next;

			read($self->{socket}, my $body, $size + 2) == $size + 2 or die "NATS: $!";
			$answer{$place} = substr $body, 0, $size;
		}
		$function->($_, $answer{$_}) for $from .. $to;
	}
	return;
}

# The value of a message's header.
sub header
{
	my ($message, $name) = @_;

	return $message->{headers} =~ /^\Q$name\E: *(.*?)\r$/m ? $1 : '';
}

# Makes a stream that holds these messages and no others, without the headers that are for NATS itself.
sub make_stream
{
	my ($self, $stream, $subjects, @messages) = @_;

	$self->api("STREAM.DELETE.$stream");

	my $answer = $self->api("STREAM.CREATE.$stream", { name => $stream, subjects => $subjects, storage => 'memory' });

	die "stream $stream: $answer->{error}{description}" if $answer->{error};
	for my $message (@messages)
	{
		my $headers = $message->{headers} =~ s/^Nats-.*?\r\n//gmr;

		$self->say("HPUB $message->{subject} " . length($headers) . ' ' . (length($headers) + length($message->{body})));
		$self->say($headers . $message->{body});
	}
	# They are stored in turn, but not before the next request is answered.
	my ($held, $deadline) = (0, time + 60);

	while (($held = $self->api("STREAM.INFO.$stream")->{state}{messages}) != @messages)
	{
		die "stream $stream holds $held messages of " . @messages if time > $deadline;
		sleep 0.01;
	}
	return;
}

# How many messages of a stream, by what JetStream says of it with its subjects, are held changes.
sub held_messages
{
	my ($stream) = @_;
	my $subjects = $stream->{state}{subjects} // {};

	return List::Util::sum0(map { /\.held\.fence$/ ? () : $subjects->{$_} } keys %$subjects);
}

1;
