# An application that is stopped leaves the database to others: it can be renamed, moved and copied. It stays so over restarts of
# the server, and then goes on where it was, with nothing lost and nothing twice.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();

$node->safe_psql('postgres', 'CREATE DATABASE shop');
$node->safe_psql('shop', q{
	CREATE EXTENSION siphon;
	CREATE TABLE t (id bigserial PRIMARY KEY, v int);
	INSERT INTO t (v) SELECT 0 FROM generate_series(1, 100);
	CREATE TABLE late (id bigserial PRIMARY KEY);
	INSERT INTO late SELECT FROM generate_series(1, 5000);
	CREATE PUBLICATION p FOR TABLE t});

my $publisher = siphon_publisher($node, $nats);
my $database = 'shop';

sub published
{
	my ($tables, $name) = @_;

	wait_confirmed($node);
	is_replayed($nats, $node, $tables, $name, connect => $node->connstr($database));
	return;
}

sub stop_application
{
	my ($name) = @_;

	$node->safe_psql($database, 'SELECT siphon_stop_application()');
	is(application($node)->{state}, 'stopped', "$name: it is stopped when the call returns");
	is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE datname = '$database' OR backend_type LIKE 'siphon decoder%'"),
		0, "$name: and nobody is in the database");
	return;
}

# Followed, so that there is a follower too.
$node->safe_psql('shop', "SELECT siphon_create_application(); SELECT siphon_follow_publication('p')");
wait_until('the table is listed', sub { $node->safe_psql('shop', "SELECT count(*) FROM siphon_tables WHERE table_name = 't'") });
wait_for_table($node, 't', 'streaming', database => 'shop');
$node->safe_psql('shop', 'UPDATE t SET v = v + 1');
published(['t'], 'at first');

stop_application('first');
like(application($node)->{reason}, qr/siphon_stop_application\(\) stopped it/, 'the reason');
is(application($node)->{hint}, "SELECT siphon_start_application('main');", 'and what to type');
is($node->safe_psql('shop', "SELECT state FROM siphon_tables WHERE table_name = 't'"), 'stopped', 'its table says so, too');
$node->safe_psql('shop', 'UPDATE t SET v = v + 1');

$node->safe_psql('postgres', 'ALTER DATABASE shop RENAME TO "the shop"');
$node->safe_psql('postgres', 'CREATE DATABASE copied TEMPLATE "the shop"');
$database = 'the shop';
is(application($node)->{database}, $database, 'the database is renamed, and the view has its name');
like(($node->psql('copied', 'SELECT siphon_start_application()'))[2], qr/belongs to database "the shop".*\\c "the shop"/s, 'a copy of it is another one');

# A call that waits for the decoder says why there is none.
like(($node->psql($database, "SELECT siphon_alter_table('t', workers => 3)"))[2], qr/does not run: siphon_stop_application\(\) stopped it/,
	'what can not take effect says so');

my $offset = -s $node->logfile;
$node->restart;
wait_for_state($node, 'stopped');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE datname = '$database'"), 0, 'it stays stopped over a restart');
$node->safe_psql($database, 'UPDATE t SET v = v + 1');
$node->safe_psql($database, 'SELECT siphon_stop_application()');
is(application($node)->{state}, 'stopped', 'to stop it again is nothing');
$node->safe_psql($database, 'SELECT siphon_start_application(); SELECT siphon_start_application()');
is(application($node)->{state}, 'streaming', 'it streams when the call returns');
$node->safe_psql($database, 'UPDATE t SET v = v + 1');
published(['t'], 'nothing is lost, and nothing comes twice');
unlike(slurp_file($node->logfile, $offset), qr/ERROR/, 'all that is quiet');

# Stopped at once: a worker that the launcher has just begun to start must not stay in the database.
for my $round (1 .. 10)
{
	$node->safe_psql($database, 'SELECT siphon_start_application()');
	stop_application("just started, $round");
	$node->safe_psql('postgres', qq(ALTER DATABASE "$database" RENAME TO passing; ALTER DATABASE passing RENAME TO "$database"));
}
$node->safe_psql($database, 'SELECT siphon_start_application()');

# In the middle of a snapshot.
$node->safe_psql($database, 'SELECT siphon_unfollow_publication()');
$node->append_conf('postgresql.conf', 'siphon.snapshot_rate = 1kB');
$node->reload;
wait_until('the rate is read', sub { $node->safe_psql('postgres', 'SHOW siphon.snapshot_rate') eq '1kB' });
$node->safe_psql($database, "SELECT siphon_add_table('late')");
wait_for_table($node, 'late', 'snapshot', database => $database);
stop_application('in a snapshot');
$node->append_conf('postgresql.conf', 'siphon.snapshot_rate = 0');
$node->restart;
$node->safe_psql($database, 'INSERT INTO late DEFAULT VALUES; SELECT siphon_start_application()');
wait_for_table($node, 'late', 'streaming', database => $database);
published([ 't', 'late' ], 'a snapshot starts over');

# Begun anew, it is not stopped any more; and it can be dropped.
stop_application('resync');
$node->safe_psql($database, 'SELECT siphon_resync_application()');
is(application($node)->{state}, 'streaming', 'one that begins anew is not stopped any more');
wait_for_tables($node, database => $database);
published([ 't', 'late' ], 'and has all');
stop_application('drop');
$node->safe_psql($database, "SELECT siphon_drop_application('main')");
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_replication_slots'), 0, 'one that is stopped can be dropped');

done_testing();
