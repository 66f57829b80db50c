# What the key-value bucket tells of a table's definition, before anything that uses it, and the end of a dropped table.
use strict;
use warnings FATAL => 'all';

use JSON::PP qw(decode_json);
use MIME::Base64 qw(decode_base64);
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::NatsClient;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);
my $client = Siphon::NatsClient->new($nats->url);

sub bucket
{
	my ($key) = @_;
	my $answer = $client->api('STREAM.MSG.GET.KV_siphon_main', { last_by_subj => "\$KV.siphon_main.$key" });

	# There is none, or a mark that there was one.
	return undef if $answer->{error} || decode_base64($answer->{message}{hdrs} // '') =~ /KV-Operation/;
	return decode_json(decode_base64($answer->{message}{data}));
}

sub column
{
	my ($schema, $name) = @_;
	my ($column) = grep { $_->{name} eq $name } @{ $schema->{columns} };

	return $column;
}

# The fingerprint in the bucket, when the table's definition has come there.
sub change
{
	my ($sql) = @_;

	$node->safe_psql('postgres', $sql);
	wait_confirmed($node);
	return bucket('public.t.schema')->{schema_fingerprint};
}

$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (a bigint GENERATED ALWAYS AS IDENTITY, b numeric(10,2) NOT NULL DEFAULT 1.5, c timestamptz DEFAULT now(),
					d text, e int GENERATED ALWAYS AS (length(d)) STORED, secret text, PRIMARY KEY (b, a));
	COMMENT ON TABLE t IS 'what it is for';
	COMMENT ON COLUMN t.d IS 'text: öäü';
	INSERT INTO t (d, secret) VALUES ('x', 'y')});
$node->safe_psql('postgres', "SELECT siphon_add_table('t', partitions => 3, exclude_columns => '{secret}')");
wait_for_tables($node);

my $schema = bucket('public.t.schema');
my $oid = $node->safe_psql('postgres', "SELECT 't'::regclass::oid");

is(join(' ', @$schema{qw(application_identifier schema table oid partitions comment generation_start)}),
	"main public t $oid 3 what it is for GENERATION_START_SNAPSHOT", 'the table is there when its rows are');
is(join(' ', map { $_->{name} } @{ $schema->{columns} }), 'a b c d e', 'its columns are, but for what is excluded');
is_deeply(
	column($schema, 'a'),
	{ name => 'a', attnum => 1, type_oid => 20, type_name => 'bigint', key => JSON::PP::true, identity => JSON::PP::true },
	'an identity column of the key');
is_deeply(column($schema, 'b'),
	{ name => 'b', attnum => 2, type_oid => 1700, type_name => 'numeric(10,2)', key => JSON::PP::true, default_expression => '1.5' }, 'a constant default');
is_deeply(column($schema, 'c'),
	{ name => 'c', attnum => 3, type_oid => 1184, type_name => 'timestamp with time zone', nullable => JSON::PP::true, default_expression => 'now()' },
	'a default that is a function');
is(column($schema, 'd')->{comment}, "text: \x{f6}\x{e4}\x{fc}", 'a comment');
is_deeply(column($schema, 'e'),
	{ name => 'e', attnum => 5, type_oid => 23, type_name => 'integer', nullable => JSON::PP::true, generated => JSON::PP::true }, 'a generated column');

# What the values of domains are in the end, and of arrays of them.
$node->safe_psql(
	'postgres', q{
	CREATE DOMAIN price AS numeric(10,2);
	CREATE DOMAIN net_price AS price CHECK (VALUE > 0);
	CREATE DOMAIN prices AS price[];
	CREATE DOMAIN matrix AS int[];
	CREATE TABLE domains (id int PRIMARY KEY, a net_price, b price[], c prices, d matrix, e matrix[], f numeric(8,3)[])});
add_table($node, 'domains');
$node->safe_psql('postgres', 'INSERT INTO domains VALUES (1)');
wait_confirmed($node);
my $domains = bucket('public.domains.schema');
my $types = $node->safe_psql('postgres', q{SELECT 'numeric'::regtype::oid || ' ' || 'numeric[]'::regtype::oid || ' ' || 'int[]'::regtype::oid});
my ($numeric, $numerics, $ints) = split / /, $types;
is_deeply(
	[ map { $_->{base_type_name} ? "$_->{name}: $_->{type_name} $_->{base_type_name} $_->{base_type_oid}" : () } @{ $domains->{columns} } ],
	[ "a: public.net_price numeric(10,2) $numeric", "b: public.price[] numeric(10,2)[] $numerics", "c: public.prices numeric(10,2)[] $numerics", "d: public.matrix integer[] $ints" ],
	'what the values of domains are');
is($domains->{generation_start}, 'GENERATION_START_CHANGES', 'a table without its rows');

# The fingerprint changes exactly when the columns of packages do; what else changes is there all the same. No row changes.
my $fingerprint = $schema->{schema_fingerprint};
is(change('ALTER TABLE t ALTER b DROP DEFAULT, ALTER d SET NOT NULL, ALTER c SET DEFAULT clock_timestamp()'), $fingerprint,
	'defaults and NOT NULL leave the fingerprint alone');
$schema = bucket('public.t.schema');
is(column($schema, 'b')->{default_expression}, undef, 'a default that was dropped is gone');
is(column($schema, 'd')->{nullable}, undef, 'NOT NULL is seen');
is(change('CREATE INDEX ON t (c); ANALYZE t; VACUUM FULL t; ALTER TABLE t DROP COLUMN secret'), $fingerprint,
	'so do an index, statistics, a rewrite without a change, and a column that is not published');

my %seen = ($fingerprint => 'the table as it was made');
for my $sql (
	'ALTER TABLE t ADD COLUMN f int DEFAULT 5',
	'ALTER TABLE t RENAME COLUMN d TO dd',
	'ALTER TABLE t ALTER f TYPE bigint',
	'ALTER TABLE t ALTER b TYPE numeric(12,2)',
	'ALTER TABLE t DROP COLUMN f, ADD COLUMN f bigint DEFAULT 5',
	'ALTER TABLE t DROP COLUMN f',
	'ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (a)')
{
	my $now = change($sql);

	is($seen{$now}, undef, "another fingerprint: $sql");
	$seen{$now} = $sql;
	is_deeply(column(bucket('public.t.schema'), 'f')->{existing_rows}, { integer => '5' }, 'with the value of the rows that are there') if $sql =~ /ADD COLUMN f/;
}
is_deeply(
	[ map { "$_->{name} $_->{attnum}" } @{ bucket('public.t.schema')->{columns} } ],
	[ 'a 1', 'b 2', 'c 3', 'dd 4', 'e 5' ],
	'a column that was renamed has its number, and one that was dropped leaves its behind');

# Of an array, and of a partitioned table, whose leaves alone have the value, in other places.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE root (gone int, id int, v text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
	CREATE TABLE root_0 PARTITION OF root FOR VALUES FROM (0) TO (10);
	ALTER TABLE root DROP COLUMN gone;
	CREATE TABLE root_1 (v text, junk int, id int NOT NULL) PARTITION BY RANGE (id);
	ALTER TABLE root_1 DROP COLUMN junk;
	CREATE TABLE root_10 (v text, id int NOT NULL);
	ALTER TABLE root_1 ATTACH PARTITION root_10 FOR VALUES FROM (10) TO (20);
	ALTER TABLE root ATTACH PARTITION root_1 FOR VALUES FROM (10) TO (20);
	INSERT INTO root VALUES (1, 'a'), (11, 'b')});
$node->safe_psql('postgres', "SELECT siphon_add_table('root')");
wait_for_tables($node);
$node->safe_psql(
	'postgres', q{
	ALTER TABLE root ADD COLUMN word text DEFAULT 'was here', ADD COLUMN empty int, ADD COLUMN number bigint DEFAULT 7;
	CREATE TABLE root_2 PARTITION OF root FOR VALUES FROM (20) TO (30);
	ALTER TABLE t ADD COLUMN list text[] DEFAULT '[0:1]={a,NULL}'});
wait_confirmed($node);
is_deeply(
	column(bucket('public.t.schema'), 'list')->{existing_rows},
	{ list => { values => [ { string => 'a' }, { null => JSON::PP::true } ], dimensions => [ { length => 2 } ] } },
	'an array as the value of the rows that are there');

# Rows of one leaf are written anew: the others still have it.
for my $sql ('', 'VACUUM FULL root_0; ALTER TABLE root ALTER number SET DEFAULT 8', 'DROP TABLE root_0')
{
	$node->safe_psql('postgres', $sql) if $sql;
	wait_confirmed($node);
	$schema = bucket('public.root.schema');
	is_deeply(
		[ map { $_->{existing_rows} } @{ $schema->{columns} } ],
		[ undef, undef, { string => 'was here' }, undef, { integer => '7' } ],
		"values of the rows that are there, of a partitioned table: $sql");
}
is_deeply([ map { $_->{attnum} } @{ $schema->{columns} } ], [ 2 .. 6 ], 'columns have the numbers that the root gives them');
$node->safe_psql('postgres', "SELECT siphon_remove_table('root')");

# Under its new name, with the OID that tells that it is the same.
wait_for_tables($node);
$node->safe_psql('postgres', 'ALTER TABLE t RENAME TO "T 2"');
wait_confirmed($node);
is(bucket('public.T=202.schema')->{oid}, $oid, 'a renamed table is there under its new name');
is(bucket('public.t.schema'), undef, 'and not under its old one');

# Consumers of the old name hear of the new one. Dropped, a table ends under the name that it had last, which a decoder knows that was not there when it was given: of the
# table, or of its schema.
$node->safe_psql('postgres', 'CREATE SCHEMA one; CREATE TABLE one.r (id int PRIMARY KEY); CREATE TABLE one.s (id int PRIMARY KEY)');
add_table($node, $_) for qw(one.r one.s);
$node->safe_psql('postgres', 'INSERT INTO one.r VALUES (1); INSERT INTO one.s VALUES (1)');
wait_confirmed($node);
$publisher->stop;
$node->safe_psql('postgres', 'ALTER TABLE one.r RENAME TO rr; INSERT INTO one.rr VALUES (2); ALTER SCHEMA one RENAME TO two; INSERT INTO two.rr VALUES (3)');
wait_until('the registry has the names', sub { slurp_file($node->data_dir . '/siphon/main.registry') =~ /"schema": "two", "table": "s"/ });
$node->safe_psql('postgres', 'SELECT pg_terminate_backend(decoder_pid) FROM siphon_applications');
wait_until('another decoder streams', sub { application($node)->{restarts} == 1 && application($node)->{state} eq 'streaming' });
$publisher->start;
wait_confirmed($node);
is_replayed($nats, $node, ['two.rr'], 'a table is followed through its names, the decoder restarted in between',
	former => { 'one.r' => 'two.rr', 'one.rr' => 'two.rr' });
is(join(', ', sort map { "$_->{schema}.$_->{table} is $_->{new_schema}.$_->{new_table}" } grep { $_->{operation} eq 'RENAME' } @{ replay($nats) }),
	'one.r is one.rr, one.rr is two.rr, one.s is two.s' . ', public.t is public.T 2' x 3, 'and each RENAME comes once on every partition');
is($node->safe_psql('postgres', "SELECT string_agg(schema_name || '.' || table_name, ' ' ORDER BY table_name) FROM siphon_tables WHERE schema_name = 'two'"),
	'two.rr two.s', 'siphon_tables has the names that tables have now');
$node->restart;
wait_for_state($node, 'streaming');
$node->safe_psql('postgres', 'DROP TABLE two.rr, two.s');
wait_confirmed($node);
is(join(' ', sort map { "$_->{schema}.$_->{table}" } grep { $_->{operation} eq 'DROP' } @{ replay($nats) }), 'two.rr two.s',
	'a table that was renamed is dropped under its new name');
$node->safe_psql('postgres', "SELECT siphon_remove_table(relid::oid) FROM siphon_tables WHERE state = 'dropped'");

# A type is named with its schema, which may be another than the table's, and renamed.
$node->safe_psql(
	'postgres', q{
	CREATE SCHEMA kinds;
	CREATE SCHEMA kept;
	CREATE TYPE kinds.mood AS ENUM ('ok');
	CREATE TYPE kept.mood AS ENUM ('ok');
	CREATE DOMAIN kept.of_mood AS kinds.mood;
	CREATE TABLE typed (id int PRIMARY KEY, v kinds.mood, w kinds.mood[], x kept.mood, y kept.of_mood);
	CREATE TABLE typed_below (id int PRIMARY KEY, z kept.of_mood[])});
add_table($node, $_) for qw(typed typed_below);
$node->safe_psql('postgres', q{INSERT INTO typed VALUES (1, 'ok'); INSERT INTO typed_below VALUES (1, '{ok}')});
wait_confirmed($node);
$node->safe_psql('postgres', 'ALTER SCHEMA kinds RENAME TO sorts');
$node->safe_psql('postgres', q{INSERT INTO typed VALUES (2, 'ok'); INSERT INTO typed_below VALUES (2, '{ok}')});
wait_confirmed($node);
my $named = sub { join ' ', map { ($_->{type_name}, $_->{base_type_name} // ()) } @{ bucket("public.$_[0].schema")->{columns} } };
is($named->('typed'), 'integer sorts.mood sorts.mood[] kept.mood kept.of_mood sorts.mood', 'a type whose schema was renamed is named so');
is($named->('typed_below'), 'integer kept.of_mood[] sorts.mood[]', 'so is one below a domain of an array\'s elements');
$node->safe_psql('postgres', "SELECT siphon_remove_table('$_')") for qw(typed typed_below);

# It ends with the place where it was dropped, once in each partition, whatever is restarted.
my $dropped = "SELECT siphon_remove_table(relid::oid) FROM siphon_tables WHERE state = 'dropped'";
$node->safe_psql('postgres', 'CREATE TABLE other (id int PRIMARY KEY)');
add_table($node, 'other');
$publisher->stop;
$node->safe_psql('postgres', qq{BEGIN; INSERT INTO other VALUES (1); DELETE FROM "T 2"; DROP TABLE "T 2"; INSERT INTO other VALUES (2); COMMIT;
	CREATE TABLE "T 2" (id int PRIMARY KEY); INSERT INTO "T 2" VALUES (1); INSERT INTO other VALUES (3)});
for (1 .. 2)
{
	$node->safe_psql('postgres', 'SELECT pg_terminate_backend(decoder_pid) FROM siphon_applications');
	wait_until('another decoder streams', sub { application($node)->{restarts} == $_ && application($node)->{state} eq 'streaming' });
	$publisher->start if $_ == 1;
	wait_confirmed($node) if $_ == 1;
}
$node->restart;
wait_for_state($node, 'streaming');
$node->safe_psql('postgres', 'INSERT INTO other VALUES (4)');
wait_confirmed($node);
my @events = @{ replay($nats, table => 'public.T 2') };
my @drops = grep { $_->{operation} eq 'DROP' } @events;
is(scalar(@drops), 3, 'each partition hears once that the table was dropped');
is(scalar(keys %{ { map { $_->{position} => 1 } @drops } }), 1, 'at one place');
is(scalar(grep { $_->{operation} eq 'INSERT' } @events), 0, 'another table of the name is not published by itself');
positions_increase(\@events, 'in order');
is(bucket('public.T=202.schema'), undef, 'its schema went with it');
is(bucket('public.T=202')->{phase}, 'removed', 'and its state says so');
is(scalar(@{ replay($nats, table => 'public.other') }), 4, 'other tables go on');
$node->safe_psql('postgres', $dropped);
$node->safe_psql('postgres', q{SELECT siphon_add_table('"T 2"')});
wait_for_table($node, 'T 2');
$node->safe_psql('postgres', q{INSERT INTO "T 2" VALUES (2)});
wait_confirmed($node);
is(bucket('public.T=202.schema')->{oid}, $node->safe_psql('postgres', q{SELECT '"T 2"'::regclass::oid}), 'until it is added: then it has the name');
is_replayed($nats, $node, ['T 2'], 'and its rows, and nothing of the other');

# A virtual generated column has no value to publish: it is left out, and whoever adds the table hears of it.
SKIP:
{
	skip 'virtual generated columns came with PostgreSQL 18', 3 if $node->pg_version < 18;

	$node->safe_psql('postgres', 'CREATE TABLE with_virtual (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) VIRTUAL)');
	my ($code, $stdout, $stderr) = $node->psql('postgres', "SELECT siphon_add_table('with_virtual')");

	like($stderr, qr/NOTICE:  virtual generated column "twice" of table "with_virtual" is not published\nDETAIL:  It has no value in the WAL/,
		'a virtual generated column is named when its table is added');
	wait_for_table($node, 'with_virtual');
	$fingerprint = bucket('public.with_virtual.schema')->{schema_fingerprint};
	$node->safe_psql(
		'postgres', q{
		ALTER TABLE with_virtual ADD COLUMN thrice int GENERATED ALWAYS AS (id * 3) VIRTUAL;
		INSERT INTO with_virtual VALUES (7)});
	wait_confirmed($node);
	is(bucket('public.with_virtual.schema')->{schema_fingerprint}, $fingerprint, 'another one is no change of the columns');
	is_deeply([ map { $_->{columns} // () } @{ replay($nats, table => 'public.with_virtual') } ], [ { id => 7 } ], 'events are without them');
}

# A small table may have a large description, which goes through the ring of its snapshot as a whole.
$node->safe_psql(
	'postgres', q{
	DO $$
	BEGIN
		EXECUTE (SELECT 'CREATE TABLE described (id int PRIMARY KEY, ' || string_agg(format('c_%s text', i), ', ') || ')' FROM generate_series(1, 600) i);
		FOR i IN 1 .. 600 LOOP
			EXECUTE format('COMMENT ON COLUMN described.c_%s IS %L', i, repeat('comment', 60));
		END LOOP;
	END $$;
	INSERT INTO described (id) VALUES (1)});
$node->safe_psql('postgres', "SELECT siphon_add_table('described')");
wait_for_table($node, 'described');
is(scalar @{ bucket('public.described.schema')->{columns} }, 601, 'a description that is larger than the table comes with its snapshot');
$node->safe_psql('postgres', "SELECT siphon_remove_table('described')");

# What is not published any more is not there.
$node->safe_psql('postgres', "SELECT siphon_remove_table('other')");
wait_until('a table that is removed has no schema', sub { !bucket('public.other.schema') });
$node->safe_psql('postgres', "SELECT siphon_drop_application('main')");
ok(bucket('public.T=202.schema'), 'with an application its entries stay');
add_table($node, 'other');
$node->safe_psql('postgres', 'INSERT INTO other VALUES (5)');
wait_confirmed($node);
is_deeply([ map { defined bucket($_) } qw(public.T=202.schema public.T=202 public.other.schema) ],
	[ '', '', 1 ], 'until there is one of the name again, which has its own');

done_testing();
