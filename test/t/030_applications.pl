# Several applications side by side, in one database and in two: each has its own stream, and what happens to one does
# not touch another.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();

$node->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY)');
$node->safe_psql('postgres', 'CREATE DATABASE second');
$node->safe_psql('second', 'CREATE EXTENSION siphon; CREATE TABLE t (id bigserial PRIMARY KEY, v text)');

add_table($node, 't', application => "'one'");
add_table($node, 't', application => "'prd.cell1.two'", exclude_columns => "'{v}'");
add_table($node, 'u', application => "'prd.cell1.two'");
add_table($node, 't', application => "'three'", database => 'second');
my %publisher = map { $_ => siphon_publisher($node, $nats, name => "publisher_$_", application => $_) } qw(one prd.cell1.two three);

is( $node->safe_psql('postgres', 'SELECT application, database, tables, state FROM siphon_applications ORDER BY 1'),
	"one|postgres|1|streaming\nprd.cell1.two|postgres|2|streaming\nthree|second|1|streaming",
	'siphon_applications shows all of them');

# All at once, in both databases.
my @writers = (
	start_pgbench($node, { w => "INSERT INTO t (v) VALUES ('first');\n" }, -c => 3, '-t' => 300),
	start_pgbench($node, { w => "INSERT INTO u VALUES (:client_id) ON CONFLICT (id) DO UPDATE SET id = u.id + 1000;\n" }, -c => 1, '-t' => 1));
$node->safe_psql('second', "INSERT INTO t (v) SELECT 'second' FROM generate_series(1, 500)");
finish_pgbench($_) for @writers;
wait_confirmed($node, application => $_) for keys %publisher;

my $one = replay($nats, application => 'one');
my $two = replay($nats, application => 'prd.cell1.two');
my $three = replay($nats, application => 'three');
is_replica($one, $node, 't', ['id'], 'one: the stream is the table');
is(scalar(grep { $_->{application} ne 'one' } @$one), 0, 'one: and nobody else\'s');
is(scalar(grep { $_->{table} eq 't' } @$two), 900, 'two: has its rows too');
is(scalar(grep { exists $_->{columns}{v} } @$two), 0, 'two: without the column that it excludes');
is(scalar(@$three), 500, 'three: the rows of the other database');
is(scalar(grep { $_->{columns}{v} ne 'second' } @$three), 0, 'three: and no others');
positions_increase($_, 'positions strictly increase') for $one, $two, $three;

# One is dropped: its slot, its registry and its ring go, the others do not notice.
my %before = map { $_ => application($node, $_) } qw(prd.cell1.two three);
$node->safe_psql('postgres', "SELECT siphon_drop_application('one')");
is( $node->safe_psql('postgres', 'SELECT slot_name FROM pg_replication_slots ORDER BY 1'),
	"siphon_prd_cell1_two\nsiphon_three", 'the slot of one that is dropped goes, the others stay');
ok(!-e $node->data_dir . '/siphon/one.registry', 'its registry goes');
ok(!-e ring_directory($node) . '/one/decoder.ring', 'its ring goes');
is_deeply([ siphon_processes($node) ], [ 'siphon decoder prd.cell1.two', 'siphon decoder three', 'siphon launcher' ],
	'its decoder goes');
$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('later')");
$node->safe_psql('second', "INSERT INTO t (v) VALUES ('second')");
wait_confirmed($node, application => $_) for qw(prd.cell1.two three);
for my $name (qw(prd.cell1.two three))
{
	my $row = application($node, $name);

	is($row->{decoder_pid}, $before{$name}{decoder_pid}, "$name: has the same decoder");
	is($row->{restarts}, 0, "$name: which was not restarted");
	is($row->{events}, $before{$name}{events} + 1, "$name: and goes on");
}
is(scalar(@{ replay($nats, application => 'one') }), scalar(@$one), 'what was published stays in JetStream');

# The same identifier again, for other tables: a new slot, and the publisher that waited finds the new ring.
add_table($node, 'u', application => "'one'");
$node->safe_psql('postgres', 'INSERT INTO u VALUES (77)');
wait_confirmed($node, application => 'one');
my @again = @{ replay($nats, application => 'one') };
is($again[-1]{columns}{id}, 77, 'a dropped application can be made again, under its publisher\'s eyes');
is(scalar(@again), @$one + 1, 'and nothing else is published again');

# Calls for one application from several sessions take turns: one makes it, all add their table.
$node->safe_psql('postgres', "CREATE TABLE many_$_ (id int PRIMARY KEY)") for 1 .. 6;
my $adders = start_pgbench(
	$node,
	{ a => "SELECT siphon_add_table(('many_' || (:client_id + 1))::regclass, 'crowd', snapshot => false);\n" },
	-c => 6, -j => 2, '-t' => 1);
finish_pgbench($adders);
is(application($node, 'crowd')->{tables}, 6, 'several sessions can add tables at once');
$node->safe_psql('postgres', "SELECT siphon_drop_application('crowd')");

# Likewise coming and going.
my $churn = start_pgbench(
	$node,
	{ c => "SELECT siphon_create_application('churn_' || :client_id);\nSELECT siphon_drop_application('churn_' || :client_id);\n" },
	-c => 3, -j => 2, '-t' => 5);
finish_pgbench($churn);
is($node->safe_psql('postgres', "SELECT count(*) FROM siphon_applications WHERE application LIKE 'churn%'"),
	'0', 'applications come and go at once');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE '%churn%'"), '0', 'with their slots');

# Their snapshots take turns, however many tables one of them has. Generations are given as snapshots begin.
for my $name (qw(left right))
{
	$node->safe_psql('postgres', "CREATE TABLE ${name}_$_ (id int PRIMARY KEY)") for 1 .. 8;
	is($node->safe_psql('postgres', "SELECT count(*) FROM siphon_add_tables('public', '${name}_%', '$name') WHERE added"), 8, "$name: its tables wait");
}
for my $name (qw(left right))
{
	$publisher{$name} = siphon_publisher($node, $nats, name => "publisher_$name", application => $name);
}
wait_for_tables($node, application => $_) for qw(left right);
my @turns = split / /, $node->safe_psql('postgres',
	"SELECT string_agg(application, ' ' ORDER BY generation) FROM siphon_tables WHERE application IN ('left', 'right')");
cmp_ok(scalar(grep { $turns[$_] ne $turns[ $_ - 1 ] } 1 .. $#turns), '>', 8, "snapshots of two applications take turns: @turns");

done_testing();
