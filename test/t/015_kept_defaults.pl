# Rows keep the default with which their column was added, also in copies whose next package comes only after VACUUM FULL or
# CLUSTER has written the value into the rows and taken it out of the catalogs.
# Covers: packages of some partitions before that; leaves one by one; another decoder in between; a renamed column; CLUSTER in
# the middle of a transaction; a column that gets another type, and a large default, where rows come anew.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);
my @tables = qw(plain divided root keyless);

$node->safe_psql(
	'postgres', q{
	CREATE TABLE plain (id int PRIMARY KEY, k int);
	CREATE TABLE divided (LIKE plain INCLUDING ALL);
	CREATE TABLE root (gone int, id int PRIMARY KEY, k int) PARTITION BY RANGE (id);
	ALTER TABLE root DROP COLUMN gone;
	CREATE TABLE leaf_1 (k int, junk int, id int PRIMARY KEY);
	ALTER TABLE leaf_1 DROP COLUMN junk;
	ALTER TABLE root ATTACH PARTITION leaf_1 FOR VALUES FROM (0) TO (40);
	CREATE TABLE leaf_2 PARTITION OF root FOR VALUES FROM (40) TO (1000);
	CREATE TABLE keyless (id int, k int);
	ALTER TABLE keyless REPLICA IDENTITY FULL;
	INSERT INTO plain SELECT g, 0 FROM generate_series(1, 80) g;
	INSERT INTO divided TABLE plain;
	INSERT INTO root TABLE plain;
	INSERT INTO keyless TABLE plain});
$node->safe_psql('postgres', "SELECT siphon_add_table('$_', partitions => " . ($_ eq 'divided' ? 4 : 1) . ')') for @tables;
wait_for_tables($node);

sub generations
{
	return $node->safe_psql('postgres', q{SELECT string_agg(table_name || ' ' || generation, ' ' ORDER BY table_name) FROM siphon_tables});
}

sub for_tables
{
	my ($sql) = @_;

	$node->safe_psql('postgres', $sql =~ s/\bNAME\b/$_/gr) for @tables;
	return;
}

# Each partition gets a package, and has rows that it does not name.
sub follows
{
	my ($name, $where) = @_;

	for_tables('UPDATE NAME SET k = k + 1 WHERE ' . ($where // 'id % 2 = 0'));
	wait_confirmed($node);
	is_replayed($nats, $node, [qw(plain divided root)], $name);
	return;
}

my $rewrite = sub { $node->safe_psql('postgres', "VACUUM FULL $_") for qw(plain divided leaf_1 leaf_2 keyless) };
my $before = generations();

for_tables(q{ALTER TABLE NAME ADD COLUMN a int DEFAULT 7, ADD COLUMN empty int, ADD COLUMN b text DEFAULT 'one "two"'});
$rewrite->();
follows('a default that VACUUM FULL took out of the catalogs');

# The decoder that knew it is gone. Only some of the partitions have heard of it.
for_tables(q{ALTER TABLE NAME ADD COLUMN c numeric[] DEFAULT '{1.50,NULL}'; UPDATE NAME SET k = k + 1 WHERE id = 1});
$rewrite->();
wait_confirmed($node);
$node->safe_psql('postgres', 'SELECT pg_terminate_backend(decoder_pid) FROM siphon_applications');
wait_for_state($node, 'streaming');
follows('another decoder', 'id % 2 = 0 AND id <> 1');

for_tables('ALTER TABLE NAME ADD COLUMN d date DEFAULT $$2024-02-29$$');
$rewrite->();
for_tables('ALTER TABLE NAME RENAME d TO e');
follows('a column that is renamed then');

# One leaf is written anew while the other has the value in the catalogs.
for_tables('ALTER TABLE NAME ADD COLUMN f bool DEFAULT true');
$node->safe_psql('postgres', "VACUUM FULL $_") for qw(leaf_1 plain);
$node->safe_psql('postgres', 'VACUUM FULL leaf_1; ALTER TABLE root DROP COLUMN empty');
$rewrite->();
follows('leaves one by one');

for_tables('ALTER TABLE NAME ADD COLUMN g varchar(5) DEFAULT $$five$$, ADD COLUMN h int DEFAULT 8');
$rewrite->();
for_tables('ALTER TABLE NAME ALTER g TYPE varchar(9), DROP COLUMN h');
for_tables('ALTER TABLE NAME ALTER g TYPE text');
follows('a type that is written in the same way');
is_replayed($nats, $node, ['keyless'], 'without a key', key => ['id']);
is(generations(), $before, 'no rows come anew');

# ---- where rows come anew -----------------------------------------------------------------------------------------------

sub comes_anew
{
	my ($name, $sql) = @_;
	my $query = q{SELECT generation FROM siphon_tables WHERE table_name = 'plain'};
	my $generation = $node->safe_psql('postgres', $query);

	$node->safe_psql('postgres', $_) for @$sql;
	wait_until("the rows come anew: $name", sub { $node->safe_psql('postgres', $query) > $generation });
	wait_for_tables($node);
	follows($name);
	return;
}

comes_anew('CLUSTER and changes in one transaction',
	['ALTER TABLE plain ADD COLUMN i int DEFAULT 9', 'BEGIN; CLUSTER plain USING plain_pkey; UPDATE plain SET k = k + 1 WHERE id = 3; COMMIT']);
comes_anew('a type that is written in another way', ['ALTER TABLE plain ADD COLUMN j int DEFAULT 10', 'VACUUM FULL plain', 'ALTER TABLE plain ALTER j TYPE oid']);

# A large one would be in each package. So is what many columns have together.
my $bytes = sub { $node->safe_psql('postgres', 'SELECT bytes FROM siphon_applications') };
my $published = sub {
	my ($name) = @_;
	my $had = $bytes->();

	$node->safe_psql('postgres', "INSERT INTO plain (id, k, l) VALUES ($_, 0, 'small')") for 201 .. 204;
	wait_confirmed($node);
	cmp_ok($bytes->() - $had, '<', 100_000, "$name: packages have no large value");
	return;
};

comes_anew('a large default', [q{ALTER TABLE plain ADD COLUMN l text DEFAULT repeat('large', 100000)}]);
$published->('a large default');
$before = generations();
$node->safe_psql('postgres', 'ALTER TABLE plain ADD COLUMN n int DEFAULT 3');
follows('a small default beside a large one');
is(generations(), $before, 'which is sent');
$node->safe_psql('postgres', 'ALTER TABLE plain ALTER l SET STATISTICS 7; VACUUM FULL plain');
follows('one that VACUUM FULL took out of the catalogs');
is(generations(), $before, 'which brings no rows out once more');
comes_anew('a large default that goes into the rows at once', [q{BEGIN; ALTER TABLE plain ADD COLUMN o text DEFAULT repeat('large', 10000); CLUSTER plain USING plain_pkey; COMMIT}]);
comes_anew('many defaults', ['ALTER TABLE plain ' . join ', ', map { "ADD COLUMN m$_ text DEFAULT repeat('many', 1000)" } 1 .. 3]);
$node->safe_psql('postgres', q{ALTER TABLE keyless ADD COLUMN l text DEFAULT repeat('large', 10000)});
wait_until('the rows of one without a key come anew', sub { generations() !~ ($before =~ /(keyless \d+)/)[0] });
wait_for_tables($node);
wait_confirmed($node);
is_replayed($nats, $node, ['keyless'], 'without a key', key => ['id']);

done_testing();
