# A cluster of three nats-servers, each with the whole stream. Its leader is killed under load again and again, and so is
# the publisher. Each event is in the stream exactly once.
use strict;
use warnings FATAL => 'all';

use List::Util qw(shuffle);
use Siphon;
use Siphon::NatsCluster;
use Test::More;
use Time::HiRes qw(sleep time);

my $seed = $ENV{SIPHON_SEED} // int(rand(1 << 31));
diag("SIPHON_SEED=$seed");
srand $seed;

my $node = siphon_node('primary', conf => "siphon.flush_interval = 1ms\nsiphon.ring_size = 256kB");
my $nats = Siphon::NatsCluster->new->start;
my $publisher = siphon_publisher($node, $nats, arguments => [ '--stream-replicas' => 3 ]);
my $script = "INSERT INTO t (v) VALUES (0), (0);\nUPDATE t SET v = v + 1 WHERE id = 1 + :client_id;\n";

$node->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v int)');
add_table($node, 't', partitions => 2);

my $writers = start_pgbench($node, { w => $script }, -c => 4, '--rate' => 300, -T => 600);

wait_until('there is a stream', sub { $nats->stream->{state} });
is($nats->stream->{config}{num_replicas}, 3, 'the stream is on three servers');

sub publishing
{
	my $sequence = $nats->last_sequence;

	wait_until('the publisher publishes', sub { $nats->last_sequence > $sequence + 20 });
	return;
}

my $longest = 0;

for my $what (shuffle 1 .. 3)
{
	publishing();
	$nats->wait_healthy;

	my $leader = $nats->leader_of;
	my $since = time;

	note("killing the leader, $leader->{name}" . ('', ', and the publisher', ', and the publisher a little later')[ $what - 1 ]);
	$leader->kill9;
	if ($what > 1)
	{
		sleep rand 3 if $what == 3;
		$publisher->kill9;
		$publisher->start;
	}
	publishing();
	$longest = time - $since if time - $since > $longest;
	sleep rand 0.5;
	$leader->start;
}
$nats->wait_healthy;
publishing();
note(sprintf 'publishing went on after %.1f s at most', $longest);
stop_pgbench($writers);
wait_confirmed($node);
positions_increase(replay($nats), 'positions strictly increase');
is_replayed($nats, $node, ['t'], 'each event is there exactly once', counter => 'v');
is(application($node)->{restarts}, 0, 'the decoder did not mind');

done_testing();
