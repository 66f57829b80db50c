# Values arrive as they are: a sample of each kind of the wire, its extremes and NULL, values of types without a kind
# of their own, large values, and large values that an UPDATE left alone.
use strict;
use warnings FATAL => 'all';

use JSON::PP;
use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

# One column for each: type, then pairs of a SQL literal and what arrives.
my @samples = (
	[ 'smallint', '-32768' => -32768, '32767' => 32767 ],
	[ 'integer', '-2147483648' => -2147483648, '2147483647' => 2147483647 ],
	[ 'bigint', "'-9223372036854775808'" => '-9223372036854775808', '9223372036854775807' => '9223372036854775807' ],
	[ 'oid', '4294967295' => 4294967295 ],
	[ 'boolean', 'true' => 1, 'false' => 0 ],
	[ 'real', '1.5' => 1.5, "'NaN'" => 'NaN', "'-Infinity'" => '-Infinity' ],
	[ 'double precision', '0.1' => 0.1, '1e300' => 1e300, "'Infinity'" => 'Infinity' ],
	[
		'numeric',
		'12345678901234567890.123456789' => '12345678901234567890.123456789',
		'1.500' => '1.500',
		'1e-20' => '0.00000000000000000001',
		"'NaN'" => 'NaN',
		"'-Infinity'" => '-Infinity'
	],
	[ 'numeric(10,2)', '1.5' => '1.50' ],
	[ 'text', "''" => '', "E'line\\nbreak \\\\ \"quoted\" \\u00fc \\U0001f600'" => "line\nbreak \\ \"quoted\" \x{fc} \x{1f600}" ],
	[ 'varchar(10)', "'abc'" => 'abc' ],
	[ 'char(5)', "'ab'" => 'ab   ' ],
	[ 'name', "'a name'" => 'a name' ],
	[ 'bytea', "'\\x00ff10'" => '\x00ff10', "''" => '\x' ],
	[ 'uuid', "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'" => 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' ],
	[ 'json', "'{\"b\":1,  \"a\":[1,2]}'" => '{"b":1,  "a":[1,2]}' ],
	[ 'jsonb', "'{\"b\":1,  \"a\":[1,2]}'" => '{"a": [1, 2], "b": 1}' ],
	[
		'date',
		"'2024-02-29'" => '2024-02-29',
		"'0044-03-15 BC'" => '0044-03-15 BC',
		"'infinity'" => 'infinity',
		"'-infinity'" => '-infinity',
		"'5874897-12-31'" => '5874897-12-31'
	],
	[ 'time', "'24:00:00'" => '24:00:00', "'13:14:15.123456'" => '13:14:15.123456' ],
	[ 'timetz', "'13:14:15+02'" => '13:14:15+02' ],
	[
		'timestamp',
		"'2024-02-29 13:14:15.5'" => '2024-02-29T13:14:15.5',
		"'1969-12-31 23:59:59.999999'" => '1969-12-31T23:59:59.999999',
		"'4713-01-01 00:00:00 BC'" => '4713-01-01T00:00:00 BC',
		"'infinity'" => 'infinity'
	],
	[
		'timestamptz',
		"'2024-02-29 13:14:15+02'" => '2024-02-29T11:14:15Z',
		"'-infinity'" => '-infinity'
	],
	[ 'interval', "'1 day 02:03'" => '1 day 02:03:00' ],
	[
		'integer[]',
		"'{1,NULL,3}'" => '[1,null,3]',
		"'{{1,2},{3,4}}'" => '[[1,2],[3,4]]',
		"'[-1:0][2:2]={{1},{2}}'" => '[{"bounds":"[-1:0][2:2]"},[1],[2]]',
		"'{}'" => '[]'
	],
	[ 'text[]', q('{"a,b",NULL,"NULL"}') => '["a,b",null,"NULL"]' ],
	[ 'bytea[]', "ARRAY['\\x00ff'::bytea]" => '["\\\\x00ff"]' ],
	[ 'positives[]', q('{"{1,2}",NULL,"{}"}') => '[{"list":[1,2]},null,{"list":[]}]' ],
	[ 'int2vector', "'1 -2'" => '1 -2' ],
	[ 'mood', "'happy'" => 'happy' ],
	[ 'positive', '7' => 7 ],
	[ 'point3', "'(1,2,\"x y\")'" => '(1,2,"x y")' ],
	[ 'int4range', "'[1,10)'" => '[1,10)' ],
	[ 'inet', "'192.168.0.1/24'" => '192.168.0.1/24' ],
	[ 'bit varying(8)', "B'101'" => '101' ],
	[ 'tsvector', "'a b'" => "'a' 'b'" ]);

my $json = JSON::PP->new->allow_nonref;
my $node = siphon_node('primary');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);
my $columns = join ', ', map { "c$_ $samples[$_][0]" } 0 .. $#samples;

$node->safe_psql(
	'postgres', qq{
	CREATE TYPE mood AS ENUM ('sad', 'happy');
	CREATE DOMAIN positive AS int CHECK (value > 0);
	CREATE DOMAIN positives AS positive[];
	CREATE TYPE point3 AS (x int, y int, label text);
	CREATE TABLE samples (id int PRIMARY KEY, $columns);
	CREATE TABLE large (id int PRIMARY KEY, big text, small int);
	ALTER TABLE large ALTER big SET STORAGE EXTERNAL;
	CREATE TABLE large_full (LIKE large INCLUDING ALL);
	ALTER TABLE large_full REPLICA IDENTITY FULL;
	CREATE TABLE large_parts (big text, id int, PRIMARY KEY (id));
	ALTER TABLE large_parts ALTER big SET STORAGE EXTERNAL;
	CREATE TABLE generated (id int PRIMARY KEY, doubled int GENERATED ALWAYS AS (id * 2) STORED);
});
add_table($node, $_) for qw(samples large large_full generated);
add_table($node, 'large_parts', partitions => 8);

# A row for each sample, with NULL in all other columns.
my $sql = '';
my @expected;
for my $column (0 .. $#samples)
{
	my ($type, @pairs) = @{ $samples[$column] };

	while (my ($literal, $value) = splice @pairs, 0, 2)
	{
		$sql .= 'INSERT INTO samples (id, c' . $column . ') VALUES (' . @expected . ", $literal);\n";
		push @expected, [ $column, $literal, $value ];
	}
}
$node->safe_psql('postgres', $sql);
wait_confirmed($node);

my %row = map { $_->{columns}{id} => $_->{columns} } @{ replay($nats, table => 'public.samples') };
for my $id (0 .. $#expected)
{
	my ($column, $literal, $value) = @{ $expected[$id] };
	my $name = "$samples[$column][0] " . ($literal =~ s/[^ -~]/?/gr);

	my $came = $row{$id}{"c$column"};

	is(ref $came eq 'ARRAY' ? $json->encode($came) : $came, $value, $name);
}
is(scalar(keys %row), scalar(@expected), 'each row arrived');
is(scalar(grep { defined } map { values %$_ } values %row), 2 * @expected, 'all else is NULL');

# Large values: through a ring of one megabyte, in several frames, and in parts where NATS takes one megabyte.
$node->safe_psql(
	'postgres', q{
	INSERT INTO large VALUES (1, repeat('0123456789', 300000), 1);
	UPDATE large SET small = 2;
	UPDATE large SET big = repeat('9876543210', 300000);
	INSERT INTO large_full VALUES (1, repeat('full', 10000), 1);
	UPDATE large_full SET small = 2;
	INSERT INTO large_parts SELECT repeat('part', 10000), g FROM generate_series(1, 20) g;
	UPDATE large_parts SET id = id + 100;
	INSERT INTO generated VALUES (21);
});
wait_confirmed($node);

my ($insert, $small, $big) = @{ replay($nats, table => 'public.large') };
is(length $insert->{columns}{big}, 3000000, 'a text of 3 MB arrives');
ok($insert->{columns}{big} eq '0123456789' x 300000, 'as it is');
is_deeply($small->{unchanged}, ['big'], 'one that an UPDATE left alone is named as unchanged');
is($small->{columns}{small}, 2, 'beside the value that changed');
ok(!exists $small->{columns}{big}, 'and has no value');
ok($big->{columns}{big} eq '9876543210' x 300000, 'one that an UPDATE changed is there');

my ($full) = grep { $_->{operation} eq 'UPDATE' } @{ replay($nats, table => 'public.large_full') };
ok($full->{columns}{big} eq 'full' x 10000, 'with REPLICA IDENTITY FULL the large value that was left alone is there');
ok($full->{old}{big} eq 'full' x 10000, 'in the old row too');

my @moved = grep { $_->{operation} ne 'DELETE' && $_->{columns}{id} > 100 } @{ replay($nats, table => 'public.large_parts') };
is(scalar(grep { "@{$_->{unchanged} // []}" eq 'big' } @moved),
	20, 'an INSERT made of an UPDATE that changed the key may hold unchanged values');
cmp_ok(scalar(grep { $_->{operation} eq 'INSERT' } @moved), '>', 0, 'and there are such INSERTs');
is(replay($nats, table => 'public.generated')->[0]{columns}{doubled}, 42, 'a stored generated column is published');

done_testing();
