# The hand-off of a table ends while more is written to it than what is held can be read back beside: its changes do not stay
# held for ever.
# Covers: a table, divided into many partitions, that is brought out under a load that goes on, with a broker that is far away.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Siphon::Broker;
use Siphon::NatsClient;
use Siphon::Proxy;
use Test::More;
use Time::HiRes qw(time);

# A round trip takes twice this long.
my $AWAY = 0.02;
# Each of a commit's rows is in a message of its own: 1,600 messages a second.
my $PARTITIONS = 256;
my $ROWS = 16;
my $RATE = 100;

my $node = siphon_node('primary', conf => "siphon.flush_interval = 1ms\nsiphon.ring_size = 4MB");
my $nats = siphon_nats();
my $proxy = Siphon::Proxy->new(to => $nats->url)->start;
my $publisher = siphon_publisher($node, $nats, nats_url => $proxy->url, arguments => [ '--max-in-flight' => 1024 ]);

$node->safe_psql('postgres', q{
	CREATE TABLE hot (id int PRIMARY KEY, v int);
	CREATE TABLE u (id bigserial PRIMARY KEY, v int DEFAULT 0);
	INSERT INTO hot SELECT g, 0 FROM generate_series(1, 5000) g});
add_table($node, 'u');
$node->safe_psql('postgres', 'INSERT INTO u DEFAULT VALUES');
is_confirmed($node, $publisher, 'the publisher publishes');
$proxy->delay($AWAY);

my $reader = Siphon::NatsClient->new($nats->url);

$reader->subscribe('siphon.main.events.public.hot.*');

my $script = "\\set id random(1, 4900)\nUPDATE hot SET v = v + 1 WHERE id >= :id AND id < :id + $ROWS;\n";
my $writers = start_pgbench($node, { w => $script }, -c => 4, '--rate' => $RATE, -T => 600);

$node->safe_psql('postgres', "SELECT siphon_add_table('hot', partitions => $PARTITIONS)");

sub behind
{
	return $node->safe_psql('postgres', 'SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_lsn)::bigint FROM siphon_applications');
}

wait_until('its rows are there', sub { snapshot_ended($reader) });

my $since = time;
my $outcome = outcome($publisher, sub { !is_held($publisher, 'hot') }, 120);

is($outcome, 'goes on', 'the hand-off ends under load');
note(sprintf 'after %.1f s; %d bytes of WAL are not confirmed', time - $since, behind());
ok(pgbench_runs($writers), 'the load goes on');
$node->safe_psql('postgres', "INSERT INTO u (v) VALUES (1)");
is_confirmed($node, $publisher, 'what is written now is confirmed', 60);
stop_pgbench($writers);
$proxy->pass;
is_confirmed($node, $publisher, 'what is written last is confirmed', 60);
wait_until('nothing is held', sub { !is_held($publisher) });
is_replayed($nats, $node, [ 'hot', 'u' ], 'each event is there exactly once', counter => 'v');

done_testing();
