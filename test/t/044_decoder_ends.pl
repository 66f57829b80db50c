# Decoders that end, or don't, and launchers that are not there: a decoder comes back within a second or two, a drop that
# fails leaves an application that streams, and nobody waits for ever for a launcher that does not run.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Test::More;
use Time::HiRes qw(time);

my $node = siphon_node('primary', conf => 'siphon.max_restart_delay = 60s');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

$node->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY)');
add_table($node, 't');

my $inserted = 0;

sub streams
{
	my ($what) = @_;

	$inserted++;
	$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('$what')");
	wait_confirmed($node);
	my $events = first_of_each(replay($nats, table => 'public.t'));
	is($events->[-1]{columns}{v}, $what, "$what: the application streams");
	is(scalar(@$events), $inserted, "$what: and nothing is missing");
	return;
}

# ---- a decoder that ends --------------------------------------------------------------------------------------------

# The first pause is a second, not what is left of the launcher's ten between two looks.
streams('at first');
my $pid = application($node)->{decoder_pid};
my $since = time;
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
wait_until('the decoder is another one',
	sub { my $row = application($node); $row->{state} eq 'streaming' && $row->{decoder_pid} != $pid });
cmp_ok(time - $since, '<', 5, 'a decoder that ended is started again after a second');
cmp_ok(time - $since, '>', 0.9, 'and not at once');
is(application($node)->{restarts}, 1, 'siphon_applications counts it');
streams('terminated');

# ---- a drop that fails ----------------------------------------------------------------------------------------------

# The decoder does not listen; the first time the call gives up before it has sent a signal, the second time after it.
for my $timeout ('500ms', '3s')
{
	my $what = "drop that was cancelled after $timeout";

	$pid = stop_decoder($node);
	my ($code, $stdout, $stderr) = $node->psql('postgres',
		"SET statement_timeout = '$timeout'; SELECT siphon_drop_application('main')");
	isnt($code, 0, "$what: it fails");
	like($stderr, qr/canceling statement due to statement timeout/, "$what: with the error that ended it");
	is($node->safe_psql('postgres', 'SELECT slot_name FROM pg_replication_slots'), 'siphon_main', "$what: the slot is there");
	ok(-e $node->data_dir . '/siphon/main.registry', "$what: the registry too");
	kill 'CONT', $pid;
	streams($what);
	is(application($node)->{state}, 'streaming', "$what: siphon_applications says so");
}

# One that is not cancelled succeeds as soon as the decoder listens.
$pid = stop_decoder($node);
my $drop = $node->background_psql('postgres', on_error_stop => 0);
$drop->query_until(qr/called/, "\\echo called\nSELECT siphon_drop_application('main');\n");
$node->poll_query_until('postgres',
	"SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'SELECT siphon_drop%' AND wait_event_type = 'Extension'")
  or die 'siphon_drop_application() does not wait';
kill 'CONT', $pid;
$drop->quit;
is_deeply(application($node), {}, 'a drop that waits for the decoder succeeds');
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_replication_slots'), '0', 'and leaves no slot');

# ---- locks of catalogs ----------------------------------------------------------------------------------------------

# Who waits for a decoder keeps no lock on a catalog that the decoder could want, behind somebody who wants all of it.
$node->safe_psql('postgres', 'CREATE TABLE chosen (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE chosen;'
	  . ' CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (9)');
add_table($node, 't');
$node->safe_psql('postgres', "SELECT siphon_follow_publication('p')");
wait_for_table($node, 'chosen');
for my $call (
	"siphon_add_table('root', snapshot => false)",
	"siphon_alter_table('root', workers => 3)",
	"siphon_resync_table('root')",
	"siphon_remove_table('root')",
	"siphon_add_tables('public', 'u', snapshot => false)")
{
	$pid = stop_decoder($node);
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my $backend = $session->query('SELECT pg_backend_pid()');

	$session->query_until(qr/called/, "\\echo called\nSELECT $call;\n");
	$node->poll_query_until('postgres', "SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $backend")
	  or die "$call does not wait";
	is( $node->safe_psql('postgres', "SELECT string_agg(relation::regclass::text, ' ') FROM pg_locks WHERE pid = $backend AND locktype = 'relation'"),
		'', "$call waits without locks on relations");
	$node->safe_psql('postgres', "SET statement_timeout = '20s'; VACUUM FULL pg_class");
	kill 'CONT', $pid;
	$session->quit;
}
$pid = stop_decoder($node);
$node->safe_psql('postgres', 'ALTER PUBLICATION p ADD TABLE u; ALTER PUBLICATION p DROP TABLE chosen');
wait_for_table($node, 'chosen', 'leaving');
$node->safe_psql('postgres', "SET statement_timeout = '20s'; VACUUM FULL pg_class; VACUUM FULL pg_publication");
pass('so does the worker that follows a publication, which does not wait');
kill 'CONT', $pid;
streams('without locks');

# ---- one follower ---------------------------------------------------------------------------------------------------

my $followers = sub { $node->safe_psql('postgres', "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE backend_type = 'siphon follower'") };
my $follower = $followers->();
my ($launcher) = siphon_pids($node, 'siphon launcher');
like($follower, qr/^\d+$/, 'one worker follows the publication');
kill 'TERM', $launcher;
wait_until('there is another launcher', sub { my ($now) = siphon_pids($node, 'siphon launcher'); $now && $now != $launcher });
# A snapshot is the launcher's to start, and it looks after all in turn.
$node->safe_psql('postgres', "SELECT siphon_resync_table('u')");
wait_for_table($node, 'u');
is($followers->(), $follower, 'another launcher does not start a second one');
$node->psql('postgres', 'SELECT siphon_resync_application()');
wait_until('there is one again', sub { $followers->() =~ /^\d+$/ });
isnt($followers->(), $follower, 'it ends where the application begins anew, and so does another');
$node->safe_psql('postgres', "SELECT siphon_drop_application('main')");
is($followers->(), '', 'and ends with it');

# ---- no launcher ----------------------------------------------------------------------------------------------------

# The launcher of logical replication takes the only worker. A call for an application that is there does not wait for
# ever either.
add_table($node, 't', application => "'there'");
$node->append_conf('postgresql.conf', 'max_worker_processes = 1');
$node->restart;
is_deeply([ siphon_processes($node) ], [], 'without a worker for it the launcher does not run');

$since = time;
$node->psql('postgres', "SELECT siphon_add_table('u', 'there', snapshot => false)", timeout => 60);
fails_with(
	$node, "SET statement_timeout = '60s'; SELECT siphon_add_table('t', snapshot => false)", 'no launcher',
	error => q{siphon's launcher does not run},
	hint => 'ALTER SYSTEM SET max_worker_processes = 3, then restart the server');
cmp_ok(time - $since, '<', 40, 'no launcher: it does not take long to say so');
isnt(application($node, 'there')->{state}, 'streaming', 'no launcher: an application that is there does not pretend to stream');
is($node->safe_psql('postgres', 'SELECT slot_name FROM pg_replication_slots'), 'siphon_there',
	'no launcher: no slot is left behind');
ok(!-e $node->data_dir . '/siphon/main.registry', 'no launcher: nor a registry');
$node->safe_psql('postgres', "SET statement_timeout = '20s'; SELECT siphon_drop_application('there')");
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_replication_slots'), '0', 'no launcher: an application can be dropped');

# What the hint says is enough.
$node->append_conf('postgresql.conf', 'max_worker_processes = 3');
$node->restart;
add_table($node, 't');
streams('with the workers of the hint');

done_testing();
