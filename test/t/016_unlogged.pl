# Changes that leave the WAL are noticed where they do, though the table was all right when it was added: it, or one of its
# leaves, becomes unlogged, or comes to be kept by another access method than heap. The table says so, with what mends it;
# its rows can't be brought out meanwhile, and come anew then, also if none is left.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Obstacles;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);
my $tables = Siphon::Obstacles->new(server => $node, nats => $nats);

my $unlogged = sub { qr/"$_[0]" is an unlogged table and cannot be published/ };

$node->safe_psql(
	'postgres', q{
	CREATE TABLE plain (id int PRIMARY KEY, v text);
	CREATE TABLE emptied (LIKE plain INCLUDING ALL);
	CREATE TABLE root (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
	CREATE TABLE leaf_0 PARTITION OF root FOR VALUES FROM (0) TO (100);
	CREATE TABLE leaf_1 PARTITION OF root FOR VALUES FROM (100) TO (200);
	INSERT INTO plain SELECT g, 'v' FROM generate_series(0, 199) g;
	INSERT INTO emptied TABLE plain;
	INSERT INTO root TABLE plain;
	CREATE TABLE changes_only (LIKE plain INCLUDING ALL)});
$node->safe_psql('postgres', "SELECT siphon_add_table('$_')") for qw(plain emptied root);
add_table($node, 'changes_only');
wait_for_tables($node);

# What there is goes in a crash, as unlogged tables do.
$tables->begins('plain', 'SET UNLOGGED', q{ALTER TABLE plain SET UNLOGGED; UPDATE plain SET v = 'w'}, $unlogged->('plain'));
like($tables->state('plain')->{reason}, qr/\(Its changes are not in the WAL: ALTER TABLE public\.plain SET LOGGED\.\)/, 'with what mends it');
$node->stop('immediate');
$node->start;
wait_for_state($node, 'streaming');
$tables->ends('plain', 'SET LOGGED after a crash', 'ALTER TABLE plain SET LOGGED');
$tables->begins('plain', 'SET UNLOGGED of an empty table', 'ALTER TABLE plain SET UNLOGGED', $unlogged->('plain'));
$tables->ends('plain', 'SET LOGGED with rows', q{INSERT INTO plain SELECT g, 'x' FROM generate_series(1, 9) g; ALTER TABLE plain SET LOGGED});
$tables->begins('emptied', 'SET UNLOGGED, and TRUNCATE', 'ALTER TABLE emptied SET UNLOGGED; TRUNCATE emptied', $unlogged->('emptied'));
$tables->ends('emptied', 'SET LOGGED without rows', 'ALTER TABLE emptied SET LOGGED');

# Within one transaction it is over when it is seen.
for my $case ([ DELETE => 'DELETE FROM plain' ], [ TRUNCATE => 'TRUNCATE plain' ], [ 'a savepoint' => 'SAVEPOINT s; DELETE FROM plain; RELEASE s' ])
{
	my ($name, $sql) = @$case;

	$node->safe_psql('postgres', q{INSERT INTO plain VALUES (1, 'again') ON CONFLICT DO NOTHING});
	$tables->confirmed;
	$tables->ends('plain', "for a while, with $name", "BEGIN; ALTER TABLE plain SET UNLOGGED; $sql; ALTER TABLE plain SET LOGGED; COMMIT");
}
my $generation = $tables->state('plain')->{generation};
$node->safe_psql('postgres', q{BEGIN; SAVEPOINT s; ALTER TABLE plain SET UNLOGGED; ROLLBACK TO s; INSERT INTO plain VALUES (7, 'undone'); COMMIT; ANALYZE plain});
$tables->confirmed;
is($tables->state('plain')->{generation}, $generation, 'one that was rolled back is none');
is_replayed($nats, $node, ['plain'], 'and the stream makes the table');

# Leaves; the others go on.
$tables->begins('root', 'a leaf SET UNLOGGED', q{ALTER TABLE leaf_0 SET UNLOGGED; DELETE FROM root WHERE id < 100; UPDATE root SET v = 'other leaf' WHERE id = 150}, $unlogged->('leaf_0'));
$tables->confirmed;
is(scalar(grep { ($_->{columns}{v} // '') eq 'other leaf' } @{ replay($nats, table => 'public.root') }), 1, 'a leaf SET UNLOGGED: changes of others come');
$tables->ends('root', 'a leaf SET LOGGED', 'ALTER TABLE leaf_0 SET LOGGED');
$tables->begins('root', 'an unlogged partition', q{CREATE UNLOGGED TABLE leaf_2 PARTITION OF root FOR VALUES FROM (200) TO (300); INSERT INTO root VALUES (200, 'nowhere')}, $unlogged->('leaf_2'));
$tables->ends('root', 'that becomes logged', 'TRUNCATE leaf_2; ALTER TABLE leaf_2 SET LOGGED');
$node->safe_psql(
	'postgres', q{
	CREATE TABLE middle (LIKE root INCLUDING ALL) PARTITION BY RANGE (id);
	CREATE UNLOGGED TABLE low PARTITION OF middle FOR VALUES FROM (300) TO (400);
	INSERT INTO middle VALUES (300, 'nowhere')});
$tables->begins('root', 'one two levels down is attached', 'ALTER TABLE root ATTACH PARTITION middle FOR VALUES FROM (300) TO (400)', $unlogged->('low'));
$tables->ends('root', 'and becomes logged', 'ALTER TABLE low SET LOGGED');

# Without rows, or with the setting off, nothing comes by itself.
$tables->begins('changes_only', 'a table without rows', 'ALTER TABLE changes_only SET UNLOGGED', $unlogged->('changes_only'));
$node->safe_psql('postgres', 'ALTER TABLE changes_only SET LOGGED');
wait_until('the reason is another', sub { $tables->state('changes_only')->{reason} eq 'has changes that are not in the WAL, as "changes_only" was unlogged' });
is($tables->state('changes_only')->{state}, 'resync needed', 'a table without rows goes on saying so');
$tables->ends('changes_only', 'until somebody asks for them', q{SELECT siphon_resync_table('changes_only')});

# An access method that is not heap's.
SKIP:
{
	skip 'no C compiler', 5 unless create_access_method($node);
	$node->safe_psql(
		'postgres', q{
		CREATE TABLE whole (id int) PARTITION BY RANGE (id);
		ALTER TABLE whole REPLICA IDENTITY FULL;
		SELECT siphon_add_table('whole')});
	wait_for_table($node, 'whole');
	$tables->begins('whole', 'an access method', 'CREATE TABLE whole_leaf PARTITION OF whole FOR VALUES FROM (0) TO (100) USING resembling',
		qr/"whole_leaf" is a table with access method resembling and cannot be published/);
	$generation = $tables->state('whole')->{generation};
	$node->safe_psql('postgres', 'ALTER TABLE whole_leaf SET ACCESS METHOD heap');
	wait_for_table($node, 'whole', 'streaming', after => $generation);
}

# ---- standby --------------------------------------------------------------------------------------------------------

$publisher->stop;
$node->safe_psql('postgres', "SELECT siphon_drop_application('main')");
SKIP:
{
	skip 'logical decoding on a standby needs PostgreSQL 16', 1 unless standby_supported($node);

	my $standby = siphon_standby($node, 'standby');
	my $nats_standby = siphon_nats(name => 'nats_standby');

	$publisher = siphon_publisher($standby, $nats_standby);
	add_table($standby, $_, primary => $node, snapshot => 'true') for qw(plain root);
	wait_for_tables($standby);
	$tables = Siphon::Obstacles->new(server => $standby, primary => $node, nats => $nats_standby);
	$tables->begins('plain', 'standby, SET UNLOGGED', 'ALTER TABLE plain SET UNLOGGED; DELETE FROM plain', $unlogged->('plain'));
	$tables->ends('plain', 'standby, SET LOGGED', 'ALTER TABLE plain SET LOGGED');
	$tables->ends('plain', 'standby, for a while', q{INSERT INTO plain VALUES (1, 'x'); BEGIN; ALTER TABLE plain SET UNLOGGED; DELETE FROM plain; ALTER TABLE plain SET LOGGED; COMMIT});
	# An unlogged table has no rows here, and none can be looked for.
	$node->safe_psql('postgres', q{CREATE UNLOGGED TABLE loaded (LIKE root INCLUDING ALL); INSERT INTO loaded VALUES (900, 'x')});
	$tables->begins('root', 'standby, one with rows is attached', 'ALTER TABLE root ATTACH PARTITION loaded FOR VALUES FROM (900) TO (1000)', $unlogged->('loaded'));
	$tables->ends('root', 'standby, and becomes logged', 'ALTER TABLE loaded SET LOGGED');
}

done_testing();
