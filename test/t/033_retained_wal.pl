# Too much WAL is kept for an application: first a warning, then the point of no return. Its slot is dropped, whether
# its decoder waits for a full ring, has no worker, or runs on a standby, and while a snapshot runs; no restart changes
# that, and siphon_resync_application() begins anew.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $conf = "siphon.ring_size = 64kB\nmin_wal_size = 32MB\nmax_logical_replication_workers = 0";
my $node = siphon_node('primary', conf => $conf);
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);
my $fill = "INSERT INTO t (v) SELECT repeat(md5(g::text), 30) FROM generate_series(1, 3000) g"; # about 3 MB

$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (id bigserial PRIMARY KEY, v text);
	CREATE TABLE u (id int PRIMARY KEY);
	INSERT INTO t (v) SELECT 'there' FROM generate_series(1, 100)});
$node->safe_psql('postgres', "SELECT siphon_add_table('t')");
add_table($node, 'u');

sub set
{
	my ($server, $setting, $value) = @_;

	$server->append_conf('postgresql.conf', "siphon.$setting = $value");
	$server->reload;
	return;
}

# How often this is in the log.
sub logged
{
	my ($pattern, $server) = @_;
	my $count = () = slurp_file(($server // $node)->logfile) =~ /$pattern/g;

	return $count;
}

sub states
{
	my ($server, $application) = @_;

	return $server->safe_psql('postgres',
		"SELECT string_agg(DISTINCT state, ', ') FROM siphon_tables WHERE application = '" . ($application // 'main') . "'");
}

sub slots
{
	my ($server, $slot) = @_;

	return $server->safe_psql('postgres', "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '$slot'");
}

my $reason = qr/^its slot kept (\d+) bytes of WAL, more than siphon\.max_retained_wal \((\d+)MB\): from \w+\/\w+ on, acknowledged up to \w+\/\w+, where it has stood since (before )?\d{4}-/;

# Given up, and all that belongs to it.
sub is_given_up
{
	my ($server, $what, $application) = @_;
	my $name = $application // 'main';
	my $slot = "siphon_$name";
	my $row = wait_for_state($server, 'given up', $name);

	like($row->{reason}, $reason, "$what: the reason has the figures");
	my ($bytes, $limit) = $row->{reason} =~ $reason;
	cmp_ok($bytes, '>', $limit * 1024 * 1024, "$what: and they are right");
	is($row->{hint}, "Run SELECT siphon_resync_application('$name') to create a new slot and take new snapshots of its tables.", "$what: the hint");
	wait_until("$what: the slot is gone", sub { slots($server, $slot) == 0 });
	is(application($server, $name)->{decoder_pid}, undef, "$what: no decoder runs");
	is(application($server, $name)->{retained_bytes}, undef, "$what: nothing is kept");
	is(states($server, $name), 'resync needed', "$what: its tables say so");
	return $row;
}

# ---- the warning ----------------------------------------------------------------------------------------------------

wait_for_table($node, 't', 'streaming', application => 'main');
wait_confirmed($node);
is(application($node)->{reason}, undef, 'without settings nothing is said');
$publisher->stop;
set($node, warn_retained_wal => '2MB');
$node->safe_psql('postgres', $fill);
wait_until('the log has a warning', sub { logged(qr/its slot keeps \d+ bytes of WAL, more than/) });

my $row = application($node);

cmp_ok($row->{retained_bytes}, '>', 2 * 1024 * 1024, 'retained_bytes shows what is kept');
like($row->{reason}, qr/^its slot keeps \d+ bytes of WAL, more than siphon\.warn_retained_wal \(2MB\)$/, 'the view has the warning, too');
like($row->{hint}, qr/See that siphon-publisher runs/, 'and what to look at');
is($row->{state}, 'streaming', 'in a state that goes on');
$publisher->start;
wait_confirmed($node);
# The slot moves on to where there were no transactions running.
wait_until(
	'it is over',
	sub {
		$node->safe_psql('postgres', 'CHECKPOINT');
		wait_confirmed($node);
		logged(qr/its slot keeps \d+ bytes of WAL, fewer than siphon\.warn_retained_wal \(2MB\) again/);
	});
is(application($node)->{reason}, undef, 'and the view is silent again');
is(logged(qr/its slot keeps \d+ bytes of WAL, more than/), 1, 'the log has one line, not one each second');
set($node, warn_retained_wal => 0);

# ---- the decoder waits for a full ring, and a snapshot runs ----------------------------------------------------------

$publisher->stop;
$node->safe_psql('postgres', "SELECT siphon_resync_table('t')");
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM siphon_get_snapshots()") or die 'no snapshot runs';
$node->safe_psql('postgres', "$fill; $fill; INSERT INTO u VALUES (1)");
wait_until('the ring is full', sub { my $row = application($node); $row->{ring_used} > $row->{ring_size} / 2 });
is(application($node)->{state}, 'streaming', 'without a limit it waits');
set($node, max_retained_wal => '4MB');
is_given_up($node, 'full ring');
is($node->safe_psql('postgres', 'SELECT count(*) FROM siphon_get_snapshots()'), '0', 'full ring: the snapshot ended');
is($node->safe_psql('postgres', 'SELECT count(*) FROM siphon_snapshot_progress'), '0', 'full ring: none waits');

# It stays so.
$node->restart;
is(application($node)->{state}, 'given up', 'it is given up from the first moment after a restart');
like(application($node)->{reason}, $reason, 'for the same reason');
set($node, max_retained_wal => 0);
$node->stop('immediate');
$node->start;
is(application($node)->{state}, 'given up', 'also without the limit');
is(slots($node, 'siphon_main'), '0', 'no slot is made');
is(logged(qr/siphon: application "main" is given up: its slot kept/), 1, 'the log has one line of it');

# What is done to it meanwhile takes effect later.
$node->safe_psql('postgres', 'CREATE TABLE later (id int PRIMARY KEY); INSERT INTO later VALUES (1)');
my ($code, $stdout, $stderr) = $node->psql('postgres', "SELECT siphon_add_table('later')");
is($code, 0, 'a table can be added');
like($stderr, qr/WARNING:  the decoder of application "main" does not run: its slot kept/, 'with a warning');
is(states($node), 'resync needed', 'and needs a resync like the others');

$publisher->start;
($code, $stdout, $stderr) = $node->psql('postgres', 'SELECT siphon_resync_application()');
is($code, 0, 'siphon_resync_application() begins anew') or diag($stderr);
like($stderr, qr/changes are missing of tables that were added without their rows: public\.u\n/, 'and says what has a gap');
wait_for_table($node, 't', 'streaming', application => 'main');
wait_for_tables($node);
$node->safe_psql('postgres', "UPDATE t SET v = 'changed' WHERE id = 5; INSERT INTO later VALUES (2); INSERT INTO u VALUES (2)");
wait_confirmed($node);
is_replayed($nats, $node, [qw(t later)], 'the stream makes the tables');
is(replay($nats, table => 'public.u')->[-1]{columns}{id}, 2, 'and the changes of one without rows go on');

# ---- no worker; and the limit meets one that was just given up -------------------------------------------------------

$node->safe_psql('postgres', "SELECT siphon_create_application('other')");
$node->append_conf('postgresql.conf', 'max_worker_processes = 2');
$node->restart;
my $without = wait_until(
	'one has no worker',
	sub { (grep { application($node, $_)->{state} eq 'no worker' } qw(main other))[0] });
$node->safe_psql('postgres', "$fill; $fill");
set($node, max_retained_wal => '4MB');
$row = wait_for_state($node, 'given up', $without);
like($row->{reason}, $reason, 'no worker: given up as well');
wait_until('no worker: the slot is gone', sub { slots($node, "siphon_$without") == 0 });
set($node, max_retained_wal => 0);

my ($with) = grep { $_ ne $without } qw(main other);

$node->safe_psql('postgres', "SELECT siphon_drop_application('$with')");
$node->safe_psql('postgres', "SELECT siphon_resync_application('$without')");
is(application($node, $without)->{state}, 'streaming', 'with a worker, it begins anew');
$node->append_conf('postgresql.conf', 'max_worker_processes = 12');
$node->restart;
$node->safe_psql('postgres', "SELECT siphon_drop_application('$without')");

# ---- the registry can't be written, as when the disk is full: the slot goes all the more -----------------------------

$node->safe_psql('postgres', "SELECT siphon_create_application('stuck')");
# Its slot would move on by itself, as nothing of this concerns it. It waits when it has written what it begins with.
my $pid = stop_decoder($node, 'stuck');
# It may just be written.
wait_until('a directory is in the way of the next registry', sub { mkdir $node->data_dir . '/siphon/stuck.tmp' });
set($node, max_retained_wal => '4MB');
$node->safe_psql('postgres', "$fill; $fill");
wait_until('not noted: the log says why', sub { logged(qr/could not create file "siphon\/stuck\.tmp": Is a directory/) });
kill 'CONT', $pid;
$row = wait_for_state($node, 'given up', 'stuck');
like($row->{reason}, $reason, 'not noted: it is given up');
is(slots($node, 'siphon_stuck'), '0', 'not noted: the slot is gone');
set($node, max_retained_wal => 0);
$node->restart;
like(wait_for_state($node, 'failed', 'stuck')->{reason}, qr/does not exist any more/, 'not noted: after a restart the missing slot is seen');
rmdir $node->data_dir . '/siphon/stuck.tmp' or die "$!";
$node->safe_psql('postgres', "SELECT siphon_drop_application('stuck')");

# ---- siphon_resync_application() that does not get to its end --------------------------------------------------------

$node->safe_psql('postgres', "SELECT siphon_add_table('t')");
wait_for_table($node, 't', 'streaming', application => 'main');
# No slot is made while a transaction is open.
my $open = $node->background_psql('postgres');
$open->query_safe('BEGIN; INSERT INTO u VALUES (100)');
for my $end ('cancel', 'terminate')
{
	my $call = $node->background_psql('postgres', on_error_stop => 0);

	$call->query_until(qr/called/, "\\echo called\nSELECT siphon_resync_application();\n");
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'SELECT siphon_resync%' AND wait_event = 'transactionid'")
	  or die 'it does not wait';
	is(application($node)->{state}, 'given up', "$end: until there is a new slot, the application is given up");
	$node->safe_psql('postgres', "SELECT pg_${end}_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT siphon_resync%'");
	wait_until("$end: the new slot is gone", sub { slots($node, 'siphon_main') == 0 });
	$row = wait_for_state($node, 'given up');
	is($row->{reason}, 'siphon_resync_application() has not come to its end', "$end: it says so");
	is(states($node), 'resync needed', "$end: so do its tables");
	eval { $call->quit };
}
$node->stop('immediate');
$node->start;
eval { $open->quit };
is(application($node)->{state}, 'given up', 'a crash does not change that');
$node->safe_psql('postgres', "UPDATE t SET v = 'unheard' WHERE id = 6");
$node->safe_psql('postgres', 'SELECT siphon_resync_application()');
wait_for_table($node, 't', 'streaming', application => 'main');
wait_confirmed($node);
is_replayed($nats, $node, ['t'], 'and repeated, it does get there');

# Also of an application that is well: as when its stream was lost.
$node->safe_psql('postgres', 'SELECT siphon_resync_application()');
wait_for_table($node, 't', 'streaming', application => 'main');
$node->safe_psql('postgres', "UPDATE t SET v = 'after' WHERE id = 7");
wait_confirmed($node);
is_replayed($nats, $node, ['t'], 'it begins anew where nothing was wrong, too');

# ---- on a standby ---------------------------------------------------------------------------------------------------

SKIP:
{
	skip 'logical decoding on a standby needs PostgreSQL 16', 1 unless standby_supported($node);

	$node->safe_psql('postgres', "SELECT siphon_drop_application('main')");
	$publisher->stop;

	my $standby = siphon_standby($node, 'standby', conf => $conf);

	$publisher = siphon_publisher($standby, $nats, name => 'standby_publisher');
	add_table($standby, 't', primary => $node, snapshot => 'true');
	wait_for_table($standby, 't', 'streaming', application => 'main');
	wait_confirmed($standby, primary => $node);
	$publisher->stop;
	set($standby, max_retained_wal => '4MB');
	$node->safe_psql('postgres', "$fill; $fill");
	is_given_up($standby, 'standby');
	$standby->restart;
	is(application($standby)->{state}, 'given up', 'standby: it stays so');
	set($standby, max_retained_wal => 0);
	$publisher->start;
	resync_application($standby, $node);
	wait_for_table($standby, 't', 'streaming', application => 'main');
	$node->safe_psql('postgres', "UPDATE t SET v = 'on the standby' WHERE id = 8");
	wait_confirmed($standby, primary => $node);
	is_replayed($nats, $node, ['t'], 'standby: the stream makes the table');
}

done_testing();
