# The partition of a key is the one that the wire contract documents, so that a consumer can compute it: the test vectors
# of proto/siphon.proto, published.
use strict;
use warnings FATAL => 'all';

use FindBin;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

# What is documented: "bigint -1       0C4E8605C55716F7     text abc              565CF3688C6EBE4C", two to a line.
my $contract = slurp_file("$FindBin::RealBin/../../proto/siphon.proto");
my ($lines) = $contract =~ /Test vectors[^\n]*\n((?:\/\/ +.*[0-9A-F]{16}\n)+)/;
my %hash_of = $lines =~ /(?:\/\/ |\G) +(\S.*?) +([0-9A-F]{16})/g;

is_deeply(
	[ sort keys %hash_of ],
	[ sort 'bigint 1', 'bigint -1', 'bigint 42', 'text abc', 'text (empty)', '(bigint 7, text bug)',
		'list {}', 'list {1,NULL}', 'list [0:0]={a}', 'list {{1},{2}}' ],
	'the wire contract has test vectors');

# A table for each kind of key. The key of the composite one is in another order than its columns; smaller integers are
# hashed as bigint is; a replica identity that is not the primary key is the key.
my %tables = (
	bigints => 'k bigint PRIMARY KEY',
	ints => 'v text, k int PRIMARY KEY',
	smallints => 'k smallint PRIMARY KEY',
	texts => 'v text, k text PRIMARY KEY',
	varchars => 'k varchar(10) PRIMARY KEY',
	lists => 'k int[] PRIMARY KEY',
	text_lists => 'k text[] PRIMARY KEY',
	composites => 't text, v text, n bigint, PRIMARY KEY (n, t)',
	identities => 'k bigint PRIMARY KEY, t text NOT NULL UNIQUE');
my @rows = (
	# table, row, what names it, vector
	(map { my $table = $_; map { [ $table, "(k) VALUES ($_)", $_, "bigint $_" ] } 1, -1, 42 } qw(bigints ints smallints)),
	(map { [ $_, "(k) VALUES ('abc')", 'abc', 'text abc' ], [ $_, "(k) VALUES ('')", '', 'text (empty)' ] } qw(texts varchars)),
	(map { [ 'lists', "(k) VALUES ('$_->[0]')", $_->[1], "list $_->[0]" ] } [ '{}', '[]' ], [ '{1,NULL}', '[1,null]' ], [ '{{1},{2}}', '[[1],[2]]' ]),
	[ 'text_lists', "(k) VALUES ('[0:0]={a}')", '[{"bounds":"[0:0]"},"a"]', 'list [0:0]={a}' ],
	[ 'composites', "(n, t) VALUES (7, 'bug')", '7', '(bigint 7, text bug)' ],
	[ 'identities', "(k, t) VALUES (5, 'abc')", '5', 'text abc' ]);

# Of a hash in hexadecimal, where a Perl without 64-bit integers would do as well.
sub partition_of
{
	my ($hash, $partitions) = @_;
	my $rest = 0;

	$rest = ($rest * 16 + hex) % $partitions for split //, $hash;
	return $rest;
}

my $json = JSON::PP->new;
my $node = siphon_node('primary');
my $nats = siphon_nats();

# Few partitions; and many, of which more of the hash's bits decide.
for my $partitions (4, 1000)
{
	my $application = "of_$partitions";
	my $schema = "s$partitions";

	my $publisher = siphon_publisher($node, $nats, application => $application, name => "publisher_$partitions");
	$node->safe_psql('postgres', "CREATE SCHEMA $schema;"
		  . join(';', map { "CREATE TABLE $schema.$_ ($tables{$_})" } sort keys %tables)
		  . ";ALTER TABLE $schema.identities REPLICA IDENTITY USING INDEX identities_t_key");
	add_table($node, "$schema.$_", application => "'$application'", partitions => $partitions) for sort keys %tables;
	$node->safe_psql('postgres', join ';', map { "INSERT INTO $schema.$_->[0] $_->[1]" } @rows);
	wait_confirmed($node, application => $application);

	my %partition;
	for my $event (@{ replay($nats, application => $application) })
	{
		my $name = $event->{columns}{k} // $event->{columns}{n};

		$name = $json->encode($name) if ref $name;

		$partition{"$event->{table} $name"} = $event->{partition} // 0;
	}
	is($partition{"$_->[0] $_->[2]"}, partition_of($hash_of{ $_->[3] }, $partitions),
		"$_->[3] of $_->[0], $partitions partitions")
	  for @rows;
}

done_testing();
