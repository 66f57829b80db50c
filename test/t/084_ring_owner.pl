# Two servers use the same ring directory, for applications of the same name: a copy of the other one here, and its standby.
# Who comes second is refused, told whose the rings are, and whatever it does and fails at leaves the first one's files alone.
# Once that is gone, its directory can be had without a hand's turn.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Snapshot;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();
my $rings = ring_directory($node);

$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (id bigserial PRIMARY KEY, v text);
	CREATE TABLE big (id int PRIMARY KEY, v int, filler text);
	INSERT INTO big SELECT g, 0, repeat(md5(g::text), 10) FROM generate_series(1, 4000) g});

# The copy has the same tables under the same OIDs, and, before it meets the other one, a snapshot that is under way.
my $copy = PostgreSQL::Test::Cluster->new('copy');

$node->backup('copy');
$copy->init_from_backup($node, 'copy');
$copy->append_conf('postgresql.conf', Siphon::siphon_conf($copy));
$copy->start;
$copy->safe_psql('postgres', "SELECT siphon_add_table('big', workers => 4)");
wait_for_table($copy, 'big', 'snapshot');
$copy->append_conf('postgresql.conf', "siphon.ring_directory = '$rings'");
$copy->stop;

my $publisher = siphon_publisher($node, $nats);

add_table($node, 't');
slow_scans($node);
$node->safe_psql('postgres', "SELECT siphon_add_table('big')");
my $generation = wait_for_scan($node, 'big')->{generation};

# All files of the application, each with its number.
sub files
{
	return { map { $_ => (stat $_)[1] } glob "$rings/main/*" };
}

# Of decoder and publisher, and of the two processes of the snapshot.
my $files = wait_until('all files are there', sub { my $now = files(); keys %$now == 5 + 2 * 3 ? $now : undef });
my $refused = sprintf 'the rings of application "main" in "%s" are in use by the server with data directory "%s"', $rings, $node->data_dir;
my $hint = 'Give each server a directory of its own: ALTER SYSTEM SET siphon\.ring_directory, then restart\.';

# ---- a copy ----------------------------------------------------------------------------------------------------------

$copy->start;
my $row = wait_until('the copy is refused', sub { my $row = application($copy); $row->{reason} ? $row : undef });
is($row->{reason}, $refused, 'copy: its decoder is refused, and it says whose the rings are');
like($row->{hint}, qr/^$hint$/, 'copy: and what to do');
wait_until('the snapshot of the copy has failed', sub { table_state($copy, 'big')->{reason} });
$copy->wait_for_log(qr/snapshot \d+ of table "public.big" failed.*snapshot \d+ of table "public.big" failed/s);
is_deeply(files(), $files, 'copy: its snapshots fail, and the rings of the other one are there');
$copy->safe_psql('postgres', "SELECT siphon_drop_application('main')");
is_deeply(files(), $files, 'copy: dropped, and they still are');
fails_with($copy, $_, $_, error => "application \"main\" could not be started: \Q$refused\E", hint => $hint)
  for q{SELECT siphon_add_table('t')}, q{SELECT siphon_create_application('main')};
is_deeply(files(), $files, 'copy: what it could not create it has not removed');
is($copy->safe_psql('postgres', 'SELECT count(*) FROM pg_replication_slots'), '0', 'copy: but for what is its own');

# ---- a standby -------------------------------------------------------------------------------------------------------

if (standby_supported($node))
{
	my $standby = siphon_standby($node, 'standby', conf => "siphon.ring_directory = '$rings'");

	# It has the registry from the backup, and no slot.
	wait_for_state($standby, 'failed');
	$standby->safe_psql('postgres', "SELECT siphon_drop_application('main')");
	is_deeply(files(), $files, 'standby: dropped, and the rings of the primary are there');

	my $call = $standby->background_psql('postgres', on_error_stop => 0);

	$call->query_until(qr/called/, "\\echo called\nSELECT siphon_add_table('t');\n");
	wait_until(
		'the standby is refused',
		sub {
			$node->safe_psql('postgres', 'SELECT pg_log_standby_snapshot()');
			slurp_file($standby->logfile) =~ /ERROR:  application "main" could not be started: \Q$refused\E/;
		});
	pass('standby: it is refused');
	eval { $call->quit };
	is_deeply(files(), $files, 'standby: and has removed nothing');
	$standby->stop;
}

# ---- the first one has noticed nothing -------------------------------------------------------------------------------

fast_scans($node);
is(wait_for_table($node, 'big')->{generation}, $generation, 'the snapshot goes on to its end');
$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('undisturbed'); UPDATE big SET v = 1 WHERE id = 1");
wait_confirmed($node);
is(application($node)->{restarts}, 0, 'and so does the decoder');
ok($publisher->running, 'and the publisher');
is_replayed($nats, $node, [qw(t big)], 'the stream makes the tables');

# ---- it is gone ------------------------------------------------------------------------------------------------------

$publisher->stop;
$node->stop('immediate');
ok(-e "$rings/main/decoder.ring", 'a server that was killed leaves its ring');
$copy->safe_psql('postgres', "SELECT siphon_add_table('t', snapshot => false)");
is(application($copy)->{state}, 'streaming', 'another one can have its place');
$node->start;
$row = wait_until('it is refused', sub { my $row = application($node); $row->{reason} ? $row : undef });
like($row->{reason}, qr/are in use by the server with data directory "\Q${\$copy->data_dir}\E"/, 'and then it is the first one that is refused');
$copy->safe_psql('postgres', "SELECT siphon_drop_application('main')");
wait_for_state($node, 'streaming');
pass('until they are free again');
is($node->safe_psql('postgres', "SELECT siphon_drop_application('main')"), '', 'it is dropped');
ok(!-e "$rings/main", 'and nothing of it is left');

done_testing();
