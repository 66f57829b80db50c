# Tables that are odd, and tables that are changed under a snapshot's feet: each is brought out as it is, or there is a
# clear state. And a server that has too few background workers.
use strict;
use warnings FATAL => 'all';

use JSON::PP;
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Snapshot;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

# ---- odd tables -----------------------------------------------------------------------------------------------------

my $many = join ', ', map { "c$_ int" } 1 .. 1599;
my $virtual = $node->pg_version >= 18 ? ', hidden int GENERATED ALWAYS AS (v * 3) VIRTUAL' : '';

$node->safe_psql(
	'postgres', qq{
	CREATE TABLE empty (id int PRIMARY KEY);
	CREATE TABLE no_columns ();
	ALTER TABLE no_columns REPLICA IDENTITY FULL;
	INSERT INTO no_columns DEFAULT VALUES;
	INSERT INTO no_columns DEFAULT VALUES;
	CREATE TABLE wide (id int PRIMARY KEY, $many);
	INSERT INTO wide (id, c1, c800, c1599) SELECT g, g, -g, g + 1 FROM generate_series(1, 50) g;
	CREATE TABLE dropped_columns (gone int, id int PRIMARY KEY, gone_too text, v text, last_gone int);
	INSERT INTO dropped_columns SELECT g, g, 'x', 'v' || g, g FROM generate_series(1, 100) g;
	ALTER TABLE dropped_columns DROP gone, DROP gone_too, DROP last_gone, ADD w int DEFAULT 5;
	INSERT INTO dropped_columns VALUES (101, 'after', 6);
	CREATE TABLE toasted (id int PRIMARY KEY, v text, w text);
	ALTER TABLE toasted ALTER v SET STORAGE EXTERNAL;
	INSERT INTO toasted SELECT g, repeat(md5(g::text), 2000), repeat('compressed', 5000) FROM generate_series(1, 8) g;
	INSERT INTO toasted VALUES (9, repeat(md5('large'), 40000), NULL), (10, '', '');
	CREATE TABLE generated (id int PRIMARY KEY, v int, twice int GENERATED ALWAYS AS (v * 2) STORED$virtual);
	INSERT INTO generated SELECT g, g FROM generate_series(1, 100) g});

# A type whose functions nobody may call. A table with it can be read all the same: calling a type's own functions is
# not a matter of rights. The snapshot does as SELECT does.
$node->safe_psql(
	'postgres', q{
	CREATE TYPE odd;
	CREATE FUNCTION odd_in(cstring) RETURNS odd LANGUAGE internal IMMUTABLE STRICT AS 'textin';
	CREATE FUNCTION odd_out(odd) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
	CREATE TYPE odd (INPUT = odd_in, OUTPUT = odd_out, LIKE = text);
	REVOKE ALL ON FUNCTION odd_in(cstring), odd_out(odd) FROM PUBLIC;
	CREATE ROLE adder;
	GRANT EXECUTE ON FUNCTION siphon_add_table TO adder;
	CREATE TABLE odd_type (id int PRIMARY KEY, v odd);
	INSERT INTO odd_type SELECT g, ('odd ' || g)::odd FROM generate_series(1, 10) g;
	GRANT SELECT ON odd_type TO adder});
is($node->safe_psql('postgres', 'SET ROLE adder; SELECT v FROM odd_type WHERE id = 1'), 'odd 1',
	'a type whose output function the role may not call: SELECT calls it');

my @tables = qw(empty wide dropped_columns toasted generated odd_type);

$node->safe_psql('postgres', ($_ eq 'odd_type' ? 'SET ROLE adder; ' : '') . "SELECT siphon_add_table('$_')")
  for @tables, 'no_columns';
wait_for_table($node, $_) for @tables, 'no_columns';
$node->safe_psql(
	'postgres', q{
	INSERT INTO empty VALUES (1);
	UPDATE wide SET c2 = 2 WHERE id % 2 = 0;
	DELETE FROM dropped_columns WHERE id = 3;
	UPDATE toasted SET w = 'short' WHERE id < 3;
	UPDATE generated SET v = v + 1 WHERE id < 10;
	INSERT INTO odd_type VALUES (11, 'odd 11');
	INSERT INTO no_columns DEFAULT VALUES});
wait_confirmed($node);
is_replayed($nats, $node, \@tables, 'odd tables are brought out');
is(join(' ', map { $_->{operation} } @{ replay($nats, table => 'public.no_columns') }),
	'SNAPSHOT-BEGIN SNAPSHOT SNAPSHOT SNAPSHOT-END INSERT', 'one without columns too');
$node->safe_psql('postgres', "SELECT siphon_remove_table('$_')") for @tables, 'no_columns';

# ---- changed meanwhile ----------------------------------------------------------------------------------------------

sub make_table
{
	my ($table) = @_;

	$node->safe_psql(
		'postgres', qq{
		CREATE TABLE $table (id int PRIMARY KEY, v int, filler text);
		INSERT INTO $table SELECT g, 0, repeat(md5(g::text), 10) FROM generate_series(1, 3000) g});
	return;
}

# Vacuumed, appended to, and waited for by what needs the table for itself.
make_table('busy');
slow_scans($node);
$node->safe_psql('postgres', "SELECT siphon_add_table('busy')");
wait_for_scan($node, 'busy');
$node->safe_psql('postgres', $_)
  for 'DELETE FROM busy WHERE id > 2000', 'VACUUM (FREEZE, TRUNCATE) busy',
  'INSERT INTO busy SELECT g, 1 FROM generate_series(3001, 6000) g', 'UPDATE busy SET v = v + 1', 'VACUUM busy';

for my $sql ('TRUNCATE busy', 'ALTER TABLE busy ADD more int', 'ALTER TABLE busy RENAME TO other_name', 'DROP TABLE busy')
{
	my (undef, undef, $stderr) = $node->psql('postgres', "SET lock_timeout = '200ms'; $sql");

	like($stderr, qr/lock timeout/, "$sql waits for the scan");
}
my $altered = start_pgbench($node, { alter => "ALTER TABLE busy ALTER v TYPE bigint;\n" }, -t => 1);

$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'");
fast_scans($node);
wait_for_table($node, 'busy');
finish_pgbench($altered);
$node->safe_psql('postgres', 'UPDATE busy SET v = v + 1 WHERE id < 100; INSERT INTO busy VALUES (7000, 3000000000)');
is_clean($nats, $node, $node, 'busy', ['id'], 'vacuumed, appended to and altered');

# Changed while it waits, and while its snapshot is announced, but not taken: nobody has the table's lock then.
my %changes = (
	truncated => "TRUNCATE truncated; INSERT INTO truncated SELECT g, 2 FROM generate_series(1, 10) g",
	added => 'ALTER TABLE added ADD more int DEFAULT 8',
	retyped => 'ALTER TABLE retyped ALTER v TYPE text USING v || $$ as text$$');

make_table($_) for keys %changes;
for my $table (sort keys %changes)
{
	$node->safe_psql('postgres', "SELECT siphon_add_table('$table'); SELECT siphon_pause('$table')");
	wait_until("$table stands still", sub { progress($node, $table)->{phase} eq 'paused' });
}
$node->safe_psql('postgres', "SELECT siphon_remove_table('$_')") for keys %changes;

sub announced
{
	my ($table) = @_;

	$publisher->stop;
	$node->safe_psql('postgres', "SELECT siphon_add_table('$table')");
	wait_for_phase($node, $table, 'preparing');
	wait_until('its leader waits for the publisher',
		sub { $node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'siphon snapshot' AND wait_event_type = 'Extension'") });
	return;
}

for my $table (sort keys %changes)
{
	announced($table);
	$node->safe_psql('postgres', "UPDATE $table SET v = 1 WHERE id < 10; $changes{$table}; DELETE FROM $table WHERE id = 5");
	$publisher->start;
	wait_for_table($node, $table);
	is_clean($nats, $node, $node, $table, ['id'], "$table before the snapshot is taken");
}

# ---- renamed --------------------------------------------------------------------------------------------------------

make_table('old_name');
announced('old_name');
$node->safe_psql('postgres', 'UPDATE old_name SET v = 1 WHERE id < 10; ALTER TABLE old_name RENAME TO new_name; UPDATE new_name SET v = 2 WHERE id < 5');
$publisher->start;
my $row = wait_for_table($node, 'new_name');
$node->safe_psql('postgres', 'UPDATE new_name SET v = 3 WHERE id = 1');
is_clean($nats, $node, $node, 'new_name', ['id'], 'renamed before the snapshot is taken');
ok(wait_until('nothing is held', sub { $nats->held <= 1 }), 'renamed: nothing is held for its old name');

sub held_tables
{
	$node->safe_psql('postgres', 'UPDATE new_name SET v = v + 1 WHERE id = 1');
	wait_confirmed($node);

	my ($lines) = run_command([ 'siphon-tail', '--from-start', '--stop-at-end', '--watermarks', '--nats-url' => $nats->url ]);

	return decode_json((grep { /"operation":"WATERMARK"/ } split /\n/, $lines)[-1])->{held_tables} // [];
}

is_deeply(held_tables(), [], 'renamed: the watermark speaks for all tables');

# Its schema, which takes no lock of the table.
$node->safe_psql('postgres', 'CREATE SCHEMA one; ALTER TABLE new_name SET SCHEMA one');
slow_scans($node);
$node->safe_psql('postgres', "SELECT siphon_resync_table('one.new_name')");
wait_for_scan($node, 'new_name');
my $cut_short = table_state($node, 'new_name')->{generation};
$node->safe_psql('postgres', 'UPDATE one.new_name SET v = v + 1 WHERE id < 10; ALTER SCHEMA one RENAME TO two; UPDATE two.new_name SET v = v + 1 WHERE id < 10');
# Slow as it is, it is not waited for.
wait_until('the next one begins', sub { table_state($node, 'new_name')->{generation} > $cut_short });
fast_scans($node);
wait_for_table($node, 'new_name');
$node->safe_psql('postgres', 'UPDATE two.new_name SET v = v + 1 WHERE id < 10');
wait_confirmed($node);
is_replayed($nats, $node, ['two.new_name'], 'its schema renamed in mid-scan');
$node->safe_psql('postgres', 'ALTER TABLE two.new_name SET SCHEMA public');
is_deeply(held_tables(), [], 'its schema renamed: the watermark speaks for all tables');

# ---- dropped --------------------------------------------------------------------------------------------------------

sub is_given_up
{
	my ($relid, $what) = @_;
	my $state = sub { $node->safe_psql('postgres', "SELECT state, reason FROM siphon_tables WHERE relid = $relid") };

	wait_until("$what is given up", sub { $state->() eq 'dropped|the table does not exist any more' });
	pass("$what: it is given up");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM siphon_snapshot_progress'), '0', "$what: there is no snapshot any more");
	is_deeply(held_tables(), [], "$what: the watermark speaks for all tables");
	$node->safe_psql('postgres', "SELECT siphon_remove_table($relid)");
	is($node->safe_psql('postgres', "SELECT count(*) FROM siphon_tables WHERE relid = $relid"), '0', "$what: it can be removed");
	return;
}

make_table('dropped');
my $relid = $node->safe_psql('postgres', "SELECT 'dropped'::regclass::oid");
announced('dropped');
$node->safe_psql('postgres', 'UPDATE dropped SET v = 1 WHERE id < 10; DROP TABLE dropped');
$publisher->start;
is_given_up($relid, 'dropped before the snapshot is taken');

make_table('dropped');
$relid = $node->safe_psql('postgres', "SELECT 'dropped'::regclass::oid");
make_table('first');
slow_scans($node);
$node->safe_psql('postgres', "SELECT siphon_add_table('first'); SELECT siphon_add_table('dropped')");
wait_for_scan($node, 'first');
$node->safe_psql('postgres', 'DROP TABLE dropped');
is($node->safe_psql('postgres', "SELECT state FROM siphon_tables WHERE relid = $relid"), 'dropped', 'dropped while it waits: siphon_tables says so');
fast_scans($node);
wait_for_table($node, 'first');
is_given_up($relid, 'dropped while it waits');
is($publisher->stop, 0, 'the publisher is well');

# ---- too few background workers -------------------------------------------------------------------------------------

# For the launchers of Siphon and of logical replication, a decoder, and one more.
my $small = siphon_node('small', conf => "max_worker_processes = 4\nmax_parallel_workers = 2\nsiphon.snapshot_workers = 3");

$nats = siphon_nats(name => 'nats_small');
$publisher = siphon_publisher($small, $nats);
$small->safe_psql('postgres', 'CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 70000)');
$small->safe_psql('postgres', "SELECT siphon_add_table('t')");
wait_for_table($small, 't');
is_clean($nats, $small, $small, 't', ['id'], 'one worker instead of three');
my $log = slurp_file($small->logfile);
like($log, qr/siphon: the snapshot of table "t" runs with 1 of 3 workers/, 'the log says so');
like($log, qr/HINT:  ALTER SYSTEM SET max_worker_processes/, 'and what to do');

$small->safe_psql('postgres', "SELECT siphon_create_application('greedy'); SELECT siphon_resync_table('t')");
$row = wait_until('the reason is told', sub { my $row = table_state($small, 't'); $row->{reason} ? $row : undef });
like($row->{reason}, qr/no background worker is free for its snapshot/, 'no worker at all: siphon_tables says so');
is($row->{state}, 'waiting for snapshot', 'the snapshot waits');
is(progress($small, 't')->{phase}, 'waiting', 'and the progress view says so too');
$small->safe_psql('postgres', 'INSERT INTO t VALUES (80000)');
$small->safe_psql('postgres', "SELECT siphon_drop_application('greedy')");
is(wait_for_table($small, 't')->{reason}, undef, 'when there is one, it goes on by itself');
is_clean($nats, $small, $small, 't', ['id'], 'after it waited for a worker');

done_testing();
