# NATS is killed and comes back, under load and while the ring is small. When the ring is full the decoder waits, the
# server does not, and everything goes on by itself afterwards, with nothing lost and nothing twice.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = siphon_node('primary', conf => 'siphon.ring_size = 64kB');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

$node->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v text)');
add_table($node, 't');

# Killed and started again under load; its storage stays.
my $writers = start_pgbench($node,
	{ w => "INSERT INTO t (v) SELECT repeat('x', 50) FROM generate_series(1, 5);\n" }, -c => 4, '--rate' => 300, -T => 6);
my $kills = 0;
while (pgbench_runs($writers))
{
	sleep 0.7;
	$nats->kill9;
	$kills++;
	sleep 0.3;
	$nats->start;
}
finish_pgbench($writers);
wait_confirmed($node);
my $events = replay($nats);
positions_increase($events, 'nothing is there twice after nats-server was killed and restarted');
is_replica($events, $node, 't', ['id'], 'nothing is missing');
cmp_ok($kills, '>', 3, 'nats-server was killed under load');
my $log = $publisher->log;
my $lost = () = $log =~ /disconnected from NATS/g;
cmp_ok($lost, '<=', $kills, 'one line for each time that the connection was lost, not for each attempt');
cmp_ok($lost, '>', 0, 'and there is such a line');

# Away for longer than the ring has room.
sub is_full
{
	my $row = application($node);

	return $row->{ring_used} > $row->{ring_size} / 2 && $row->{lag_bytes} > $row->{ring_size};
}

$nats->kill9;
$node->safe_psql('postgres', "INSERT INTO t (v) SELECT md5(g::text) || repeat('y', 300) FROM generate_series(1, 3000) g");
wait_until('the ring is full', \&is_full);
pass('the ring fills');
$node->safe_psql('postgres', "SET statement_timeout = '5s'; INSERT INTO t (v) VALUES ('responsive')");
pass('the server takes changes');
is(application($node)->{state}, 'streaming', 'the decoder waits');
is(application($node)->{restarts}, 0, 'and was not restarted');

# Tables come and go while it waits.
$node->safe_psql('postgres', 'CREATE TABLE later (id int PRIMARY KEY)');
$node->safe_psql('postgres', "SET statement_timeout = '5s'; SELECT siphon_add_table('later', snapshot => false)");
pass('siphon_add_table() does not wait for room');
$node->safe_psql('postgres', "SET statement_timeout = '5s'; SELECT siphon_remove_table('later')");
pass('nor does siphon_remove_table()');

# A reload reaches it, and so does a shutdown, soon.
$node->reload;
my $since = time;
$node->stop('fast');
cmp_ok(time - $since, '<', 2.5, 'the server stops soon while the decoder waits for room');
$node->start;
wait_until('the ring is full again', \&is_full);

# Dropping the application does not wait for NATS either, and another one is not disturbed.
$node->safe_psql('postgres', "SET statement_timeout = '10s'; SELECT siphon_create_application('other')");
$node->safe_psql('postgres', "SET statement_timeout = '10s'; SELECT siphon_drop_application('other')");
pass('applications come and go meanwhile');

$nats->start;
wait_confirmed($node);
$events = replay($nats);
is_replica(first_of_each($events), $node, 't', ['id'], 'when NATS is back, all that waited arrives');
is(application($node)->{restarts}, 0, 'the decoder went on by itself');

# The publisher stops while NATS is away, within its drain timeout.
$nats->kill9;
$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('nobody there')");
wait_until('the publisher has noticed', sub { $publisher->log =~ /disconnected from NATS[^\n]*\n(?!.*connected to NATS)/s });
$since = time;
is($publisher->stop, 0, 'the publisher stops cleanly while NATS is away');
cmp_ok(time - $since, '<', 15, 'within its drain timeout');

# And it starts before NATS does.
$publisher->start;
wait_until('the publisher says what it waits for', sub { $publisher->log =~ /waiting for NATS/ });
pass('the publisher waits for a broker that is not there yet');
$nats->start;
wait_confirmed($node);
is_replica(first_of_each(replay($nats)), $node, 't', ['id'], 'and nothing is missing then');

done_testing();
