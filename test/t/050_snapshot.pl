# Snapshots under load: tables are added and snapshotted anew while writers change them. On each subject the rows of
# the snapshot come first, and what committed since then follows, each change once: the replay equals the table.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $seed = $ENV{SIPHON_SEED} // int(rand(1 << 31));
diag("SIPHON_SEED=$seed");

my $primary = siphon_node('primary', conf => 'max_prepared_transactions = 20');
my $nats = siphon_nats();

$primary->safe_psql(
	'postgres', q{
	CREATE SEQUENCE ids START 100001;
	CREATE TABLE single (id bigint PRIMARY KEY, v int, filler text);
	CREATE TABLE divided (id bigint, kind text, v int, PRIMARY KEY (kind, id));
	INSERT INTO single SELECT g, 0, repeat(md5(g::text), 10) FROM generate_series(1, 20000) g;
	INSERT INTO divided SELECT g, 'k' || g % 3, 0 FROM generate_series(1, 20000) g;
});

my $insert = q{
\set rollback random(0, 9)
BEGIN;
INSERT INTO single VALUES (nextval('ids'), 0, 'new');
INSERT INTO divided SELECT nextval('ids'), 'k' || g % 3, 0 FROM generate_series(1, 3) g;
SAVEPOINT s;
INSERT INTO single VALUES (nextval('ids'), -1, 'new');
\if :rollback < 5
ROLLBACK TO s;
\endif
\if :rollback = 0
ROLLBACK;
\else
COMMIT;
\endif
};
my $change = q{
\set id random(1, 20000)
BEGIN;
UPDATE single SET v = v + 1 WHERE id = :id;
UPDATE divided SET v = v + 1 WHERE id = :id;
COMMIT;
};
my $move = q{
\set id random(1, 20000)
BEGIN;
UPDATE single SET id = nextval('ids'), v = v + 1 WHERE id = :id;
UPDATE divided SET id = nextval('ids'), v = v + 1 WHERE id = :id;
COMMIT;
};
my $delete = q{
\set id random(1, 20000)
BEGIN;
DELETE FROM single WHERE id = :id;
DELETE FROM divided WHERE id = :id;
COMMIT;
};
my $prepare = q{
\set id random(1, 20000)
BEGIN;
UPDATE single SET v = v + 1 WHERE id = :id;
PREPARE TRANSACTION 'client:client_id';
COMMIT PREPARED 'client:client_id';
};

sub writers
{
	my ($seconds) = @_;

	return start_pgbench(
		$primary,
		{ 'a@3' => $insert, 'b@4' => $change, 'c@2' => $move, 'd@1' => $delete, 'e@1' => $prepare },
		'--random-seed' => $seed, -c => 8, -j => 2, -T => $seconds);
}

# However slow the machine is, or however fast the snapshots were: changes follow them.
sub finish_writers
{
	my ($load) = @_;
	my $updates = sub { $primary->safe_psql('postgres', "SELECT pg_stat_get_tuples_updated('divided'::regclass)") };
	my $wanted = $updates->() + 50;

	finish_pgbench($load);
	finish_pgbench(writers(2)) while $updates->() < $wanted;
	return;
}

sub compare
{
	my ($node, $where) = @_;

	wait_confirmed($node, primary => $primary);

	my $count = is_replayed($nats, $primary, [ 'single', 'divided' ], "$where: the stream makes the tables", counter => 'v')->{count};

	cmp_ok($count->{SNAPSHOT}, '>', 10000, "$where: there were rows");
	cmp_ok($count->{UPDATE}, '>', 10, "$where: and changes");
	return;
}

my $publisher = siphon_publisher($primary, $nats);
my $load = writers(8);

$primary->safe_psql('postgres', "SELECT siphon_add_table('single')");
$primary->safe_psql('postgres', "SELECT siphon_add_table('divided', partitions => 4)");
wait_for_tables($primary);
ok(pgbench_runs($load), 'tables stream while writers write');

my $generation = $primary->safe_psql('postgres', "SELECT generation FROM siphon_tables WHERE table_name = 'divided'");

$primary->safe_psql('postgres', "SELECT siphon_resync_table('divided')");
wait_for_tables($primary);
finish_writers($load);
compare($primary, 'primary');
cmp_ok($primary->safe_psql('postgres', "SELECT generation FROM siphon_tables WHERE table_name = 'divided'"),
	'>', $generation, 'a table that is snapshotted anew has a greater generation');
is($primary->safe_psql('postgres', 'SELECT count(*) FROM siphon_snapshot_progress'), '0', 'no snapshot is left');

# Removed and added again, its rows replace what is in the stream.
$primary->safe_psql('postgres', "SELECT siphon_remove_table('single')");
$primary->safe_psql('postgres', 'DELETE FROM single WHERE id % 2 = 0');
$primary->safe_psql('postgres', "SELECT siphon_add_table('single')");
wait_for_tables($primary);
wait_confirmed($primary);
is_replayed($nats, $primary, ['single'], 'a table that was removed and added again is the table');

$publisher->stop;
$primary->safe_psql('postgres', "SELECT siphon_drop_application('main')");

SKIP:
{
	skip 'logical decoding on a standby needs PostgreSQL 16', 1 unless standby_supported($primary);

	my $standby = siphon_standby($primary, 'standby', conf => 'max_prepared_transactions = 20');

	$nats = siphon_nats(name => 'nats_standby');
	$publisher = siphon_publisher($standby, $nats);
	add_table($standby, 'single', primary => $primary, snapshot => 'true');
	$load = writers(8);
	$standby->safe_psql('postgres', "SELECT siphon_add_table('divided', partitions => 4)");
	wait_for_tables($standby);
	ok(pgbench_runs($load), 'tables of a standby stream while writers write');
	$standby->safe_psql('postgres', "SELECT siphon_resync_table('single')");
	wait_for_tables($standby);
	finish_writers($load);
	compare($standby, 'standby');
}

done_testing();
