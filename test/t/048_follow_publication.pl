# An application follows a publication: ALTER PUBLICATION on the primary says what its standby publishes, or the primary
# itself where standbys can't decode.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

# A small ring, so that the decoder soon waits.
my $conf = 'siphon.ring_size = 64kB';
my $primary = siphon_node('primary', conf => $conf);
my $nats = siphon_nats();

$primary->safe_psql(
	'postgres', q{
	CREATE SCHEMA shop;
	CREATE TABLE a (id int PRIMARY KEY, v text, secret text);
	CREATE TABLE b (id int PRIMARY KEY, v text);
	CREATE TABLE keyless (v text);
	CREATE TABLE by_hand (id int PRIMARY KEY);
	CREATE TABLE shop.c (id int PRIMARY KEY, v text);
	CREATE TABLE root (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
	CREATE TABLE leaf_1 PARTITION OF root FOR VALUES FROM (0) TO (10);
	CREATE TABLE leaf_2 PARTITION OF root FOR VALUES FROM (10) TO (20);
	INSERT INTO a VALUES (1, 'one', 'hidden'); INSERT INTO b VALUES (1, 'one'); INSERT INTO shop.c VALUES (1, 'one');
	INSERT INTO root SELECT g, 'r' FROM generate_series(0, 19) g;
	CREATE PUBLICATION p FOR TABLE a (id, v), keyless;
	CREATE PUBLICATION inserts FOR TABLE a WITH (publish = 'insert')});

my $node = standby_supported($primary) ? siphon_standby($primary, 'standby', conf => $conf) : $primary;
my $publisher = siphon_publisher($node, $nats);

fails_with($node, "SELECT siphon_follow_publication('none')", 'no such publication',
	error => 'cannot follow publication "none": the publication does not exist', hint => 'CREATE PUBLICATION "none" FOR TABLE ');
fails_with($node, "SELECT siphon_follow_publication('inserts')", 'inserts alone',
	error => 'cannot follow publication "inserts": the publication does not publish all',
	hint => 'ALTER PUBLICATION inserts SET \(publish = ');

add_table($node, 'by_hand', $node == $primary ? () : (primary => $primary));
$node->safe_psql('postgres', "SELECT siphon_follow_publication('p')");

# What siphon_tables has, as soon as it is this; a snapshot does not stay for long.
sub tables_are
{
	my ($expected, $name) = @_;
	my $tables;
	my $same = eval {
		wait_until(
			$name,
			sub {
				$tables = $node->safe_psql('postgres',
					"SELECT string_agg(table_name || ' ' || state || coalesce(' ' || nullif(exclude_columns::text, '{}'), ''), ', '"
					  . " ORDER BY table_name) FROM siphon_tables");
				return $tables eq $expected;
			});
	};

	is($tables, $expected, $name);
	return;
}

sub columns_of
{
	my ($table) = @_;
	my %columns = map { join(' ', sort keys %{ $_->{columns} }) => 1 } grep { $_->{columns} } @{ replay($nats, table => $table) };

	return join ', ', sort keys %columns;
}

sub primary_does
{
	$primary->safe_psql('postgres', $_[0]);
	return;
}

tables_are('a streaming {secret}, by_hand streaming, keyless left out', 'the tables of the publication, beside what a person added');
is($node->safe_psql('postgres', "SELECT publication, tables, state, reason FROM siphon_applications"), 'p|2|streaming|',
	'siphon_applications tells what it follows');
like($node->safe_psql('postgres', "SELECT reason FROM siphon_tables WHERE state = 'left out'"),
	qr/table public.keyless has no usable replica identity; ALTER TABLE public.keyless ADD PRIMARY KEY/, 'and siphon_tables why one is left out');

# A column that is new is not in the list, and the rows do not come anew for it.
my $generation = $node->safe_psql('postgres', "SELECT generation FROM siphon_tables WHERE table_name = 'a'");
primary_does("ALTER TABLE a ADD COLUMN more text; INSERT INTO a VALUES (2, 'two', 'hidden', 'hidden')");
tables_are('a streaming {secret}, by_hand streaming, keyless left out', 'the list of columns is as it was');
wait_confirmed($node, primary => $primary);
is(columns_of('public.a'), 'id v', 'rows and changes have the columns of the list');
is($node->safe_psql('postgres', "SELECT generation FROM siphon_tables WHERE table_name = 'a'"), $generation, 'in one generation');

# Tables enter, are mended, get other columns.
primary_does('ALTER PUBLICATION p ADD TABLE b; ALTER TABLE keyless REPLICA IDENTITY FULL');
tables_are('a streaming {secret}, b streaming, by_hand streaming, keyless streaming', 'tables enter');
primary_does("ALTER PUBLICATION p SET TABLE a (id, v, more), b, keyless, root");
tables_are('a streaming {secret}, b streaming, by_hand streaming, keyless streaming, leaf_1 streaming, leaf_2 streaming',
	'columns change, and partitions come one by one');
wait_confirmed($node, primary => $primary);
is(columns_of('public.a'), 'id more v', 'rows come anew with the new columns');
is_replayed($nats, $primary, [ 'b', 'leaf_1' ], 'the rows are there');

# The root takes the place of its partitions, and the other way round.
primary_does('ALTER PUBLICATION p SET (publish_via_partition_root = true)');
tables_are('a streaming {secret}, b streaming, by_hand streaming, keyless streaming, root streaming', 'under its root');
primary_does('DELETE FROM root WHERE id = 3');
wait_confirmed($node, primary => $primary);
is_replayed($nats, $primary, ['root'], 'all its rows');

# Row filters are refused: what they hide must not come out.
primary_does('ALTER PUBLICATION p SET TABLE a (id, v), b WHERE (id > 5)');
tables_are('a streaming {secret,more}, b left out, by_hand streaming', 'a table with a row filter is left out, others leave');
like($node->safe_psql('postgres', "SELECT reason FROM siphon_tables WHERE state = 'left out'"), qr/row filter/, 'and why');

# What a publication says can't be said otherwise.
fails_with($node, "SELECT siphon_remove_table('a')", 'removing', error => 'table a cannot be removed: application "main" follows publication "p"',
	hint => 'ALTER PUBLICATION p DROP TABLE a; or SELECT siphon_unfollow_publication\(\'main\'\)');
fails_with($node, "SELECT siphon_alter_table('a', exclude_columns => '{v}')", 'altering',
	error => 'table a cannot be given other columns', hint => 'ALTER PUBLICATION p SET TABLE a \(...\)');
$node->safe_psql('postgres', "SELECT siphon_alter_table('a', partitions => 2)");
tables_are('a streaming {secret,more}, b left out, by_hand streaming', 'its partitions are another matter');

# A publication that can't be followed takes nothing away.
my $reason = sub { $node->safe_psql('postgres', 'SELECT reason FROM siphon_applications') };

primary_does("ALTER PUBLICATION p SET (publish = 'insert')");
wait_until('the reason is there', sub { $reason->() =~ /does not publish all of insert, update, delete and truncate/ });
like(application($node)->{hint}, qr/^ALTER PUBLICATION p SET \(publish = 'insert, update, delete, truncate'\)/, 'with what mends it');
primary_does('DROP PUBLICATION p');
wait_until('the reason is there', sub { $reason->() =~ /the publication does not exist/ });
tables_are('a streaming {secret,more}, b left out, by_hand streaming', 'nothing is removed with the publication');

# A restart of the server does not change what is followed; all tables of a schema, then all tables.
primary_does('CREATE PUBLICATION p FOR TABLES IN SCHEMA shop');
tables_are('by_hand streaming, c streaming', 'tables in a schema');
is($reason->(), '', 'there is no reason any more');
$node->restart;
wait_for_state($node, 'streaming');
primary_does('CREATE TABLE shop.d (id int PRIMARY KEY); INSERT INTO shop.d VALUES (1)');
tables_are('by_hand streaming, c streaming, d streaming', 'and those that are made there, after a restart');
primary_does('DROP TABLE shop.c');
tables_are('by_hand streaming, d streaming', 'a table that is dropped leaves');
primary_does('DROP PUBLICATION p; CREATE PUBLICATION p FOR ALL TABLES WITH (publish_via_partition_root = true)');
tables_are('a streaming, b streaming, by_hand streaming, d streaming, keyless streaming, root streaming', 'all tables, with all columns');
wait_confirmed($node, primary => $primary);
is_replayed($nats, $primary, [qw(a b root shop.d)], 'and their rows');

# What was committed before a table leaves comes out, however late it is decoded, and though the decoder starts again
# before it is acknowledged; and nothing that was committed once it was seen to have left. A row that nobody takes keeps
# the slot where it is: with nothing to publish, it would go on without a publisher, and tables leave at once.
$publisher->stop;
primary_does(
	q{
	INSERT INTO keyless VALUES ('waits');
	CREATE TABLE gone (id int PRIMARY KEY, v text);
	DROP PUBLICATION p; CREATE PUBLICATION p FOR TABLE a, b, shop.d, keyless WITH (publish_via_partition_root = true)});
tables_are('a streaming, b streaming, by_hand streaming, d streaming, keyless streaming, root leaving', 'what leaves, stays until that is acknowledged');
primary_does("INSERT INTO b SELECT g, repeat('x', 1000) FROM generate_series(100, 399) g; INSERT INTO keyless VALUES ('before')");
my $offset = -s $node->logfile;
primary_does('ALTER PUBLICATION p DROP TABLE b, keyless; DROP TABLE keyless, shop.d');
tables_are('a streaming, b leaving, by_hand streaming, d dropped, keyless dropped, root leaving', 'tables leave, or are dropped');
$node->wait_for_log(qr/follows its publication: table "$_" left/, $offset) for qw(public.b public.keyless shop.d);
primary_does("INSERT INTO b VALUES (9999, 'behind'); ALTER PUBLICATION p ADD TABLE root");
for my $call ("resync_table('b')", "add_table('b')", "alter_table('b', partitions => 2)", "pause('b')", "resume('b')")
{
	fails_with($node, "SELECT siphon_$call", "$call of one that left",
		error => 'table (?:public\.)?b has left the publication that application "main" follows',
		hint => q{SELECT siphon_remove_table\('(?:public\.)?b', 'main'\) removes it at once});
}
is($node->safe_psql('postgres', "SELECT added, reason FROM siphon_add_tables('public', 'b')"),
	'f|table public.b has left the publication that application "main" follows', 'siphon_add_tables() leaves it out for the same reason');
$node->restart;
wait_for_state($node, 'streaming');
tables_are('a streaming, b leaving, by_hand streaming, d dropped, keyless dropped, root leaving', 'after a restart they leave still');
$publisher->start;
tables_are('a streaming, by_hand streaming, root streaming', 'and are removed then; one that came back is added');
wait_confirmed($node, primary => $primary);
my @b = grep { ($_->{columns}{id} // 0) >= 100 } @{ replay($nats, table => 'public.b') };
is(scalar(@b), 300, 'all that was committed before a table left came out, once');
is(scalar(grep { $_->{columns}{id} == 9999 } @b), 0, 'and nothing that was committed then');
is_deeply([ map { $_->{operation} eq 'INSERT' ? $_->{columns}{v} : $_->{operation} } (@{ replay($nats, table => 'public.keyless') })[ -2, -1 ] ],
	[ 'before', 'DROP' ], 'of one that was dropped, too, and that it was');
is(replay($nats, table => 'shop.d')->[-1]{operation}, 'DROP', 'also where it left by being dropped');
is_replayed($nats, $primary, ['root'], 'the one that came back has its rows');
$node->log_check('the log names them', $offset, log_like => [ map { qr/table "$_" is not published by application "main" any more/ } qw(public.b public.keyless shop.d) ]);

# By hand it does not wait.
$publisher->stop;
primary_does("INSERT INTO a VALUES (4, 'waits', 'hidden'); ALTER PUBLICATION p DROP TABLE root");
tables_are('a streaming, by_hand streaming, root leaving', 'a table leaves');
$node->safe_psql('postgres', "SELECT siphon_remove_table('root')");
tables_are('a streaming, by_hand streaming', 'and is removed at once by siphon_remove_table()');
primary_does("ALTER PUBLICATION p ADD TABLE root; DELETE FROM root WHERE id = 5");
$publisher->start;
tables_are('a streaming, by_hand streaming, root streaming', 'so that it can come back');
wait_confirmed($node, primary => $primary);
is_replayed($nats, $primary, ['root'], 'with its rows');

# A reason that is too long is cut between two characters.
my $long = "\xc3\xa9" x 31;
my @long = ($long, 'a' . substr($long, 2), 'ab' . substr($long, 2));
primary_does(qq{CREATE SCHEMA "$long"; } . join('', map { qq{CREATE TABLE "$long"."$_" (v text); ALTER PUBLICATION p ADD TABLE "$long"."$_";} } @long));
wait_until('they are left out', sub { $node->safe_psql('postgres', "SELECT count(*) FROM siphon_tables WHERE state = 'left out'") eq '3' });
is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT octet_length(reason)::text, ' ') FROM siphon_tables WHERE state = 'left out' AND convert_from(textsend(reason), 'UTF8') <> ''"),
	'254', 'a reason that does not fit ends with a character');
primary_does(qq{DROP SCHEMA "$long" CASCADE});

# No longer.
$node->safe_psql('postgres', 'SELECT siphon_unfollow_publication()');
primary_does('DROP PUBLICATION p; CREATE TABLE e (id int PRIMARY KEY)');
wait_until('the follower ends', sub { $node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'siphon follower'") eq '0' });
tables_are('a streaming, by_hand streaming, root streaming', 'the tables stay');
$node->safe_psql('postgres', "SELECT siphon_remove_table('a')");
tables_are('by_hand streaming, root streaming', 'and are removed by hand');
is(application($node)->{publication}, undef, 'nothing is followed');
is(application($node)->{restarts}, 0, 'the decoder ran all the while');

done_testing();
