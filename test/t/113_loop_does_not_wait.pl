# The publisher does not wait for JetStream's answers: where the bucket does not answer, tables that do not need it go on, and
# in every state it hears a signal to end.
# Covers: a bucket whose server hangs while a table is brought out, with others under load; SIGTERM while the stream, and the
# bucket, are waited for at start, while a table's state is to be written, and while held changes are read back.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Siphon::Broker;
use Siphon::NatsClient;
use Siphon::NatsCluster;
use Siphon::Proxy;
use Siphon::Snapshot;
use Test::More;
use Time::HiRes qw(sleep time);

# What is asked of the publisher is a second. A busy machine takes longer, but not at each of some tries; a request that is
# waited for takes as long each time, as it is just under way.
my $SOON = 2;
my $TRIES = 3;
my $UNDER_WAY = 0.7;

my $node = siphon_node('primary', conf => "siphon.flush_interval = 1ms\nsiphon.ring_size = 4MB");
my $nats = Siphon::NatsCluster->new->start;
my ($leader, $streams, $buckets) = make_streams_apart($node, $nats);

my $DRAIN = 1;
my $proxy = Siphon::Proxy->new(to => $leader->url)->start;
my $publisher = siphon_publisher($node, $nats, nats_url => $proxy->url, arguments => [ '--drain-timeout' => "${DRAIN}s" ]);

$node->safe_psql('postgres', q{
	CREATE TABLE u (id bigserial PRIMARY KEY, v int);
	CREATE TABLE big (id int PRIMARY KEY, v int, filler text);
	INSERT INTO big SELECT g, 0, repeat(md5(g::text), 10) FROM generate_series(1, 6000) g});
add_table($node, 'u');
add_table($node, 'big', snapshot => 'true');
wait_for_tables($node);
wait_confirmed($node);

# Seconds that it takes to end when asked to. It must end well.
sub time_to_end
{
	my ($name) = @_;
	my $since = time;

	kill 'TERM', $publisher->{pid};
	my $outcome = outcome($publisher, sub { 0 }, 40);
	my $took = time - $since;

	is($outcome, 0, "$name: asked to end, the publisher ends");
	$publisher->kill9;
	return $took;
}

# Test: a publisher that starts, and waits for something, ends soon when it is asked to.
sub ends_soon
{
	my ($name) = @_;
	my $took;

	for (1 .. $TRIES)
	{
		$publisher->start;
		wait_until('it is there', sub { $publisher->log =~ /connected to NATS/ });
		sleep $UNDER_WAY;
		$took = time_to_end($name);
		last if $took < $SOON;
	}
	cmp_ok($took, '<', $SOON, sprintf '%s: within %.1f s', $name, $took);
	return;
}

# ---- other tables go on --------------------------------------------------------------------------------------------

my $RATE = 200;
my $writers = start_pgbench($node, { w => "INSERT INTO u (v) VALUES (0);\n" }, -c => 2, '--rate' => $RATE, -T => 300);

# Messages a second over some seconds.
sub rate
{
	my $sequence = $nats->last_sequence;
	my $since = time;

	sleep 0.1 while time < $since + 6;
	return ($nats->last_sequence - $sequence) / (time - $since);
}

wait_until('the load is there', sub { my $before = $nats->last_sequence; sleep 0.5; $nats->last_sequence > $before + 50 });

my $before = rate();

$buckets->pause;
$node->safe_psql('postgres', "SELECT siphon_resync_table('big')");

my $meanwhile = rate();

note(sprintf '%.0f messages a second before, %.0f while the bucket does not answer', $before, $meanwhile);
cmp_ok($meanwhile, '>', $before / 2, 'other tables go on while the bucket does not answer');
# A request has some seconds to be answered, and a wait that ends at once is not worth a line.
wait_until('what is waited for is said', sub { $publisher->log =~ /waiting for key-value bucket siphon_main/ }, 20);
is($publisher->get('/healthz')->{status}, 200, 'it is healthy');
stop_pgbench($writers);
time_to_end(q{a table's state is to be written});

# ---- at start ------------------------------------------------------------------------------------------------------

ends_soon('the bucket is waited for');
$buckets->resume;
$publisher->start;
wait_for_tables($node);
is_confirmed($node, $publisher, 'when the bucket answers, the publisher goes on', 60);
is_replayed($nats, $node, [ 'u', 'big' ], 'nothing is lost', counter => 'v');
$publisher->stop;

$streams->pause;
ends_soon('the stream is waited for');
$streams->resume;
$nats->leader_of;

# ---- while held changes are read back ------------------------------------------------------------------------------

$publisher->start;
is_confirmed($node, $publisher, 'the stream is back', 60);
slow_scans($node);
$node->safe_psql('postgres', "SELECT siphon_resync_table('big')");
wait_for_scan($node, 'big');
# Each a message of its own.
$node->safe_psql('postgres', "DO 'BEGIN FOR i IN 1 .. 1500 LOOP UPDATE big SET v = v + 1 WHERE id = i; COMMIT; END LOOP; END'");
is_confirmed($node, $publisher, 'changes are held');

my $reader = Siphon::NatsClient->new($leader->url);

$reader->subscribe('siphon.main.events.public.big.*');
# So far away that there is time.
$proxy->delay(0.2);
fast_scans($node);
wait_until('held changes are moved', sub { snapshot_ended($reader) });
$streams->pause;
sleep $UNDER_WAY;

my $took = time_to_end('held changes are read back');

# Answers to what is under way are waited for, see --drain-timeout, and nothing else is.
cmp_ok($took, '<', $DRAIN + $SOON, sprintf 'held changes are read back: within %.1f s', $took);
$proxy->pass;
$streams->resume;
$nats->leader_of;
$publisher->start;
wait_for_table($node, 'big');
is_confirmed($node, $publisher, 'the next one goes on', 60);
wait_until("nothing is held", sub { !is_held($publisher) });
is_replayed($nats, $node, [ 'u', 'big' ], 'nothing is lost', counter => 'v');

done_testing();
