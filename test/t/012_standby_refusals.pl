# What a standby's configuration can refuse. On PostgreSQL 15, logical decoding on a standby itself.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Test::More;

my $primary = siphon_node('primary');
my $standby = siphon_standby($primary, 'standby');
my $add = "SELECT siphon_add_table('t', snapshot => false)";

$primary->safe_psql('postgres', 'CREATE TABLE t (id int PRIMARY KEY)');
$primary->wait_for_replay_catchup($standby) if $primary->can('wait_for_replay_catchup');
$primary->wait_for_catchup($standby);

sub nothing_left_behind
{
	my ($what) = @_;

	is($standby->safe_psql('postgres', 'SELECT count(*) FROM pg_replication_slots'), 0, "$what: no slot is left behind");
	ok(!glob($standby->data_dir . '/siphon/*'), "$what: no registry is left behind");
	return;
}

if (!standby_supported($standby))
{
	fails_with(
		$standby, $add, 'PostgreSQL 15',
		error => 'logical decoding on a standby needs PostgreSQL 16 or later',
		hint => 'Run siphon_add_table\(\) on the primary, or upgrade PostgreSQL');
	nothing_left_behind('PostgreSQL 15');
	done_testing();
	exit 0;
}

$standby->append_conf('postgresql.conf', 'hot_standby_feedback = off');
$standby->reload;
$standby->poll_query_until('postgres', "SELECT current_setting('hot_standby_feedback') = 'off'");
my $error = fails_with(
	$standby, $add, 'hot_standby_feedback = off',
	error => '"hot_standby_feedback" is off on this standby',
	detail => 'Without it, VACUUM on the primary can remove catalog rows',
	hint => 'ALTER SYSTEM SET hot_standby_feedback = on; SELECT pg_reload_conf\(\);');
nothing_left_behind('hot_standby_feedback');
my ($hint) = $error =~ /HINT:  (.*)/;
$standby->safe_psql('postgres', $_) for split /;\s*/, $hint;
ok($standby->poll_query_until('postgres', "SELECT current_setting('hot_standby_feedback') = 'on'"), 'the hint works');

$standby->append_conf('postgresql.conf', 'wal_level = replica');
$standby->restart;
fails_with(
	$standby, $add, 'wal_level of the standby',
	error => 'logical decoding needs "wal_level" = "logical" on this server',
	hint => 'ALTER SYSTEM SET wal_level = logical, then restart this server');
nothing_left_behind('wal_level of the standby');
$standby->append_conf('postgresql.conf', 'wal_level = logical');
$standby->restart;

# The primary goes below logical while an application streams: the slot is lost, and that is told.
add_table($standby, 't', primary => $primary);
$primary->append_conf('postgresql.conf', 'wal_level = replica');
$primary->restart;
$primary->wait_for_catchup($standby);
my $row = wait_for_state($standby, 'failed');
like($row->{reason}, qr/wal_level was set below logical on the primary/, 'the application tells that the primary went below logical');
like($row->{hint}, qr/siphon_resync_application\('main'\)/, 'and what to do here');
$standby->safe_psql('postgres', "SELECT siphon_drop_application('main')");
nothing_left_behind('after dropping the application');

# How the primary hears of this standby's needs, there are warnings of, in front of what is refused.
my $refused = fails_with(
	$standby, $add, 'wal_level of the primary',
	error => 'logical decoding needs "wal_level" = "logical" on the primary',
	hint => 'On the primary: ALTER SYSTEM SET wal_level = logical, then restart it');
unlike($refused, qr/WARNING/, 'a standby with a slot on the primary: no warning');
nothing_left_behind('wal_level of the primary');
$standby->safe_psql('postgres', $_) for q{ALTER SYSTEM SET primary_slot_name = ''}, 'SELECT pg_reload_conf()';
$standby->poll_query_until('postgres', "SELECT status = 'streaming' AND slot_name IS NULL FROM pg_stat_wal_receiver");
$refused = fails_with($standby, $add, 'no slot', error => 'logical decoding', hint => '.*');
like($refused, qr/WARNING:  "primary_slot_name" is not set on this standby\nDETAIL:.*VACUUM.*\nHINT:  On the primary: SELECT pg_create_physical_replication_slot/, 'no slot: a warning');
$standby->safe_psql('postgres', $_) for q{ALTER SYSTEM SET primary_conninfo = ''}, 'SELECT pg_reload_conf()';
$standby->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_stat_wal_receiver');
$refused = fails_with($standby, $add, 'no receiver', error => 'logical decoding', hint => '.*');
like($refused, qr/WARNING:  this standby receives no WAL from a primary\nDETAIL:.*VACUUM.*\nHINT:  Set primary_conninfo/, 'an archive alone: a warning');
$standby->safe_psql('postgres', $_) for 'ALTER SYSTEM RESET primary_conninfo', 'ALTER SYSTEM RESET primary_slot_name', 'SELECT pg_reload_conf()';

$primary->safe_psql('postgres', 'ALTER SYSTEM SET wal_level = logical');
$primary->restart;
$primary->wait_for_catchup($standby);
add_table($standby, 't', primary => $primary);
is(application($standby)->{state}, 'streaming', 'with wal_level = logical everywhere it streams');

done_testing();
