# Decoder, publisher, server and nats-server end under load, in every order of two: the second before the first is back.
# What is decoded again then begins and ends elsewhere in the stream of changes, and what was published of it is left out,
# event by event. Each event is in the stream exactly once.
use strict;
use warnings FATAL => 'all';

use List::Util qw(shuffle);
use Siphon;
use Test::More;
use Time::HiRes qw(sleep);

my $seed = $ENV{SIPHON_SEED} // int(rand(1 << 31));
diag("SIPHON_SEED=$seed");
srand $seed;

my $node = siphon_node('primary', conf => "siphon.ring_size = 256kB\nsiphon.package_size = 8kB");
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);
# Several events of a transaction on a subject, so that a message may end within one.
my $script = "INSERT INTO t (v) SELECT 0 FROM generate_series(1, 5);\nUPDATE t SET v = v + 1 WHERE id = 1 + :client_id;\n";

$node->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v int)');
add_table($node, 't', partitions => 2);

my $writers;

sub write_on
{
	$writers //= start_pgbench($node, { w => $script }, -c => 4, '--rate' => 200, -T => 600);
	return;
}

sub publishing
{
	my $sequence = $nats->last_sequence;

	wait_until('the publisher publishes', sub { $nats->last_sequence > $sequence + 10 });
	return;
}

# What ends each, and what brings it back where nobody else does.
my %away;
my %end = (
	decoder => sub {
		back('server');
		$node->safe_psql('postgres', 'SELECT pg_terminate_backend(decoder_pid) FROM siphon_applications');
	},
	publisher => sub { $publisher->kill9 },
	server => sub {
		$node->stop('immediate');
		finish_pgbench($writers, fail_ok => 1) if $writers;
		undef $writers;
	},
	nats => sub { $nats->kill9 });
my %start = (
	decoder => sub { },
	publisher => sub { $publisher->start },
	server => sub { $node->start },
	nats => sub { $nats->start });

sub back
{
	my ($what) = @_;

	$start{$what}->() if delete $away{$what};
	return;
}

for my $pair (shuffle map { my $first = $_; map { [ $first, $_ ] } sort keys %end } sort keys %end)
{
	write_on();
	publishing();
	note("ending @$pair");
	for my $what (@$pair)
	{
		sleep rand 0.2;
		back($what);
		$end{$what}->();
		$away{$what} = 1;
	}
	for my $what (shuffle sort keys %away)
	{
		back($what);
		sleep rand 0.2;
	}
}
write_on();
publishing();
ok($publisher->running, 'the publisher runs');
stop_pgbench($writers);
wait_confirmed($node);
positions_increase(replay($nats), 'positions strictly increase');
is_replayed($nats, $node, ['t'], 'each event is there exactly once', counter => 'v');
is(application($node)->{state}, 'streaming', 'the application streams');

done_testing();
