# What comes out equals what is in the table, for each type and its edge values: rows that a snapshot brings, rows that
# events bring, and arrays of all that, of two shapes. The replay checker makes rows of what came and holds them against
# the table on the server, to the last digit; 002_types.pl looks at how values are represented.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

# Each type with expressions for its values. docs/reference.md has the same list.
my @types = (
	[ 'smallint', '-32768', '0', '32767' ],
	[ 'integer', '-2147483648', '0', '2147483647' ],
	[ 'bigint', "'-9223372036854775808'", '0', "'9223372036854775807'" ],
	[ 'real', "'NaN'", "'Infinity'", "'-Infinity'", "'-0'", '0.1', '3.4028235e38', '1e-45' ],
	[ 'double precision', "'NaN'", "'Infinity'", "'-Infinity'", "'-0'", '0.1', '1.7976931348623157e308', '5e-324' ],
	[
		'numeric', "'NaN'", "'Infinity'", "'-Infinity'", '0', '0.000', '-1.500', '1e-16383', '1e131071 + 1e-16383',
		"repeat('9', 1000)::numeric / 7"
	],
	[ 'numeric(10,2)', '-1.5', '99999999.99', "'NaN'" ],
	[ 'numeric(2,-3)', '99000' ],
	[ 'boolean', 'true', 'false' ],
	[ 'text', "''", "'null'", "E'a\\tb\\nc\\\\d\"{},\\u00fc\\U0001f600'", "repeat('large', 50000)" ],
	[ 'varchar(20)', "''", "'abc  '" ],
	[ 'char(5)', "''", "'ab'", "'abcde'" ],
	[ '"char"', "'x'", "''", "'\\377'" ],
	[ 'name', "'a name'", "''" ],
	[ 'bytea', "''", "'\\x00ff5c'", "decode(repeat('00ff', 50000), 'hex')" ],
	[ 'uuid', "'00000000-0000-0000-0000-000000000000'", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'" ],
	[ 'json', "'{\"b\":1,  \"a\":[1,2], \"b\":2}'", "'null'", "'\"\\u00fc\"'", "' 1e400 '" ],
	# A row holds small ones with a header of one byte, so that numbers in them are not aligned.
	[ 'jsonb', "'{\"b\":1.0,  \"a\":[1,2,{}]}'", "'-1.5'", "'{\"a\":1e-20,\"bb\":[12345678901234567890.125],\"ccc\":-7}'", "'null'", "'\"\\u00fc\\\\ \"'", "'1e400'" ],
	[ 'xml', "E'<a b=\"c\">\\u00fc&amp;</a>'", "''" ],
	[ 'date', "'infinity'", "'-infinity'", "'4714-11-24 BC'", "'0001-12-31 BC'", "'2024-02-29'", "'5874897-12-31'" ],
	[ 'time', "'00:00'", "'24:00:00'", "'13:14:15.123456'" ],
	[ 'timetz', "'24:00:00-15:59:59'", "'13:14:15.123456+02'" ],
	[
		'timestamp', "'infinity'", "'-infinity'", "'4714-11-24 00:00:00 BC'", "'0044-03-15 01:02:03.000001 BC'",
		"'1969-12-31 23:59:59.999999'", "'2024-02-29 13:14:15.5'", "'294246-12-31 23:59:59.999999'", "'294276-12-31 23:59:59.999999'"
	],
	[
		'timestamptz', "'infinity'", "'-infinity'", "'4714-11-24 00:00:00+00 BC'", "'0044-03-15 01:02:03.000001+00 BC'",
		"'2024-02-29 13:14:15.5+02'", "'294276-12-31 23:59:59.999999+00'"
	],
	[ 'interval', "'-1 mon 5 days -00:00:00.000001'", "'30 days'", "'178000000 years'", "'0'" ],
	[ 'inet', "'192.168.0.1/24'", "'::1'", "'::ffff:1.2.3.4/128'" ],
	[ 'cidr', "'10.0.0.0/8'", "'2001:db8::/32'" ],
	[ 'macaddr', "'08:00:2b:01:02:03'" ],
	[ 'macaddr8', "'08:00:2b:ff:fe:01:02:03'" ],
	[ 'point', "'(1.5,-2)'", "'(NaN,Infinity)'", "'(0.1,5e-324)'" ],
	[ 'line', "'{1,2.5,-3}'" ],
	[ 'lseg', "'[(1,2),(3,4)]'" ],
	[ 'box', "'(3,4),(1,2)'" ],
	[ 'path', "'[(1,2),(3,4)]'", "'((1,2),(3,4))'" ],
	[ 'polygon', "'((0,0),(1,0),(0,0.1))'" ],
	[ 'circle', "'<(1,2),0.1>'" ],
	[ 'bit(3)', "B'101'" ],
	[ 'bit varying', "B''", "B'101'", "repeat('10', 500)::varbit" ],
	[ 'tsvector', "'''it''''s'':1A,2 b'", "''" ],
	[ 'tsquery', "'a & !b:*A <2> c'" ],
	[ 'oid', '0', '4294967295' ],
	[ 'xid', "'4294967295'" ],
	[ 'cid', "'7'" ],
	[ 'tid', "'(4294967295,65535)'" ],
	[ 'xid8', "'18446744073709551615'" ],
	[ 'pg_lsn', "'FFFFFFFF/FFFFFFFF'", "'0/0'" ],
	[ 'pg_snapshot', "'10:20:10,14,15'" ],
	[ 'regclass', "'types.\"odd \"\"Name\"\"\"'", "'pg_class'" ],
	[ 'regtype', "'integer'", "'types.mood'" ],
	[ 'regproc', "'pg_catalog.now'" ],
	[ 'regprocedure', "'pg_catalog.abs(integer)'" ],
	[ 'regoper', "'pg_catalog.||/'" ],
	[ 'regoperator', "'pg_catalog.+(integer,integer)'" ],
	[ 'regnamespace', "'types'" ],
	[ 'regrole', "'pg_monitor'" ],
	[ 'regcollation', "'\"C\"'" ],
	[ 'regconfig', "'english'" ],
	[ 'regdictionary', "'simple'" ],
	[ 'money', "'-92233720368547758.08'", "'1234.5'" ],
	[ 'int2vector', "'1 -2 3'", "''" ],
	[ 'oidvector', "'1 4294967295'" ],
	[ 'jsonpath', "'\$.a[*] ? (@ > 1)'" ],
	[ 'int4range', "'empty'", "'[1,10)'", "'(,)'" ],
	[ 'numrange', "'[1.0,2.50]'", "'(-infinity,NaN]'" ],
	[ 'daterange', "'[infinity,]'", "'[0044-03-15 BC,2024-01-01)'" ],
	[ 'tstzrange', "'[2024-01-01 00:00:00.000001+00,infinity)'" ],
	[ 'int4multirange', "'{}'", "'{[1,2),[5,9)}'" ],
	[ 'datemultirange', "'{[2024-01-01,2024-02-01),[2025-01-01,)}'" ],
	[ 'types.mood', "'sad'", "'\"q\", {x} \\'" ],
	[ 'types.positive', '7' ],
	[ 'types.padded', "'ab'" ],
	[ 'types.numbers', "'{1,NULL,3}'", "'[0:1]={7,8}'" ],
	[ 'types.grid', "'{{1,2},{3,4}}'" ],
	[ 'types.point3', "'(1,,\"x \"\"y\"\"\")'", "'(,,)'", "ROW(1, '{NaN,1.50}', E'\\\\,')" ],
	[ 'types.textrange', "'[a,\"b,c\")'" ]);

# Of extensions that are there.
my @extensions = (
	[ 'hstore', [ 'public.hstore', q('a=>1, "b c"=>NULL, "\\"{,"=>"\\\\\\\\"'), "''" ] ],
	[ 'citext', [ 'public.citext', "'MiXed'", "''" ] ],
	[ 'ltree', [ 'public.ltree', "'Top.Science'", "''" ] ],
	[ 'cube', [ 'public.cube', "'(1,2),(3,4)'" ] ],
	[ 'isn', [ 'public.isbn', "'978-0-393-04002-9'" ] ]);

my $node = siphon_node('primary', conf => "lc_monetary = C\nsiphon.max_snapshots = 4");
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);
my $version = $node->pg_version;

push @types, [ 'interval', "'infinity'", "'-infinity'" ] if $version >= 17;
if ($node->psql('postgres', q{SELECT '<a/>'::xml}) != 0)
{
	diag('xml is not built in');
	@types = grep { $_->[0] ne 'xml' } @types;
}
for my $extension (@extensions)
{
	my ($name, @its) = @$extension;

	if ($node->psql('postgres', "CREATE EXTENSION $name") == 0)
	{
		push @types, @its;
	}
	else
	{
		diag("extension $name is not there");
	}
}

$node->safe_psql(
	'postgres', q{
	CREATE SCHEMA types;
	CREATE TABLE types."odd ""Name""" ();
	CREATE FUNCTION types.quoted(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT '"' || replace(replace($1, '\\', '\\\\'), '"', '\\"') || '"'$$;
	CREATE TYPE types.mood AS ENUM ('sad', '"q", {x} \');
	CREATE DOMAIN types.positive AS int CHECK (value > 0);
	CREATE DOMAIN types.padded AS char(4);
	CREATE DOMAIN types.numbers AS int[];
	CREATE DOMAIN types.grid AS types.positive[];
	CREATE TYPE types.point3 AS (x int, y numeric[], label text);
	CREATE TYPE types.textrange AS RANGE (subtype = text, collation = "C");
});

# A table for each type: a value, and arrays of it that are plain, of two dimensions, and with lower bounds and NULLs.
my (@tables, $create, $before, $after);

for my $number (0 .. $#types)
{
	my ($type, @values) = @{ $types[$number] };
	my $table = sprintf 'types.t%02d', $number;
	my $id = 0;

	push @tables, $table;
	$create .= "CREATE TABLE $table (id int PRIMARY KEY, v $type, plain $type\[], deep $type\[]);\n";
	my $delimiter = $type eq 'box' ? ';' : ',';

	for my $rows (\$before, \$after)
	{
		$$rows .= "INSERT INTO $table SELECT " . ++$id . ", v, ('{' || q || '}')::$type\[], ('[0:1][-5:-5]={{' || q || '}$delimiter\{' || q || '}}')::$type\[]"
		  . " FROM CAST($_ AS $type) v, types.quoted(v::text) q;\n"
		  for @values;
		$$rows .= "INSERT INTO $table VALUES (" . ++$id . ", NULL, '{}', '[3:5]={" . join($delimiter, ('NULL') x 3) . "}');\n";
		$$rows .= "INSERT INTO $table SELECT " . ++$id . ", NULL, ('{' || string_agg(types.quoted(v::text), '$delimiter' ORDER BY id) || '}')::$type\[] FROM $table;\n";
		$id += 100;
	}
	# Old rows as well as new ones.
	$create .= "ALTER TABLE $table REPLICA IDENTITY FULL;\n" if $number % 2;
	$after .= "UPDATE $table SET v = NULL, plain = deep WHERE id = 101; UPDATE $table SET id = id + 1000 WHERE id > 101; DELETE FROM $table WHERE id = 1;\n";
}

# Columns that have their values from elsewhere.
my $virtual = $version >= 18 ? ', w int[] GENERATED ALWAYS AS (ARRAY[v, id]) VIRTUAL' : '';

push @tables, 'types.generated';
$create .= "CREATE TABLE types.generated (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int, s int[] GENERATED ALWAYS AS (ARRAY[v, id, NULL]) STORED,"
  . "n int GENERATED BY DEFAULT AS IDENTITY (START 7)$virtual);\n";
$_ .= 'INSERT INTO types.generated (v) VALUES (1), (NULL); UPDATE types.generated SET v = 5 WHERE v = 1;' for $before, $after;
# What Siphon writes by itself, and not by the type's output function, in random shapes.
my $seed = $ENV{SIPHON_SEED} // int rand 1_000_000;

srand $seed;
diag("random values: SIPHON_SEED=$seed");

sub digits { return join '', map { int rand 10 } 1 .. int rand(1 + $_[0]) }

sub random_number
{
	my $zeros = sub { '0' x (rand() < 0.2 ? rand 12 : 0) };
	my $number = (rand() < 0.3 ? '-' : '') . digits(30) . $zeros->() . (rand() < 0.7 ? '.' . $zeros->() . digits(30) . $zeros->() : '');

	return '0' unless $number =~ /\d/;
	return $number . (rand() < 0.2 ? 'e' . (int(rand 200) - 100) : '');
}

sub random_string
{
	my @pieces = ('a' .. 'z', ' ', '\\"', '\\\\', '\\n', '\\u0001', '\\u001f', "\x7f", '/', "\xc3\xbc", "\xf0\x9f\x98\x80", 'long enough');

	return '"' . join('', map { $pieces[ rand @pieces ] } 1 .. (rand() < 0.9 ? int rand 14 : int rand 300)) . '"';
}

sub random_json
{
	my ($depth) = @_;
	my $items = rand() < 0.05 ? 100 : int rand 6;
	my $kind = rand($depth > 0 ? 8 : 6);

	return '[' . join(',', map { random_json($depth - 1) } 1 .. $items) . ']' if $kind >= 7;
	return '{' . join(',', map { random_string() . ':' . random_json($depth - 1) } 1 .. $items) . '}' if $kind >= 6;
	return random_string() if $kind >= 3;
	return random_number() =~ s/^(-?)0*(?=\d)/$1/r =~ s/^(-?)\./${1}0./r =~ s/\.(?=e|$)//r if $kind >= 1;
	return (qw(true false null))[ rand 3 ];
}

push @tables, 'types.random';
$create .= 'CREATE TABLE types.random (id int PRIMARY KEY, n numeric, j jsonb);';
for my $id (1 .. 600)
{
	my $json = $id % 300 == 0 ? ('[{"deep": ' x 150) . '1' . ('}]' x 150) : random_json(5);
	my $row = "INSERT INTO types.random VALUES ($id, '" . random_number() . "', \$json\$$json\$json\$);\n";

	($id <= 300 ? $before : $after) .= $row;
}
$node->safe_psql('postgres', $create);
$node->safe_psql('postgres', $before);

# Many tables by one call each, and one snapshot at a time.
$node->safe_psql('postgres', join '', map { "SELECT siphon_add_table('$_', workers => 1);\n" } @tables);
wait_for_tables($node);
$node->safe_psql('postgres', $after);
wait_confirmed($node);

# One reading of the stream for all tables.
my $replay = is_replayed($nats, $node, \@tables, 'what came is what the tables hold');
my $rows = $node->safe_psql('postgres', 'SELECT ' . join ' + ', map { "(SELECT count(*) FROM $_)" } @tables);
my $came = 0;

$came += $_ for values %{ $replay->{rows} };
is($came, $rows, "all $rows rows were compared");
cmp_ok($replay->{count}{$_} // 0, '>=', @types, "there were events $_") for qw(SNAPSHOT INSERT UPDATE DELETE);
is(application($node)->{restarts}, 0, 'nothing had to be done twice');

# Where a virtual generated column would be, there is none.
my ($generated) = @{ replay($nats, table => 'types.generated') }[1];
is(join(' ', sort keys %{ $generated->{columns} }), 'id n s v', 'stored generated and identity columns are published');

done_testing();
