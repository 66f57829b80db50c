# nats-server is killed and started again, and stands still for longer than the publisher has patience, under load. Each
# event is in the stream exactly once. See 022_outage.pl for what happens when it is away for long.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Test::More;
use Time::HiRes qw(sleep);

my $seed = $ENV{SIPHON_SEED} // int(rand(1 << 31));
diag("SIPHON_SEED=$seed");
srand $seed;

my $node = siphon_node('primary', conf => "siphon.flush_interval = 1ms\nsiphon.ring_size = 256kB");
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);
my $script = "INSERT INTO t (v) VALUES (0), (0);\nUPDATE t SET v = v + 1 WHERE id = 1 + :client_id;\n";

$node->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v int)');
add_table($node, 't', partitions => 2);

my $writers = start_pgbench($node, { w => $script }, -c => 4, '--rate' => 300, -T => 300);

sub publishing
{
	my $sequence = $nats->last_sequence;

	wait_until('the publisher publishes', sub { $nats->last_sequence > $sequence + 20 });
	return;
}

sub exactly_once
{
	my ($what) = @_;

	positions_increase(replay($nats), "$what: positions strictly increase");
	is_replayed($nats, $node, ['t'], "$what: each event is there exactly once", counter => 'v');
	return;
}

# Killed, while the publisher runs and sometimes while it starts.
for (1 .. 8)
{
	publishing();
	sleep rand 0.2;
	$nats->kill9;
	my $publisher_too = rand() < 0.3;
	$publisher->kill9 if $publisher_too;
	sleep rand 0.5;
	$publisher->start if $publisher_too;
	$nats->start;
}
publishing();
stop_pgbench($writers);
wait_confirmed($node);
exactly_once('nats-server killed');

# Stopped until nobody believes in it any more. It may go on with what it had been sent before.
$writers = start_pgbench($node, { w => $script }, -c => 4, '--rate' => 300, -T => 300);
for my $kill (0, 1)
{
	publishing();
	kill 'STOP', $nats->{pid};
	wait_until('the publisher misses answers',
		sub { $publisher->log =~ /(?:no answer from [^\n]* for 10 s|disconnected from NATS)(?!.*after sequence)/s });
	if ($kill)
	{
		$publisher->kill9;
		$publisher->start;
		wait_until('the next one has noticed', sub { !$publisher->running || $publisher->log =~ /waiting for NATS/ });
		ok($publisher->running, 'a publisher that starts waits for a server that stands still');
	}
	kill 'CONT', $nats->{pid};
}
publishing();
stop_pgbench($writers);
wait_confirmed($node);
exactly_once('nats-server stopped');
is(application($node)->{restarts}, 0, 'the decoder did not mind');

done_testing();
