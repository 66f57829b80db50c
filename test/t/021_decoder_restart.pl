# The decoder ends, the launcher ends, and the server restarts and crashes, under load. What was decoded and not
# confirmed is decoded again, and yet each event is in the stream once.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Test::More;
use Time::HiRes qw(sleep time);

my $seed = $ENV{SIPHON_SEED} // int(rand(1 << 31));
diag("SIPHON_SEED=$seed");
srand $seed;

my $node = siphon_node('primary', conf => 'restart_after_crash = on');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);
my $script = q{
INSERT INTO t (v) SELECT repeat('x', 50) FROM generate_series(1, 2);
UPDATE t SET v = 'y' WHERE id = 1 + :client_id;
DELETE FROM t WHERE id = (SELECT max(id) - 20 FROM t);
};

$node->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v text)');
add_table($node, 't', partitions => 2);

sub is_whole
{
	my ($what) = @_;
	my $events = replay($nats);

	positions_increase($events, "$what: nothing comes twice");
	is_replica($events, $node, 't', ['id'], "$what: the stream is the table");
	return;
}

# The decoder, by hand.
my $writers = start_pgbench($node, { w => $script }, -c => 4, '--rate' => 150, -T => 7);
my $ends = 0;
while (pgbench_runs($writers))
{
	my $pid = wait_for_state($node, 'streaming')->{decoder_pid};

	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)") if $pid;
	$ends++;
	wait_until('the decoder is another one', sub { my $now = application($node)->{decoder_pid}; $now && $now != $pid });
	sleep rand 0.3;
}
finish_pgbench($writers);
wait_confirmed($node);
is_whole('terminated decoder');
cmp_ok($ends, '>', 2, 'the decoder was ended under load');
cmp_ok(application($node)->{restarts}, '>=', $ends - 1, 'siphon_applications counts its restarts');

# It comes back soon, and not only when somebody happens to look.
my $pid = application($node)->{decoder_pid};
my $since = time;
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
wait_until('the decoder is another one', sub { my $now = application($node)->{decoder_pid}; $now && $now != $pid });
cmp_ok(time - $since, '<', 4, 'a decoder that ended starts again after max_restart_delay, one second here');

# The launcher: decoders do not need it, and it comes back.
my ($launcher) = siphon_pids($node, 'siphon launcher');
kill 'TERM', $launcher;
wait_until('the launcher is another one',
	sub { my ($now) = siphon_pids($node, 'siphon launcher'); $now && $now != $launcher });
$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('no launcher')");
wait_confirmed($node);
my ($before) = application($node)->{decoder_pid};
$node->safe_psql('postgres', "SELECT pg_terminate_backend($before)");
wait_until('the new launcher starts a decoder', sub { my $now = application($node)->{decoder_pid}; $now && $now != $before });
pass('the launcher starts again and does its work');

# The server: restarts under load, fast and immediate, and a backend that crashes.
for my $mode ('fast', 'immediate')
{
	$writers = start_pgbench($node, { w => $script }, -c => 4, '--rate' => 400, -T => 30);
	my $start = $node->safe_psql('postgres', 'SELECT count(*) FROM t');
	$node->poll_query_until('postgres', "SELECT count(*) > $start + 300 FROM t");
	my $stopping = time;
	$node->stop($mode);
	cmp_ok(time - $stopping, '<', 5, "the server stops soon ($mode)");
	finish_pgbench($writers, fail_ok => 1);
	$node->start;
	wait_confirmed($node);
	is(application($node)->{restarts}, 0, "the first decoder that the server starts is the right one ($mode)");
	is_whole("$mode restart");
}

my $backend = $node->background_psql('postgres', on_error_stop => 0);
my $victim = $backend->query_safe('SELECT pg_backend_pid()');
kill 'KILL', $victim;
$node->poll_query_until('postgres', 'SELECT 1', '1');
$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('after a crash')");
wait_confirmed($node);
is_whole('crash of another backend');
eval { $backend->quit };

done_testing();
