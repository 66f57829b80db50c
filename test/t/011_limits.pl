# What one primary's configuration can refuse: wal_level, output_plugin_libraries, slots, workers, applications. Each
# is one error that names the mending command, and leaves neither slot nor registry behind.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Test::More;

my $node = siphon_node('primary', conf => 'wal_level = replica');
my $add = "SELECT siphon_add_table('t', snapshot => false)";

$node->safe_psql('postgres', 'CREATE TABLE t (id int PRIMARY KEY)');

sub nothing_left_behind
{
	my ($what, $slots) = @_;

	is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_replication_slots'), $slots // 0, "$what: no slot is left behind");
	is(scalar(grep { !/other/ } glob($node->data_dir . '/siphon/*')), 0, "$what: no registry is left behind");
	is($node->safe_psql('postgres', "SELECT count(*) FROM siphon_applications WHERE application = 'main'"),
		0, "$what: no application is left behind");
	return;
}

# Writes these settings over those before them, and restarts.
sub set_and_restart
{
	my (%settings) = @_;

	$node->append_conf('postgresql.conf', "$_ = $settings{$_}") for sort keys %settings;
	$node->restart;
	return;
}

fails_with(
	$node, $add, 'wal_level = replica',
	error => 'logical decoding needs "wal_level" = "logical" on this server',
	hint => 'ALTER SYSTEM SET wal_level = logical, then restart this server');
nothing_left_behind('wal_level = replica');

set_and_restart(wal_level => 'logical', max_replication_slots => 1);
$node->safe_psql('postgres', "SELECT pg_create_physical_replication_slot('other')");
fails_with(
	$node, $add, 'max_replication_slots',
	error => 'all replication slots are in use',
	hint => 'ALTER SYSTEM SET max_replication_slots = 2, then restart the server');
nothing_left_behind('max_replication_slots', 1);
$node->safe_psql('postgres', "SELECT pg_drop_replication_slot('other')");

# The launchers of Siphon and of logical replication leave no room for a decoder.
set_and_restart(max_replication_slots => 10, max_worker_processes => 2, max_parallel_workers => 2);
fails_with(
	$node, $add, 'max_worker_processes',
	error => 'application "main" could not be started: no background worker is free',
	hint => 'ALTER SYSTEM SET max_worker_processes = 3, then restart the server');
nothing_left_behind('max_worker_processes');

set_and_restart(max_worker_processes => 12, 'siphon.max_applications' => 1);
$node->safe_psql('postgres', "SELECT siphon_create_application('other')");
fails_with(
	$node, $add, 'siphon.max_applications',
	error => 'siphon.max_applications \(1\) are in use',
	hint => 'ALTER SYSTEM SET siphon.max_applications = 2, then restart the server');
nothing_left_behind('siphon.max_applications', 1);
is(application($node, 'other')->{state}, 'streaming', 'the other application goes on');

# More registries than the server may now hold: it starts, and says which one it leaves out.
set_and_restart('siphon.max_applications' => 2);
$node->safe_psql('postgres', $add);
my $offset = -s $node->logfile;
set_and_restart('siphon.max_applications' => 1);
$node->wait_for_log(qr/siphon: application "\w+" is not started: siphon.max_applications \(1\) are in use/, $offset);
set_and_restart('siphon.max_applications' => 4);
wait_for_state($node, 'streaming', $_) for qw(main other);
pass('with room for all, all stream again');
$node->safe_psql('postgres', "SELECT siphon_drop_application('$_')") for qw(main other);

# Workers that are missing at a restart are a state, not a failure for ever.
$node->safe_psql('postgres', $add);
set_and_restart(max_worker_processes => 2);
my $row = wait_for_state($node, 'no worker');
like($row->{reason}, qr/no background worker is free/, 'an application without a worker tells so');
like($row->{hint}, qr/ALTER SYSTEM SET max_worker_processes = 3/, 'and what to do');
set_and_restart(max_worker_processes => 12);
wait_for_state($node, 'streaming');
pass('and streams when there is one');
$node->safe_psql('postgres', "SELECT siphon_drop_application('main')");

SKIP:
{
	skip 'this PostgreSQL has no output_plugin_libraries', 1 unless has_setting('output_plugin_libraries');

	$node->append_conf('postgresql.conf', 'output_plugin_libraries = pgoutput');
	$node->reload;
	my $listed = fails_with(
		$node, $add, 'output_plugin_libraries',
		error => 'output plugin "siphon" is not listed in "output_plugin_libraries"',
		hint => q{ALTER SYSTEM SET output_plugin_libraries = 'pgoutput', 'siphon'; SELECT pg_reload_conf\(\);});
	nothing_left_behind('output_plugin_libraries');
	my ($code) = $node->psql('postgres', "SELECT pg_create_logical_replication_slot('by_hand', 'siphon')");
	isnt($code, 0, 'nor can a slot be made by hand');

	# The hint works, as it is written.
	my ($hint) = $listed =~ /HINT:  (.*)/;
	$node->safe_psql('postgres', $_) for split /;\s*/, $hint;
	$node->poll_query_until('postgres', "SELECT current_setting('output_plugin_libraries') LIKE '%siphon%'");
	$node->safe_psql('postgres', $add);
	is(application($node)->{state}, 'streaming', 'what the hint says mends it');

	# Taken off the list later, the decoder can't start; that is told too.
	$node->safe_psql('postgres', 'ALTER SYSTEM RESET output_plugin_libraries');
	$node->restart;
	my $row = wait_until('the reason is told', sub { my $row = application($node); $row->{reason} ? $row : undef });
	like($row->{reason}, qr/siphon/, 'an application whose plugin is not listed any more tells why it is not streaming');
	isnt($row->{state}, 'streaming', 'and does not pretend to');
	$node->append_conf('postgresql.conf', 'output_plugin_libraries = siphon');
	$node->reload;
	wait_for_state($node, 'streaming');
	pass('and streams when it is listed again');
	$node->safe_psql('postgres', "SELECT siphon_drop_application('main')");
}

# The plugin works in Siphon's decoder alone.
$node->safe_psql('postgres', "SELECT pg_create_logical_replication_slot('by_hand', 'siphon')");
fails_with(
	$node, "SELECT * FROM pg_logical_slot_get_binary_changes('by_hand', NULL, NULL)", 'a slot read by SQL',
	error => 'output plugin "siphon" can only be used by siphon\'s own decoder',
	hint => 'Publish tables with siphon_add_table\(\) and read them from NATS JetStream');

done_testing();
