# A publisher is paused under load, and replaced: a new container, with an empty lock, knows nothing of it. When it goes
# on, the stream refuses it, it says so and ends, and its successor does not mind. Each event is in the stream exactly once.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Test::More;
use Time::HiRes qw(sleep);

my $node = siphon_node('primary', conf => "siphon.flush_interval = 1ms\nsiphon.ring_size = 256kB");
my $nats = siphon_nats();
my $lock = ring_directory($node) . '/main/publisher.lock';
my $publisher = siphon_publisher($node, $nats, name => 'publisher_0');
my $script = "INSERT INTO t (v) VALUES (0), (0);\nUPDATE t SET v = v + 1 WHERE id = 1 + :client_id;\n";

$node->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v int)');
add_table($node, 't', partitions => 2);

my $writers = start_pgbench($node, { w => $script }, -c => 4, '--rate' => 400, -T => 300);

sub publishing
{
	my $sequence = $nats->last_sequence;

	wait_until('somebody publishes', sub { $nats->last_sequence > $sequence + 50 });
	return;
}

my $generation = 0;

for my $meanwhile ('nothing', 'nats-server restarts', 'the successor is killed')
{
	my $zombie = $publisher;

	publishing();
	kill 'STOP', $zombie->{pid};
	unlink $lock or die "$lock: $!";
	$publisher = siphon_publisher($node, $nats, name => 'publisher_' . ++$generation);
	publishing();
	if ($meanwhile eq 'nats-server restarts')
	{
		$nats->kill9;
		$nats->start;
		publishing();
	}
	elsif ($meanwhile eq 'the successor is killed')
	{
		$publisher->kill9;
		$publisher->start;
		publishing();
	}
	kill 'CONT', $zombie->{pid};
	# Whichever it notices first: what the state store says, or who has the lock of the ring.
	like($zombie->wait_exit, qr/^[37]$/, "$meanwhile: the one that was replaced ends");
	like($zombie->log, qr/another publisher (?:has taken over|has written|runs for)/, "$meanwhile: and says why");
	$zombie->kill9;
	ok($publisher->running, "$meanwhile: its successor runs");
	publishing();
}
stop_pgbench($writers);
wait_confirmed($node);
# With its last breath the one that was replaced may tell the ring what it knew, which the decoder then gives up.
positions_increase(replay($nats), 'positions strictly increase');
is_replayed($nats, $node, ['t'], 'each event is there exactly once', counter => 'v');

done_testing();
