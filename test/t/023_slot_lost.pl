# A slot that is dropped by hand or invalidated does not come back: the application is in state failed, says why and
# what to type, and its decoder is not started again and again.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;
use Time::HiRes qw(sleep);

my $node = siphon_node('primary', conf => "siphon.ring_size = 64kB\nmax_wal_size = 64MB\nmin_wal_size = 32MB");
my $nats = siphon_nats();

$node->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY)');

# Failed, with this reason, and quiet about it; then mended by what the hint says.
sub is_failed
{
	my ($what, $reason) = @_;
	my $row = wait_for_state($node, 'failed');

	like($row->{reason}, $reason, "$what: the reason");
	like($row->{hint}, qr/SELECT siphon_drop_application\('main'\), then add its tables again with siphon_add_table\(\)/, "$what: the hint");
	is($row->{decoder_pid}, undef, "$what: no decoder runs");
	is($node->safe_psql('postgres', 'SELECT DISTINCT state FROM siphon_tables'), 'failed', "$what: siphon_tables says so too");

	# Longer than the launcher's longest pause here.
	sleep 2.5;
	is(application($node)->{restarts}, $row->{restarts}, "$what: the decoder is not started again and again");
	is(application($node)->{state}, 'failed', "$what: the state stays");

	$node->safe_psql('postgres', "SELECT siphon_drop_application('main')");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_replication_slots'), '0', "$what: dropping leaves no slot");
	add_table($node, 't');
	is(application($node)->{state}, 'streaming', "$what: what the hint says mends it");
	return;
}

# Dropped by hand, where PostgreSQL lets one: while no decoder has it.
add_table($node, 't');
my ($code) = $node->psql('postgres', "SELECT pg_drop_replication_slot('siphon_main')");
isnt($code, 0, 'a slot in use can not be dropped');
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
$node->safe_psql('postgres', "SELECT pg_drop_replication_slot('siphon_main')");
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'siphon'");
$node->restart;
is_failed('dropped slot', qr/replication slot "siphon_main" can't be used: it does not exist any more/);

# Invalidated because it keeps too much WAL, while the decoder waits for a full ring.
$node->append_conf('postgresql.conf', 'max_slot_wal_keep_size = 16MB');
$node->reload;
$node->safe_psql('postgres', "INSERT INTO t (v) SELECT repeat(md5(g::text), 20) FROM generate_series(1, 1000) g");
my $offset = -s $node->logfile;
for (1 .. 6)
{
	$node->safe_psql('postgres', "INSERT INTO t (v) SELECT repeat(md5(g::text), 30) FROM generate_series(1, 5000) g");
	$node->safe_psql('postgres', 'SELECT pg_switch_wal(); CHECKPOINT');
}
is_failed('invalidated slot', qr/can't be used: the WAL that it needs was removed \(max_slot_wal_keep_size\)/);
like(slurp_file($node->logfile, $offset), qr/siphon: application "main" stopped: replication slot "siphon_main" can't be used/,
	'the log has it too');

# An application that failed does not hold up another.
my $publisher = siphon_publisher($node, $nats);
$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('again')");
wait_confirmed($node);
is_deeply([ map { $_->{columns}{v} } @{ replay($nats) } ], ['again'], 'and events flow again');

# A table added to a failed application is listed, with a warning that nothing takes it up.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
$node->safe_psql('postgres', "SELECT pg_drop_replication_slot('siphon_main')");
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'siphon'");
$node->restart;
wait_for_state($node, 'failed');
my ($ret, $stdout, $stderr) = $node->psql('postgres', "SELECT siphon_add_table('u', snapshot => false)");
is($ret, 0, 'a table can be added to a failed application');
like($stderr, qr/WARNING:  the decoder of application "main" does not run: .*does not exist any more/, 'with a warning');

done_testing();
