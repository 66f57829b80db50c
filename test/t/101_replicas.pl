# Replicas of the streams are equal, whatever was restarted and for how long it was away: nothing that was acknowledged is lost
# when any of them comes to lead.
# Covers: a follower that restarts when nothing was published for longer than the duplicate window, with changes held and
# without; one that comes to lead; a rolling restart of all servers under load, each away for longer than the window.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Siphon::Broker;
use Siphon::NatsCluster;
use Siphon::Snapshot;
use Test::More;
use Time::HiRes qw(sleep time);

# In seconds, the least that there is time for; by default it is two minutes.
my $WINDOW = 3;

my $node = siphon_node('primary', conf => "siphon.flush_interval = 1ms\nsiphon.ring_size = 256kB");
my $nats = Siphon::NatsCluster->new->start;
my ($first, @others) = $nats->nodes;
# The publisher stays with the first server: when its own is lost it looks into the stream and mends what it does.
my $publisher = siphon_publisher($node, $nats, nats_url => $first->url, arguments => [ '--stream-replicas' => 3 ]);

$node->safe_psql('postgres', q{
	CREATE TABLE t (id bigserial PRIMARY KEY, v int);
	CREATE TABLE big (id int PRIMARY KEY, v int, filler text);
	INSERT INTO big SELECT g, 0, repeat(md5(g::text), 10) FROM generate_series(1, 6000) g});
add_table($node, 't', partitions => 2);
$node->safe_psql('postgres', 'INSERT INTO t (v) SELECT 0 FROM generate_series(1, 10)');
is_confirmed($node, $publisher, 'the publisher publishes');
is($nats->stream->{config}{num_replicas}, 3, 'the stream is on three servers');
$nats->update_stream($_, duplicate_window => $WINDOW * 1_000_000_000) for logs();

# Streams that messages are put into one behind the other; a bucket is none.
sub logs
{
	return grep { !/^KV_/ } $nats->streams;
}

sub equal
{
	my ($name) = @_;
	my $equal = 1;

	$nats->replicas_are_equal($_, "$name: all servers have the same of $_") or $equal = 0 for $nats->streams;
	return $equal;
}

# Waits until nothing was published for longer than the window.
sub pause
{
	wait_until('nothing is published for a while',
		sub { !grep { since_last_message($nats, $_) < $WINDOW + 0.5 } grep { stream_of($nats, $_)->{state}{messages} > 0 } logs() });
	return;
}

# The server is away, and back and up to date.
sub restart
{
	my ($server, $meanwhile) = @_;

	$server->stop;
	$meanwhile->() if $meanwhile;
	$server->start;
	$nats->wait_healthy;
	wait_until("$server->{name} is up to date", sub { !grep { !current($_, $server) } $nats->streams });
	return;
}

sub current
{
	my ($stream, $server) = @_;
	my $cluster = stream_of($nats, $stream)->{cluster};

	return 1 if ($cluster->{leader} // '') eq $server->{name};
	return grep { $_->{name} eq $server->{name} && $_->{current} && !$_->{offline} } @{ $cluster->{replicas} // [] };
}

sub change
{
	$node->safe_psql('postgres', "INSERT INTO t (v) SELECT 0 FROM generate_series(1, 3); UPDATE t SET v = v + 1 WHERE id < 5; UPDATE big SET v = v + 1 WHERE id <= 5") for 1 .. 3;
	return;
}

# ---- a follower restarts in a pause --------------------------------------------------------------------------------

# Not the first, and none that leads what is published to.
sub follower
{
	my %leads = map { $nats->leader_of_stream($_)->{name} => 1 } logs();
	my ($follower) = grep { !$leads{ $_->{name} } } @others;

	return $follower if $follower;
	$nats->lead($_, $first) for logs();
	return $others[0];
}

slow_scans($node);
$node->safe_psql('postgres', "SELECT siphon_add_table('big')");
wait_for_scan($node, 'big');
change();
$node->safe_psql('postgres', "SELECT siphon_pause('big')");
is_confirmed($node, $publisher, 'changes are held');
$nats->update_stream($_, duplicate_window => $WINDOW * 1_000_000_000) for logs();
pause();

my $follower = follower();

note("$follower->{name} restarts");
restart($follower);
change();
is_confirmed($node, $publisher, 'after the restart of a follower');
equal('a follower that restarted in a pause');

# It comes to lead, with what is held, and with the rest.
for my $stream (logs())
{
	ok($nats->lead($stream, $follower), "it leads $stream");
}
change();
unless (is_confirmed($node, $publisher, 'the one that restarted leads, and the publisher goes on'))
{
	# What follows would say nothing new.
	done_testing();
	exit;
}
$node->safe_psql('postgres', "SELECT siphon_resume('big')");
fast_scans($node);
wait_for_table($node, 'big');
is_confirmed($node, $publisher, 'with what was held');
is_replayed($nats, $node, [ 't', 'big' ], 'a follower that restarted leads: all is there', counter => 'v');
equal('a follower that restarted leads');

# ---- all restart, one after the other ------------------------------------------------------------------------------

my $script = "INSERT INTO t (v) VALUES (0), (0);\nUPDATE t SET v = v + 1 WHERE id = 1 + :client_id;\n";
my $writers = start_pgbench($node, { w => $script }, -c => 4, '--rate' => 200, -T => 300);

# Followers first, and the one that leads, with the publisher on it, last.
$nats->lead('siphon_main', $first);
for my $server (@others, $first)
{
	if ($server == $first)
	{
		$publisher->stop;
		$publisher->{nats_url} = $nats->url;
		$publisher->start;
	}
	restart(
		$server,
		sub {
			my $since = time;
			my $sequence = $nats->last_sequence;

			wait_until('messages are published without it',
				sub { time > $since + $WINDOW + 0.5 && $nats->last_sequence > $sequence + 50 });
		});

	my $sequence = $nats->last_sequence;

	wait_until('messages are published with it', sub { $nats->last_sequence > $sequence + 50 });
	ok( eval {
			wait_until("$server->{name} has them, too",
				sub { ($nats->replicas('siphon_main')->{ $server->{name} }{last_seq} // 0) > $sequence }, 10);
		},
		"rolling restart: $server->{name} stores what is published since");
}
stop_pgbench($writers);
is_confirmed($node, $publisher, 'after the rolling restart');

# Whoever leads has all.
my @leaders = equal('rolling restart') ? $nats->nodes : ();

for my $server (@leaders)
{
	ok($nats->lead('siphon_main', $server), "$server->{name} leads");
	is_replayed($nats, $node, ['t'], "rolling restart: $server->{name} has each event exactly once", counter => 'v');
}
positions_increase(replay($nats, table => 'public.t'), 'positions strictly increase');
is(application($node)->{restarts}, 0, 'the decoder did not mind');

done_testing();
