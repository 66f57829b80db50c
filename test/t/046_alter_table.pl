# siphon_alter_table() while writers write: partitions and columns change, rows come anew, and what follows them is all
# that happened since. Without rows, columns change at one place of the stream, and no event is missing.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $node = siphon_node('primary', conf => "siphon.package_size = 16kB\nmax_wal_size = 1GB");
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (id bigint PRIMARY KEY, v int, w text);
	CREATE TABLE changes (id bigserial PRIMARY KEY, v int, w text);
	INSERT INTO t SELECT g, 0, 'w' || g FROM generate_series(1, 5000) g});
$node->safe_psql('postgres', "SELECT siphon_add_table('t', partitions => 4)");
add_table($node, 'changes');

my $generation = sub { $node->safe_psql('postgres', "SELECT generation FROM siphon_tables WHERE table_name = 't'") };
my $notices = sub {
	my ($sql) = @_;
	my ($code, $stdout, $stderr) = $node->psql('postgres', $sql);

	is($code, 0, $sql);
	return $stderr;
};

wait_for_table($node, 't');
my $load = start_pgbench($node,
	{ 'a@1' => "\\set id random(1, 5000)\nUPDATE t SET v = v + 1 WHERE id = :id;\nINSERT INTO changes (v, w) VALUES (1, 'w');\n" },
	-c => 4, -T => 60);

for my $change ("partitions => 2", "exclude_columns => '{w}'", "exclude_columns => '{}', partitions => 3")
{
	my $before = $generation->();

	like($notices->("SELECT siphon_alter_table('t', $change)"), qr/NOTICE:  a new snapshot of table public.t has been scheduled/, 'and says so');
	# While the first is still at it, the next may come.
	wait_for_table($node, 't', 'streaming', after => $before);
}

my $before = $generation->();
is($notices->("SELECT siphon_alter_table('t', partitions => 3, exclude_columns => '{}')"), '', 'what changes nothing says nothing');
is($generation->(), $before, 'and does nothing');

# In the middle of a snapshot it ends that one.
$node->safe_psql('postgres', "ALTER SYSTEM SET siphon.snapshot_rate = 1");
$node->reload;
$node->safe_psql('postgres', "SELECT siphon_resync_table('t')");
wait_until('the scan runs', sub { $node->safe_psql('postgres', "SELECT count(*) FROM siphon_snapshot_progress WHERE phase = 'scanning' AND bytes > 0") });
$notices->("SELECT siphon_alter_table('t', partitions => 4)");
$node->safe_psql('postgres', 'ALTER SYSTEM RESET siphon.snapshot_rate');
$node->reload;
wait_for_table($node, 't', 'streaming', after => $before);

# Other columns of a table without rows: a place in the stream, and nothing is missing.
my $changes = $notices->("SELECT siphon_alter_table('changes', exclude_columns => '{w}')");
like($changes, qr/NOTICE:  changes of table public.changes have other columns from here on/, 'a table without rows says what that means');
my $mark = $node->safe_psql('postgres', 'SELECT max(id) FROM changes');
wait_until('there are changes behind it', sub { $node->safe_psql('postgres', "SELECT max(id) > $mark + 100 FROM changes") eq 't' });
stop_pgbench($load);
wait_confirmed($node);

my $replay = is_replayed($nats, $node, ['t'], 'the stream makes the table', counter => 'v');
is($replay->{count}{'SNAPSHOT-BEGIN'}, 4, 'divided as it was to be last');
cmp_ok($replay->{count}{SNAPSHOT}, '==', 5000, 'each row came once in the last generation');
my $events = replay($nats, table => 'public.changes');
my @ids = map { $_->{columns}{id} } @$events;
my %seen = map { $_ => 1 } @ids;
is(scalar(keys %seen), scalar(@ids), 'no change came twice');
is(scalar(@ids), $node->safe_psql('postgres', 'SELECT count(*) FROM changes'), 'and none is missing');
is(scalar(grep { exists $_->{columns}{w} && $_->{columns}{id} > $mark } @$events), 0, 'behind the call they are without the column');
cmp_ok(scalar(grep { exists $_->{columns}{w} } @$events), '>', 0, 'before it they have it');

done_testing();
