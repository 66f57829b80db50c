# What siphon_add_table() and siphon_remove_table() ask for while the decoder is in the middle of something long: waiting
# for room in the ring as it takes up a table's new columns, or passing over the rewrite of a table that is not published.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Test::More;

# Packages wait until the test wants them written.
my $node = siphon_node('primary', conf => 'siphon.flush_interval = 60s');
my $nats = siphon_nats();

$node->safe_psql('postgres', "CREATE TABLE $_ (id bigserial PRIMARY KEY, v text, hidden text)") for qw(t other);
add_table($node, 'other');

sub set_and_reload
{
	my ($setting, $value) = @_;

	$node->safe_psql('postgres', "ALTER SYSTEM SET $setting = '$value'");
	$node->reload;
	return;
}

# Brings the decoder to where it has a package of the table for which the ring has no room, and has to write it because the
# table has got another column; there it waits, as nobody takes what is in the ring.
my $columns = 0;

sub wait_in_rebuild
{
	my ($old) = @_;

	$columns++;
	set_and_reload('siphon.package_size', '32kB');
	$node->safe_psql('postgres', "INSERT INTO other (v) SELECT repeat('x', 1000) FROM generate_series(1, 960)");
	wait_until('the ring is nearly full', sub { my $row = application($node); $row->{ring_size} - $row->{ring_used} < 150000 });
	set_and_reload('siphon.package_size', '256kB');

	my $before = application($node)->{transactions};

	$node->safe_psql(
		'postgres', qq{
		INSERT INTO t (v) SELECT '$old' || repeat('x', 300) FROM generate_series(1, 600);
		ALTER TABLE t ADD COLUMN added_$columns int;
		INSERT INTO t (v, added_$columns) VALUES ('middle', 1)});
	wait_until('the new column is looked at', sub { application($node)->{transactions} == $before + 1 });
	$node->poll_query_until('postgres',
		"SELECT wait_event LIKE '%Extension' OR wait_event = 'SiphonRingSpace' FROM pg_stat_activity WHERE backend_type = 'siphon decoder'")
	  or die 'the decoder does not wait for room in the ring';
	is(application($node)->{state}, 'streaming', "$old: the decoder waits");
	return;
}

# Lets everything out, and returns the events of t whose row begins with one of these words.
sub drain
{
	my (@words) = @_;
	my $publisher = siphon_publisher($node, $nats);
	my $pattern = join '|', @words;

	set_and_reload('siphon.flush_interval', '10ms');
	wait_confirmed($node);
	$publisher->stop;
	set_and_reload('siphon.flush_interval', '60s');
	my $events = replay($nats, table => 'public.t');

	positions_increase($events, "$words[0]: positions strictly increase");
	return [ grep { ($_->{columns}{v} // '') =~ /^(?:$pattern)/ } @$events ];
}

# ---- removed --------------------------------------------------------------------------------------------------------

add_table($node, 't');
wait_in_rebuild('removed');
$node->safe_psql('postgres', "SET statement_timeout = '30s'; SELECT siphon_remove_table('t')");
$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('unseen'); INSERT INTO other (v) VALUES ('seen')");
is(scalar(@{ drain('removed') }), 600, 'removed in mid-build: what came before is there');
is(scalar(@{ drain('unseen') }), 0, 'removed in mid-build: and nothing that was committed after the removal');
is(replay($nats, table => 'public.other')->[-1]{columns}{v}, 'seen', 'another table goes on');

# ---- removed and added again, with other settings -------------------------------------------------------------------

add_table($node, 't');
wait_in_rebuild('divided');
$node->safe_psql('postgres', "SELECT siphon_remove_table('t')");
$node->safe_psql('postgres', "INSERT INTO t (v, hidden) VALUES ('gap', 'hidden')");
add_table($node, 't', partitions => 8, exclude_columns => "'{hidden}'");
$node->safe_psql('postgres', "INSERT INTO t (v, hidden) SELECT 'again', 'hidden' FROM generate_series(1, 200)");
my $events = drain(qw(divided gap again));
my @again = grep { $_->{columns}{v} eq 'again' } @$events;
my %partitions = map { ($_->{partition} // 0) => 1 } @again;

is(scalar(grep { $_->{columns}{v} =~ /^divided/ } @$events), 600, 'added again in mid-build: what came before is there');
is(scalar(@again), 200, 'added again in mid-build: what was committed afterwards is there');
is(scalar(keys %partitions), 8, 'added again in mid-build: in as many partitions as it was then given');
is(scalar(grep { exists $_->{columns}{hidden} } @again), 0, 'added again in mid-build: without what it was then to exclude');

# And the other way round, with a package in each partition.
wait_in_rebuild('many');
$node->safe_psql('postgres', "SELECT siphon_remove_table('t')");
add_table($node, 't');
$node->safe_psql('postgres', "INSERT INTO t (v, hidden) SELECT 'whole', 'shown' FROM generate_series(1, 200)");
$events = drain(qw(many whole));
my @whole = grep { $_->{columns}{v} eq 'whole' } @$events;

is(scalar(@$events), 800, 'divided before: all is there');
is(scalar(grep { ($_->{partition} // 0) == 0 } @whole), 200, 'divided before: in one partition now');
is(scalar(grep { ($_->{columns}{hidden} // '') eq 'shown' } @whole), 200, 'divided before: with all columns');
is(application($node)->{restarts}, 0, 'the decoder was never restarted');

# ---- the rewrite of a large table that is not published -------------------------------------------------------------

SKIP:
{
	skip 'before PostgreSQL 16 there is no word from decoding while it finds nothing to publish', 1 if $node->pg_version < 16;

	# Each row a package, so that "events" tells where the decoder is: past the last row that is published, it has the
	# rewrite before it, in the same transaction.
	set_and_reload('siphon.package_size', '1kB');
	set_and_reload('siphon.flush_interval', '10ms');
	$node->safe_psql('postgres', 'CREATE TABLE asked (id int PRIMARY KEY)');
	my $publisher = siphon_publisher($node, $nats);
	my $served;

	# Were the transaction over before the call, it would say nothing.
	for my $rows (300_000, 600_000, 1_200_000)
	{
		my $before = application($node)->{events};
		$node->safe_psql('postgres', "CREATE TABLE large AS SELECT g AS id FROM generate_series(1, $rows) g");
		wait_confirmed($node);
		$publisher->stop;

		my $transactions = application($node)->{transactions};

		$node->safe_psql(
			'postgres', q{
			BEGIN;
			INSERT INTO other (v) SELECT repeat('x', 1500) FROM generate_series(1, 1500);
			ALTER TABLE large ALTER id TYPE bigint;
			COMMIT});
		$publisher->start;
		my $seen = $node->safe_psql(
			'postgres', qq{
			DO \$\$
			BEGIN
				WHILE (SELECT events < $before + 1500 FROM siphon_applications) LOOP
					PERFORM pg_sleep(0.001);
				END LOOP;
			END \$\$;
			SELECT transactions FROM siphon_applications;
			SELECT siphon_add_table('asked', snapshot => false) IS NULL;
			SELECT transactions FROM siphon_applications});
		wait_until('the rewrite is decoded', sub { application($node)->{transactions} > $transactions });
		my ($at_call, undef, $at_return) = split /\n/, $seen;
		note("$rows rows: $at_call transactions at the call, $at_return when it returned");
		$node->safe_psql('postgres', "DROP TABLE large; SELECT siphon_remove_table('asked')");
		wait_confirmed($node);
		$served = $at_return == $at_call && $at_call == $transactions;
		last if $served;
	}
	ok($served, 'siphon_add_table() is served while the decoder passes over the rewrite of a large table');
}

done_testing();
