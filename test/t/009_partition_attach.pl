# Partitions that come while decoding is behind, or while somebody has them locked: those with rows of before have the rows
# of the table brought out anew, and no others do. And what is said of those that leave, whatever goes with them.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

sub generation
{
	return $node->safe_psql('postgres', "SELECT generation FROM siphon_tables WHERE table_name = 'parts'");
}

# Decoding comes to what this does only when it is done.
sub behind
{
	my ($do) = @_;

	wait_confirmed($node);
	my $pid = stop_decoder($node);
	my $done = eval { $do->(); 1 };
	kill 'CONT', $pid;
	die $@ unless $done;
	return;
}

$node->safe_psql(
	'postgres', q{
	CREATE TABLE parts (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
	CREATE TABLE parts_0 PARTITION OF parts FOR VALUES FROM (0) TO (100);
	INSERT INTO parts VALUES (1, 'one');
	SELECT siphon_add_table('parts')});
wait_for_table($node, 'parts');
my $generation = generation();

# ---- those that a transaction made have no rows but its own ---------------------------------------------------------

# Nobody gets at them: whoever would look into them had to wait, and then to assume the worst.
my $locker = $node->background_psql('postgres');

behind(
	sub {
		$node->safe_psql(
			'postgres', q{
			CREATE TABLE made PARTITION OF parts FOR VALUES FROM (100) TO (200);
			BEGIN;
			CREATE TABLE made_then_attached (LIKE parts INCLUDING ALL);
			ALTER TABLE parts ATTACH PARTITION made_then_attached FOR VALUES FROM (200) TO (300);
			INSERT INTO parts VALUES (200, 'same transaction');
			COMMIT;
			BEGIN;
			SAVEPOINT a;
			CREATE TABLE made_within (LIKE parts INCLUDING ALL);
			RELEASE a;
			SAVEPOINT b;
			INSERT INTO made_within VALUES (301, 'undone');
			ALTER TABLE made_within SET (fillfactor = 50);
			ROLLBACK TO b;
			SAVEPOINT c;
			ALTER TABLE parts ATTACH PARTITION made_within FOR VALUES FROM (300) TO (400);
			RELEASE c;
			COMMIT;
			CREATE TABLE made_root PARTITION OF parts FOR VALUES FROM (400) TO (500) PARTITION BY RANGE (id);
			CREATE TABLE made_leaf PARTITION OF made_root FOR VALUES FROM (400) TO (450);
			INSERT INTO parts SELECT g, 'x' FROM generate_series(101, 449, 4) g;
			UPDATE parts SET v = 'y' WHERE id > 100;
			VACUUM made, made_then_attached, made_within, made_leaf});
		$locker->query_safe('BEGIN');
		$locker->query_safe('LOCK TABLE made, made_then_attached, made_within, made_leaf IN ACCESS EXCLUSIVE MODE');
	});
wait_confirmed($node);
is(generation(), $generation, 'partitions that were made as such, or attached where they were made, bring nothing out anew, though they are locked');
$locker->query_safe('COMMIT');
$locker->quit;
is_replayed($nats, $node, ['parts'], 'as their rows have events');

# ---- those that were empty, and those that were not ------------------------------------------------------------------

$node->safe_psql('postgres', 'CREATE TABLE empty (LIKE parts INCLUDING ALL)');
behind(
	sub {
		$node->safe_psql(
			'postgres', q{
			ALTER TABLE parts ATTACH PARTITION empty FOR VALUES FROM (500) TO (600);
			INSERT INTO parts SELECT g, 'x' FROM generate_series(500, 599) g;
			UPDATE parts SET v = 'y' WHERE id BETWEEN 500 AND 560;
			DELETE FROM parts WHERE id BETWEEN 540 AND 550});
	});
wait_confirmed($node);
is(generation(), $generation, 'one that was empty, and that got rows and updates since, brings nothing out anew');
is_replayed($nats, $node, ['parts'], 'nor does it have to');

$node->safe_psql(
	'postgres', q{
	CREATE TABLE updated (LIKE parts INCLUDING ALL); INSERT INTO updated SELECT g, repeat('x', 100) FROM generate_series(600, 799) g;
	CREATE TABLE compacted (LIKE parts INCLUDING ALL); INSERT INTO compacted VALUES (800, 'x'), (801, 'x');
	CREATE TABLE pruned (LIKE parts INCLUDING ALL) WITH (fillfactor = 10); INSERT INTO pruned VALUES (900, 'x');
	CREATE TABLE rewritten (id int PRIMARY KEY, v int); INSERT INTO rewritten VALUES (1000, 1);
	CREATE UNLOGGED TABLE not_logged (LIKE parts INCLUDING ALL); INSERT INTO not_logged VALUES (1100, 'x')});
my $update = sub { "UPDATE parts SET v = 'y' || v WHERE tableoid = '$_[0]'::regclass" };
for my $case (
	[ updated => [ 600, 800 ] => 'whose rows were all updated since, and VACUUM was there', '', $update->('updated') . '; VACUUM updated' ],
	[ compacted => [ 800, 900 ] => 'and VACUUM FULL was', '', $update->('compacted') . '; VACUUM FULL compacted' ],
	[ pruned => [ 900, 1000 ] => 'and one version made room for the next', '', join ';', ($update->('pruned')) x 9, ('SELECT count(*) FROM parts') x 2 ],
	[ rewritten => [ 1000, 1100 ] => 'whose rows the same transaction has rewritten', 'ALTER TABLE rewritten ALTER v TYPE text', '' ],
	[ not_logged => [ 1100, 1200 ] => 'of which nothing was logged before', 'ALTER TABLE not_logged SET LOGGED', '' ],
	[ selected => [ 1200, 1300 ] => 'that CREATE TABLE AS has made', "CREATE TABLE selected AS SELECT g AS id, 'x'::text AS v FROM generate_series(1200, 1250) g; ALTER TABLE selected ALTER id SET NOT NULL", '' ],
	[ copied => [ 1300, 1400 ] => 'whose rows came frozen', "SAVEPOINT s; CREATE TABLE copied (LIKE parts INCLUDING ALL); COPY copied FROM PROGRAM 'echo 1300,x' WITH (FORMAT csv, FREEZE); RELEASE s", '' ])
{
	my ($name, $bounds, $what, $before, $since) = @$case;
	my $offset = -s $node->logfile;

	behind(
		sub {
			$node->safe_psql('postgres',
				"BEGIN; $before; ALTER TABLE parts ATTACH PARTITION $name FOR VALUES FROM ($bounds->[0]) TO ($bounds->[1]); COMMIT; $since");
		});
	$node->wait_for_log(qr/siphon: table public\.parts needs a resync: it got partition "$name" with rows/, $offset);
	wait_for_table($node, 'parts', 'streaming', after => $generation);
	$generation = generation();
	wait_confirmed($node);
	is_replayed($nats, $node, ['parts'], "one with rows, $what, has all rows brought out anew");
}

# ---- those that leave ------------------------------------------------------------------------------------------------

$node->safe_psql(
	'postgres', q{
	CREATE SCHEMA gone;
	CREATE TABLE gone.leaf PARTITION OF parts FOR VALUES FROM (5000) TO (5100);
	CREATE TABLE gone.other PARTITION OF parts FOR VALUES FROM (5100) TO (5200);
	CREATE SCHEMA named;
	CREATE TABLE named.leaf PARTITION OF parts FOR VALUES FROM (5200) TO (5300);
	BEGIN; DROP TABLE gone.leaf; DROP SCHEMA gone CASCADE; COMMIT;
	BEGIN; ALTER SCHEMA named RENAME TO renamed; ALTER TABLE parts DETACH PARTITION renamed.leaf; COMMIT});
wait_confirmed($node);
is_deeply(
	[ sort map { "$_->{detached} @{ $_->{detached_bounds} }" } grep { $_->{operation} eq 'DETACH' } @{ replay($nats, table => 'public.parts') } ],
	[
		'gone.leaf FOR VALUES FROM (5000) TO (5100)',
		'gone.other FOR VALUES FROM (5100) TO (5200)',
		'named.leaf FOR VALUES FROM (5200) TO (5300)'
	],
	'what left has the name that it had, though its schema went or got another');
is(application($node)->{restarts}, 0, 'the decoder ran all the while');

done_testing();
