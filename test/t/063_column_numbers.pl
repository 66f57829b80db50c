# A copy follows its columns by their numbers and its rows by the key that they have now: renamed columns keep their values,
# also where two exchange their names or one was filled after it was added, a column that is dropped and made again under its
# name does not, and rows are found by another key as soon as the table has one.
# Covers: an ordinary table, a partitioned one whose leaves have other numbers, one in four partitions, one without a key.
use strict;
use warnings FATAL => 'all';

use JSON::PP qw(decode_json);
use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);
my @tables = qw(plain divided root keyless);

$node->safe_psql(
	'postgres', q{
	CREATE TABLE plain (id int PRIMARY KEY, other int NOT NULL UNIQUE, k int, v text, w text);
	CREATE TABLE divided (LIKE plain INCLUDING ALL);
	CREATE TABLE root (gone int, id int, other int NOT NULL, k int, v text, w text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
	ALTER TABLE root DROP COLUMN gone;
	CREATE TABLE leaf_1 (w text, v text, junk int, k int, other int NOT NULL, id int NOT NULL);
	ALTER TABLE leaf_1 DROP COLUMN junk;
	ALTER TABLE root ATTACH PARTITION leaf_1 FOR VALUES FROM (0) TO (4);
	CREATE TABLE leaf_2 PARTITION OF root FOR VALUES FROM (4) TO (1000);
	CREATE TABLE keyless (id int, other int NOT NULL, k int, v text, w text);
	ALTER TABLE keyless REPLICA IDENTITY FULL;
	INSERT INTO plain SELECT g, g + 100, 0, 'v' || g, 'w' || g FROM generate_series(1, 8) g;
	INSERT INTO divided TABLE plain;
	INSERT INTO root TABLE plain;
	INSERT INTO keyless TABLE plain});
$node->safe_psql('postgres', "SELECT siphon_add_table('$_', partitions => " . ($_ eq 'divided' ? 4 : 1) . ')') for @tables;
wait_for_tables($node);

# Does it to each of the tables, then changes one row, so that there is a package; all others have to be as they are in the
# table without having been named.
my $changed = 0;

sub follows
{
	my ($name, $sql) = @_;

	$changed = $changed % 8 + 1;
	for my $table (@tables)
	{
		$node->safe_psql('postgres', ($sql =~ s/\bTABLE\b/TABLE $table/gr =~ s/\bROWS\b/$table/gr) . "; UPDATE $table SET k = k + 1 WHERE other = 100 + $changed");
	}
	wait_confirmed($node);
	is_replayed($nats, $node, [qw(plain divided root)], $name);
	return;
}

# The checker is told what tells rows apart.
sub keyless_follows
{
	is_replayed($nats, $node, ['keyless'], "without a key: $_[0]", key => ['other']);
	return;
}

follows('as it came', 'SELECT 1');
follows('a column is renamed', 'ALTER TABLE RENAME v TO vv');
follows('two exchange their names', 'ALTER TABLE RENAME vv TO x; ALTER TABLE RENAME w TO vv; ALTER TABLE RENAME x TO w');
follows('they do so within a transaction', 'BEGIN; ALTER TABLE RENAME vv TO x; ALTER TABLE RENAME w TO vv; ALTER TABLE RENAME x TO w; COMMIT');
keyless_follows('columns that exchanged their names');
follows('a column is dropped and made again', 'ALTER TABLE DROP COLUMN w; ALTER TABLE ADD COLUMN w text');
follows('with one command, and a default', q{ALTER TABLE DROP COLUMN w, ADD COLUMN w text DEFAULT 'anew'});
keyless_follows('columns that are others');
follows('with another type', 'ALTER TABLE DROP COLUMN w; ALTER TABLE ADD COLUMN w int');
follows('a default is filled later, and its column renamed', q{ALTER TABLE ADD COLUMN late int DEFAULT 7; UPDATE ROWS SET late = 8; ALTER TABLE RENAME late TO later});
follows('one that was filled gives its name to another', q{ALTER TABLE RENAME later TO late; ALTER TABLE ADD COLUMN later int DEFAULT 9});
keyless_follows('a default that was filled');
follows('a key column is renamed', 'ALTER TABLE RENAME id TO ident');
follows('a key column exchanges its name with another', 'ALTER TABLE RENAME ident TO x; ALTER TABLE RENAME late TO ident; ALTER TABLE RENAME x TO late');
follows('back', 'ALTER TABLE RENAME ident TO x; ALTER TABLE RENAME late TO id; ALTER TABLE RENAME x TO late');

# Numbers go on behind one another when a decoder starts again, and when rows come anew.
$node->safe_psql('postgres', 'SELECT pg_terminate_backend(decoder_pid) FROM siphon_applications');
follows('after the decoder', 'ALTER TABLE RENAME vv TO v');
$node->safe_psql('postgres', "SELECT siphon_resync_table('$_')") for @tables;
wait_for_tables($node);
follows('rows that came anew', 'ALTER TABLE RENAME v TO vv');
keyless_follows('rows that came anew');

# A column that nothing says the name of yet.
$node->safe_psql('postgres', 'ALTER TABLE plain RENAME vv TO silent');
wait_confirmed($node);
is_replayed($nats, $node, ['plain'], 'a column is renamed, and nothing comes');
$node->safe_psql('postgres', 'ALTER TABLE plain RENAME silent TO vv');

# ---- another key ----------------------------------------------------------------------------------------------------

# What names rows differs from those that were there before: each is changed by the new key, and one is deleted by it.
sub follows_key
{
	my ($name, $sql, %options) = @_;
	my $other = $sql =~ /RENAME other TO (\w+)/ ? $1 : 'other';

	$node->safe_psql(
		'postgres', qq{$sql;
		UPDATE plain SET k = k + 1 WHERE id % 2 = 0;
		INSERT INTO plain (id, $other, k) SELECT max(id) + 1, max($other) + 1, 0 FROM plain;
		DELETE FROM plain WHERE id = (SELECT min(id) FROM plain);
		UPDATE plain SET $other = $other + 1000, id = id + 1000 WHERE id = (SELECT min(id) FROM plain)});
	wait_confirmed($node);
	is_replayed($nats, $node, ['plain'], "another key: $name", %options);
	return;
}

$node->safe_psql('postgres', q{INSERT INTO plain (id, other, k, vv) SELECT g, g + 100, 0, 'v' || g FROM generate_series(20, 60) g});
follows_key('none yet', 'SELECT 1');
follows_key('another index', 'ALTER TABLE plain REPLICA IDENTITY USING INDEX plain_other_key');
follows_key('and its column is renamed', 'ALTER TABLE plain RENAME other TO another');
$node->safe_psql('postgres', 'ALTER TABLE plain RENAME another TO other');
follows_key('the primary key again', 'ALTER TABLE plain REPLICA IDENTITY DEFAULT');
follows_key('the primary key gets a second column', 'ALTER TABLE plain DROP CONSTRAINT plain_pkey, ADD PRIMARY KEY (other, id)');
follows_key('whole rows', 'ALTER TABLE plain REPLICA IDENTITY FULL');
follows_key('whole rows, and no primary key', 'ALTER TABLE plain DROP CONSTRAINT plain_pkey', key => ['id']);
follows_key('and one again', 'ALTER TABLE plain ADD PRIMARY KEY (id); ALTER TABLE plain REPLICA IDENTITY DEFAULT');
is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT state, ' ') FROM siphon_tables"), 'streaming', 'nothing of that needs rows to come anew');

# ---- what siphon-tail says of columns -----------------------------------------------------------------------------------

sub columns
{
	my ($table) = @_;
	my ($out) = run_command([ 'siphon-tail', '--from-start', '--stop-at-end', '--columns', '--nats-url' => $nats->url, '--table' => "public.$table" ]);
	my @columns = grep { $_->{operation} eq 'COLUMNS' } map { decode_json($_) } split /\n/, $out;

	return [ sort map { join ' ', $_->{generation_start}, $_->{partition} // 0, map { "$_->{name}:$_->{attnum}" } @{ $_->{columns} } } @columns ];
}

# How a generation begins, on each partition's subject and again where columns change; and what ends a table says nothing.
$node->safe_psql('postgres', 'CREATE TABLE late (id int PRIMARY KEY, v text); INSERT INTO late VALUES (1)');
add_table($node, 'late', partitions => 2);
$node->safe_psql('postgres', 'INSERT INTO late SELECT generate_series(2, 20)');
wait_confirmed($node);
is_deeply(columns('late'), [ map { "CHANGES $_ id:1 v:2" } 0 .. 1 ], 'siphon-tail says that a table came without its rows');
$node->safe_psql('postgres', "SELECT siphon_resync_table('late')");
wait_for_table($node, 'late');
$node->safe_psql('postgres', 'ALTER TABLE late RENAME v TO w; UPDATE late SET w = id; DROP TABLE late');
wait_confirmed($node);
is_deeply(columns('late'), [ map { ("SNAPSHOT $_ id:1 v:2", "SNAPSHOT $_ id:1 w:2") } 0 .. 1 ], 'or with them, and what its columns are from where on');

done_testing();
