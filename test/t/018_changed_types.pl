# Values that are written otherwise than before in rows that nobody touched are brought out anew: where a label of an enum
# gets another name, a row type other attributes, or a column another type that its values fit as they are. In columns,
# keys, arrays, domains, rows within rows, and of leaves; and of no other tables.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Obstacles;
use Test::More;

my $node = siphon_node('primary', conf => "timezone = 'UTC'\n");
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);
my $tables = Siphon::Obstacles->new(server => $node, nats => $nats);

my %is = (
	mood => [ 'ok', 'sad' ],
	'mood[]' => [ '{ok}', '{sad,ok}' ],
	kind_of_mood => [ 'ok', 'sad' ],
	pair => [ '(1,ok)', '(2,sad)' ],
	'pair[]' => [ '{"(1,ok)"}', '{"(2,sad)"}' ],
	span => [ '[sad,ok)', '[ok,ok]' ],
	lent => [ '(1,ok)', '(2,sad)' ],
	text => [ 'ok', 'sad' ]);

$node->safe_psql(
	'postgres', q{
	CREATE TYPE mood AS ENUM ('sad', 'ok');
	CREATE TYPE other AS ENUM ('sad', 'ok');
	CREATE DOMAIN kind_of_mood AS mood;
	CREATE TYPE pair AS (n int, m mood);
	CREATE TYPE span AS RANGE (subtype = mood);
	CREATE TABLE lent (n int, m mood);
	CREATE TABLE moods_key (k mood PRIMARY KEY, v text);
	INSERT INTO moods_key VALUES ('ok', 'ok'), ('sad', 'sad');
	CREATE TABLE moods_root (id int PRIMARY KEY, v mood, hidden mood) PARTITION BY RANGE (id);
	CREATE TABLE moods_leaf (hidden mood, v mood, id int NOT NULL);
	ALTER TABLE moods_root ATTACH PARTITION moods_leaf FOR VALUES FROM (0) TO (100);
	INSERT INTO moods_root VALUES (1, 'sad', 'sad');
	CREATE TABLE moods_hidden (id int PRIMARY KEY, v mood);
	INSERT INTO moods_hidden VALUES (1, 'sad');
	CREATE TABLE others (id int PRIMARY KEY, v other);
	INSERT INTO others VALUES (1, 'sad')});
my %table_of;
for my $type (sort keys %is)
{
	my $table = $table_of{$type} = 'of_' . ($type =~ s/\W+/_array/gr);

	$node->safe_psql('postgres', "CREATE TABLE $table (id int PRIMARY KEY, v $type)");
	$node->safe_psql('postgres', "INSERT INTO $table VALUES " . join ', ', map { "($_, '$is{$type}[$_]')" } 0 .. 1);
}
my @all = (values %table_of, qw(moods_key moods_root moods_hidden others));
$node->safe_psql('postgres', "SELECT siphon_add_table('$_'" . ($_ eq 'moods_key' ? ', partitions => 2' : $_ eq 'moods_hidden' ? q{, exclude_columns => '{v}'} : '') . ')') for @all;
wait_for_tables($node);

# Tests: the rows of these tables come anew, and of no others. Nothing else has to change.
sub anew
{
	my ($name, $sql, @anew) = @_;
	my %before = map { $_ => $tables->state($_)->{generation} } @all;

	$node->safe_psql('postgres', $sql);
	wait_for_table($node, $_, 'streaming', after => $before{$_}) for @anew;
	$tables->confirmed;
	wait_for_tables($node);
	is_deeply([ sort grep { $tables->state($_)->{generation} != $before{$_} } @all ], [ sort @anew ], "$name: these come anew");
	is_replayed($nats, $node, [ grep { $_ ne 'moods_hidden' } @all ], "$name: the stream makes the tables");
	return;
}

my @with_mood = map { $table_of{$_} } grep { $_ ne 'text' } keys %is;
my @with_pair = map { $table_of{$_} } 'pair', 'pair[]';

anew('a label', q{ALTER TYPE mood ADD VALUE 'fine' BEFORE 'ok'});
anew('a label has another name', q{ALTER TYPE mood RENAME VALUE 'sad' TO 'low'}, @with_mood, qw(moods_key moods_root));
$node->safe_psql('postgres', q{DELETE FROM moods_key WHERE k = 'low'});
$tables->confirmed;
is_replayed($nats, $node, ['moods_key'], 'a key that was written otherwise is found');
anew('a row type has another attribute', 'ALTER TYPE pair ADD ATTRIBUTE c int', @with_pair);
anew('one is called otherwise', 'ALTER TYPE pair RENAME ATTRIBUTE c TO d');
anew('and is gone', 'ALTER TYPE pair DROP ATTRIBUTE d', @with_pair);
anew('a table whose rows are values', 'ALTER TABLE lent ADD COLUMN c int', $table_of{lent});
anew('a schema, a type that nobody uses', q{CREATE TYPE unused AS (n int); ALTER TYPE unused ADD ATTRIBUTE c int; ALTER TYPE other RENAME TO renamed; ALTER TYPE renamed RENAME TO other});

# ---- columns with another type --------------------------------------------------------------------------------------

my %to = (
	cidr => [ inet => '10.0.0.0/8' ],
	int4 => [ oid => -1 ],
	regclass => [ oid => 1259 ],
	timestamp => [ timestamptz => '2026-01-02 03:04:05' ],
	timestamptz => [ timestamp => '2026-01-02 03:04:05+00' ]);

@all = ();
for my $type (sort keys %to)
{
	$node->safe_psql('postgres', "CREATE TABLE from_$type (id int PRIMARY KEY, v $type, w varchar(20)); INSERT INTO from_$type VALUES (1, '$to{$type}[1]', 'w')");
	push @all, "from_$type";
}
$node->safe_psql(
	'postgres', q{
	CREATE TABLE from_parts (id int PRIMARY KEY, v cidr) PARTITION BY RANGE (id);
	CREATE TABLE from_leaf PARTITION OF from_parts FOR VALUES FROM (0) TO (100);
	INSERT INTO from_parts VALUES (1, '10.0.0.0/8');
	CREATE TABLE from_key (v cidr PRIMARY KEY);
	INSERT INTO from_key VALUES ('10.0.0.0/8');
	CREATE TABLE from_empty (id int PRIMARY KEY, v int4)});
push @all, qw(from_parts from_key from_empty);
$node->safe_psql('postgres', "SELECT siphon_add_table('$_')") for @all;
wait_for_tables($node);
anew('types that are written alike', join ';', map { "ALTER TABLE from_$_ ALTER w TYPE text" } keys %to);
anew("from $_ to $to{$_}[0]", "ALTER TABLE from_$_ ALTER v TYPE $to{$_}[0]", "from_$_") for sort keys %to;
anew('of a leaf', 'ALTER TABLE from_parts ALTER v TYPE inet', 'from_parts');
anew('of a key', 'ALTER TABLE from_key ALTER v TYPE inet', 'from_key');
anew('rewritten, where there are none', 'ALTER TABLE from_empty ALTER v TYPE bigint');

done_testing();
