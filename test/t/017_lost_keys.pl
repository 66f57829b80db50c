# A key that becomes unusable is noticed where it does, though the table was all right when it was added: it comes to have
# columns that are excluded, a leaf's replica identity does not hold it any more, or it is deferrable, and so none in
# mid-transaction. The table says so, with what mends it, and its rows can't be brought out meanwhile.
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

# ---- part of a key --------------------------------------------------------------------------------------------------

my $columns = q{(id int PRIMARY KEY, a int NOT NULL, b int NOT NULL, v text, UNIQUE (a, b))};
my $excluded = qr/column "b" of table "\w+" cannot be excluded because it is part of the key/;
my @keyed = qw(keyed keyed_index keyed_full keyed_divided keyed_root keyed_listed);

$node->safe_psql('postgres', join ';', map { "CREATE TABLE $_ $columns" } grep { $_ ne 'keyed_root' } @keyed);
$node->safe_psql(
	'postgres', qq{
	CREATE TABLE keyed_root (id int NOT NULL, a int NOT NULL, b int NOT NULL, v text, PRIMARY KEY (a, id)) PARTITION BY RANGE (a);
	CREATE TABLE keyed_leaf PARTITION OF keyed_root FOR VALUES FROM (0) TO (1000);
	ALTER TABLE keyed_full REPLICA IDENTITY FULL;
	CREATE PUBLICATION listed FOR TABLE keyed_listed (id, a, v)});
$node->safe_psql('postgres', "INSERT INTO $_ VALUES (1, 1, 1, 'one'), (2, 1, 2, 'two'), (3, 1, 3, 'three')") for @keyed;
$node->safe_psql('postgres', "SELECT siphon_add_table('$_', exclude_columns => '{b}', partitions => " . ($_ eq 'keyed_divided' ? 4 : 1) . ')')
  for grep { $_ ne 'keyed_listed' } @keyed;
$node->safe_psql('postgres', "SELECT siphon_follow_publication('listed')");
wait_until('the publication is followed', sub { $tables->state('keyed_listed')->{state} });
wait_for_tables($node);

my %other_key = (
	keyed => 'ALTER TABLE keyed DROP CONSTRAINT keyed_pkey, ADD PRIMARY KEY (a, b)',
	keyed_index => 'ALTER TABLE keyed_index REPLICA IDENTITY USING INDEX keyed_index_a_b_key',
	keyed_full => 'ALTER TABLE keyed_full DROP CONSTRAINT keyed_full_pkey, ADD PRIMARY KEY (b, a)',
	keyed_divided => 'ALTER TABLE keyed_divided DROP CONSTRAINT keyed_divided_pkey, ADD PRIMARY KEY (a, b)',
	keyed_root => 'ALTER TABLE keyed_root DROP CONSTRAINT keyed_root_pkey, ADD PRIMARY KEY (a, b)',
	keyed_listed => 'ALTER TABLE keyed_listed DROP CONSTRAINT keyed_listed_pkey, ADD PRIMARY KEY (a, b)');
# PostgreSQL itself refuses to change rows of which a publication does not have the key.
my $changes = q{DELETE FROM TABLE WHERE b = 1; UPDATE TABLE SET b = 12 WHERE b = 2; UPDATE TABLE SET v = 'drei' WHERE b = 3};

for my $table (@keyed)
{
	my $sql = $table eq 'keyed_listed' ? '' : $changes =~ s/TABLE/$table/gr;

	$tables->begins($table, "$table gets a key with an excluded column", "BEGIN; $other_key{$table}; $sql; COMMIT; INSERT INTO $table VALUES (4, 1, 4, 'four')", $excluded);
	$tables->confirmed;
	is(($tables->keys_of($table))[-1], '', "$table: no column is said to be the key");
	is_deeply([ grep { defined } map { $_->{old} } grep { $table ne 'keyed_full' } @{ replay($nats, table => "public.$table") } ], [], "$table: and no row is named by part of it");
	is($tables->state($table)->{state}, 'resync needed', "$table: it goes on saying so");
}
like($tables->state('keyed_listed')->{reason}, qr/Add it to the publication's list/, 'with what mends it');

# The application begins anew: none of them is brought out without its key.
$node->safe_psql('postgres', "SELECT siphon_unfollow_publication(); DROP PUBLICATION listed");
$node->safe_psql('postgres', 'SELECT siphon_resync_application()');
for my $table (@keyed)
{
	wait_until("$table waits, and says why", sub { my $row = $tables->state($table); $row->{state} eq 'waiting for snapshot' && ($row->{reason} // '') =~ $excluded });
}
$node->safe_psql('postgres', "ALTER TABLE $_ DROP CONSTRAINT ${_}_pkey, ADD PRIMARY KEY (" . ($_ eq 'keyed_root' ? 'a, id' : 'id') . ')') for grep { $_ ne 'keyed_index' } @keyed;
$node->safe_psql('postgres', 'ALTER TABLE keyed_index REPLICA IDENTITY DEFAULT');
wait_for_tables($node);
# What is not published is nothing, for the checker's sake.
$node->safe_psql('postgres', "ALTER TABLE $_ ALTER b DROP NOT NULL; UPDATE $_ SET b = NULL") for @keyed;
$tables->confirmed;
is_replayed($nats, $node, \@keyed, 'with another key, their rows come');

# So they do by themselves where the table has streamed meanwhile, or the column is published.
$tables->begins('keyed', 'once more', "UPDATE keyed SET b = id; $other_key{keyed}", $excluded);
$tables->ends('keyed', 'the former key again',
	'ALTER TABLE keyed DROP CONSTRAINT keyed_pkey, ADD PRIMARY KEY (id); ALTER TABLE keyed ALTER b DROP NOT NULL; UPDATE keyed SET b = NULL');
$tables->begins('keyed', 'by a name', 'ALTER TABLE keyed RENAME b TO c; ALTER TABLE keyed RENAME id TO b', $excluded);
$tables->ends('keyed', 'columns that are published', q{SELECT siphon_alter_table('keyed', exclude_columns => '{}')});

# ---- leaves whose rows nothing names ----------------------------------------------------------------------------------

$node->safe_psql(
	'postgres', q{
	CREATE TABLE ids (id int PRIMARY KEY, v int NOT NULL) PARTITION BY RANGE (id);
	CREATE TABLE ids_a PARTITION OF ids FOR VALUES FROM (0) TO (1000);
	CREATE TABLE ids_b PARTITION OF ids FOR VALUES FROM (1000) TO (2000) PARTITION BY RANGE (id);
	CREATE TABLE ids_c PARTITION OF ids_b FOR VALUES FROM (1000) TO (2000);
	CREATE UNIQUE INDEX ids_v ON ids (id, v);
	CREATE UNIQUE INDEX ids_a_v ON ids_a (v);
	INSERT INTO ids SELECT g, g FROM generate_series(1, 1999) g;
	CREATE TABLE ids_divided (id int PRIMARY KEY) PARTITION BY RANGE (id);
	CREATE TABLE ids_leaf PARTITION OF ids_divided FOR VALUES FROM (0) TO (1000);
	INSERT INTO ids_divided SELECT generate_series(1, 99);
	SELECT siphon_add_table('ids'), siphon_add_table('ids_divided', partitions => 4)});
wait_for_tables($node);

my $nameless = qr/(?:partition public\.ids_\w+ of )?table public\.ids\w* has no usable replica identity/;
my $id = 0;

sub nameless_in
{
	return qr/^has a change of a row that nothing names, as partition "$_[0]" has no replica identity$/;
}

# What takes a leaf's identity away, and what gives it back.
for my $case (
	[ NOTHING => 'ids_a', 'ALTER TABLE ids_a REPLICA IDENTITY NOTHING', 'ALTER TABLE ids_a REPLICA IDENTITY DEFAULT' ],
	[ 'another index' => 'ids_a', 'ALTER TABLE ids_a REPLICA IDENTITY USING INDEX ids_a_v', 'ALTER TABLE ids_a REPLICA IDENTITY FULL' ],
	[
		'an index that is dropped' => 'ids_a',
		'ALTER TABLE ids_a REPLICA IDENTITY USING INDEX ids_a_v; DROP INDEX ids_a_v',
		'ALTER TABLE ids_a REPLICA IDENTITY DEFAULT; CREATE UNIQUE INDEX ids_a_v ON ids_a (v)'
	],
	[ 'two levels down' => 'ids_c', 'ALTER TABLE ids_c REPLICA IDENTITY NOTHING', 'ALTER TABLE ids_c REPLICA IDENTITY DEFAULT' ],
	[ 'of the root alone' => 'ids_a', 'ALTER TABLE ONLY ids REPLICA IDENTITY NOTHING', 'ALTER TABLE ONLY ids REPLICA IDENTITY DEFAULT' ],
	[ 'another index of the root' => 'ids_a', 'ALTER TABLE ONLY ids REPLICA IDENTITY USING INDEX ids_v', 'ALTER TABLE ONLY ids REPLICA IDENTITY DEFAULT' ],
	[ "the root's primary key" => 'ids_c', 'ALTER TABLE ids DROP CONSTRAINT ids_pkey', 'ALTER TABLE ids ADD PRIMARY KEY (id)' ])
{
	my ($name, $leaf, $away, $back) = @$case;
	my ($first, $second) = map { ($leaf eq 'ids_c' ? 1000 : 0) + ++$id } 1 .. 2;

	$tables->begins('ids', $name, "$away; DELETE FROM ids WHERE id = $first", $nameless, told => nameless_in($leaf));
	$tables->ends('ids', "$name, and back", "$back; SELECT siphon_resync_table('ids')");
	# Given back within the transaction, it is there when anybody asks.
	$node->safe_psql('postgres', "BEGIN; $away; UPDATE ids SET v = -v WHERE id = $second; DELETE FROM ids WHERE id = $second; $back; COMMIT");
	like(wait_for_table($node, 'ids', 'resync needed')->{reason}, nameless_in($leaf), "$name, within a transaction");
	$tables->ends('ids', "$name, which is over", q{SELECT siphon_resync_table('ids')});
}
$tables->begins('ids_divided', 'a divided table', 'ALTER TABLE ids_leaf REPLICA IDENTITY NOTHING; DELETE FROM ids_divided WHERE id < 9', $nameless, told => nameless_in('ids_leaf'));
$tables->ends('ids_divided', 'a divided table, and back', q{ALTER TABLE ids_leaf REPLICA IDENTITY DEFAULT; SELECT siphon_resync_table('ids_divided')});

# ---- a key that is none in mid-transaction ------------------------------------------------------------------------------

$node->safe_psql(
	'postgres', q{
	CREATE TABLE late (id int PRIMARY KEY DEFERRABLE, v text);
	ALTER TABLE late REPLICA IDENTITY FULL;
	INSERT INTO late VALUES (1, 'one'), (2, 'two'), (3, 'three')});
fails_with($node, q{SELECT siphon_add_table('late', partitions => 4)}, 'a deferrable primary key',
	error => qr/table public\.late has no key to divide it into 4 partitions by/, hint => qr/ALTER TABLE public\.late ADD PRIMARY KEY/);
$node->safe_psql('postgres', q{SELECT siphon_add_table('late')});
wait_for_table($node, 'late');
my $generation = $tables->state('late')->{generation};
$node->safe_psql('postgres', q{UPDATE late SET id = 4 - id; CREATE INDEX ON late (v); GRANT SELECT ON late TO pg_monitor; ALTER TABLE late ADD COLUMN w int; UPDATE late SET id = 5 - id});
$tables->confirmed;
is(join('', $tables->keys_of('late')), '', 'a deferrable primary key is no key');
is_deeply(
	[ map { [ $_->{old}{id}, $_->{columns}{id} ] } grep { $_->{operation} eq 'UPDATE' } @{ replay($nats, table => 'public.late') } ],
	[ [ 1, 3 ], [ 2, 2 ], [ 3, 1 ], [ 3, 2 ], [ 2, 3 ], [ 1, 4 ] ],
	'whole rows name rows');
is($tables->state('late')->{generation}, $generation, 'and nothing comes anew');
# A divided table whose key becomes such a one, and other changes of its definition.
$node->safe_psql('postgres', q{
	CREATE TABLE becomes (id int PRIMARY KEY, v text);
	INSERT INTO becomes SELECT g, 'v' FROM generate_series(1, 20) g;
	ALTER TABLE becomes REPLICA IDENTITY FULL;
	SELECT siphon_add_table('becomes', partitions => 4)});
wait_for_table($node, 'becomes');
$generation = $tables->state('becomes')->{generation};
$tables->begins('becomes', 'a key that becomes deferrable', 'ALTER TABLE becomes DROP CONSTRAINT becomes_pkey, ADD PRIMARY KEY (id) DEFERRABLE',
	qr/table public\.becomes has no key to divide it into 4 partitions by/, told => qr/^is divided by another key than before$/);
$node->safe_psql('postgres', 'CREATE INDEX ON becomes (v); GRANT SELECT ON becomes TO pg_monitor; ALTER TABLE becomes SET (fillfactor = 50); ALTER TABLE becomes ADD COLUMN w int');
$tables->confirmed;
is($tables->state('becomes')->{generation}, $generation, 'is no reason to bring rows out each time that something changes');
$tables->ends('becomes', 'one that is a key again', 'ALTER TABLE becomes DROP CONSTRAINT becomes_pkey, ADD PRIMARY KEY (id)');
is(application($node)->{restarts}, 0, 'the decoder ran all the while');

done_testing();
