# The publisher stops, and is killed, again and again while writers write. The ring keeps what was not acknowledged, so
# each event is in the stream exactly once.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Test::More;
use Time::HiRes qw(sleep);

my $seed = $ENV{SIPHON_SEED} // int(rand(1 << 31));
diag("SIPHON_SEED=$seed");
srand $seed;

my $node = siphon_node('primary');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

$node->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v text)');
add_table($node, 't', partitions => 2);

my $writers = start_pgbench(
	$node,
	{ w => "INSERT INTO t (v) SELECT repeat('x', 50) FROM generate_series(1, 5);\nUPDATE t SET v = 'y' WHERE id = 1 + :client_id;\n" },
	-c => 4, '--rate' => 400, -T => 8);
my ($stopped, $killed) = (0, 0);
while (pgbench_runs($writers))
{
	sleep rand 0.4;
	if (rand() < 0.3)
	{
		# One that has not come as far as listening to signals can't end cleanly.
		wait_until('the publisher says something', sub { $publisher->log ne '' });
		is($publisher->stop, 0, 'SIGTERM ends the publisher cleanly');
		$stopped++;
	}
	else
	{
		$publisher->kill9;
		$killed++;
	}
	$publisher->start;
}
finish_pgbench($writers);
wait_confirmed($node);
note("the publisher was stopped $stopped times and killed $killed times");

my $events = replay($nats);
positions_increase($events, 'positions strictly increase on each subject: nothing is there twice');
is_replica($events, $node, 't', ['id'], 'nothing is missing');
is(scalar(grep { $_->{operation} eq 'INSERT' } @$events),
	$node->safe_psql('postgres', 'SELECT count(*) FROM t'),
	'each row was inserted once');
cmp_ok($killed, '>', 3, 'the publisher was killed under load');
is(application($node)->{restarts}, 0, 'the decoder did not mind');

# Without a publisher the view says so.
$publisher->stop;
ok( $node->poll_query_until('postgres', 'SELECT NOT publisher_attached FROM siphon_applications'),
	'siphon_applications sees that there is no publisher');
is(application($node)->{state}, 'streaming', 'which does not stop the decoder');
$node->safe_psql('postgres', "INSERT INTO t (v) SELECT 'while away' FROM generate_series(1, 10)");
$publisher->start;
wait_confirmed($node);
is_replica(replay($nats), $node, 't', ['id'], 'what was written meanwhile comes afterwards');
like($publisher->log, qr/publishing ring [0-9a-f]+ from ring offset \d+ to stream siphon_main at 127\.0\.0\.1:/,
	'the log tells where the publisher goes on');

done_testing();
