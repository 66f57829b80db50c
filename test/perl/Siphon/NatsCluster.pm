# Several nats-servers with JetStream that are one cluster, on the loopback. It has what Siphon::Nats has for looking at a
# stream, and asks any server that answers.
package Siphon::NatsCluster;

use strict;
use warnings FATAL => 'all';

use Digest::MD5;
use HTTP::Tiny;
use JSON::PP;
use List::Util qw(max);
use PostgreSQL::Test::Cluster;
use Siphon::Nats;
use Siphon::NatsClient;
use Test::More;
use Time::HiRes qw(sleep time);

# An election takes up to nine seconds.
my $PATIENCE = 2;
# What is the same of all copies of a stream.
my @STATE = qw(first_seq last_seq messages bytes);

sub new
{
	my ($class, $size) = @_;
	my @routes = map { 'nats://127.0.0.1:' . PostgreSQL::Test::Cluster::get_free_port() } 1 .. $size // 3;
	my %nodes;

	for my $route (@routes)
	{
		my $name = 'nats' . (1 + keys %nodes);

		$nodes{$name} = Siphon::Nats->new(
			name => $name,
			monitor => 1,
			# By its tag a stream is put on a server.
			conf => "server_tags: [\"$name\"]",
			arguments => [
				'--server_name', $name, '--cluster_name', 'test', '--cluster', $route, '--routes', join(',', @routes),
				# Who came by a proxy stays there.
				'--no_advertise'
			]);
	}
	return bless { nodes => \%nodes }, $class;
}

# Siphon::Nats objects, to be killed, stopped, paused and started.
sub nodes
{
	my ($self) = @_;

	return map { $self->{nodes}{$_} } sort keys %{ $self->{nodes} };
}

sub node
{
	my ($self, $name) = @_;

	return $self->{nodes}{$name};
}

# The server that leads the cluster itself. While it is away no stream is made or found.
sub meta_leader
{
	my ($self) = @_;

	return await('the cluster has a leader', sub {
		for my $node (grep { $_->running } $self->nodes)
		{
			my $leader = leader_by($node);

			return $self->{nodes}{$leader} if $leader;
		}
		return;
	});
}

# The name of the server that leads all, as this one knows it; undef if it knows none.
sub leader_by
{
	my ($node) = @_;

	return cluster_by($node)->{leader};
}

sub cluster_by
{
	my ($node) = @_;
	my $answer = HTTP::Tiny->new(timeout => 2)->get("http://127.0.0.1:$node->{monitor}/jsz");

	return $answer->{success} ? decode_json($answer->{content})->{meta_cluster} // {} : {};
}

# Waits until a server that was added, and has its name for a tag, may be given copies: whoever leads all has it among the
# others, and puts streams there.
sub wait_joined
{
	my ($self, $added) = @_;
	my $stream = { name => 'probe', subjects => ['probe'], placement => { tags => [ $added->{name} ] } };

	await(
		"$added->{name} is one of the cluster",
		sub {
			my ($member) = grep { $_->{name} eq $added->{name} } map { @{ cluster_by($_)->{replicas} // [] } } grep { $_->running } $self->nodes;

			return ($member && $member->{current} && !$member->{offline}) || (leader_by($added) // '') eq $added->{name};
		});
	await("$added->{name} takes streams", sub { $self->ask('STREAM.CREATE.probe', $stream)->{config} });
	$self->remove_probe;
	return;
}

# Of all servers.
sub url
{
	my ($self) = @_;

	return join ',', map { $_->url } $self->nodes;
}

# Starts all servers, and waits until a stream can be made that is on each of them.
sub start
{
	my ($self) = @_;
	my $stream = { name => 'probe', subjects => ['probe'], num_replicas => scalar keys %{ $self->{nodes} } };

	$_->start for $self->nodes;
	my $patience = time + 30;

	await(
		'the cluster takes streams',
		sub {
			return 1 if $self->ask('STREAM.CREATE.probe', $stream)->{config};
			return if time <= $patience;
			$patience = time + 30;
			# One that comes while the others elect a leader may never hear of it; and where two connect to each other at the
			# same time, both may close their connections as duplicates, and the leader be left without a follower.
			my @astray = grep { !leader_by($_) } $self->nodes;

			@astray = grep { leader_by($_) ne $_->{name} } $self->nodes unless @astray;
			for my $node (@astray)
			{
				diag("$node->{name} takes no part in the cluster, and is started once more");
				$node->kill9;
				$node->start;
			}
			return;
		});
	$self->remove_probe;
	return $self;
}

# An answer that was too late leaves nothing to delete.
sub remove_probe
{
	my ($self) = @_;

	await(
		'the cluster removes a stream',
		sub {
			my $answer = $self->ask('STREAM.DELETE.probe');

			return $answer->{success} || ($answer->{error}{err_code} // 0) == 10059;
		});
	return;
}

sub await
{
	my ($what, $condition) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;

	for (;;)
	{
		my $result = $condition->();

		return $result if $result;
		die "timed out waiting until $what" if time > $deadline;
		sleep 0.05;
	}
}

# What JetStream's API answers; an empty hash if there is no answer.
sub ask
{
	my ($self, $subject, $request) = @_;

	for my $node (grep { $_->running } $self->nodes)
	{
		my $answer = eval { Siphon::NatsClient->new($node->url, timeout => $PATIENCE)->api($subject, $request) };

		return $answer if $answer;
	}
	return {};
}

# What JetStream says of an application's stream.
sub stream
{
	my ($self, $application) = @_;

	return $self->ask('STREAM.INFO.siphon_' . ($application // 'main') =~ s/\./_/gr, { subjects_filter => '>' });
}

# How many held changes an application's stream of held changes has; one may be left when nothing is held any more.
sub held
{
	my ($self, $application) = @_;

	return Siphon::NatsClient::held_messages($self->stream(($application // 'main') . '_held'));
}

# Of the last message of an application's stream; waits where nobody knows it.
sub last_sequence
{
	my ($self, $application) = @_;
	my $stream;

	await('the stream has a leader', sub { $stream = $self->stream($application); $stream->{state} });
	return $stream->{state}{last_seq};
}

# The server that leads an application's stream, when there is one.
sub leader_of
{
	my ($self, $application) = @_;

	return $self->leader_of_stream('siphon_' . ($application // 'main') =~ s/\./_/gr);
}

sub leader_of_stream
{
	my ($self, $stream) = @_;

	return await("$stream has a leader",
		sub { $self->{nodes}{ $self->ask("STREAM.INFO.$stream")->{cluster}{leader} // '' } });
}

# Has the leader of a stream step down until this server leads it. Returns false where it does not come to that.
sub lead
{
	my ($self, $stream, $node) = @_;

	for (1 .. 40)
	{
		return 1 if $self->leader_of_stream($stream) == $node;
		$self->ask("STREAM.LEADER.STEPDOWN.$stream");
	}
	return 0;
}

# Changes settings of a stream.
sub update_stream
{
	my ($self, $stream, %changes) = @_;
	my $config = $self->ask("STREAM.INFO.$stream")->{config} or die "there is no stream $stream";
	my $answer = $self->ask("STREAM.UPDATE.$stream", { %$config, %changes });

	die "$stream can't be changed: " . ($answer->{error}{description} // 'no answer') unless $answer->{config};
	return;
}

# The names of the application's streams: of its log, of what it holds, where that has one of its own, and of its bucket. Waits
# while nobody leads all servers, and so nobody knows.
sub streams
{
	my ($self, $application) = @_;
	my $name = 'siphon_' . ($application // 'main') =~ s/\./_/gr;
	my $answer = await('JetStream says which streams there are',
		sub { my $answer = $self->ask('STREAM.NAMES'); defined $answer->{total} ? $answer : undef });

	return grep { /^(?:KV_)?\Q$name\E(?:_held)?$/ } sort @{ $answer->{streams} // [] };
}

# What each server that runs has of a stream, whatever the leader says of them: a hash of first_seq, last_seq, messages and
# bytes by the server's name.
sub replicas
{
	my ($self, $stream) = @_;
	my %replicas;

	for my $node (grep { $_->running } $self->nodes)
	{
		my $state = $node->own_streams->{$stream} or next;

		$replicas{ $node->{name} } = { map { $_ => $state->{$_} } @STATE };
	}
	return \%replicas;
}

# Test: all servers come to have the same of a stream. One that refuses what the others store is shown as "current" by the
# leader, so each of them is asked. To be called when nothing is published.
sub replicas_are_equal
{
	my ($self, $stream, $name) = @_;
	my $deadline = time + 10;
	my $replicas;

	for (;;)
	{
		$replicas = $self->replicas($stream);
		my %different = map { join(' ', @$_{@STATE}) => 1 } values %$replicas;

		return pass($name) if keys %different == 1 && keys %$replicas == keys %{ $self->{nodes} };
		last if time > $deadline;
		sleep 0.1;
	}
	diag("$stream: " . join ', ',
		map { my $of = $replicas->{$_}; "$_ has $of->{messages}, from $of->{first_seq} to $of->{last_seq}, of $of->{bytes} bytes" } sort keys %$replicas);
	return fail($name);
}

# Test: each server, when it leads a stream, has the same messages at the same places, down to the bytes, from the place on
# where the last of them begins. To be called when nothing is published.
sub contents_are_equal
{
	my ($self, $stream, $name) = @_;
	my $first = max(map { $_->{first_seq} } values %{ $self->replicas($stream) });
	my %digest;

	for my $node ($self->nodes)
	{
		$self->lead($stream, $node) or diag("$node->{name} does not come to lead $stream"), return fail($name);
		$digest{ $node->{name} } = digest($stream, $node, $first);
	}
	my %different = map { $_ => 1 } values %digest;

	diag("$stream: " . join ', ', map { "$_ has $digest{$_}" } sort keys %digest) if keys %different > 1;
	return is(scalar keys %different, 1, $name);
}

# Of all that the server, which leads a stream, has at the stream's places from this one on.
sub digest
{
	my ($stream, $node, $first) = @_;
	my $client = Siphon::NatsClient->new($node->url, timeout => 30);
	my $last = $client->api("STREAM.INFO.$stream")->{state}{last_seq};
	my $digest = Digest::MD5->new;

	# With the time, which the leader of then has given to all.
	$client->each_place($stream, $first, $last,
		sub { my ($place, $answer) = @_; $digest->add($place, $answer =~ /"message":(\{.*)/s ? $1 : 'nothing') });
	return "$last, " . $digest->hexdigest;
}

# Are all servers there, and is each, by its own account, up to date with all that it has? One that is not for long is
# started once more, see wait_healthy().
sub is_whole
{
	my ($self) = @_;
	my ($behind) = grep { !$_->running || !$_->is_healthy } $self->nodes;

	delete $self->{patience} unless $behind;
	return 1 unless $behind;
	$self->{patience} //= time + 30;
	if ($behind->running && time > $self->{patience})
	{
		$self->{patience} = time + 30;
		diag("$behind->{name} does not get well, and is started once more");
		$behind->kill9;
		$behind->start;
	}
	return 0;
}

# Waits until all servers are up to date with an application's stream, so that the next one can be killed. One that was
# killed may hang when it comes back, with its routes closed, and be behind for ever: then it is started once more.
sub wait_healthy
{
	my ($self, $application) = @_;
	my $others = keys(%{ $self->{nodes} }) - 1;
	my $patience = time + 30;

	await(
		'all servers have the stream',
		sub {
			my $cluster = $self->stream($application)->{cluster} // {};

			my @behind = grep { !$_->{current} || $_->{offline} } @{ $cluster->{replicas} // [] };

			return 1 if $cluster->{leader} && $others == @{ $cluster->{replicas} // [] } && !@behind;
			if (@behind && time > $patience)
			{
				$patience = time + 30;
				# The leader may not know its name yet.
				my $node = $self->{nodes}{ $behind[0]{name} } or return;

				diag("$node->{name} does not get the stream, and is started once more");
				$node->kill9;
				$node->start;
			}
			return;
		});
	return;
}

1;
