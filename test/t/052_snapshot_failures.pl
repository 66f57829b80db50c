# Snapshots that fail: their processes are ended or killed, the server is restarted, the ring directory is full. Each is
# cleaned up, says why, and starts over with a greater generation; other tables and applications go on meanwhile.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::RingFile;
use Siphon::Snapshot;
use Test::More;
use Time::HiRes qw(sleep time);

# scripts/suite makes one that can be filled: it has room for all rings of this test but those of a worker with 16 MB.
my $small = -d '/run/small' ? '/run/small' : undef;
my $node =
  siphon_node('primary', rings => $small, conf => "restart_after_crash = on\nsiphon.max_restart_delay = 8s");
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

$node->safe_psql(
	'postgres', q{
	CREATE TABLE big (id int PRIMARY KEY, v int, filler text);
	INSERT INTO big SELECT g, 0, repeat(md5(g::text), 10) FROM generate_series(1, 4000) g;
	CREATE TABLE other (id bigserial PRIMARY KEY, v text)});
add_table($node, 'other', snapshot => 'true');
wait_for_table($node, 'other');

# Brings a new snapshot of big to its middle. Returns its generation.
sub scan_half
{
	my ($what) = @_;

	slow_scans($node);
	$node->safe_psql('postgres',
		"SELECT siphon_" . (table_state($node, 'big')->{generation} ? 'resync' : 'add') . "_table('big')");

	my $row = wait_for_scan($node, 'big');

	others_go_on($node, $nats, $what);
	is(progress($node, 'big')->{generation}, $row->{generation}, "$what: the scan is in its middle");
	return $row->{generation};
}

# Why a snapshot failed is told until the next one begins.
sub reason_is_told
{
	my ($what, $reason) = @_;
	my $row = wait_until("$what: the reason is told",
		sub { my $row = table_state($node, 'big'); ($row->{reason} // '') =~ $reason ? $row : undef });

	pass("$what: the reason is told: $row->{reason}");
	return;
}

# The snapshot of this generation failed, and the next one does it. Without a reason, that was looked at before.
sub starts_over
{
	my ($what, $generation, $reason) = @_;

	reason_is_told($what, $reason) if $reason;
	fast_scans($node);

	my $row = wait_for_table($node, 'big');

	cmp_ok($row->{generation}, '>', $generation, "$what: the next snapshot has a greater generation");
	is($row->{reason}, undef, "$what: when it is done there is no reason any more");
	is_clean($nats, $node, $node, 'big', ['id'], $what);
	is($node->safe_psql('postgres', 'SELECT count(*) FROM siphon_snapshot_progress'), '0', "$what: no snapshot is left");
	is_deeply([ glob(ring_directory($node) . '/main/snapshot-*.ring') ], [], "$what: no ring is left");
	return;
}

sub terminate
{
	my ($pid) = @_;

	is($node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)"), 't', "process $pid is ended");
	return;
}

# ---- a process is ended ---------------------------------------------------------------------------------------------

my $generation = scan_half('leader ended');
terminate((snapshot_pids($node))[0]);
starts_over('leader ended', $generation, qr/a process of the snapshot ended/);

$generation = scan_half('worker ended');
terminate((snapshot_pids($node))[1]);
starts_over('worker ended', $generation, qr/a process of the snapshot ended/);

# ---- a process never starts -----------------------------------------------------------------------------------------

# The postmaster's child finds no library to run, before it could tell anybody. Sessions find theirs.
$ENV{PGOPTIONS} = '-c dynamic_library_path=$libdir';
slow_scans($node);
set_and_reload($node, dynamic_library_path => '/nowhere');
$node->safe_psql('postgres', "SELECT siphon_resync_table('big')");
others_go_on($node, $nats, 'leader does not start');
reason_is_told('leader does not start', qr/its process could not be started/);
set_and_reload($node, dynamic_library_path => '$libdir');
starts_over('leader does not start', $generation);

# A worker that does not start is no failure. The leader waits for the publisher before it starts them.
$publisher->stop;
$node->safe_psql('postgres', "SELECT siphon_resync_table('big')");
wait_until('the leader is there', sub { snapshot_pids($node) == 1 });
set_and_reload($node, dynamic_library_path => '/nowhere');
$publisher->start;
wait_for_table($node, 'big');
set_and_reload($node, dynamic_library_path => '$libdir');
is_clean($nats, $node, $node, 'big', ['id'], 'worker does not start');

delete $ENV{PGOPTIONS};

# ---- a process is killed, the server restarts -----------------------------------------------------------------------

# Waits for a server that was restarted.
sub is_back
{
	$node->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'the server does not come back';
	wait_for_state($node, 'streaming');
	return;
}

$generation = scan_half('worker killed');
kill 'KILL', (snapshot_pids($node))[1];
wait_until('the server has noticed', sub { slurp_file($node->logfile) =~ /reinitializing/ });
is_back();
starts_over('worker killed', $generation, qr/interrupted, for example by a server restart/);

$generation = scan_half('server restarted in mid-scan');
$node->stop('immediate');
$node->start;
is_back();
starts_over('server restarted in mid-scan', $generation, qr/interrupted, for example by a server restart/);

# In the middle of moving, where the publisher is made to stand still.
my $leader = Siphon::RingFile->new($node, 'main', 'snapshot-' . $node->safe_psql('postgres', "SELECT 'big'::regclass::oid") . '-0');

for my $updates (4, 12, 36)
{
	$generation = scan_half("server restarted in mid-move, $updates");
	$node->safe_psql('postgres', 'UPDATE big SET v = v + 1') for 1 .. $updates;
	wait_confirmed($node);
	fast_scans($node);
	$node->safe_psql(
		'postgres', q{
		DO $$
		BEGIN
			WHILE EXISTS (SELECT FROM siphon_snapshot_progress WHERE phase IN ('preparing', 'scanning')) LOOP
				PERFORM pg_sleep(0.001);
			END LOOP;
		END $$});
	kill 'STOP', $publisher->{pid};
	# It is not acknowledged that all is moved.
	last if (progress($node, 'big')->{phase} // '') eq 'moving held changes' && $leader->acked < $leader->look($leader->WRITTEN);
	kill 'CONT', $publisher->{pid};
	wait_for_table($node, 'big');
}
is(progress($node, 'big')->{phase}, 'moving held changes', 'held changes are being moved');
$node->stop('immediate');
$node->start;
kill 'CONT', $publisher->{pid};
is_back();
starts_over('server restarted in mid-move', $generation, qr/interrupted, for example by a server restart/);

# ---- no room for its rings ------------------------------------------------------------------------------------------

my $offset = -s $node->logfile;

SKIP:
{
	skip 'there is no small file system for the rings', 1 if !$small;

	$generation = table_state($node, 'big')->{generation};
	set_and_reload($node, 'siphon.ring_size' => '16MB');
	$node->safe_psql('postgres', "SELECT siphon_resync_table('big')");
	$node->wait_for_log(qr/snapshot \d+ of table "public.big" failed: .*No space left.*\n.*taken again in 2000 ms/, $offset);
	like(slurp_file($node->logfile, $offset), qr/No space left.*\n.*taken again in 1000 ms/, 'no room: tried again, later each time');
	like(slurp_file($node->logfile, $offset), qr/HINT:  Make the file system larger, or siphon.ring_size/, 'no room: there is a hint');
	others_go_on($node, $nats, 'no room');
	reason_is_told('no room', qr/No space left on device/);
	set_and_reload($node, 'siphon.ring_size' => '1MB');
	starts_over('no room', $generation);
}

# ---- the registry is damaged meanwhile ------------------------------------------------------------------------------

add_table($node, 'other', application => "'watch'");
$generation = scan_half('registry damaged');

my $file = $node->data_dir . '/siphon/main.registry';
my $good = slurp_file($file);

write_file($file, 'damaged');
$offset = -s $node->logfile;
terminate((snapshot_pids($node))[0]);
$node->wait_for_log(qr/registry file "siphon\/main.registry" is damaged/, $offset);

my $pid = application($node, 'watch')->{decoder_pid};
my $launcher = (siphon_pids($node, 'siphon launcher'))[0];

terminate($pid);
wait_until('the other application is looked after',
	sub { my $row = application($node, 'watch'); $row->{state} eq 'streaming' && $row->{decoder_pid} != $pid });
is((siphon_pids($node, 'siphon launcher'))[0], $launcher, 'registry damaged: the launcher goes on, and cares for others');
write_file($file, $good);
$node->reload;
starts_over('registry damaged', $generation, qr/interrupted, for example by a server restart/);
$node->safe_psql('postgres', "SELECT siphon_drop_application('watch')");

# ---- the launcher is ended ------------------------------------------------------------------------------------------

slow_scans($node);
$node->safe_psql('postgres', "SELECT siphon_resync_table('big')");
$generation = wait_for_scan($node, 'big')->{generation};
kill 'TERM', (siphon_pids($node, 'siphon launcher'))[0];
wait_until('the launcher has gone', sub { !siphon_pids($node, 'siphon launcher') });
fast_scans($node);
is(wait_for_table($node, 'big')->{generation}, $generation, 'launcher ended: the snapshot goes on');
wait_until('its place is free', sub { !%{ progress($node, 'big') } });
is_clean($nats, $node, $node, 'big', ['id'], 'launcher ended');

# The next launcher finds a decoder that it did not start.
$node->safe_psql('postgres', "SELECT siphon_resync_table('big')");
cmp_ok(wait_for_table($node, 'big')->{generation}, '>', $generation, 'launcher ended: the next one starts snapshots');

is_replayed($nats, $node, ['other'], 'the other table has all', again => 1);

done_testing();
