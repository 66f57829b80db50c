# What an event says of the row before it: large values that an UPDATE left alone, each replica identity, changes of it
# while changes stream, and TRUNCATE. The replay checker has the copies be the tables, throughout.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);
my %count;

# The events of a table that are new since the last call, without those of its snapshot.
sub news
{
	my ($table) = @_;

	my @events = grep { $_->{operation} !~ /^SNAPSHOT/ } @{ replay($nats, table => "public.$table") };
	my @new = @events[ ($count{$table} // 0) .. $#events ];

	$count{$table} = @events;
	return @new;
}

# An event without what is long, or differs from run to run.
sub short
{
	my ($event) = @_;
	my %short = map { exists $event->{$_} ? ($_ => $event->{$_}) : () } qw(operation columns old unchanged);

	for my $image (grep { $short{$_} } qw(columns old))
	{
		my %values = %{ $short{$image} };

		$short{$image} = { map { $_ => length($values{$_} // '') > 100 ? 'long' . substr($values{$_}, 0, 1) : $values{$_} } keys %values };
	}
	return \%short;
}

# The statements are to make these events of the table, and no others; made() tests it, of all since it was called last.
my @made;

sub makes
{
	my ($table, $name, $sql, @expected) = @_;

	$node->safe_psql('postgres', $sql);
	push @made, [ $table, $name, @expected ];
	return;
}

sub made
{
	my %news;

	wait_confirmed($node);
	for my $made (splice @made)
	{
		my ($table, $name, @expected) = @$made;
		my $came = $news{$table} //= [ news($table) ];

		is_deeply([ map { short($_) } splice @$came, 0, scalar @expected ], \@expected, $name);
	}
	is(scalar(map { @$_ } values %news), 0, 'and there are no other events');
	return;
}

sub event
{
	my ($operation, $columns, %more) = @_;

	return { operation => $operation, $columns ? (columns => $columns) : (), %more };
}

# ---- large values ---------------------------------------------------------------------------------------------------

# What is long: too long for a page, in place or apart, and of a type that is not text.
my $long = "(SELECT string_agg(md5(g::text), '') FROM generate_series(1, 300) g)";
$node->safe_psql(
	'postgres', qq{
	CREATE TABLE big (id int PRIMARY KEY, v text, j jsonb, b bytea, n int);
	CREATE TABLE big_full (LIKE big INCLUDING ALL);
	ALTER TABLE big_full REPLICA IDENTITY FULL;
	CREATE TABLE big_parts (LIKE big INCLUDING ALL);
	INSERT INTO big VALUES (1, 'a' || $long, to_jsonb('a' || $long), ('a' || $long)::bytea, 1), (2, NULL, NULL, NULL, 2);
	INSERT INTO big_full SELECT * FROM big;
	INSERT INTO big_parts SELECT * FROM big;
});
add_table($node, 'big', snapshot => 'true');
add_table($node, 'big_full', snapshot => 'true');
add_table($node, 'big_parts', snapshot => 'true', partitions => 4);
wait_for_tables($node);
is_replayed($nats, $node, [qw(big big_full big_parts)], 'the rows come');

makes(
	'big',
	'what an UPDATE left alone is named, and a NULL is one',
	q{UPDATE big SET n = n + 10},
	event(UPDATE => { id => 1, n => 11 }, unchanged => [qw(v j b)]),
	event(UPDATE => { id => 2, n => 12, v => undef, j => undef, b => undef }));
makes(
	'big',
	'so are those beside one that changes, to NULL too',
	qq{UPDATE big SET v = 'b' || $long WHERE id = 1; UPDATE big SET j = NULL WHERE id = 1},
	event(UPDATE => { id => 1, n => 11, v => 'longb' }, unchanged => [qw(j b)]),
	event(UPDATE => { id => 1, n => 11, j => undef }, unchanged => [qw(v b)]));
makes(
	'big',
	'with the key changed as well',
	q{UPDATE big SET id = 3 WHERE id = 1},
	event(UPDATE => { id => 3, n => 11, j => undef }, unchanged => [qw(v b)], old => { id => 1 }));
my @large = (v => 'longa', b => 'long\\', j => 'long"');
makes(
	'big_full',
	'REPLICA IDENTITY FULL fills them from the old row',
	q{UPDATE big_full SET n = n + 10 WHERE id = 1},
	event(UPDATE => { id => 1, n => 11, @large }, old => { id => 1, n => 1, @large }));
makes(
	'big_full',
	'and a DELETE has them',
	q{DELETE FROM big_full WHERE id = 1},
	event(DELETE => undef, old => { id => 1, n => 11, @large }));

made();

# A row is inserted and partly updated, in one transaction and one package: what is kept is what came just before.
$node->safe_psql(
	'postgres', qq{
	BEGIN;
	INSERT INTO big SELECT g, 'c' || g || $long, to_jsonb('c' || g || $long), ('c' || g || $long)::bytea, 0
	  FROM generate_series(10, 30) g;
	UPDATE big SET n = 1 WHERE id BETWEEN 10 AND 30;
	UPDATE big SET v = 'd' || $long WHERE id % 2 = 0;
	UPDATE big SET n = 2, j = '"short"' WHERE id % 3 = 0;
	UPDATE big SET id = id + 100 WHERE id % 5 = 0;
	UPDATE big SET n = 3 WHERE id > 100;
	DELETE FROM big WHERE id % 7 = 0;
	INSERT INTO big_full SELECT * FROM big WHERE id >= 10;
	UPDATE big_full SET n = 4, id = id + 1000;
	INSERT INTO big_parts SELECT * FROM big WHERE id BETWEEN 10 AND 30;
	UPDATE big_parts SET n = 4;
	COMMIT;
	-- In a transaction of its own, where the row is older.
	UPDATE big SET n = n + 1;
	UPDATE big_parts SET v = 'e' || $long WHERE id % 2 = 1;
});
wait_confirmed($node);
is_replayed($nats, $node, [qw(big big_full big_parts)], 'INSERT and partial UPDATEs of one transaction make the rows');
cmp_ok(scalar(grep { $_->{unchanged} } news('big')), '>', 40, 'of values that were not sent again');

# ---- replica identities ---------------------------------------------------------------------------------------------

$node->safe_psql(
	'postgres', q{
	CREATE TABLE ids (k int PRIMARY KEY, u text NOT NULL, v int);
	CREATE UNIQUE INDEX ids_u ON ids (u);
	CREATE TABLE no_key (v int, w text);
	ALTER TABLE no_key REPLICA IDENTITY FULL;
});
add_table($node, $_) for qw(ids no_key);

my @row = (k => 1, u => 'a', v => 1);
makes('ids', 'default: an INSERT', q{INSERT INTO ids VALUES (1, 'a', 1)}, event(INSERT => {@row}));
makes('ids', 'default: an UPDATE that leaves the key has no old values',
	q{UPDATE ids SET v = 2}, event(UPDATE => { @row, v => 2 }));
makes('ids', 'default: one that changes it has the old key',
	q{UPDATE ids SET k = 2}, event(UPDATE => { @row, v => 2, k => 2 }, old => { k => 1 }));
makes('ids', 'default: a DELETE has the key', q{DELETE FROM ids}, event(DELETE => undef, old => { k => 2 }));

# Each identity after each other, also within one transaction, where what comes before the change is as it was.
my %identity = (
	DEFAULT => { update => undef, rekeyed => undef, delete => { k => 1 } },
	'USING INDEX ids_u' => { update => undef, rekeyed => { u => 'a' }, delete => { u => 'b' } },
	FULL => { update => {@row}, rekeyed => { @row, v => 2 }, delete => { @row, v => 2, u => 'b' } },
	NOTHING => {});

sub old
{
	my ($values) = @_;

	return $values ? (old => $values) : ();
}

sub events_of
{
	my ($identity) = @_;

	return (
		event(INSERT => {@row}),
		event(UPDATE => { @row, v => 2 }, old($identity{$identity}{update})),
		event(UPDATE => { @row, v => 2, u => 'b' }, old($identity{$identity}{rekeyed})),
		event(DELETE => undef, old($identity{$identity}{delete})));
}

my $steps = q{INSERT INTO ids VALUES (1, 'a', 1); UPDATE ids SET v = 2; UPDATE ids SET u = 'b'; DELETE FROM ids;};
my $now = 'DEFAULT';
for my $next ('FULL', 'DEFAULT', 'USING INDEX ids_u', 'DEFAULT', 'FULL', 'USING INDEX ids_u', 'FULL', 'DEFAULT')
{
	makes(
		'ids', "from $now to $next",
		"BEGIN; $steps ALTER TABLE ids REPLICA IDENTITY $next; $steps COMMIT; $steps",
		map { events_of($_) } $now, $next, $next);
	$now = $next;
}

sub state_of
{
	return $node->safe_psql('postgres', "SELECT state FROM siphon_tables WHERE table_name = '$_[0]'");
}

made();

# Nothing names the row, and an UPDATE says only what the row is now. The table says so.
is(state_of('ids'), 'streaming', 'as long as each row has a name, the table streams');
makes(
	'ids', 'to NOTHING and back', "ALTER TABLE ids REPLICA IDENTITY NOTHING; $steps ALTER TABLE ids REPLICA IDENTITY DEFAULT; $steps",
	map { events_of($_) } 'NOTHING', 'DEFAULT');
made();
is(state_of('ids'), 'resync needed', 'a row that nothing names is a reason to bring the rows out anew');
$node->safe_psql('postgres', "INSERT INTO ids VALUES (7, 'x', 7); SELECT siphon_resync_table('ids')");
wait_for_table($node, 'ids');
$node->safe_psql('postgres', 'UPDATE ids SET k = 8');
wait_confirmed($node);
is_replayed($nats, $node, ['ids'], 'which mends it');

# Without a key, all of a row names it; rows may be equal.
makes(
	'no_key',
	'a table without a key: whole rows',
	q{INSERT INTO no_key VALUES (1, NULL), (1, NULL); UPDATE no_key SET w = 'x'; DELETE FROM no_key},
	(event(INSERT => { v => 1, w => undef })) x 2,
	(event(UPDATE => { v => 1, w => 'x' }, old => { v => 1, w => undef })) x 2,
	(event(DELETE => undef, old => { v => 1, w => 'x' })) x 2);
made();

# ---- TRUNCATE -------------------------------------------------------------------------------------------------------

$node->safe_psql(
	'postgres', q{
	CREATE TABLE owner (id serial PRIMARY KEY, v text);
	CREATE TABLE owned (id serial PRIMARY KEY, owner int REFERENCES owner, v text);
	CREATE TABLE unlisted (id int PRIMARY KEY, owner int REFERENCES owner);
	CREATE TABLE root (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
	CREATE TABLE root_1 PARTITION OF root FOR VALUES FROM (0) TO (100);
	CREATE TABLE root_2 PARTITION OF root FOR VALUES FROM (100) TO (200)});
add_table($node, 'owner', partitions => 3);
add_table($node, $_) for qw(owned);
add_table($node, 'root', partitions => 4);

my $fill = q{
	INSERT INTO owner (v) SELECT 'v' FROM generate_series(1, 20);
	INSERT INTO owned (owner) SELECT id FROM owner;
	INSERT INTO root SELECT g, 'v' FROM generate_series(90, 110) g;};
my @all = qw(owner owned root);
for my $case (
	[ 'several tables' => 'TRUNCATE owner, owned, unlisted' => { owner => 3, owned => 1 } ],
	[ 'CASCADE' => 'TRUNCATE owner CASCADE' => { owner => 3, owned => 1 } ],
	[ 'RESTART IDENTITY' => 'TRUNCATE owner, owned, unlisted RESTART IDENTITY' => { owner => 3, owned => 1 } ],
	[ 'a partitioned table' => 'TRUNCATE root' => { root => 4 } ],
	[ 'all at once' => 'TRUNCATE root, owner RESTART IDENTITY CASCADE' => { root => 4, owner => 3, owned => 1 } ])
{
	my ($name, $sql, $events) = @$case;

	# Rows come before and behind it in the same transaction.
	$node->safe_psql(
		'postgres', qq{
		DELETE FROM owned;
		DELETE FROM owner;
		DELETE FROM root;
		INSERT INTO owner (v) SELECT 'v' FROM generate_series(1, 20);
		INSERT INTO owned (owner) SELECT id FROM owner;
		INSERT INTO root SELECT g, 'v' FROM generate_series(90, 110) g;
		BEGIN;
		INSERT INTO owner (id, v) VALUES (1000, 'before');
		INSERT INTO root VALUES (1, 'before');
		$sql;
		INSERT INTO owner (id, v) VALUES (1001, 'behind');
		INSERT INTO root VALUES (2, 'behind');
		UPDATE root SET v = 'changed';
		COMMIT;
		INSERT INTO owner (id, v) VALUES (1002, 'later')});
	wait_confirmed($node);

	my %came = map { $_ => [ grep { $_->{operation} eq 'TRUNCATE' } news($_) ] } @all;
	is_deeply({ map { @{ $came{$_} } ? ($_ => scalar @{ $came{$_} }) : () } @all },
		$events, "TRUNCATE, $name: an event on each partition's subject");
	is(scalar(keys %{ { map { $_->{position} => 1 } map { @$_ } values %came } }), 1, "TRUNCATE, $name: at one position");
}
is_replayed($nats, $node, \@all, 'each TRUNCATE is in its place');
done_testing();
