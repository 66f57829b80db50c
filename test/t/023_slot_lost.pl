# A slot that is dropped by hand or invalidated does not come back: the application is in state failed, says why and
# what to type, and its decoder is not started again and again. What it says mends it: afterwards the stream makes the
# tables.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;
use Time::HiRes qw(sleep);

my $node = siphon_node('primary', conf => "siphon.ring_size = 64kB\nmax_wal_size = 64MB\nmin_wal_size = 32MB");
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (id bigserial PRIMARY KEY, v text);
	CREATE TABLE u (id int PRIMARY KEY);
	CREATE TABLE dropped (id int PRIMARY KEY);
	CREATE TABLE dropped_without (id int PRIMARY KEY);
	INSERT INTO t (v) SELECT 'there' FROM generate_series(1, 100)});
$node->safe_psql('postgres', "SELECT siphon_add_table('$_')") for qw(t dropped);
add_table($node, $_) for qw(u dropped_without);

sub generation
{
	return $node->safe_psql('postgres', "SELECT generation FROM siphon_tables WHERE table_name = '$_[0]'");
}

# Failed, with this reason, and quiet about it; then mended by what the hint says.
sub is_failed
{
	my ($what, $reason, $copy) = @_;
	my $row = wait_for_state($node, 'failed');
	my $generation = generation('u');

	like($row->{reason}, $reason, "$what: the reason");
	like($row->{hint}, qr/^Run SELECT siphon_resync_application\('main'\) to create a new slot and take new snapshots of its tables\./, "$what: the hint");
	($copy ? \&like : \&unlike)->($row->{hint}, qr/ a copy of another one .*: SELECT siphon_drop_application\('main'\)/,
		"$what: and what is to be done if it never was there");
	is($row->{decoder_pid}, undef, "$what: no decoder runs");
	is($node->safe_psql('postgres', "SELECT DISTINCT state FROM siphon_tables WHERE state <> 'dropped'"),
		'failed', "$what: siphon_tables says so too");

	# Longer than the launcher's longest pause here.
	sleep 2.5;
	is(application($node)->{restarts}, $row->{restarts}, "$what: the decoder is not started again and again");
	is(application($node)->{state}, 'failed', "$what: the state stays");

	# Nobody hears of these changes. The rows will show them.
	$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('missed'); UPDATE t SET v = 'changed' WHERE id = 7; DELETE FROM t WHERE id = 8");
	$publisher->start unless $publisher->running;

	my ($code, $stdout, $stderr) = $node->psql('postgres', "SELECT siphon_resync_application('main')");

	is($code, 0, "$what: what the hint says works") or diag($stderr);
	like($stderr, qr/WARNING:  changes are missing of tables that were added without their rows: public\.u\n/,
		"$what: it names the table that has a gap");
	is(application($node)->{state}, 'streaming', "$what: the application streams");
	cmp_ok(generation('u'), '>', $generation, "$what: a table without rows has the next generation");
	wait_for_table($node, 't');
	$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('again'); UPDATE t SET v = 'changed again' WHERE id = 9");
	wait_confirmed($node);
	is_replayed($nats, $node, ['t'], "$what: the stream makes the table");
	return;
}

sub without_library
{
	my ($function) = @_;

	$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
	$node->restart;
	$function->();
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'siphon'");
	$node->restart;
	return;
}

# Dropped by hand, where PostgreSQL lets one: while no decoder has it. Tables that were dropped are in nobody's way.
wait_for_table($node, 't');
my ($code) = $node->psql('postgres', "SELECT pg_drop_replication_slot('siphon_main')");
isnt($code, 0, 'a slot in use can not be dropped');
without_library(
	sub {
		$node->safe_psql('postgres', "SELECT pg_drop_replication_slot('siphon_main'); DROP TABLE dropped, dropped_without");
	});
is_failed('dropped slot', qr/replication slot "siphon_main" cannot be used: it does not exist any more/, 1);

# Invalidated because it keeps too much WAL, while the decoder waits for a full ring.
$publisher->stop;
$node->append_conf('postgresql.conf', 'max_slot_wal_keep_size = 16MB');
$node->reload;
my $offset = -s $node->logfile;
for (1 .. 6)
{
	$node->safe_psql('postgres', "INSERT INTO t (v) SELECT repeat(md5(g::text), 30) FROM generate_series(1, 5000) g");
	$node->safe_psql('postgres', 'SELECT pg_switch_wal(); CHECKPOINT');
}
is_failed('invalidated slot', qr/cannot be used: the WAL that it needs was removed \(max_slot_wal_keep_size\)/, 0);
my $log = slurp_file($node->logfile, $offset);
my $lines = () = $log =~ /siphon: application "main" stopped: replication slot "siphon_main" cannot be used/g;
is($lines, 1, 'the log has it too, in one line');

# On PostgreSQL 18 also because nobody used it.
SKIP:
{
	skip 'idle_replication_slot_timeout came with PostgreSQL 18', 1 unless has_setting('idle_replication_slot_timeout');

	my ($launcher) = siphon_pids($node, 'siphon launcher');

	kill 'STOP', $launcher;
	$node->safe_psql('postgres', 'SELECT pg_terminate_backend(' . application($node)->{decoder_pid} . ')');
	$node->append_conf('postgresql.conf', 'idle_replication_slot_timeout = 1s');
	$node->reload;
	wait_until(
		'the slot is invalidated',
		sub {
			$node->safe_psql('postgres', 'CHECKPOINT');
			$node->safe_psql('postgres', 'SELECT invalidation_reason FROM pg_replication_slots') eq 'idle_timeout';
		});
	$node->append_conf('postgresql.conf', 'idle_replication_slot_timeout = 0');
	$node->reload;
	kill 'CONT', $launcher;
	is_failed('idle slot', qr/cannot be used: no decoder used it for too long \(idle_replication_slot_timeout\)/, 0);
}

# A server with a slot does not start with wal_level below logical.
$node->stop;
$node->append_conf('postgresql.conf', 'wal_level = replica');
$offset = -s $node->logfile;
is($node->start(fail_ok => 1), 0, 'with wal_level = replica the server does not start');
like(slurp_file($node->logfile, $offset), qr/FATAL:  logical replication slot "siphon_main" exists, but "?wal_level"? < "?logical"?/,
	'and says why');
$node->append_conf('postgresql.conf', 'wal_level = logical');
$node->start;
$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('wal_level is back')");
wait_confirmed($node);
is_replayed($nats, $node, ['t'], 'and nothing is lost when that is mended');

# A table added to a failed application is listed, with a warning that nothing takes it up.
$node->safe_psql('postgres', 'CREATE TABLE late (id int PRIMARY KEY)');
without_library(sub { $node->safe_psql('postgres', "SELECT pg_drop_replication_slot('siphon_main')") });
wait_for_state($node, 'failed');
my ($ret, $stdout, $stderr) = $node->psql('postgres', "SELECT siphon_add_table('late', snapshot => false)");
is($ret, 0, 'a table can be added to a failed application');
like($stderr, qr/WARNING:  the decoder of application "main" does not run: .*does not exist any more/, 'with a warning');

done_testing();
