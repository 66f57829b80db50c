# The network between the publisher and NATS loses answers, is cut, stalls and is slow, under load. What was stored and
# not acknowledged is found out by reading the stream, so that each event is in it exactly once.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Siphon::Proxy;
use Test::More;
use Time::HiRes qw(sleep time);

my $seed = $ENV{SIPHON_SEED} // int(rand(1 << 31));
diag("SIPHON_SEED=$seed");
srand $seed;

my $node = siphon_node('primary', conf => "siphon.flush_interval = 1ms\nsiphon.ring_size = 256kB");
my $nats = siphon_nats();
my $proxy = Siphon::Proxy->new(to => $nats->url)->start;
my $publisher = siphon_publisher($node, $nats, nats_url => $proxy->url, arguments => [ '--log-level' => 'debug' ]);
my $writers;

$node->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v int)');
add_table($node, 't', partitions => 2);

sub load
{
	my $script = "INSERT INTO t (v) VALUES (0), (0);\nUPDATE t SET v = v + 1 WHERE id = 1 + :client_id;\n";
	my $sequence = $nats->last_sequence;

	$writers = start_pgbench($node, { w => $script }, -c => 4, '--rate' => 300, -T => 300);
	wait_until('the publisher publishes', sub { $nats->last_sequence > $sequence + 20 });
	return;
}

sub exactly_once
{
	my ($what) = @_;

	stop_pgbench($writers);
	wait_confirmed($node);
	positions_increase(replay($nats), "$what: positions strictly increase");
	is_replayed($nats, $node, ['t'], "$what: each event is there exactly once", counter => 'v');
	return;
}

# How often the publisher has found out what the stream has.
sub settlings
{
	return scalar(() = $publisher->log =~ /(?:ends at|after) sequence [1-9]/g);
}

# Does something, waits until the publisher has settled once more than it had, and moves on.
sub settles_after
{
	my ($harm) = @_;
	my $settlings = settlings();

	$harm->();
	wait_until('the publisher settles', sub { settlings() > $settlings });

	my $sequence = $nats->last_sequence;

	wait_until('the publisher goes on', sub { $nats->last_sequence > $sequence });
	return;
}

# Answers are lost, few or many, and then the connection.
load();
for (1 .. 8)
{
	settles_after(
		sub {
			$proxy->lose_answers(1 + int rand 4000);
			wait_until('answers are lost', sub { !$proxy->status->{losing} });
		});
}
exactly_once('lost answers');
cmp_ok(settlings(), '>=', 8, 'the publisher asked the stream each time');
note($proxy->status->{lost} . " bytes of answers were lost");

# The connection is cut, with what is under way in both directions.
load();
for (1 .. 6)
{
	settles_after(
		sub {
			rand() < 0.5 ? $proxy->reset : $proxy->cut;
			sleep rand 0.5;
			$proxy->pass;
		});
}
exactly_once('cut connection');

# It is slow, and stands still for a while. Nobody notices.
load();
for my $direction ('up', 'down', 'both')
{
	my $sequence = $nats->last_sequence;

	$proxy->delay(0.2);
	wait_until('the publisher goes on', sub { $nats->last_sequence > $sequence });
	$proxy->stall($direction);
	sleep rand 2;
	$proxy->pass;
}
# It stands still for too long; what the publisher sends is stored meanwhile.
my $since = time;
settles_after(
	sub {
		$proxy->stall('down');
		wait_until('the publisher misses answers', sub { $publisher->log =~ /no answer from [^\n]* for 10 s|disconnected from NATS(?!.*resumed)/s });
		$proxy->pass;
	});
note(sprintf 'the publisher waited for %.1f s', time - $since);
exactly_once('stalled connection');
is(application($node)->{restarts}, 0, 'the decoder did not mind');

done_testing();
