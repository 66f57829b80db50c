# What takes a slot from a standby: VACUUM on the primary where hot_standby_feedback is off, and wal_level on the primary.
# Each ends in state failed with its reason; until the cause is mended siphon_resync_application() refuses and says how,
# and then it mends the application. A standby that is built anew has no application, and tables are added again.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $primary = siphon_node('primary', preloaded => 0);
plan skip_all => 'logical decoding on a standby needs PostgreSQL 16'
  unless standby_supported($primary);

my $standby = siphon_standby($primary, 'standby');
my $nats = siphon_nats();
my $publisher = siphon_publisher($standby, $nats);

$primary->safe_psql(
	'postgres', q{
	CREATE TABLE t (id bigserial PRIMARY KEY, v text);
	INSERT INTO t (v) SELECT 'there' FROM generate_series(1, 100)});
$primary->wait_for_replay_catchup($standby);

sub streams
{
	my ($server, $what) = @_;

	wait_for_tables($server);
	$primary->safe_psql('postgres', "INSERT INTO t (v) VALUES ('$what'); UPDATE t SET v = '$what' WHERE id = 1; DELETE FROM t WHERE id = (SELECT max(id) / 2 FROM t)");
	wait_confirmed($server, primary => $primary);
	is_replayed($nats, $primary, ['t'], "$what: the stream makes the table");
	return;
}

sub is_failed
{
	my ($what, $reason) = @_;
	my $row = wait_for_state($standby, 'failed');

	like($row->{reason}, $reason, "$what: the reason");
	is($row->{hint}, "Run SELECT siphon_resync_application('main') to create a new slot and take new snapshots of its tables.", "$what: the hint");
	like(slurp_file($standby->logfile), qr/siphon: application "main" stopped: $reason/, "$what: the log has it, too");
	$primary->safe_psql('postgres', "INSERT INTO t (v) VALUES ('missed'); UPDATE t SET v = 'missed' WHERE id = 2");
	return;
}

sub is_mended
{
	my ($what) = @_;

	resync_application($standby, $primary);
	is(application($standby)->{state}, 'streaming', "$what: siphon_resync_application() mends it");
	streams($standby, $what);
	return;
}

add_table($standby, 't', primary => $primary, snapshot => 'true');
streams($standby, 'at first');

# ---- a recovery conflict ----------------------------------------------------------------------------------------------

$standby->append_conf('postgresql.conf', 'hot_standby_feedback = off');
$standby->reload;
$primary->poll_query_until('postgres',
	"SELECT catalog_xmin IS NULL AND xmin IS NULL FROM pg_replication_slots WHERE slot_name = 'standby'")
  or die 'the standby still keeps rows on the primary';
# Dead rows of a catalog, and their removal; then something to replay behind it.
$primary->safe_psql('postgres', 'CREATE TABLE gone (id int); DROP TABLE gone');
$primary->safe_psql('postgres', 'VACUUM pg_class');
$primary->safe_psql('postgres', "SELECT pg_logical_emit_message(true, 'behind', '')");
is_failed('conflict',
	qr/replication slot "siphon_main" cannot be used: rows that it needs were removed \(recovery conflict; see hot_standby_feedback\)/);
fails_with(
	$standby, 'SELECT siphon_resync_application()', 'conflict: without feedback',
	error => '"hot_standby_feedback" is off on this standby',
	hint => 'ALTER SYSTEM SET hot_standby_feedback = on');
is(application($standby)->{state}, 'failed', 'conflict: nothing has changed');
$standby->append_conf('postgresql.conf', 'hot_standby_feedback = on');
$standby->reload;
is_mended('conflict');

# ---- wal_level --------------------------------------------------------------------------------------------------------

$primary->append_conf('postgresql.conf', 'wal_level = replica');
$primary->restart;
is_failed('wal_level', qr/replication slot "siphon_main" cannot be used: wal_level was set below logical on the primary/);
fails_with(
	$standby, 'SELECT siphon_resync_application()', 'wal_level: still low',
	error => 'logical decoding needs "wal_level" = "logical" on the primary',
	hint => 'On the primary: ALTER SYSTEM SET wal_level = logical, then restart it');
$primary->append_conf('postgresql.conf', 'wal_level = logical');
$primary->restart;
$primary->wait_for_replay_catchup($standby);
is_mended('wal_level');

# ---- a standby that is built anew -------------------------------------------------------------------------------------

$publisher->stop;
$standby->stop('immediate');
$primary->safe_psql('postgres', "INSERT INTO t (v) VALUES ('without a standby'); UPDATE t SET v = 'without a standby' WHERE id = 3");

my $rebuilt = siphon_standby($primary, 'rebuilt');

is($rebuilt->safe_psql('postgres', 'SELECT count(*) FROM siphon_applications'), '0', 'rebuilt: there is no application');
$publisher = siphon_publisher($rebuilt, $nats, name => 'rebuilt_publisher');
add_table($rebuilt, 't', primary => $primary, snapshot => 'true');
streams($rebuilt, 'rebuilt');

done_testing();
