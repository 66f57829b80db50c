# Names that change while events wait to be published: a column that is excluded stays excluded whatever it is called,
# and a table that takes over the name of another continues that one's subject behind what came before.
use strict;
use warnings FATAL => 'all';

use File::Find;
use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();
# Uncompressed, for the secret to be found in what NATS stores, if it gets there.
my $publisher = siphon_publisher($node, $nats, arguments => [ '--compression-level', '0' ]);

# ---- an excluded column ---------------------------------------------------------------------------------------------

# As the tables have them; the statements, which the server logs, hold only their parts.
my $secret = 'hunter' . 'two' . 'swordfish';
my $secret_sql = q{'hunter' || 'two' || 'swordfish'};
my $canary_sql = q{'found' || 'canary'};

$node->safe_psql(
	'postgres', q{
	CREATE TABLE people (id int PRIMARY KEY, name text, secret text);
	CREATE TABLE people_full (id int PRIMARY KEY, name text, secret text);
	ALTER TABLE people_full REPLICA IDENTITY FULL});
add_table($node, $_, exclude_columns => "'{secret}'") for qw(people people_full);

# Rows inserted, changed and deleted.
my $rows = 0;

sub put_rows
{
	my ($hidden) = @_;

	for my $table (qw(people people_full))
	{
		my $id = ++$rows;

		$node->safe_psql(
			'postgres', qq{
			INSERT INTO $table (id, name, $hidden) VALUES ($id, $canary_sql, $secret_sql);
			UPDATE $table SET name = $canary_sql || '2', $hidden = $hidden || 'x' WHERE id = $id;
			DELETE FROM $table WHERE id = $id;
			INSERT INTO $table (id, name, $hidden) VALUES (-$id, $canary_sql, $secret_sql)});
	}
	return;
}

put_rows('secret');
$node->safe_psql('postgres', "ALTER TABLE $_ RENAME secret TO renamed") for qw(people people_full);
put_rows('renamed');

# Also by a decoder that has never seen it under its old name, by a server that has restarted, and with another one that
# now has the old name.
my $pid = application($node)->{decoder_pid};
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
put_rows('renamed');
$node->restart;
put_rows('renamed');
$node->safe_psql('postgres', "ALTER TABLE $_ ADD secret text") for qw(people people_full);
put_rows('secret');
put_rows('renamed');
$node->safe_psql('postgres', "ALTER TABLE $_ RENAME renamed TO again; ALTER TABLE $_ RENAME name TO full_name;"
	  . "ALTER TABLE $_ RENAME full_name TO name") for qw(people people_full);
put_rows('again');
wait_confirmed($node);

my $events = first_of_each(replay($nats));
my %columns = map { $_ => 1 } map { (keys %{ $_->{columns} // {} }), (keys %{ $_->{old} // {} }) } @$events;

is(scalar(grep { $_->{operation} eq 'INSERT' } @$events), 2 * $rows, 'all rows arrived');
is_deeply([ sort keys %columns ], [ 'id', 'name' ], 'without the column that is excluded, under any name');
is($node->safe_psql('postgres', 'SELECT DISTINCT exclude_columns FROM siphon_tables'), '{secret}',
	'siphon_tables names it as it was called when it was excluded');

# Files in which a text occurs.
sub files_with
{
	my ($text, @where) = @_;
	my @found;

	find(sub { push @found, $File::Find::name if -f && slurp_file($_) =~ /\Q$text\E/ }, @where);
	return @found;
}

my @outside = (ring_directory($node), $nats->{store}, $node->logfile, $publisher->{log});
is_deeply([ files_with($secret, @outside) ], [], 'the secret is in no ring, no log and nowhere in NATS');
like(join(' ', files_with('foundcanary', @outside)), qr/decoder\.ring/, 'while what is published is in the ring');
like(join(' ', files_with('foundcanary', $nats->{store})), qr/\.blk/, 'and in NATS');
$node->safe_psql('postgres', "SELECT siphon_drop_application('main')");

# ---- names are swapped ----------------------------------------------------------------------------------------------

$publisher->stop;
$nats = siphon_nats(name => 'nats_swap');
$publisher = siphon_publisher($node, $nats, name => 'publisher_swap');
$node->safe_psql(
	'postgres', q{
	ALTER SYSTEM SET siphon.flush_interval = '60s';
	ALTER SYSTEM SET siphon.package_size = '16kB';
	CREATE SEQUENCE ids;
	CREATE TABLE a (id int PRIMARY KEY DEFAULT nextval('ids'), v text);
	CREATE TABLE b (LIKE a INCLUDING ALL);
	CREATE TABLE c (LIKE a INCLUDING ALL)});
$node->reload;
add_table($node, $_) for qw(a b);
add_table($node, 'c', partitions => 4);

# A few rows that wait for their package to fill, then another table under the name, with more rows than a package takes.
sub swap
{
	my ($one, $other) = @_;

	$node->safe_psql(
		'postgres', qq{
		INSERT INTO $one (v) VALUES ('waits');
		INSERT INTO $other (v) VALUES ('waits too');
		INSERT INTO $one (v) SELECT 'waits' FROM generate_series(1, 10);
		BEGIN;
		ALTER TABLE $one RENAME TO swapped;
		ALTER TABLE $other RENAME TO $one;
		ALTER TABLE swapped RENAME TO $other;
		COMMIT;
		INSERT INTO $one (v) SELECT repeat('x', 100) FROM generate_series(1, 1000);
		INSERT INTO $other (v) SELECT repeat('y', 100) FROM generate_series(1, 1000)});
	return;
}

swap('a', 'b');
swap('b', 'a');
# Within the transaction that inserts.
$node->safe_psql(
	'postgres', q{
	BEGIN;
	INSERT INTO a (v) VALUES ('waits');
	ALTER TABLE a RENAME TO swapped;
	ALTER TABLE b RENAME TO a;
	INSERT INTO a (v) SELECT repeat('z', 100) FROM generate_series(1, 1000);
	ALTER TABLE swapped RENAME TO b;
	INSERT INTO b (v) SELECT repeat('z', 100) FROM generate_series(1, 10);
	COMMIT});
# And with a table of another number of partitions.
swap('a', 'c');
swap('c', 'b');
$node->safe_psql('postgres', "ALTER SYSTEM SET siphon.flush_interval = '10ms'");
$node->reload;
wait_confirmed($node);

$events = replay($nats);
positions_increase($events, 'positions strictly increase on each subject, whichever table has its name');
is(join(' ', sort { $a <=> $b } map { $_->{columns}{id} } grep { $_->{operation} eq 'INSERT' } @$events),
	$node->safe_psql('postgres', "SELECT string_agg(id::text, ' ' ORDER BY id) FROM (TABLE a UNION ALL TABLE b UNION ALL TABLE c) r"),
	'each row is there once');
# Each of two tables, and "c", which "a" takes the name of at first, is in four partitions.
is(scalar(grep { $_->{operation} eq 'RENAME' } @$events), 2 + 2 + 2 + 5 + 2, 'and so is each RENAME, on every partition');
is(application($node)->{restarts}, 0, 'the decoder did not stop for it');

# All that the transaction did to a table is under the name that consumers know, and so is its end.
$node->safe_psql('postgres', 'CREATE TABLE gone (LIKE a INCLUDING ALL)');
add_table($node, 'gone');
$node->safe_psql('postgres', q{BEGIN; INSERT INTO gone VALUES (-1, 'before'); ALTER TABLE gone RENAME TO went;
	INSERT INTO went VALUES (-2, 'behind'); DROP TABLE went; COMMIT});
wait_confirmed($node);
is_deeply(
	[ map { "$_->{operation} $_->{table}" } grep { $_->{table} =~ /^(?:gone|went)$/ } @{ replay($nats) } ],
	[ 'INSERT gone', 'INSERT gone', 'DROP gone' ],
	'renamed and dropped at once, a table ends under its name');

done_testing();
