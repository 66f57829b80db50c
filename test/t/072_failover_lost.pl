# A standby is promoted that lacks what an application needs to go on: its slot, or its registry. Each says so, and what
# it says to type mends it. And a slot that gets or loses failover by hand.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Failover;
use Test::More;

my $primary = siphon_node('primary');
plan skip_all => 'slots that standbys synchronize need PostgreSQL 17'
  if $primary->pg_version < 17;

my $nats = siphon_nats();

$primary->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v bigint DEFAULT 0); INSERT INTO t SELECT FROM generate_series(1, 100)');

sub create
{
	my ($application, $failover) = @_;

	$primary->psql('postgres', "SELECT siphon_create_application('$application', failover => $failover)");
	$primary->safe_psql('postgres', "SELECT siphon_add_table('t', '$application')");
	is_mirrored($primary, $application, "$application is mirrored") if $failover eq 'true';
	return;
}

sub is_failed
{
	my ($node, $application, $reason) = @_;
	my $row = wait_for_state($node, 'failed', $application);

	like($row->{reason}, $reason, "$application: the reason");
	like($row->{hint}, qr/SELECT siphon_resync_application\('$application'\)/, "$application: the hint");
	return;
}

# ---- failover by hand ----------------------------------------------------------------------------------------------

create('plain', 'false');
for my $failover ('true', 'false')
{
	# While no decoder has it.
	$primary->append_conf('postgresql.conf', "shared_preload_libraries = ''");
	$primary->restart;
	$primary->safe_psql('postgres', "ALTER_REPLICATION_SLOT siphon_plain (FAILOVER $failover)", replication => 'database');
	$primary->append_conf('postgresql.conf', "shared_preload_libraries = 'siphon'");
	$primary->restart;
	wait_for_state($primary, 'streaming', 'plain');
	wait_until("the registry has failover $failover",
		sub { slurp_file($primary->data_dir . '/siphon/plain.registry') =~ /"failover": (\d)/ && $1 == ($failover eq 'true') });
	is_mirrored($primary, 'plain', 'a slot that gets failover by hand has a mirror from then on') if $failover eq 'true';
}
is($primary->safe_psql('postgres', 'SELECT count(*) FROM siphon_registry'), '0', 'one that loses it has none');

# ---- without the registry ------------------------------------------------------------------------------------------

create('before', 'true');
my $publisher = siphon_publisher($primary, $nats, application => 'before');
my $bare = failover_standby($primary, 'bare');
my $unsynchronized = failover_standby($primary, 'unsynchronized', sync => 0);

create('after', 'true');
create('gone', 'true');
my $after_publisher = siphon_publisher($primary, $nats, application => 'after', name => 'publisher-after');
wait_synchronized($primary, $bare, "siphon_$_") for 'before', 'after';
# The decoder writes the row once more when the publisher has acknowledged something for the first time.
wait_until('the mirror has the acknowledgement', sub { mirror_of($primary, 'after') =~ /"acknowledged": 1/ });
$primary->safe_psql('postgres', "DELETE FROM siphon_registry WHERE application = 'after'");
$primary->wait_for_replay_catchup($_) for $bare, $unsynchronized;
$bare->promote;
wait_until('the log names the slot without a registry',
	sub { slurp_file($bare->logfile) =~ /siphon: slot "siphon_after" of the former primary has no registry in the table siphon_registry\n.*HINT:  SELECT pg_drop_replication_slot\('siphon_after'\)/ });
pass('a slot whose registry is missing is named in the log');
is($bare->safe_psql('postgres', "SELECT count(*) FROM siphon_applications WHERE application = 'after'"), '0', 'and nothing is made up for it');
wait_for_state($bare, 'streaming', 'before');
pass('one that has both goes on');
$bare->stop;

# The decoder writes its row again when it starts.
my ($decoder) = siphon_pids($primary, 'siphon decoder after');
kill 'TERM', $decoder;
is_mirrored($primary, 'after', 'a row that was deleted is written again');

# ---- without the slot ----------------------------------------------------------------------------------------------

is(application($unsynchronized, 'before')->{state}, 'standby', 'with a registry the application rests');
like(application($unsynchronized, 'before')->{hint}, qr/It takes sync_replication_slots = on/, 'and says what it takes to take over');
is(application($unsynchronized, 'after')->{state}, 'standby', 'so does one without');
$unsynchronized->safe_psql('postgres', "SELECT pg_create_physical_replication_slot('siphon_before')");
wait_until('the slot in the way is seen', sub { (application($unsynchronized, 'before')->{hint} // '') eq "SELECT pg_drop_replication_slot('siphon_before');" });
like(application($unsynchronized, 'before')->{reason}, qr/a slot of this server itself keeps its slot from being synchronized/, 'a slot that is in the way is named');
$unsynchronized->safe_psql('postgres', "SELECT pg_drop_replication_slot('siphon_before')");

$primary->wait_for_replay_catchup($unsynchronized);
$primary->stop('immediate');
$_->stop for $publisher, $after_publisher;
$unsynchronized->promote;
is_failed($unsynchronized, 'before', qr/replication slot "siphon_before" cannot be used: it does not exist any more/);
is_failed($unsynchronized, 'after', qr/the former primary published it, and its slot was not synchronized to this server/);
is_failed($unsynchronized, 'gone', qr/its slot was not synchronized/);
$unsynchronized->safe_psql('postgres', "INSERT INTO t SELECT FROM generate_series(1, 100)");
$unsynchronized->psql('postgres', "SELECT siphon_resync_application('$_')") for 'before', 'after';
$unsynchronized->safe_psql('postgres', "SELECT siphon_drop_application('gone')");
is($unsynchronized->safe_psql('postgres', "SELECT count(*) FROM siphon_applications WHERE application = 'gone'"), '0', 'what is not wanted can be dropped');

for my $application ('before', 'after')
{
	my $late = siphon_publisher($unsynchronized, $nats, application => $application, name => "publisher-late-$application");

	wait_for_state($unsynchronized, 'streaming', $application);
	is($unsynchronized->safe_psql('postgres', "SELECT failover FROM pg_replication_slots WHERE slot_name = 'siphon_$application'"), 't', "$application: the new slot has failover");
	wait_for_tables($unsynchronized, application => $application);
	$unsynchronized->safe_psql('postgres', 'UPDATE t SET v = v + 1 WHERE id % 10 = 0');
	wait_confirmed($unsynchronized, application => $application);
	is_replayed($nats, $unsynchronized, ['t'], "$application: the stream makes the table", application => $application, counter => 'v');
	is_mirrored($unsynchronized, $application, "$application is mirrored again");
}

done_testing();
