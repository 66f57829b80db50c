# Whatever a database's encoding, values and names leave as UTF-8, and what can't be UTF-8 leaves as the bytes that the
# database has, without ending the decoder, or a consumer. And a table with as many columns as fit.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();

# Bytes as text of the database's encoding, whether or not they are: the databases have a cast that does not look.
sub bytes
{
	my ($hex) = @_;

	return "'\\x$hex'::bytea::text";
}

# Encoding, bytes and what they become, and bytes that Unicode lacks or that are not text at all.
my @databases = (
	[ 'UTF8', 'c3bc6d', "\x{fc}m", 'c3', '\xc3' ],
	[ 'LATIN1', 'fc6df6', "\x{fc}m\x{f6}" ],
	[ 'EUC_JP', 'c6fccbdc', "\x{65e5}\x{672c}", 'f5a1', '\xf5a1' ],
	[ 'SQL_ASCII', 'c3bc6d', "\x{fc}m", '61ff80', '\x61ff80' ]);

for my $database (@databases)
{
	my ($encoding, $hex, $text, $bad_hex, $bad) = @$database;
	my $name = lc $encoding;
	my $publisher = siphon_publisher($node, $nats, application => $name, name => "publisher_$name");
	my $good_sql = bytes($hex);
	my $bad_sql = $bad_hex ? bytes($bad_hex) : 'NULL';
	my $insert = sub { "INSERT INTO t SELECT $_[0], g, ARRAY[g, NULL, b], b, to_json(g) FROM (SELECT $good_sql g, $bad_sql b) _;" };

	$node->safe_psql('postgres', "CREATE DATABASE $name ENCODING '$encoding' LOCALE 'C' TEMPLATE template0");
	$node->safe_psql($name, 'CREATE CAST (bytea AS text) WITHOUT FUNCTION; CREATE EXTENSION siphon; CREATE TABLE t (id int PRIMARY KEY, v text, a text[], b varchar(20), j json);' . $insert->(1));
	# A table and a column whose names have these bytes, and a table whose name can't be UTF-8.
	$node->safe_psql($name, "DO \$do\$BEGIN EXECUTE format('CREATE TABLE %1\$I (id int PRIMARY KEY, %1\$I int)', $good_sql); END\$do\$");
	$node->safe_psql($name, "DO \$do\$BEGIN EXECUTE format('CREATE TABLE %I (id int PRIMARY KEY)', $bad_sql); END\$do\$") if $bad_hex;
	$node->safe_psql($name, "SELECT siphon_add_table(oid, '$name') FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> 'siphon_registry'");
	wait_for_tables($node, database => $name);
	$node->safe_psql($name, $insert->(2) . "DO \$do\$BEGIN EXECUTE format('INSERT INTO %I VALUES (1, 7)', $good_sql); END\$do\$");
	$node->safe_psql($name, "DO \$do\$BEGIN EXECUTE format('INSERT INTO %I VALUES (3)', $bad_sql); END\$do\$") if $bad_hex;
	wait_confirmed($node, application => $name);

	my @rows = grep { $_->{columns} } @{ replay($nats, application => $name) };
	my ($snapshot, $event) = map { my $id = $_; grep { $_->{table} eq 't' && $_->{columns}{id} == $id } @rows } 1, 2;
	my $expected = { v => $text, a => [ $text, undef, $bad ], b => $bad, j => "\"$text\"" };

	for my $row ($snapshot, $event)
	{
		is_deeply($row->{columns}, { id => $row->{columns}{id}, %$expected }, "$encoding: what $row->{operation} brings is UTF-8, or bytes");
	}
	my ($named) = grep { $_->{table} eq $text } @rows;
	is($named->{columns}{$text}, 7, "$encoding: names are UTF-8");

	if ($bad_hex)
	{
		my ($odd) = grep { $_->{columns}{id} == 3 } @rows;

		is($odd->{table}, pack('H*', $bad_hex), "$encoding: a name that can't be is taken for LATIN1");
	}
	is(application($node, $name)->{restarts}, 0, "$encoding: the decoder went on");
	wherever_text_is($name) if $encoding eq 'UTF8';
	$publisher->stop;
}

# In a composite, a domain, a jsonb, a name, a default, a comment, a key; what is cut off in mid-character; and a NUL.
sub wherever_text_is
{
	my ($name) = @_;
	my $bad = bytes('c3');

	$node->safe_psql(
		$name, qq{
		CREATE TYPE pair AS (a int, b text);
		CREATE DOMAIN words AS text[];
		CREATE TABLE many (id text PRIMARY KEY, c pair, d words, j jsonb, n name, long text, nul text);
		DO \$do\$BEGIN
			EXECUTE format('ALTER TABLE many ADD COLUMN e text DEFAULT %L', $bad);
			EXECUTE format('COMMENT ON COLUMN many.e IS %L', $bad);
		END\$do\$;
		CREATE VIEW new AS SELECT $bad id, ROW(1, $bad)::pair c, ARRAY[$bad, 'x'] d, to_jsonb($bad) j, ($bad)::name n,
			repeat('x', 100) || @{[ bytes('e282') ]} long, @{[ bytes('6100') ]} nul;
		INSERT INTO many SELECT * FROM new});
	$node->safe_psql($name, "SELECT siphon_add_table('many', '$name', partitions => 4)");
	wait_for_tables($node, database => $name);
	$node->safe_psql($name, "UPDATE many SET n = 'good'; DELETE FROM many; INSERT INTO many SELECT * FROM new");
	wait_confirmed($node, application => $name);

	my %expected = (
		id => '\xc3',
		c => '\x28312cc329',
		d => [ '\xc3', 'x' ],
		j => '\x22c322',
		n => '\xc3',
		e => '\xc3',
		long => '\x' . '78' x 100 . 'e282',
		nul => '\x6100');
	my ($snapshot, $update, $delete, $insert) = grep { $_->{table} eq 'many' && $_->{operation} !~ /^SNAPSHOT./ } @{ replay($nats, application => $name) };

	is_deeply($snapshot->{columns}, \%expected, "$name: what is no text is bytes, in $snapshot->{operation}");
	is_deeply($update->{columns}, { %expected, n => 'good' }, "$name: in $update->{operation}");
	is($delete->{operation}, 'DELETE', "$name: it is a key, too");
	is_deeply($insert->{columns}, \%expected, "$name: in $insert->{operation}");
	is(application($node, $name)->{restarts}, 0, "$name: the decoder went on");
	return;
}

# 1,200 columns, arrays among them.
my $publisher = siphon_publisher($node, $nats);
my @columns = map { "c$_ " . ($_ % 100 ? 'int' : 'int[]') } 1 .. 1199;
my $values = 'SELECT g, ' . join ', ', map { $_ % 7 == 0 && $_ % 100 ? 'NULL' : $_ % 100 ? "g + $_" : "ARRAY[g, $_]" } 1 .. 1199;

$node->safe_psql('postgres', 'CREATE TABLE broad (id int PRIMARY KEY, ' . join(', ', @columns) . ");INSERT INTO broad $values FROM generate_series(1, 5) g");
$node->safe_psql('postgres', "SELECT siphon_add_table('broad', partitions => 2)");
wait_for_tables($node);
$node->safe_psql('postgres', "INSERT INTO broad $values FROM generate_series(6, 10) g; UPDATE broad SET c1199 = 0 WHERE id < 8; DELETE FROM broad WHERE id = 3");
wait_confirmed($node);
is_replayed($nats, $node, ['broad'], 'a table of 1,200 columns comes out whole');

done_testing();
