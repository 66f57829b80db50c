# What people do to a snapshot that runs or waits: pause it, throttle it, remove its table, drop its application; and what
# they see of it meanwhile in siphon_snapshot_progress.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Snapshot;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = siphon_node('primary', conf => 'siphon.ring_size = 4MB');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

$node->safe_psql(
	'postgres', q{
	CREATE TABLE big (id int PRIMARY KEY, v int, filler text);
	INSERT INTO big SELECT g, 0, repeat(md5(g::text), 10) FROM generate_series(1, 6000) g;
	CREATE TABLE second (id int PRIMARY KEY, v int);
	INSERT INTO second SELECT g, 0 FROM generate_series(1, 100) g;
	CREATE TABLE third (LIKE second INCLUDING ALL);
	INSERT INTO third TABLE second;
	CREATE TABLE other (id bigserial PRIMARY KEY, v text)});
add_table($node, 'other');

my $blocks = $node->safe_psql('postgres', "SELECT pg_relation_size('big') / 8192");
# What is brought out in so many seconds.
sub bytes_in
{
	my ($seconds) = @_;
	my ($from, $before) = (time, progress($node, 'big')->{bytes});

	sleep $seconds;
	return (progress($node, 'big')->{bytes} - $before) / (time - $from) * $seconds;
}

# ---- waiting, and its pause -----------------------------------------------------------------------------------------

slow_scans($node);
$node->safe_psql('postgres', "SELECT siphon_add_table('big'); SELECT siphon_add_table('second'); SELECT siphon_add_table('third')");
wait_for_scan($node, 'big');
is(progress($node, $_)->{phase}, 'waiting', "one snapshot at a time: $_ waits") for qw(second third);
is(table_state($node, 'second')->{state}, 'waiting for snapshot', 'siphon_tables says so too');
$node->safe_psql('postgres', "SELECT siphon_pause('second')");
is(progress($node, 'second')->{phase}, 'paused', 'one that waits can be paused');
is(table_state($node, 'second')->{state}, 'paused', 'siphon_tables says so too');

# ---- what can't be done ---------------------------------------------------------------------------------------------

fails_with(
	$node, "SELECT siphon_add_table('big')", 'added twice',
	error => 'table public.big is already published by application "main"',
	hint => q{SELECT siphon_alter_table\('public.big', 'main', ...\) changes its columns or partitions});
for my $table (qw(big second third))
{
	fails_with(
		$node, "SELECT siphon_resync_table('$table')", "resync of $table while there is a snapshot",
		error => "a snapshot of table $table is under way already",
		hint => 'SELECT \* FROM siphon_snapshot_progress shows it; siphon_remove_table\(\) ends it');
}
fails_with(
	$node, "SELECT siphon_pause('other')", 'pause without a snapshot',
	error => 'table other has no snapshot to pause or resume',
	hint => 'SELECT siphon_resync_table\(\) begins one');

# ---- running, and its pause -----------------------------------------------------------------------------------------

$node->safe_psql('postgres', "SELECT siphon_pause('big')");
is(progress($node, 'big')->{phase}, 'paused', 'one that runs can be paused');
is(table_state($node, 'big')->{state}, 'paused', 'siphon_tables says so too');
wait_until('it stands still', sub { bytes_in(0.3) == 0 });
my $bytes = progress($node, 'big')->{bytes};
others_go_on($node, $nats, 'paused');
is(progress($node, 'big')->{bytes}, $bytes, 'paused: nothing is brought out');
is(progress($node, 'big')->{eta}, undef, 'paused: nobody knows when it will be done');
is(scalar(snapshot_pids($node)), 2, 'paused: its processes are there');

# What it was slow for is not made up for.
$node->safe_psql('postgres', "SELECT siphon_resume('big')");
is(progress($node, 'big')->{phase}, 'scanning', 'and it goes on');
wait_until('something is brought out', sub { progress($node, 'big')->{bytes} > $bytes });
cmp_ok(bytes_in(1), '<', 2 * 64 * 1024, 'resumed: within its rate');

# ---- its rate -------------------------------------------------------------------------------------------------------

my $slow = bytes_in(2);
set_and_reload($node, 'siphon.snapshot_rate' => '512kB');
sleep 0.2;
my $faster = bytes_in(1);
slow_scans($node);
sleep 0.2;
my $slow_again = bytes_in(2);

note("bytes per second: $slow / 2, $faster, $slow_again / 2");
for my $two_seconds ($slow, $slow_again)
{
	cmp_ok($two_seconds, '>', 64 * 1024, 'siphon.snapshot_rate = 64kB: not much slower');
	cmp_ok($two_seconds, '<', 3 * 64 * 1024, 'nor faster');
}
cmp_ok($faster, '>', 256 * 1024, 'siphon.snapshot_rate = 512kB: at once');
cmp_ok($faster, '<', 1024 * 1024, 'and not faster');

# ---- the figures ----------------------------------------------------------------------------------------------------

set_and_reload($node, 'siphon.snapshot_rate' => '256kB');
my $row = wait_until('the first blocks are through',
	sub { my $row = progress($node, 'big'); ($row->{blocks_done} // 0) > 0 ? $row : undef });

slow_scans($node);
is($row->{phase}, 'scanning', 'progress: phase');
is($row->{blocks_total}, $blocks, 'progress: blocks in all');
cmp_ok($row->{blocks_done}, '<', $row->{blocks_total}, 'progress: blocks done');
cmp_ok($row->{rows}, '>', 0, 'progress: some rows');
cmp_ok($row->{rows}, '<', 6000, 'progress: not yet all');
cmp_ok($row->{bytes}, '>', $row->{rows} * 320, 'progress: their bytes');
cmp_ok($row->{bytes_per_second}, '>', 1000, 'progress: bytes per second');
is($row->{workers}, 2, 'progress: workers');
cmp_ok($row->{held_events}, '>=', 62, 'progress: held events');
is($row->{generation}, table_state($node, 'big')->{generation}, 'progress: generation');
is($node->safe_psql('postgres', "SELECT timestamptz '$row->{eta}' BETWEEN now() AND now() + interval '10 min', timestamptz '$row->{started}' < now()"),
	't|t', 'progress: ETA and start');

# All is in the rings, and nobody takes it.
kill 'STOP', $publisher->{pid};
fast_scans($node);
$row = wait_until('all blocks are through',
	sub { my $row = progress($node, 'big'); defined $row->{blocks_done} && $row->{blocks_done} == $row->{blocks_total} ? $row : undef });
is($row->{rows}, 6000, 'progress: all rows, in the end');
is($row->{phase}, 'scanning', 'progress: the publisher does not have them yet');
kill 'CONT', $publisher->{pid};
wait_for_table($node, 'big');
is_clean($nats, $node, $node, 'big', ['id'], 'paused and throttled');

# The queue passes by the one that is paused.
wait_for_table($node, 'third');
is(table_state($node, 'second')->{state}, 'paused', 'third had its turn, second is still paused');
$node->safe_psql('postgres', "SELECT siphon_resume('second')");
wait_for_table($node, 'second');
is_clean($nats, $node, $node, 'second', ['id'], 'paused while it waited');

# ---- removed --------------------------------------------------------------------------------------------------------

sub scan_half
{
	slow_scans($node);
	$node->safe_psql('postgres', "SELECT siphon_resync_table('big')");
	return wait_for_scan($node, 'big')->{generation};
}

my $generation = scan_half();
my $since = time;

$node->safe_psql('postgres', "SELECT siphon_remove_table('big')");
cmp_ok(time - $since, '<', 3, 'siphon_remove_table() ends a scan soon');
is_deeply([ snapshot_pids($node) ], [], 'removed: no process is left');
is_deeply(progress($node, 'big'), {}, 'removed: nothing is shown');
is_deeply([ glob(ring_directory($node) . '/main/snapshot-*.ring') ], [], 'removed: no ring is left');
others_go_on($node, $nats, 'removed');
$node->safe_psql('postgres', "SELECT siphon_add_table('big')");
fast_scans($node);
cmp_ok(wait_for_table($node, 'big')->{generation}, '>', $generation, 'added again: a greater generation');
is_clean($nats, $node, $node, 'big', ['id'], 'removed and added again');

# While its leader waits for a lock.
my $locker = $node->background_psql('postgres');

$locker->query_safe('BEGIN; LOCK TABLE big IN ACCESS EXCLUSIVE MODE');
$node->safe_psql('postgres', "SELECT siphon_resync_table('big')");
$node->poll_query_until('postgres',
	"SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE backend_type = 'siphon snapshot'");
is(progress($node, 'big')->{phase}, 'preparing', 'a snapshot waits for a lock');
others_go_on_without_big('locked');
$node->safe_psql('postgres', "SET statement_timeout = '10s'; SELECT siphon_remove_table('big')");
is_deeply([ snapshot_pids($node) ], [], 'removed while it waits for a lock');
$locker->query_safe('COMMIT');
$locker->quit;

sub others_go_on_without_big
{
	my ($what) = @_;

	$node->safe_psql('postgres', "INSERT INTO other (v) VALUES ('$what')");
	wait_confirmed($node);
	is(scalar(grep { ($_->{columns}{v} // '') eq $what } @{ replay($nats, table => 'public.other') }),
		1, "$what: changes of other tables arrive meanwhile");
	return;
}

# ---- locked again and again -----------------------------------------------------------------------------------------

# Who waits for the leader's lock must not keep workers from theirs.
my $lockers = start_pgbench($node, { lock => "BEGIN;\nLOCK TABLE big IN ACCESS EXCLUSIVE MODE;\nCOMMIT;\n" }, -c => 4, -T => 4);

$node->safe_psql('postgres', "SELECT siphon_add_table('big', workers => 4)");
my $done = 0;
while (pgbench_runs($lockers))
{
	wait_for_table($node, 'big');
	$done++;
	$node->safe_psql('postgres', "SELECT siphon_resync_table('big')");
}
finish_pgbench($lockers);
wait_for_table($node, 'big');
cmp_ok($done, '>', 1, "$done snapshots of a table that is locked again and again");
is_clean($nats, $node, $node, 'big', ['id'], 'locked');

# ---- without a snapshot ---------------------------------------------------------------------------------------------

$node->safe_psql('postgres', 'CREATE TABLE later (id int PRIMARY KEY, v int); INSERT INTO later VALUES (1, 1)');
$node->safe_psql('postgres', "SELECT siphon_add_table('later', snapshot => false)");
is(table_state($node, 'later')->{state}, 'streaming', 'snapshot => false: streams at once');
is_deeply(progress($node, 'later'), {}, 'snapshot => false: no snapshot');
$node->safe_psql('postgres', 'INSERT INTO later VALUES (2, 2)');
wait_confirmed($node);
is(join(' ', map { "$_->{operation} $_->{columns}{id}" } @{ replay($nats, table => 'public.later') }),
	'INSERT 2', 'snapshot => false: changes and no rows');
$generation = table_state($node, 'later')->{generation};
$node->safe_psql('postgres', "SELECT siphon_resync_table('later')");
cmp_ok(wait_for_table($node, 'later')->{generation}, '>', $generation, 'brought out later: a greater generation');
is_clean($nats, $node, $node, 'later', ['id'], 'brought out later');

# ---- its application is dropped -------------------------------------------------------------------------------------

$generation = scan_half();
$node->safe_psql('postgres', "SELECT siphon_resync_table('second')");
$since = time;
$node->safe_psql('postgres', "SELECT siphon_drop_application('main')");
cmp_ok(time - $since, '<', 5, 'siphon_drop_application() ends a scan soon');
is($node->safe_psql('postgres', 'SELECT count(*) FROM siphon_applications') . $node->safe_psql('postgres', 'SELECT count(*) FROM pg_replication_slots'),
	'00', 'dropped: application and slot are gone');
is_deeply([ snapshot_pids($node) ], [], 'dropped: no process is left');
is($node->safe_psql('postgres', 'SELECT count(*) FROM siphon_get_snapshots()'), '0', 'dropped: no snapshot is left');
fast_scans($node);
$node->safe_psql('postgres', "SELECT siphon_add_table('big')");
cmp_ok(wait_for_table($node, 'big')->{generation}, '>', $generation, 'made again: a greater generation');
$node->safe_psql('postgres', 'UPDATE big SET v = v + 1 WHERE id < 10');
is_clean($nats, $node, $node, 'big', ['id'], 'dropped and made again');

done_testing();
