# Changes on a primary arrive in JetStream: every kind of change, in the order of commits, with positions, and only
# what was committed, of published tables, after they were added.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

$node->safe_psql(
	'postgres', q{
	CREATE TABLE issues (id bigint PRIMARY KEY, title text, secret text);
	CREATE TABLE pairs (a int, b text, v int, PRIMARY KEY (b, a));
	CREATE TABLE whole (a int, v text);
	ALTER TABLE whole REPLICA IDENTITY FULL;
	CREATE TABLE named (a int PRIMARY KEY, code text NOT NULL UNIQUE, v int);
	ALTER TABLE named REPLICA IDENTITY USING INDEX named_code_key;
	CREATE TABLE parts (id int PRIMARY KEY, v text);
	CREATE TABLE unlisted (id int PRIMARY KEY);
	CREATE SCHEMA "Odd Schema";
	CREATE TABLE "Odd Schema"."a.b >*%ü" (id int PRIMARY KEY);
	INSERT INTO issues VALUES (1, 'before', 's');
});
add_table($node, 'issues', exclude_columns => "'{secret}'");
add_table($node, $_) for qw(pairs whole named), '"Odd Schema"."a.b >*%ü"';
add_table($node, 'parts', partitions => 4);

# Each change below is one that is looked for, by the table that it is made in.
$node->safe_psql('postgres', $_)
  for (
	q{INSERT INTO issues VALUES (2, 'two', 'x'), (3, NULL, NULL)},
	q{UPDATE issues SET title = 'first' WHERE id = 1},
	q{UPDATE issues SET id = 20 WHERE id = 2},
	q{DELETE FROM issues WHERE id = 3},
	q{INSERT INTO pairs VALUES (1, 'x', 0)},
	q{UPDATE pairs SET v = 1},
	q{UPDATE pairs SET a = 2},
	q{DELETE FROM pairs},
	q{INSERT INTO whole VALUES (1, 'old'), (1, 'old')},
	q{UPDATE whole SET v = 'new' WHERE ctid = '(0,1)'},
	q{DELETE FROM whole WHERE v = 'old'},
	q{INSERT INTO named VALUES (1, 'one', 0)},
	q{UPDATE named SET a = 2},
	q{UPDATE named SET code = 'uno'},
	q{DELETE FROM named},
	q{INSERT INTO "Odd Schema"."a.b >*%ü" VALUES (7)},
	q{INSERT INTO unlisted SELECT generate_series(1, 100)},
	q{INSERT INTO issues VALUES (30, 'thirty', NULL); TRUNCATE issues, pairs; INSERT INTO issues VALUES (31, '31', NULL)});
wait_confirmed($node);

my $events = replay($nats);

positions_increase($events, 'positions strictly increase on each subject');
is(scalar(grep { $_->{table} eq 'unlisted' } @$events), 0, 'no event of a table that is not published');
is_deeply([ grep { $_->{application} ne 'main' || $_->{xid} <= 0 || $_->{timestamp} !~ /^20\d\d-.*Z$/ } @$events ],
	[], 'each event tells its application, transaction and commit time');

# An event as one line, so that what is missing and what is too much shows.
sub shape
{
	my ($table) = @_;
	my $row = sub {
		my ($row) = @_;
		join ' ', map { "$_=" . ($row->{$_} // 'NULL') } sort keys %$row;
	};

	return [
		map {
			$_->{operation}
			  . ($_->{columns} ? ' ' . $row->($_->{columns}) : '')
			  . ($_->{old} ? ' old ' . $row->($_->{old}) : '')
		  }
		  grep { $_->{table} eq $table } @$events
	];
}

is_deeply(
	shape('issues'),
	[
		'INSERT id=2 title=two',
		'INSERT id=3 title=NULL',
		'UPDATE id=1 title=first',
		'UPDATE id=20 title=two old id=2',
		'DELETE old id=3',
		'INSERT id=30 title=thirty',
		'TRUNCATE',
		'INSERT id=31 title=31',
	],
	'primary key: the new row, the old key where it changed; an excluded column nowhere');
is_deeply(
	shape('pairs'),
	[
		'INSERT a=1 b=x v=0',
		'UPDATE a=1 b=x v=1',
		'UPDATE a=2 b=x v=1 old a=1 b=x',
		'DELETE old a=2 b=x',
		'TRUNCATE',
	],
	'composite key');
is_deeply(
	shape('whole'),
	[
		'INSERT a=1 v=old',
		'INSERT a=1 v=old',
		'UPDATE a=1 v=new old a=1 v=old',
		'DELETE old a=1 v=old',
	],
	'REPLICA IDENTITY FULL: the whole old row');
is_deeply(
	shape('named'),
	[
		'INSERT a=1 code=one v=0',
		'UPDATE a=2 code=one v=0',
		'UPDATE a=2 code=uno v=0 old code=one',
		'DELETE old code=uno',
	],
	'REPLICA IDENTITY USING INDEX: its columns are the key');
is_deeply([ map { $_->{table} } grep { $_->{schema} eq 'Odd Schema' } @$events ],
	["a.b >*%\x{fc}"], 'names that a subject token can not hold');

my ($tail) = run_command([ 'siphon-tail', '--nats-url', $nats->url, '--stop-at-end', '--table', 'Odd Schema.a.b >*%ü' ]);
like($tail, qr/"id":7/, 'and siphon-tail finds the one table');

# Partitions: an UPDATE of the key that leaves its partition is two events at one position.
$node->safe_psql('postgres',
	"INSERT INTO parts SELECT g, 'v' || g FROM generate_series(1, 200) g; UPDATE parts SET id = id + 1000 WHERE id <= 100");
wait_confirmed($node);
$events = replay($nats, table => 'public.parts');
my %used = map { ($_->{partition} // 0) => 1 } @$events;
is_deeply([ sort keys %used ], [ 0, 1, 2, 3 ], 'keys are divided into all partitions');
positions_increase($events, 'positions strictly increase in each partition');
is_replica($events, $node, 'parts', ['id'], 'partitions together are the table');
is(scalar(grep { $_->{operation} eq 'INSERT' } @$events) - 200,
	scalar(grep { $_->{operation} eq 'DELETE' } @$events),
	'a key that leaves its partition is deleted there and inserted elsewhere');
cmp_ok(scalar(grep { $_->{operation} eq 'DELETE' } @$events), '>', 0, 'some keys left their partition');
cmp_ok(scalar(grep { $_->{operation} eq 'UPDATE' } @$events), '>', 0, 'some keys stayed, as one UPDATE');
$node->safe_psql('postgres', 'TRUNCATE parts');
wait_confirmed($node);
is(scalar(grep { $_->{operation} eq 'TRUNCATE' } @{ replay($nats, table => 'public.parts') }),
	4, 'TRUNCATE reaches each partition');

# What was rolled back is nowhere; what was prepared comes when it is committed.
$node->safe_psql(
	'postgres', q{
	TRUNCATE issues;
	BEGIN; INSERT INTO issues VALUES (100); ROLLBACK;
	BEGIN; INSERT INTO issues VALUES (101); SAVEPOINT s; INSERT INTO issues VALUES (102); ROLLBACK TO s;
	SAVEPOINT t; INSERT INTO issues VALUES (103); RELEASE t; COMMIT;
	BEGIN; INSERT INTO issues VALUES (104); PREPARE TRANSACTION 'kept';
	BEGIN; INSERT INTO issues VALUES (105); PREPARE TRANSACTION 'dropped';
	INSERT INTO issues VALUES (106);
	ROLLBACK PREPARED 'dropped';
	COMMIT PREPARED 'kept'});
wait_confirmed($node);
$events = replay($nats, table => 'public.issues');
is_deeply(
	[ map { $_->{columns}{id} } grep { ($_->{columns}{id} // 0) >= 100 } @$events ],
	[ 101, 103, 106, 104 ],
	'committed changes alone, in the order of their commits');

# A transaction that does not fit into memory goes to disk and comes back whole, between its neighbours.
$node->safe_psql('postgres', 'ALTER SYSTEM SET logical_decoding_work_mem = 64');
$node->reload;
$node->safe_psql('postgres', "INSERT INTO parts SELECT g, repeat('x', 100) FROM generate_series(1, 20000) g");
wait_confirmed($node);
$events = replay($nats);
is_replica($events, $node, 'parts', ['id'], 'a transaction larger than logical_decoding_work_mem and the ring');
positions_increase($events, 'positions strictly increase after all of it');

is($publisher->stop, 0, 'the publisher stops cleanly');
is(application($node)->{restarts}, 0, 'the decoder was never restarted');

done_testing();
