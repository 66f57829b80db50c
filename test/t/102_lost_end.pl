# A stream that has lost its end is refused at every start of a publisher, whichever publisher it is, until the application is
# resynced: no start goes on over the gap.
# Covers: the broker's storage set back under a stopped publisher, under one that runs, and to a backup from before a
# snapshot; then publishers that find another ring, and one beside a standby that was promoted.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Broker;
use Siphon::Failover;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

$node->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v bigint DEFAULT 0)');
$node->safe_psql('postgres', 'CREATE TABLE u (id bigserial PRIMARY KEY, v bigint DEFAULT 0); INSERT INTO u SELECT FROM generate_series(1, 100)');

# Some messages, in more than one package.
sub insert
{
	my ($server, $count) = @_;

	$server->safe_psql('postgres', "DO 'BEGIN FOR i IN 1 .. $count LOOP INSERT INTO t (v) VALUES (i); COMMIT; PERFORM pg_sleep(0.015); END LOOP; END'");
	wait_confirmed($server);
	return;
}

# The broker as it is now. The publisher sees no more of it than a connection that is lost.
sub backup
{
	$nats->stop;

	my $copy = $nats->back_up;

	$nats->start;
	return $copy;
}

# A publisher that starts ends, and so does the next one, with one more event to publish for each of them.
sub refuses
{
	my ($server, $name) = @_;

	for my $time ('', ', and again')
	{
		my $sequence = $nats->last_sequence;

		$server->safe_psql('postgres', 'INSERT INTO t (v) VALUES (-1)');
		$publisher->start unless $publisher->running;
		return unless ends_and_advises($publisher, sub { $nats->last_sequence > $sequence }, "$name$time");
	}
	return;
}

sub resyncs
{
	my ($server, $name) = @_;

	$publisher->kill9;
	$server->safe_psql('postgres', 'SELECT siphon_resync_application()');
	$publisher->start;
	wait_for_tables($server);
	insert($server, 3);
	is_replayed($nats, $server, ['t'], "$name: resynced, the stream makes the table");
	return;
}

add_table($node, 't', snapshot => 'true');
wait_for_tables($node);
insert($node, 20);

# ---- under a publisher that does not run ---------------------------------------------------------------------------

my $copy = backup();

insert($node, 20);
$publisher->stop;
$nats->stop;
$nats->put_back($copy);
$nats->start;
refuses($node, 'set back while it was stopped');
# The next ring is another one: what was published from the former is known to the server.
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'siphon decoder'");
refuses($node, 'set back, after the decoder has restarted');
$node->restart;
refuses($node, 'set back, after the server has restarted');
resyncs($node, 'set back while it was stopped');

# ---- under one that runs -------------------------------------------------------------------------------------------

$copy = backup();
insert($node, 20);
$nats->kill9;
$nats->put_back($copy);
$nats->start;
refuses($node, 'set back while it was running');
resyncs($node, 'set back while it was running');

# ---- to yesterday's backup -----------------------------------------------------------------------------------------

$copy = backup();
insert($node, 5);
add_table($node, 'u', snapshot => 'true');
wait_for_tables($node);
$node->restart;
insert($node, 5);
$publisher->stop;
$nats->stop;
$nats->put_back($copy);
$nats->start;
refuses($node, q{restored from yesterday's backup});
resyncs($node, q{restored from yesterday's backup});
is_replayed($nats, $node, ['u'], 'and the table that the backup did not know');
$publisher->stop;

# ---- beside a standby that was promoted ----------------------------------------------------------------------------

SKIP:
{
	skip 'slots that standbys synchronize need PostgreSQL 17', 1 if $node->pg_version < 17;

	$node->safe_psql('postgres', "SELECT siphon_drop_application('main')");
	api($nats, "STREAM.DELETE.$_") for @{ api($nats, 'STREAM.NAMES')->{streams} };
	$node->append_conf('postgresql.conf', "synchronized_standby_slots = 'standby'");

	my $standby = failover_standby($node, 'standby');

	$node->reload;
	$node->safe_psql('postgres', "SELECT siphon_create_application('main', failover => true)");
	$publisher->start;
	add_table($node, 't', snapshot => 'true');
	wait_for_tables($node);
	insert($node, 10);
	$copy = backup();

	my $kept = $nats->last_sequence;

	insert($node, 20);
	# The mirror has what was acknowledged some seconds later, and nobody waits for it but we.
	wait_until(
		'the checkpoint is mirrored',
		sub {
			my ($place) = $node->safe_psql('postgres', "SELECT checkpoint FROM siphon_registry WHERE application = 'main'") =~
			  m{^[0-9A-F]+ \d+ [0-9A-F]+ [0-9A-F]+/([0-9A-F]+)/};

			return hex($place // 0) > $kept + 10;
		});
	wait_synchronized($node, $standby, 'siphon_main');
	$node->wait_for_replay_catchup($standby);
	$node->stop('immediate');
	$publisher->stop;
	$nats->stop;
	$nats->put_back($copy);
	$nats->start;
	$standby->promote;
	$publisher = siphon_publisher($standby, $nats, name => 'publisher_second');
	wait_for_state($standby, 'streaming');
	refuses($standby, 'set back, beside the promoted standby');
	resyncs($standby, 'set back, beside the promoted standby');
}

done_testing();
