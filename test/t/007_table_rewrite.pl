# Rows that change without an event, as ALTER TABLE rewrites them, are brought out anew, or the table says that it needs
# that; and a table of which a row cannot be published stops, with a reason, while the others go on.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Snapshot;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

sub table_row
{
	my ($name) = @_;

	return $node->safe_psql('postgres', "SELECT state, generation, reason FROM siphon_tables WHERE table_name = '$name'");
}

sub generation
{
	return (split /\|/, table_row($_[0]))[1];
}

$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (id int PRIMARY KEY, v int, large text);
	ALTER TABLE t ALTER large SET STORAGE EXTERNAL;
	INSERT INTO t SELECT g, g, repeat(g::text, 3000) FROM generate_series(1, 100) g;
	CREATE TABLE without_rows (id int PRIMARY KEY, v int);
	INSERT INTO without_rows VALUES (1, 1);
	CREATE TABLE parts (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
	CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
	CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (100) TO (200);
	INSERT INTO parts SELECT g, g FROM generate_series(90, 110) g;
	CREATE TABLE others (id int PRIMARY KEY, v int)});
$node->safe_psql('postgres', "SELECT siphon_add_table('$_')") for qw(t parts others);
add_table($node, 'without_rows');
wait_for_table($node, $_) for qw(t parts others);
my %before = map { $_ => generation($_) } qw(t parts others without_rows);

# What writes no row anew changes nothing.
$node->safe_psql(
	'postgres', q{
	ALTER TABLE t ADD COLUMN constant int DEFAULT 7;
	ALTER TABLE t ADD COLUMN empty text;
	ALTER TABLE t DROP COLUMN empty;
	VACUUM FULL t;
	UPDATE t SET constant = 8 WHERE id = 1});
wait_confirmed($node);
is(generation('t'), $before{t}, 'a constant default, a dropped column and VACUUM FULL bring nothing out anew');

# A type, a default that differs from row to row, a leaf; with changes before and behind in the same transaction.
for my $case (
	[ t => 'a type changes' => 'ALTER TABLE t ALTER v TYPE text USING v || $$ as text$$' ],
	[ t => 'a column has a volatile default' => 'ALTER TABLE t ADD COLUMN volatile double precision DEFAULT random()' ],
	[ t => 'a generated column is added' => 'ALTER TABLE t ADD COLUMN twice int GENERATED ALWAYS AS (id * 2) STORED' ],
	[ parts => 'of a partitioned table' => 'ALTER TABLE parts ALTER v TYPE text' ])
{
	my ($table, $what, $sql) = @$case;
	my $offset = -s $node->logfile;

	$node->safe_psql('postgres', "BEGIN; DELETE FROM $table WHERE id = (SELECT min(id) FROM $table); $sql;"
		  . " UPDATE $table SET v = 'again' WHERE id = (SELECT max(id) FROM $table); INSERT INTO others VALUES ((random() * 1e9)::int, 1); COMMIT");
	$node->wait_for_log(qr/siphon: table public\.$table needs a resync: it was rewritten by ALTER TABLE/, $offset);
	wait_for_table($node, $table);
	cmp_ok(generation($table), '>', $before{$table}, "$what: the rows come anew");
	$before{$table} = generation($table);
	$node->safe_psql('postgres', "UPDATE $table SET v = 'behind' WHERE id = (SELECT max(id) - 1 FROM $table)");
	wait_confirmed($node);
	is_replayed($nats, $node, [ $table, 'others' ], "$what: the stream makes the table");
}
is(generation('others'), $before{others}, 'other tables are not concerned');

# Partitions that come with rows, and partitions that come without, or with rows that have events: so where decoding is
# behind, and finds rows that came later.
$node->safe_psql('postgres', 'CREATE TABLE with_rows (LIKE parts); INSERT INTO with_rows VALUES (210, 1); DELETE FROM with_rows;'
	  . ' CREATE TABLE later (LIKE parts INCLUDING ALL)');
wait_confirmed($node);
$node->safe_psql(
	'postgres', q{
	SELECT pg_terminate_backend(decoder_pid) FROM siphon_applications;
	CREATE TABLE parts_3 PARTITION OF parts FOR VALUES FROM (200) TO (210);
	ALTER TABLE parts ATTACH PARTITION with_rows FOR VALUES FROM (210) TO (220);
	ALTER TABLE parts ATTACH PARTITION later FOR VALUES FROM (220) TO (230);
	INSERT INTO parts SELECT g, g FROM generate_series(200, 229) g;
	DELETE FROM parts WHERE id % 4 = 0;
	VACUUM (FREEZE) with_rows;
	VACUUM FULL later;
	BEGIN;
	CREATE TABLE parts_4 (id int PRIMARY KEY, v text);
	ALTER TABLE parts ATTACH PARTITION parts_4 FOR VALUES FROM (230) TO (240);
	INSERT INTO parts VALUES (231, 'x');
	SAVEPOINT s;
	CREATE TABLE undone (id int PRIMARY KEY, v text);
	INSERT INTO undone VALUES (241, 'x');
	ALTER TABLE parts ATTACH PARTITION undone FOR VALUES FROM (240) TO (250);
	ROLLBACK TO s;
	COMMIT});
wait_confirmed($node);
is(generation('parts'), $before{parts}, 'partitions that were empty bring nothing out anew');
is_replayed($nats, $node, ['parts'], 'as their rows have events');

$node->safe_psql(
	'postgres', q{
	CREATE TABLE outer_part (v text, id int PRIMARY KEY) PARTITION BY RANGE (id);
	CREATE TABLE inner_part PARTITION OF outer_part FOR VALUES FROM (300) TO (310);
	CREATE TABLE inner_empty PARTITION OF outer_part FOR VALUES FROM (310) TO (320);
	INSERT INTO outer_part SELECT g, g FROM generate_series(300, 309) g});
wait_confirmed($node);
for my $case (
	[ 'that was there' => outer_part => 'ALTER TABLE parts ATTACH PARTITION outer_part FOR VALUES FROM (300) TO (400)' ],
	[ 'written by the same transaction' => same => 'CREATE TABLE same (LIKE parts INCLUDING ALL); SAVEPOINT s; INSERT INTO same VALUES (401, 1);'
		  . ' RELEASE s; ALTER TABLE parts ATTACH PARTITION same FOR VALUES FROM (400) TO (500); DELETE FROM parts WHERE id = 91' ])
{
	my ($what, $name, $sql) = @$case;
	my $offset = -s $node->logfile;

	$node->safe_psql('postgres', "SELECT pg_terminate_backend(decoder_pid) FROM siphon_applications; BEGIN; $sql; COMMIT;"
		  . " UPDATE parts SET v = 'after' WHERE id > 300");
	$node->wait_for_log(qr/siphon: table public\.parts needs a resync: it got partition "$name" with rows/, $offset);
	wait_for_table($node, 'parts');
	cmp_ok(generation('parts'), '>', $before{parts}, "a partition with a row $what: the rows come anew");
	$before{parts} = generation('parts');
	wait_confirmed($node);
	is_replayed($nats, $node, ['parts'], "a partition with a row $what: the stream makes the table");
}

# One that is not there while it is emptied: that no event says.
my $offset = -s $node->logfile;
$node->safe_psql('postgres', 'BEGIN; ALTER TABLE parts DETACH PARTITION later; TRUNCATE later; ALTER TABLE parts ATTACH PARTITION later FOR VALUES FROM (220) TO (230); COMMIT');
$node->wait_for_log(qr/siphon: table public\.parts needs a resync: it lost partition "later" and got it back/, $offset);
wait_for_table($node, 'parts');
$before{parts} = generation('parts');
wait_confirmed($node);
is_replayed($nats, $node, ['parts'], 'a partition that left and came back');

# Partitions that leave are an event, whether detached or dropped, and whatever else happens to them, under the name that they had.
$node->safe_psql(
	'postgres', q{
	SELECT pg_terminate_backend(decoder_pid) FROM siphon_applications;
	ALTER TABLE parts DETACH PARTITION same;
	INSERT INTO same VALUES (402, 'mine');
	DROP TABLE inner_part;
	BEGIN; ALTER TABLE outer_part RENAME TO "Outer"; ALTER TABLE parts DETACH PARTITION "Outer"; DROP TABLE "Outer"; COMMIT;
	ALTER TABLE parts DETACH PARTITION parts_3 CONCURRENTLY;
	ALTER TABLE parts_2 SET (fillfactor = 50)});
wait_confirmed($node);
my @left = grep { $_->{operation} eq 'DETACH' } @{ replay($nats, table => 'public.parts') };
is_deeply(
	[ map { [ $_->{detached}, @{ $_->{detached_bounds} } ] } @left ],
	[
		[ 'public.same', 'FOR VALUES FROM (400) TO (500)' ],
		[ 'public.inner_part', 'FOR VALUES FROM (300) TO (400)', 'FOR VALUES FROM (300) TO (310)' ],
		[ 'public.outer_part', 'FOR VALUES FROM (300) TO (400)' ],
		[ 'public.parts_3', 'FOR VALUES FROM (200) TO (210)' ]
	],
	'what left, and which rows with it');
positions_increase(\@left, 'at places of their own');
is(generation('parts'), $before{parts}, 'and brings nothing out anew');
$node->safe_psql('postgres', 'ALTER SYSTEM SET siphon.resync_detached = on');
$node->reload;
wait_until('the setting is read', sub { $node->safe_psql('postgres', 'SHOW siphon.resync_detached') eq 'on' });
$node->safe_psql('postgres', 'DROP TABLE parts_4');
wait_for_table($node, 'parts', 'streaming', after => $before{parts});
wait_confirmed($node);
is_replayed($nats, $node, ['parts'], 'unless siphon.resync_detached says so');
$before{parts} = generation('parts');

# Rows of a foreign server can't be brought out, so nothing begins that could not end.
$node->safe_psql(
	'postgres', q{
	CREATE FOREIGN DATA WRAPPER none;
	CREATE SERVER none FOREIGN DATA WRAPPER none;
	CREATE TABLE keyless (id int) PARTITION BY RANGE (id);
	ALTER TABLE keyless REPLICA IDENTITY FULL;
	SELECT siphon_add_table('keyless')});
wait_for_table($node, 'keyless');
$before{keyless} = generation('keyless');
$node->safe_psql('postgres', 'CREATE FOREIGN TABLE distant PARTITION OF keyless FOR VALUES FROM (0) TO (100) SERVER none');
wait_for_table($node, 'keyless', 'resync needed');
is(table_row('keyless'), qq{resync needed|$before{keyless}|got partition "distant" with rows of a foreign server}, 'a foreign table as a partition');
$node->safe_psql('postgres', "SELECT siphon_remove_table('keyless')");

# Children in plain inheritance are not parts of their parents.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE child (LIKE others);
	INSERT INTO child VALUES (1, 1);
	ALTER TABLE child INHERIT others;
	DROP TABLE child});

# A table that is divided by another key.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE divided (a int PRIMARY KEY, b int NOT NULL UNIQUE, v int);
	INSERT INTO divided SELECT g, g + 1, 0 FROM generate_series(1, 100) g;
	SELECT siphon_add_table('divided', partitions => 4)});
wait_for_table($node, 'divided');
$before{divided} = generation('divided');
$node->safe_psql(
	'postgres', q{
	CREATE UNIQUE INDEX again ON divided (a);
	BEGIN; UPDATE divided SET v = 1; ALTER TABLE divided DROP CONSTRAINT divided_pkey, ADD CONSTRAINT again PRIMARY KEY USING INDEX again; COMMIT;
	ALTER TABLE divided REPLICA IDENTITY FULL;
	UPDATE divided SET v = 2});
wait_confirmed($node);
$node->safe_psql('postgres', 'SELECT pg_terminate_backend(decoder_pid) FROM siphon_applications');
is(generation('divided'), $before{divided}, 'another index of the same key brings nothing out anew');
for my $sql (
	'ALTER TABLE divided REPLICA IDENTITY USING INDEX divided_b_key',
	'ALTER TABLE divided REPLICA IDENTITY DEFAULT',
	'ALTER TABLE divided DROP CONSTRAINT again, ADD CONSTRAINT other PRIMARY KEY (b, a)')
{
	$node->safe_psql('postgres', "BEGIN; $sql; UPDATE divided SET v = v + 1 WHERE a < 50; COMMIT");
	wait_for_table($node, 'divided', 'streaming', after => $before{divided});
	$before{divided} = generation('divided');
	$node->safe_psql('postgres', 'UPDATE divided SET v = v + 1; DELETE FROM divided WHERE a IN (SELECT min(a) FROM divided)');
	wait_confirmed($node);
	is_replayed($nats, $node, ['divided'], "another key: $sql");
}
$node->safe_psql('postgres', 'ALTER TABLE divided DROP CONSTRAINT other; INSERT INTO divided VALUES (1000, 1000, 0)');
wait_for_table($node, 'divided', 'resync needed');
is(table_row('divided'), "resync needed|$before{divided}|is divided by another key than before", 'without a key, the table says so');
$node->safe_psql('postgres', 'ALTER TABLE divided ADD PRIMARY KEY (b, a)');
wait_for_table($node, 'divided', 'streaming', after => $before{divided});
wait_confirmed($node);
is_replayed($nats, $node, ['divided'], 'until it has one');

# A default that is another value for each partition, which is what a function does that is not as stable as it says.
$node->safe_psql(
	'postgres', q{
	CREATE SEQUENCE unstable;
	CREATE FUNCTION stable() RETURNS bigint LANGUAGE sql STABLE AS $$SELECT nextval('unstable')$$;
	ALTER TABLE parts ADD COLUMN constant int DEFAULT 1});
wait_confirmed($node);
is(generation('parts'), $before{parts}, 'a constant default of a partitioned table brings nothing out anew');
$node->safe_psql('postgres', 'ALTER TABLE parts ADD COLUMN by_leaf bigint DEFAULT stable()');
wait_for_table($node, 'parts', 'streaming', after => $before{parts});
$before{parts} = generation('parts');
$node->safe_psql('postgres', 'ALTER TABLE parts ADD COLUMN another int');
wait_confirmed($node);
is_replayed($nats, $node, ['parts'], 'a default that differs from partition to partition');
is(generation('parts'), $before{parts}, 'brings them out anew once');

# Where nothing is to be brought out by itself, the table says what it needs.
$node->append_conf('postgresql.conf', 'siphon.resync_rewritten = off');
$node->reload;
wait_until('the setting is read', sub { $node->safe_psql('postgres', 'SHOW siphon.resync_rewritten') eq 'off' });
$node->safe_psql('postgres', "ALTER TABLE without_rows ALTER v TYPE bigint; ALTER TABLE t ALTER v TYPE varchar(1) USING left(v, 1);"
	  . " INSERT INTO t (id, v) VALUES (-1, 'x'); CREATE TABLE full_part (LIKE parts); INSERT INTO full_part (id) VALUES (500);"
	  . " ALTER TABLE parts ATTACH PARTITION full_part FOR VALUES FROM (500) TO (501)");
wait_for_table($node, $_, 'resync needed') for qw(t without_rows parts);
is(table_row('parts'), qq{resync needed|$before{parts}|got partition "full_part" with rows}, 'with the setting off, so for a partition with rows');
is(table_row('t'), "resync needed|$before{t}|was rewritten by ALTER TABLE", 'with the setting off, the table says what happened');
$node->safe_psql('postgres', "SELECT siphon_resync_table('t')");
wait_for_table($node, 't');
wait_confirmed($node);
is_replayed($nats, $node, ['t'], 'and siphon_resync_table() mends it');

# So it does where that happens while its rows are brought out, and the snapshot does not show it.
# There are enough of them for that to take a while. The key goes when they were asked for and the scan, which would not
# let it, has not begun.
$node->safe_psql('postgres', 'INSERT INTO t (id) SELECT g FROM generate_series(100000, 104000) g');
$node->append_conf('postgresql.conf', 'siphon.snapshot_rate = 1');
$node->reload;
wait_until('the rate is read', sub { $node->safe_psql('postgres', 'SHOW siphon.snapshot_rate') eq '1kB' });
$publisher->pause;
$node->safe_psql('postgres', "SELECT siphon_resync_table('t')");
wait_until('the snapshot is announced', sub { $node->safe_psql('postgres', "SELECT phase, generation > 0 FROM siphon_snapshot_progress WHERE table_name = 't'") eq 'preparing|t' });
$node->safe_psql('postgres', 'ALTER TABLE t REPLICA IDENTITY NOTHING');
$publisher->resume;
wait_until('the scan runs', sub { $node->safe_psql('postgres', "SELECT count(*) FROM siphon_snapshot_progress WHERE phase = 'scanning' AND bytes > 0") });
$node->safe_psql('postgres', 'UPDATE t SET constant = 9 WHERE id = 50');
wait_until('the table says so', sub { table_row('t') =~ /^snapshot\|\d+\|has a change of a row that nothing names/ });
$node->append_conf('postgresql.conf', 'siphon.snapshot_rate = 0');
$node->reload;
wait_for_table($node, 't', 'resync needed');
like(table_row('t'), qr/has a change of a row that nothing names/, 'what happens while rows are brought out is not forgotten with their end');
$node->safe_psql('postgres', "ALTER TABLE t REPLICA IDENTITY DEFAULT; SELECT siphon_resync_table('t')");
wait_for_table($node, 't');
wait_confirmed($node);
is_replayed($nats, $node, ['t'], 'and brought out once more, they are the table');

# An output function that raises an error: an enum's label that is gone.
$node->safe_psql(
	'postgres', q{
	CREATE TYPE mood AS ENUM ('fine', 'broken');
	CREATE TABLE moods (id int PRIMARY KEY, mood mood, v int);
	INSERT INTO moods VALUES (1, 'fine'), (2, 'broken');
	CREATE TABLE "it's" AS SELECT * FROM moods;
	ALTER TABLE "it's" ADD PRIMARY KEY (id);
	CREATE TABLE feelings AS SELECT * FROM moods;
	ALTER TABLE feelings ADD PRIMARY KEY (id)});
$node->safe_psql('postgres', "SELECT siphon_add_table('moods')");
wait_for_table($node, 'moods');
$offset = -s $node->logfile;
my $restarts = application($node)->{restarts};
$node->safe_psql('postgres', "DELETE FROM pg_enum WHERE enumlabel = 'broken'");
$node->safe_psql('postgres', 'UPDATE moods SET v = 1; UPDATE others SET v = 2');
wait_for_table($node, 'moods', 'failed');
like(table_row('moods'), qr/^failed\|\d+\|a row cannot be published: invalid internal value for enum: \d+$/, 'the table stops, with a reason');
$node->wait_for_log(qr/siphon: table "public.moods" is not published any more: .*HINT:  When the cause is fixed, run SELECT siphon_resync_table\('public.moods', 'main'\)\./s, $offset);
wait_for_state($node, 'streaming');
$node->safe_psql('postgres', 'UPDATE moods SET v = 2; UPDATE others SET v = 3');
wait_confirmed($node);
is(generation('others'), $before{others}, 'nor was this one concerned by a child that came and went');
is(scalar(grep { $_->{operation} eq 'DETACH' } @{ replay($nats, table => 'public.others') }), 0, 'which is no event');
is_replayed($nats, $node, ['others'], 'the other tables go on');
is(application($node)->{restarts}, $restarts + 1, 'after one restart of the decoder');
$node->restart;
wait_for_state($node, 'streaming');
like(table_row('moods'), qr/^failed\|/, 'it stays stopped');
$node->safe_psql('postgres', "UPDATE moods SET mood = 'fine'; SELECT siphon_resync_table('moods')");
wait_for_table($node, 'moods');
$node->safe_psql('postgres', 'UPDATE moods SET v = 3');
wait_confirmed($node);
is_replayed($nats, $node, ['moods'], 'until what the hint says was done');

# A name stands in what is to be typed as it has to.
$node->safe_psql('postgres', q{SELECT siphon_add_table('"it''s"', snapshot => false)});
$offset = -s $node->logfile;
$node->safe_psql('postgres', q{ALTER TABLE "it's" ALTER v TYPE bigint});
$node->wait_for_log(qr/HINT:  Run SELECT siphon_resync_table\('public."it''s"', 'main'\) to take a new snapshot/, $offset);
$node->safe_psql('postgres', q{UPDATE "it's" SET v = 1});
$node->wait_for_log(qr/HINT:  When the cause is fixed, run SELECT siphon_resync_table\('public."it''s"', 'main'\)\./, $offset);
$node->safe_psql('postgres', q{SELECT siphon_remove_table('public."it''s"', 'main')});

# One without rows has a gap behind it when it can be published again, and says what closes that.
add_table($node, 'feelings');
$node->safe_psql('postgres', 'UPDATE feelings SET v = 1');
wait_for_table($node, 'feelings', 'failed');
my ($code, $stdout, $stderr) = $node->psql('postgres', "SELECT siphon_alter_table('feelings', exclude_columns => '{mood}')");
like($stderr, qr/WARNING:  table public\.feelings is still not published: a row cannot be published: .*HINT:  Run SELECT siphon_resync_table\('public\.feelings', 'main'\) to take a new snapshot/s,
	'siphon_alter_table() says what a stopped table without rows needs');
$node->safe_psql('postgres', "SELECT siphon_resync_table('feelings')");
wait_for_table($node, 'feelings');
$node->safe_psql('postgres', 'UPDATE feelings SET v = 2 WHERE id = 2');
wait_confirmed($node);
is_deeply([ map { $_->{columns} } grep { $_->{operation} =~ /^(SNAPSHOT|UPDATE)$/ } @{ replay($nats, table => 'public.feelings') } ],
	[ { id => 1, v => 1 }, { id => 2, v => 1 }, { id => 2, v => 2 } ], 'and with that it is whole');

# A snapshot that comes to such a value would come to it each time.
$node->safe_psql(
	'postgres', q{
	INSERT INTO pg_enum (oid, enumtypid, enumsortorder, enumlabel) SELECT 987654, 'mood'::regtype, 3, 'wrong';
	CREATE TABLE scanned (id int PRIMARY KEY, mood mood);
	INSERT INTO scanned SELECT g, 'fine' FROM generate_series(1, 1000) g;
	INSERT INTO scanned VALUES (1001, 'wrong');
	DELETE FROM pg_enum WHERE enumlabel = 'wrong';
	SELECT siphon_add_table('scanned')});
wait_for_table($node, 'scanned', 'failed');
like(table_row('scanned'), qr/^failed\|\d+\|its rows cannot be published: invalid internal value for enum: 987654$/, 'a snapshot stops the table, with a reason');
$before{scanned} = generation('scanned');
$node->safe_psql('postgres', 'UPDATE others SET v = 4');
wait_confirmed($node);
is_replayed($nats, $node, ['others'], 'and the others go on');
is(generation('scanned'), $before{scanned}, 'it was one attempt');
$node->safe_psql('postgres', "DELETE FROM scanned WHERE id = 1001; SELECT siphon_resync_table('scanned')");
wait_for_table($node, 'scanned');
is_replayed($nats, $node, ['scanned'], 'and what the hint says mends it');

# What is in the way for other reasons, and lasts, is tried a few times.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE remote (id int) PARTITION BY RANGE (id);
	ALTER TABLE remote REPLICA IDENTITY FULL;
	CREATE TABLE remote_0 PARTITION OF remote FOR VALUES FROM (0) TO (100);
	ALTER TABLE remote_0 REPLICA IDENTITY FULL;
	SELECT siphon_add_table('remote', snapshot => false)});
wait_for_table($node, 'remote');
# It waits for its turn behind one that stands still: that of a process that begins with this rate.
$node->append_conf('postgresql.conf', 'siphon.snapshot_rate = 1kB');
$node->reload;
wait_until('the rate is read', sub { $node->safe_psql('postgres', 'SHOW siphon.snapshot_rate') eq '1kB' });
wait_until('no leader waits for a next table', sub { !snapshot_pids($node) });
$node->safe_psql('postgres', "SELECT siphon_resync_table('scanned')");
wait_for_table($node, 'scanned', 'snapshot');
$offset = -s $node->logfile;
$node->safe_psql(
	'postgres', q{
	SELECT siphon_resync_table('remote');
	CREATE FOREIGN TABLE remote_1 PARTITION OF remote FOR VALUES FROM (100) TO (200) SERVER none});
$node->append_conf('postgresql.conf', 'siphon.snapshot_rate = 0');
$node->reload;
wait_for_table($node, 'remote', 'failed');
is(scalar(() = slurp_file($node->logfile, $offset) =~ /siphon: snapshot \d+ of table "public.remote" failed/g), 5, 'a reason that may be mended has five attempts');
$node->safe_psql('postgres', "DROP FOREIGN TABLE remote_1; SELECT siphon_resync_table('remote')");
wait_for_table($node, 'remote');

# Dropped, it says so to its consumers as any table does.
$node->safe_psql(
	'postgres', q{
	CREATE TYPE frail AS ENUM ('fine', 'broken');
	CREATE TABLE frailties (id int PRIMARY KEY, frail frail);
	INSERT INTO frailties VALUES (1, 'fine')});
$node->safe_psql('postgres', "SELECT siphon_add_table('frailties', partitions => 2)");
wait_for_table($node, 'frailties');
$node->safe_psql('postgres', "INSERT INTO frailties VALUES (2, 'broken')");
wait_confirmed($node);
$node->safe_psql('postgres', "DELETE FROM pg_enum WHERE enumlabel = 'broken' AND enumtypid = 'frail'::regtype");
$node->safe_psql('postgres', 'UPDATE frailties SET frail = frail');
wait_for_table($node, 'frailties', 'failed');
wait_for_state($node, 'streaming');
$node->safe_psql('postgres', 'UPDATE others SET v = 4; DROP TABLE frailties');
wait_for_table($node, 'frailties', 'dropped');
wait_confirmed($node);
is_deeply([ map { $_->{operation} } (@{ replay($nats, table => 'public.frailties') })[ -2, -1 ] ], [ 'DROP', 'DROP' ], 'a table that was stopped, and is dropped, ends with its DROP');
$node->safe_psql('postgres', "SELECT siphon_remove_table(relid::oid) FROM siphon_tables WHERE table_name = 'frailties'");
is(table_row('frailties'), '', 'and is taken off the list');
is_replayed($nats, $node, ['others'], 'while the others go on');

done_testing();
