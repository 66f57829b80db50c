# The faults with which Siphon::Torture strikes where three nats-servers have the streams, instead of those that strike the
# only one. Each is a hash as in Siphon::Faults.
package Siphon::ClusterFaults;

use strict;
use warnings FATAL => 'all';

use List::Util qw(max shuffle);
use Siphon;
use Siphon::Archive;
use Siphon::Broker;
use Siphon::Faults;
use Siphon::RandomizedTest qw(one_of between);

# Longer than the time, in seconds, for which a server remembers the ids of messages.
my $LONG = 3;
# How many messages, or bytes, are left at least where the stream forgets. What comes meanwhile is copied many times before.
my $LEAST_MESSAGES = 2000;
my $LEAST_BYTES = 8_000_000;

sub all
{
	our @FAULTS;

	return @FAULTS;
}

# ---- nodes ----------------------------------------------------------------------------------------------------------

# All nodes are there, and have what they should have.
sub is_whole
{
	my ($torture) = @_;

	return $torture->{nats}->is_whole;
}

sub node_goes
{
	my ($torture, $node, $how) = @_;

	$torture->say("$node->{name} goes");
	$torture->{away}{ $node->{name} } = 1;
	$node->$how;
	return sub {
		$node->start;
		$torture->{away}{ $node->{name} } = 0;
	};
}

sub any_node
{
	my ($torture) = @_;

	return one_of($torture->{nats}->nodes);
}

# As whoever upgrades them does it: each hands over what it leads and goes, when all others have what they should have.
sub upgrade
{
	my ($torture) = @_;

	for my $node (shuffle $torture->{nats}->nodes)
	{
		$torture->wait_for('all nodes have all', sub { is_whole($torture) });
		# It would end by itself, after minutes.
		$torture->{away}{ $node->{name} } = 1;
		kill 'USR2', $node->{pid};
		$torture->wait_for("$node->{name} leads nothing", sub { !leads($torture, $node) });
		node_goes($torture, $node, 'stop')->();
	}
	return;
}

# One of the streams, as far as it is known.
sub leads
{
	my ($torture, $node) = @_;

	return scalar grep { ($torture->{nats}->ask("STREAM.INFO.$_")->{cluster}{leader} // $node->{name}) eq $node->{name} } streams($torture);
}

sub streams
{
	my ($torture) = @_;
	my $log = Siphon::Faults::stream($torture);

	return ($log, "${log}_held", "KV_$log");
}

# All at once, as where the power is cut that they share; what they have written is there.
sub all_go
{
	my ($torture, $how) = @_;
	my @return = map { node_goes($torture, $_, $how) } shuffle $torture->{nats}->nodes;

	return sub { $_->() for shuffle @return };
}

# A server that starts knows no ids but those of the last second, and here there are none.
sub restart_in_pause
{
	my ($torture) = @_;
	my $resume = pause_publishing($torture);
	my @logs = grep { !/^KV_/ } streams($torture);
	my $quiet = sub {
		my ($stream) = @_;
		my $info = $torture->{nats}->ask("STREAM.INFO.$stream");

		return $info->{state} && ($info->{state}{messages} == 0 || since_last_message($torture->{nats}, $stream) > 1.5);
	};

	$torture->wait_for('nothing was published for a while', sub { !grep { !$quiet->($_) } @logs });
	node_goes($torture, any_node($torture), one_of(qw(stop kill9)))->();
	$torture->wait_for('all nodes have all', sub { is_whole($torture) });
	return $resume;
}

sub step_down
{
	my ($torture) = @_;

	for (1 .. between(1, 6))
	{
		my $stream = one_of(streams($torture));

		$torture->{nats}->ask("STREAM.LEADER.STEPDOWN.$stream");
		$torture->wait_for("$stream has a leader", sub { $torture->{nats}->ask("STREAM.INFO.$stream")->{cluster}{leader} });
	}
	return;
}

# ---- a stream that forgets ------------------------------------------------------------------------------------------

# Stops the publisher where it is; when this returns, nothing is on its way to the stream, and all nodes have the same.
sub pause_publishing
{
	my ($torture) = @_;
	my $resume = Siphon::Faults::freeze($torture->{publisher}{pid});

	for my $stream (streams($torture))
	{
		my $before = '';

		$torture->wait_for(
			"all nodes have the same of $stream",
			sub {
				my $replicas = $torture->{nats}->replicas($stream);
				# What is sent and not stored yet comes between two looks.
				my @ends = map { $_->{last_seq} } values %$replicas;
				my $is_equal = @ends == $torture->{nats}->nodes && !grep { $_ ne $ends[0] } @ends;
				my $is_still = $is_equal && $before eq $ends[0];

				$before = $ends[0] // '';
				return $is_still;
			});
	}
	return $resume;
}

# Changes the stream's settings while nothing is published, and each node has them before that goes on: a node applies them
# when it hears of them, whatever it has stored by then, and so would forget, or refuse, what the others do not.
sub limit
{
	my ($torture, %limits) = @_;
	my $stream = Siphon::Faults::stream($torture);
	my $resume = pause_publishing($torture);

	if ($torture->{archive})
	{
		$torture->{archive}->finish;
		$torture->{archive}{forgetting} = 1;
	}
	$limits{max_bytes} += Siphon::Faults::stream_info($torture)->{state}{bytes} if $limits{discard} eq 'new';
	Siphon::Faults::update_stream($torture, %limits);
	$torture->wait_for(
		'each node has the limits',
		sub {
			my @configs = map { $_->stream_details->{$stream}{config} // {} } $torture->{nats}->nodes;

			return !grep { my $config = $_; grep { ($config->{$_} // 'none') ne $limits{$_} } keys %limits } @configs;
		});
	$resume->();
	return;
}

# With room for some more.
sub fill_stream
{
	my ($torture) = @_;

	limit($torture, max_bytes => between(1000, 20000), discard => 'new');
	return sub { limit($torture, max_bytes => -1, discard => 'old') };
}

# A limit that the publisher has not seen would look like a hand that took messages away.
sub forget_beyond
{
	my ($torture, %limits) = @_;
	my $lossy = $limits{max_msgs} > 0 || $limits{max_bytes} > 0;

	limit($torture, %limits, discard => 'old');
	$torture->wait_for('the publisher knows the limits',
		sub { my $status = eval { $torture->{publisher}->status->{queue}{stream} }; $status && (!$status->{keeps_all}) == $lossy });
	return;
}

# What the stream forgets is in the archive. An age is no such limit: each node looks by itself what is too old, and when.
sub forget
{
	my ($torture) = @_;
	my $stream = Siphon::Faults::stream($torture);
	my $state = Siphon::Faults::stream_info($torture)->{state};

	$torture->{archive} //= Siphon::Archive->new($torture->{nats}, $stream, ["siphon.$torture->{application}.>"]);

	my ($limit, $has, $least) = @{ one_of([ max_msgs => $state->{messages}, $LEAST_MESSAGES ], [ max_bytes => $state->{bytes}, $LEAST_BYTES ]) };
	my %none = (max_msgs => -1, max_bytes => -1);

	forget_beyond($torture, %none, $limit => max($least, int $has * (0.2 + rand 0.6)));
	return sub {
		forget_beyond($torture, %none);
		$torture->{archive}{forgetting} = 0;
	};
}

# ---- all of them ----------------------------------------------------------------------------------------------------

our @FAULTS = (
	{ name => 'nodes upgraded', touches => ['nats'], slow => 1, strike => \&upgrade, until => \&is_whole },
	{ name => 'node killed', touches => ['nats'], hold => 5, strike => sub { node_goes($_[0], any_node($_[0]), 'kill9') }, until => \&is_whole },
	{
		name => 'leader killed',
		touches => ['nats'],
		hold => 1,
		strike => sub { node_goes($_[0], $_[0]->{nats}->leader_of_stream(one_of(streams($_[0]))), 'kill9') },
		until => \&is_whole
	},
	{ name => 'node frozen', touches => ['nats'], hold => 15, strike => sub { Siphon::Faults::freeze(any_node($_[0])->{pid}) }, until => \&is_whole },
	{
		name => 'node away for long',
		touches => ['nats'],
		least => $LONG,
		hold => 20,
		strike => sub { node_goes($_[0], any_node($_[0]), one_of(qw(stop kill9))) },
		until => \&is_whole
	},
	{ name => 'node restarted in a pause', touches => [qw(nats publisher)], slow => 1, strike => \&restart_in_pause, until => \&is_whole },
	{ name => 'all nodes killed', touches => ['nats'], hold => 1, strike => sub { all_go($_[0], 'kill9') }, until => \&is_whole },
	{ name => 'leader steps down', touches => ['nats'], slow => 1, strike => \&step_down },
	# Where the copies do not begin alike, they are not full alike: see Siphon::Torture::check_replicas().
	{
		name => 'stream full',
		touches => [qw(nats publisher)],
		possible => sub { !$_[0]->{archive} },
		slow => 1,
		hold => 2,
		strike => \&fill_stream
	},
	# What it waits for keeps others from being copied in time, or from being seen.
	{
		name => 'stream forgets',
		touches => [qw(nats publisher network primary standby snapshot table)],
		slow => 1,
		hold => 3,
		strike => \&forget
	});

1;
