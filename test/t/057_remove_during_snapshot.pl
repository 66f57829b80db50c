# A table that is removed, or dropped, in the middle of its snapshot: the publisher ends what is under way for it, also when it was
# away, or the server was stopped, when that happened. What was held for it leaves the stream, watermarks do not name it
# any more, and added again, with its rows or without, it is published.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();

$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (id int PRIMARY KEY, v int, filler text);
	CREATE TABLE other (id int PRIMARY KEY);
	INSERT INTO t SELECT g, 0, repeat(md5(g::text), 20) FROM generate_series(1, 5000) g;
	ALTER SYSTEM SET siphon.snapshot_rate = 1;
	SELECT pg_reload_conf();
});

sub held_messages
{
	return $nats->held;
}

# In the middle of its scan, with changes held in the stream.
sub begin_snapshot
{
	$node->safe_psql('postgres', "SELECT siphon_add_table('t')");
	$node->poll_query_until('postgres', "SELECT phase = 'scanning' FROM siphon_snapshot_progress") or die;
	$node->safe_psql('postgres', 'UPDATE t SET v = v + 1 WHERE id <= 10');
	wait_until('changes are held', sub { held_messages() > 0 && $node->safe_psql('postgres', 'SELECT coalesce(sum(held_events), 0) > 0 FROM siphon_snapshot_progress') eq 't' });
	return;
}

sub last_watermark
{
	$node->safe_psql('postgres', 'INSERT INTO other SELECT coalesce(max(id), 0) + 1 FROM other');
	wait_confirmed($node);
	return (grep { ($_->{operation} // '') eq 'WATERMARK' } @{ replay($nats, watermarks => 1) })[-1];
}

# What happened on a table's subjects.
sub operations
{
	my ($table) = @_;

	return join ' ', map { $_->{operation} } @{ replay($nats, table => "public.$table") };
}

sub removed
{
	my ($name) = @_;

	wait_until("$name: what was held is dropped", sub { held_messages() <= 1 });
	is_deeply(last_watermark()->{held_tables} // [], [], "$name: the watermark speaks for all tables again");
	ok( wait_until("$name: no snapshot is left", sub { $node->safe_psql('postgres', 'SELECT count(*) FROM siphon_snapshot_progress') eq '0' }),
		"$name: no snapshot is left");
	wait_until(
		"$name: the registry has forgotten it",
		sub { slurp_file($node->data_dir . '/siphon/main.registry') =~ /"removed": \[\]/ });
	return;
}

my $publisher = siphon_publisher($node, $nats);

add_table($node, 'other');
begin_snapshot();
is_deeply(last_watermark()->{held_tables}, ['public.t'], 'the watermark does not speak for the table');
$node->safe_psql('postgres', "SELECT siphon_remove_table('t')");
removed('removed');

begin_snapshot();
$publisher->kill9;
$node->safe_psql('postgres', "SELECT siphon_remove_table('t')");
$node->stop('immediate');
$node->start;
$publisher = siphon_publisher($node, $nats);
removed('removed while the publisher was away, and the server crashed');

# Dropped, whatever it was doing, a table has one DROP, behind all else: one that waits for its snapshot, and one whose
# snapshot is cut short.
$node->safe_psql('postgres', 'CREATE TABLE waits (id int PRIMARY KEY); CREATE TABLE cut (LIKE t INCLUDING ALL); INSERT INTO cut TABLE t');
add_table($node, 'waits');
$node->safe_psql('postgres', "INSERT INTO waits VALUES (1); SELECT siphon_add_table('cut')");
$node->poll_query_until('postgres', "SELECT phase = 'scanning' FROM siphon_snapshot_progress") or die;
$node->safe_psql('postgres', "UPDATE cut SET v = v + 1 WHERE id <= 10; SELECT siphon_resync_table('waits'); DROP TABLE waits");
wait_until('changes are held', sub { held_messages() > 0 && $node->safe_psql('postgres', 'SELECT coalesce(sum(held_events), 0) > 0 FROM siphon_snapshot_progress') eq 't' });

my $drop = $node->background_psql('postgres');
$drop->query_until(qr/called/, "\\echo called\nDROP TABLE cut;\n");
$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'cut'::regclass AND NOT granted") or die;
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'siphon snapshot'");
$drop->query_safe('SELECT 1');
$drop->quit;
for my $what ('dropped', 'dropped, and the server crashed')
{
	removed($what);
	is(operations('waits'), 'INSERT DROP', "$what: the table that waited ends with it");
	like(operations('cut'), qr/^(?:SNAPSHOT )*DROP$/, "$what: of the one that was scanned at most the last message is left");
	$node->stop('immediate');
	$node->start;
}
$node->safe_psql('postgres', "SELECT siphon_remove_table(relid::oid) FROM siphon_tables WHERE state = 'dropped'");

# Without its rows: changes only, and of a generation greater than that of the snapshot that was given up.
add_table($node, 't');
$node->safe_psql('postgres', 'UPDATE t SET v = 77 WHERE id = 20');
wait_confirmed($node);

my @changes = grep { $_->{operation} eq 'UPDATE' && $_->{columns}{v} == 77 } @{ replay($nats, table => 'public.t') };

is(scalar @changes, 1, 'added again without a snapshot, its changes are published');

my $generation = $changes[0]{generation};

# And once more with them.
$node->safe_psql('postgres', "SELECT siphon_remove_table('t'); ALTER SYSTEM RESET siphon.snapshot_rate; SELECT pg_reload_conf()");
$node->safe_psql('postgres', "SELECT siphon_add_table('t')");
wait_for_tables($node);
$node->safe_psql('postgres', 'UPDATE t SET v = 78 WHERE id = 21');
wait_confirmed($node);

my $events = replay($nats);

is_replica($events, $node, 't', ['id'], 'added again with a snapshot, it is the table');
cmp_ok((grep { $_->{operation} eq 'SNAPSHOT-BEGIN' } @$events)[-1]{generation},
	'>', $generation, 'its generation is greater');

done_testing();
