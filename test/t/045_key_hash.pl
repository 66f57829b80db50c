# The partition of a key is the one that the wire contract documents, so that a consumer can compute it: the test vectors
# of proto/siphon.proto, in snapshots and in changes. Keys that PostgreSQL holds for equal are in one partition.
use strict;
use warnings FATAL => 'all';

use FindBin;
use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

# What is documented: "bigint -1       0C4E8605C55716F7     text abc              565CF3688C6EBE4C", some to a line.
my $contract = slurp_file("$FindBin::RealBin/../../proto/siphon.proto");
my ($lines) = $contract =~ /Test vectors[^\n]*\n((?:\/\/ +.*[0-9A-F]{16}\n)+)/;
my %hash_of = $lines =~ /(?:\/\/ |\G) +(\S.*?) +([0-9A-F]{16})/g;

# A table for each kind of key. The key of the composite one is in another order than its columns; smaller integers are
# hashed as bigint is; a replica identity that is not the primary key is the key.
my %tables = (
	ints => 'k int PRIMARY KEY',
	smallints => 'k smallint PRIMARY KEY',
	varchars => 'k varchar(10) PRIMARY KEY',
	composites => 't text, n bigint, PRIMARY KEY (n, t)',
	identities => 'n bigint PRIMARY KEY, k text NOT NULL UNIQUE');
my @rows = (
	# table, what names the vector, row
	(map { [ $_->[0], "bigint $_->[1]", "(k) VALUES ($_->[1])" ] } map { my $table = $_; map { [ $table, $_ ] } 1, -1, 42 } qw(ints smallints)),
	[ 'varchars', 'text abc', "(k) VALUES ('abc')" ],
	[ 'varchars', 'text (empty)', "(k) VALUES ('')" ],
	[ 'composites', '(bigint 7, text bug)', "(n, t) VALUES (7, 'bug')" ],
	[ 'identities', 'text abc', "(n, k) VALUES (5, 'abc')" ]);

# All others are of one column of the type that their name begins with. A key is never NULL.
for my $vector (grep { !/^\(/ } sort keys %hash_of)
{
	my ($type, $value) = split / /, $vector, 2;
	my $table = 't_' . ($type =~ s/\W/_/gr);
	# Of two equal ones there can be one in a table.
	$table .= '_' . ($value =~ s/\W/_/gr) if $vector =~ /^(?:numeric 1\.5|double -?0)/;

	$tables{$table} = 'k ' . ($type =~ s/^double$/double precision/r) . ' PRIMARY KEY';
	push @rows, [ $table, $vector, "(k) VALUES ('" . ($value eq '(empty)' ? '' : $value) . "')" ];
}
cmp_ok(scalar(@rows), '>=', 30, 'the wire contract has test vectors');

# Of a hash in hexadecimal, where a Perl without 64-bit integers would do as well.
sub partition_of
{
	my ($hash, $partitions) = @_;
	my $rest = 0;

	$rest = ($rest * 16 + hex) % $partitions for split //, $hash;
	return $rest;
}

my $node = siphon_node('primary', conf => 'siphon.max_snapshots = 3');
my $nats = siphon_nats();

# Few partitions, of rows that are there already and then change; and many, of which more of the hash's bits decide.
for my $partitions (7, 1000)
{
	my $application = "of_$partitions";
	my $schema = "s$partitions";
	my $publisher = siphon_publisher($node, $nats, application => $application, name => "publisher_$partitions");
	my $insert = join ';', map { "INSERT INTO $schema.$_->[0] " . ($_->[2] =~ s/\((.*?)\) VALUES \(/($1, vector) VALUES (/r =~ s/\)$/, '$_->[1]')/r) } @rows;
	my $add = sub {
		my ($snapshot) = @_;

		$node->safe_psql('postgres',
			"SELECT siphon_add_table(oid, '$application', $partitions, snapshot => $snapshot, workers => 1)"
			  . " FROM pg_class WHERE relnamespace = '$schema'::regnamespace AND relkind = 'r'");
	};

	$node->safe_psql('postgres', "CREATE SCHEMA $schema;"
		  . join(';', map { "CREATE TABLE $schema.$_ (v int, $tables{$_}, vector text)" } sort keys %tables)
		  . ";ALTER TABLE $schema.identities REPLICA IDENTITY USING INDEX identities_k_key");
	if ($partitions == 1000)
	{
		$add->('false');
		$node->safe_psql('postgres', $insert);
	}
	else
	{
		$node->safe_psql('postgres', $insert);
		$add->('true');
		wait_for_tables($node, application => $application);
		$node->safe_psql('postgres', join ';', map { "UPDATE $schema.$_ SET v = 1" } sort keys %tables);
	}
	wait_confirmed($node, application => $application);

	my %came;
	for my $event (grep { $_->{columns} } @{ replay($nats, application => $application) })
	{
		push @{ $came{"$event->{table}: $event->{columns}{vector}"} }, $event->{operation} . ' ' . ($event->{partition} // 0);
	}
	is_deeply(
		\%came,
		{
			map {
				my $partition = partition_of($hash_of{ $_->[1] }, $partitions);

				("$_->[0]: $_->[1]" =>
					  [ map { "$_ $partition" } $partitions == 1000 ? ('INSERT') : ('SNAPSHOT', 'UPDATE') ])
			} @rows
		},
		"all vectors, $partitions partitions");
}

# ---- equal keys -----------------------------------------------------------------------------------------------------

my $publisher = siphon_publisher($node, $nats);
my $key = "(SELECT string_agg(md5(g::text), '') FROM generate_series(1, 80) g)";

$node->safe_psql(
	'postgres', qq{
	CREATE DOMAIN amount AS numeric CHECK (value >= 0);
	CREATE TABLE numerics (k amount PRIMARY KEY, v int);
	CREATE TABLE doubles (k float8 PRIMARY KEY, v int);
	CREATE TABLE chars (k bpchar PRIMARY KEY, v int);
	CREATE TABLE long_keys (k text PRIMARY KEY, v int);
	ALTER TABLE long_keys ALTER k SET STORAGE EXTERNAL});
add_table($node, $_, partitions => 8) for qw(numerics doubles chars long_keys);
$node->safe_psql(
	'postgres', qq{
	INSERT INTO numerics SELECT g, g FROM generate_series(0, 40) g;
	UPDATE numerics SET k = k::numeric(10, 2);
	DELETE FROM numerics;
	INSERT INTO numerics SELECT g::numeric(10, 3), g FROM generate_series(0, 40) g;
	INSERT INTO doubles VALUES (0, 0);
	UPDATE doubles SET k = '-0' WHERE k = 0;
	INSERT INTO chars VALUES ('a', 0);
	UPDATE chars SET k = 'a  ' WHERE k = 'a';
	INSERT INTO long_keys SELECT g || $key, g FROM generate_series(1, 20) g;
	UPDATE long_keys SET v = v + 100;
	DELETE FROM long_keys WHERE v % 2 = 0});
wait_confirmed($node);

my $events = replay($nats);
my %in;
$in{"$_->{table} $_->{columns}{v}"}{ $_->{partition} // 0 } = 1 for grep { $_->{columns} && $_->{table} =~ /^(?:numerics|doubles|chars)$/ } @$events;
is(scalar(keys %in), 43, 'keys that are equal and written differently:');
is(join(' ', grep { keys %{ $in{$_} } != 1 } sort keys %in), '', 'each is in one partition');
is_deeply(
	[ map { [ $_->{operation}, $_->{old}{k} ] } grep { $_->{operation} =~ /UPDATE/ && $_->{table} eq 'doubles' } @$events ],
	[ [ 'UPDATE', 0 ] ],
	'so an UPDATE from one to the other stays one, and says which was there');
is(scalar(grep { $_->{table} eq 'long_keys' && $_->{operation} eq 'UPDATE' && length $_->{columns}{k} > 2500 && $_->{old} } @$events),
	20, 'a key that is large enough to be stored apart comes with each UPDATE, and so does the old one');
is_replayed($nats, $node, ['long_keys'], 'and names its row');

# Where it can't be promised, no table is divided.
$node->safe_psql(
	'postgres', q{
	CREATE TYPE mood AS ENUM ('sad', 'happy');
	CREATE TABLE fine (a mood, b inet, c "char", d name, e macaddr, f timetz, g money, h bit varying, i pg_lsn, j cidr,
		PRIMARY KEY (a, b, c, d, e, f, g, h, i, j));
	CREATE COLLATION anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
	CREATE TABLE n_collation (k text COLLATE anycase PRIMARY KEY);
	CREATE TABLE n_character (k char(5) COLLATE anycase PRIMARY KEY);
	CREATE TABLE n_interval (v int, k interval, PRIMARY KEY (v, k));
	CREATE TABLE n_jsonb (k jsonb PRIMARY KEY);
	CREATE TABLE n_array (k numeric[] PRIMARY KEY);
	CREATE TABLE n_range (k numrange PRIMARY KEY)});
add_table($node, 'fine', partitions => 2);
my @undivided = qw(n_collation n_character n_interval n_jsonb n_array n_range);

if ($node->psql('postgres', 'CREATE EXTENSION citext; CREATE TABLE n_citext (k citext PRIMARY KEY)', on_error_stop => 1) == 0)
{
	push @undivided, 'n_citext';
}
else
{
	diag('citext is not there');
}
for my $table (@undivided)
{
	fails_with(
		$node, "SELECT siphon_add_table('$table', partitions => 2)", $table,
		error => qr/table public\.$table cannot be divided by its key/,
		detail => qr/Values of column "k" can be equal and written differently/,
		hint => qr/Call siphon_add_table\(\) with partitions => 1/);
	add_table($node, $table);
}

done_testing();
