# Schema changes while changes stream: every event carries the columns, names and types that the table had when the
# change was made, and a package never mixes two column lists.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

# Long enough for changes before and after to meet in one package, if something were to let them.
my $node = siphon_node('primary', conf => 'siphon.flush_interval = 5s');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

$node->safe_psql('postgres', 'CREATE TABLE t (id int PRIMARY KEY, v text)');
add_table($node, 't');

my @steps = (
	# what is done, then the columns that a row inserted afterwards must have
	[ 'SELECT 1' => 'id v' ],
	[ 'ALTER TABLE t ADD COLUMN added int DEFAULT 5' => 'added id v' ],
	[ 'ALTER TABLE t RENAME COLUMN v TO w' => 'added id w' ],
	[ 'ALTER TABLE t DROP COLUMN added' => 'id w' ],
	[ 'ALTER TABLE t ALTER COLUMN w TYPE int USING 7' => 'id w' ],
	[ 'ALTER TABLE t ADD COLUMN added text' => 'added id w' ],
	[ 'ALTER TABLE t RENAME TO renamed' => 'added id w' ],
	[ 'CREATE SCHEMA other; ALTER TABLE renamed SET SCHEMA other' => 'added id w' ],
	[ 'ALTER SCHEMA other RENAME TO another' => 'added id w' ]);
my @names = (('public.t') x 6, 'public.renamed', 'other.renamed', 'another.renamed');

for my $i (0 .. $#steps)
{
	my ($schema, $name) = split /\./, $names[$i];

	# A row in the same transaction as the change, and one after it.
	$node->safe_psql('postgres',
		"BEGIN; $steps[$i][0]; INSERT INTO $names[$i] (id) VALUES (2 * $i); COMMIT; INSERT INTO $names[$i] (id) VALUES (2 * $i + 1)");
}
wait_confirmed($node);

my $events = [ grep { $_->{operation} eq 'INSERT' } @{ replay($nats) } ];
my %of = map { $_->{columns}{id} => $_ } @$events;

is(scalar(@$events), 2 * @steps, 'each row is there once');
for my $i (0 .. $#steps)
{
	for my $id (2 * $i, 2 * $i + 1)
	{
		is(join(' ', sort keys %{ $of{$id}{columns} }), $steps[$i][1], "columns after: $steps[$i][0]");
		# The transaction that gives the table a name has it under the name before.
		is("$of{$id}{schema}.$of{$id}{table}", $names[ $i > 0 && $id == 2 * $i ? $i - 1 : $i ], 'and the name of the table');
	}
}
is($of{3}{columns}{added}, 5, 'a new column has its value');
is(application($node)->{packages}, 9 + 3, 'as many packages as column lists and names, and one for each renaming');
is($node->safe_psql('postgres', 'SELECT schema_name, table_name, state FROM siphon_tables'),
	'another|renamed|resync needed', 'siphon_tables has the current name, and knows of the column that got another type');

# A column list that comes and goes within a transaction that is rolled back.
$node->safe_psql('postgres',
	'BEGIN; ALTER TABLE another.renamed ADD COLUMN gone int; INSERT INTO another.renamed VALUES (50); ROLLBACK;'
	  . 'INSERT INTO another.renamed VALUES (51)');

# Without any replica identity, updates do not say which row they mean: they are refused by PostgreSQL only where a
# publication asks; here inserts go on, and the log says what is wrong.
my $offset = -s $node->logfile;
$node->safe_psql('postgres', 'ALTER TABLE another.renamed DROP CONSTRAINT t_pkey; INSERT INTO another.renamed VALUES (52)');
$node->wait_for_log(qr/deletes and key changes of table "another.renamed" cannot be told apart/, $offset);
wait_confirmed($node);
%of = map { ($_->{columns}{id} // 'none') => $_ } @{ replay($nats) };
ok(!exists $of{50}, 'a row that was rolled back is not there');
is(join(' ', sort keys %{ $of{51}{columns} }), 'added id w', 'nor is its column');
ok(exists $of{52}, 'inserts go on without a replica identity');

# An UPDATE and a DELETE without one must not end the decoder.
$node->safe_psql('postgres', 'UPDATE another.renamed SET w = 1 WHERE id = 52; DELETE FROM another.renamed WHERE id = 51');
wait_confirmed($node);
is(application($node)->{restarts}, 0, 'updates and deletes without a replica identity do not end the decoder');

# A rewrite of the table is no change of its rows; a table that is dropped is reported, and the others go on.
$node->safe_psql(
	'postgres', q{
	ALTER TABLE another.renamed ADD PRIMARY KEY (id);
	CREATE TABLE u (id int PRIMARY KEY);
});
add_table($node, 'u');
my $before = @{ replay($nats) };
$node->safe_psql('postgres', 'VACUUM FULL another.renamed; CLUSTER another.renamed USING renamed_pkey');
wait_confirmed($node);
is(scalar(@{ replay($nats) }), $before, 'a rewrite publishes nothing');
$node->safe_psql('postgres', 'DROP TABLE another.renamed; INSERT INTO u VALUES (1)');
wait_confirmed($node);
is( $node->safe_psql('postgres', 'SELECT table_name, state FROM siphon_tables ORDER BY 1'),
	"renamed|dropped\nu|streaming", 'siphon_tables tells that a table was dropped, under its last name');
is(scalar(@{ replay($nats, table => 'public.u') }), 1, 'other tables go on');
my $relid = $node->safe_psql('postgres', "SELECT relid FROM siphon_tables WHERE state = 'dropped'");
$node->safe_psql('postgres', "SELECT siphon_remove_table($relid)");
is($node->safe_psql('postgres', 'SELECT count(*) FROM siphon_tables'), '1', 'a dropped table is removed by its OID');

done_testing();
