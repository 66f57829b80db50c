# Order and completeness under concurrent writers: while they run nothing fails, so each committed change must be in the
# stream once, in the order of commits, and the stream folded must be the tables. On a primary and on a standby, with
# one partition and with four.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $seed = $ENV{SIPHON_SEED} // int(rand(1 << 31));
diag("SIPHON_SEED=$seed");

my $primary = siphon_node('primary');
my $nats = siphon_nats();

# Every change goes to a log as well, in the same transaction: what was committed, the log has. Rows are taken in the
# order of their ids, so that writers wait for each other without deadlocks.
$primary->safe_psql(
	'postgres', q{
	CREATE SEQUENCE ids;
	CREATE TABLE single (id bigint PRIMARY KEY, v int, client int);
	CREATE TABLE divided (id bigint, kind text, v int, client int, PRIMARY KEY (kind, id));
	CREATE TABLE journal (entry bigserial PRIMARY KEY, xid bigint DEFAULT pg_current_xact_id()::text::bigint % 4294967296,
		relation text, operation text);
	CREATE FUNCTION log_change() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO journal (relation, operation) VALUES (TG_TABLE_NAME, TG_OP);
		RETURN NULL;
	END $$;
	CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON single FOR EACH ROW EXECUTE FUNCTION log_change();
	CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON divided FOR EACH ROW EXECUTE FUNCTION log_change();
});

my $insert = q{
\set rollback random(0, 9)
BEGIN;
INSERT INTO single VALUES (nextval('ids'), 0, :client_id);
INSERT INTO divided SELECT nextval('ids'), 'k' || g % 3, 0, :client_id FROM generate_series(1, 3) g;
SAVEPOINT s;
INSERT INTO single VALUES (nextval('ids'), -1, :client_id);
UPDATE divided SET v = -1 WHERE id = currval('ids') - 1;
\if :rollback < 5
ROLLBACK TO s;
\else
RELEASE s;
\endif
\if :rollback = 0
ROLLBACK;
\else
COMMIT;
\endif
};
my $change = q{
\set n random(1, 5)
\set moved random(0, 3)
BEGIN;
UPDATE single SET v = v + 1, client = :client_id
 WHERE id IN (SELECT id FROM single ORDER BY id LIMIT :n FOR UPDATE SKIP LOCKED);
UPDATE divided SET v = v + 1, client = :client_id
 WHERE (kind, id) IN (SELECT kind, id FROM divided ORDER BY id DESC LIMIT :n FOR UPDATE SKIP LOCKED);
\if :moved = 0
UPDATE single SET id = nextval('ids')
 WHERE id IN (SELECT id FROM single ORDER BY id LIMIT 2 FOR UPDATE SKIP LOCKED);
UPDATE divided SET id = nextval('ids')
 WHERE (kind, id) IN (SELECT kind, id FROM divided ORDER BY id LIMIT 3 FOR UPDATE SKIP LOCKED);
\endif
COMMIT;
};
my $delete = q{
DELETE FROM single WHERE id IN (SELECT id FROM single ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED);
DELETE FROM divided WHERE (kind, id) IN (SELECT kind, id FROM divided ORDER BY random() LIMIT 2 FOR UPDATE SKIP LOCKED);
};

# One run of the workload against the application on a node.
sub run_and_compare
{
	my ($node, $where) = @_;

	$primary->safe_psql('postgres', 'TRUNCATE journal');
	my $writers = start_pgbench(
		$primary,
		{ 'a@2' => $insert, 'b@2' => $change, 'c@1' => $delete },
		'--random-seed' => $seed, -c => 6, -j => 2, -T => 5);
	my $looks = 0;
	while (pgbench_runs($writers))
	{
		$looks++ if application($node)->{state} eq 'streaming';
	}
	finish_pgbench($writers);
	wait_confirmed($node, primary => $primary);
	cmp_ok($looks, '>', 0, "$where: the application streams while writers write");

	my $events = replay($nats);

	positions_increase($events, "$where: positions strictly increase on each subject");
	is_replica($events, $primary, 'single', ['id'], "$where: one partition is the table");
	is_replica($events, $primary, 'divided', [ 'kind', 'id' ], "$where: four partitions are the table");

	# Each change of the journal once: the number of changes of each transaction and table. A change whose key left
	# its partition stands on two subjects, at one position.
	my %published;
	my %seen;
	for my $event (grep { $_->{operation} ne 'TRUNCATE' } @$events)
	{
		next if $seen{"$event->{table} $event->{position}"}++;
		$published{"$event->{xid} $event->{table}"}++;
	}
	my %committed = map { my ($xid, $relation, $count) = split /\|/; ("$xid $relation" => $count) }
	  split /\n/, $primary->safe_psql('postgres', 'SELECT xid, relation, count(*) FROM journal GROUP BY 1, 2');
	my @wrong = grep { ($published{$_} // 0) != ($committed{$_} // 0) } keys %{ { %published, %committed } };

	cmp_ok(scalar(keys %committed), '>', 100, "$where: the writers got something done");
	is(scalar(@wrong), 0, "$where: each change of " . keys(%committed) . " transactions and tables is published once")
	  or diag("such as @wrong[0 .. ($#wrong > 3 ? 3 : $#wrong)]");
	is(application($node)->{restarts}, 0, "$where: the decoder was never restarted");
	return;
}

# The stream has one commit order for all tables: watermarks say so.
sub watermarks_hold
{
	my ($where) = @_;
	my $watermark = '';
	my @broken;

	for my $line (@{ replay($nats, watermarks => 1) })
	{
		my $lsn = $line->{position} =~ s/\/.*//r;

		if ($line->{operation} eq 'WATERMARK')
		{
			$watermark = $lsn;
			next;
		}
		push @broken, $line->{position} if $lsn le $watermark;
	}
	isnt($watermark, '', "$where: there are watermarks");
	is_deeply(\@broken, [], "$where: behind a watermark there are later transactions alone");
	return;
}

add_table($primary, 'single');
add_table($primary, 'divided', partitions => 4);
my $publisher = siphon_publisher($primary, $nats);
run_and_compare($primary, 'primary');
watermarks_hold('primary');
$publisher->stop;
$primary->safe_psql('postgres', "SELECT siphon_drop_application('main')");
$primary->safe_psql('postgres', 'TRUNCATE single, divided');

SKIP:
{
	skip 'logical decoding on a standby needs PostgreSQL 16', 1 unless standby_supported($primary);

	my $standby = siphon_standby($primary, 'standby');

	# A stream of its own.
	$nats = siphon_nats(name => 'nats_standby');
	add_table($standby, 'single', primary => $primary);
	add_table($standby, 'divided', partitions => 4);
	$publisher = siphon_publisher($standby, $nats);
	run_and_compare($standby, 'standby');
	watermarks_hold('standby');
}

done_testing();
