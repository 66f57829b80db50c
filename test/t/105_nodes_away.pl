# A server of the broker's cluster that is away, with the stream or the bucket that only it has, is waited for: the publisher
# does not end, and goes on when the server is back; nor does siphon-tail.
# Covers: the stream's and the bucket's server stopped at run time, also while a table changes its phase, and at start.
use strict;
use warnings FATAL => 'all';

use IPC::Run ();
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Broker;
use Siphon::NatsCluster;
use Test::More;

my $node = siphon_node('primary');
my $nats = Siphon::NatsCluster->new->start;
# Without the one that leads all, nobody has an answer for whoever asks.
my ($leader, $streams, $buckets) = make_streams_apart($node, $nats);

# It stays with the server that stays.
my $publisher = siphon_publisher($node, $nats, nats_url => $leader->url);

$node->safe_psql('postgres', q{
	CREATE TABLE t (id bigserial PRIMARY KEY, v int DEFAULT 0);
	CREATE TABLE u (id bigserial PRIMARY KEY, v int DEFAULT 0);
	INSERT INTO t SELECT FROM generate_series(1, 10);
	INSERT INTO u SELECT FROM generate_series(1, 10)});
add_table($node, 't', snapshot => 'true');
wait_for_tables($node);
is($nats->leader_of_stream('siphon_main')->{name}, $streams->{name}, 'the stream is on one server');
is($nats->leader_of_stream('KV_siphon_main')->{name}, $buckets->{name}, 'the bucket on another one');

sub insert
{
	$node->safe_psql('postgres', 'INSERT INTO t SELECT FROM generate_series(1, 3)');
	return;
}

# It goes on, and has all; one that has ended is started, for what comes then.
sub goes_on
{
	my ($name) = @_;

	is_confirmed($node, $publisher, "$name: it goes on", 60);
	$publisher->start unless $publisher->running;
	wait_for_tables($node);
	wait_confirmed($node);
	is_replayed($nats, $node, ['t'], "$name: and has all");
	return;
}

# ---- at run time ---------------------------------------------------------------------------------------------------

$streams->stop;
insert();
stays_up($publisher, 7, q{the stream's server is stopped: the publisher waits});
$streams->start;
goes_on(q{the stream's server is back});

$buckets->stop;
insert();
$node->safe_psql('postgres', "SELECT siphon_add_table('u')");
stays_up($publisher, 4, q{the bucket's server is stopped, and a table is added: the publisher waits});
$buckets->start;
goes_on(q{the bucket's server is back});
is_replayed($nats, $node, ['u'], 'the table that was added meanwhile is there');

# A lost connection is settled, in which bucket and stream are asked.
$buckets->stop;
$leader->kill9;
$leader->start;
insert();
stays_up($publisher, 4, q{the bucket's server is stopped, and the connection was lost: the publisher waits});
$buckets->start;
goes_on(q{the bucket's server is back once more});

# ---- for who reads -------------------------------------------------------------------------------------------------

# Without two of three, the cluster has no leader that could make a consumer.
my @tail = ('siphon-tail', '--from-start', '--stop-at-end', '--nats-url' => $leader->url);
my ($expected) = run_command([@tail]);
my ($events, $said) = ('', '');

$_->pause for $streams, $buckets;
my $tail = IPC::Run::start([@tail], '<', \undef, '>', \$events, '2>', \$said, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
wait_until('siphon-tail waits', sub { $tail->pump_nb; $said =~ /^siphon-tail: waiting for JetStream at 127/m });
$_->resume for $streams, $buckets;
ok($tail->finish, 'siphon-tail goes on when there is a leader') or diag($said);
is($events, "$expected\n", 'and has all');
goes_on('the cluster has a leader');

# ---- at start ------------------------------------------------------------------------------------------------------

for my $case ([ $streams, q{the stream's server} ], [ $buckets, q{the bucket's server} ])
{
	my ($server, $name) = @$case;

	$publisher->stop;
	$server->stop;
	insert();
	$publisher->start;
	stays_up($publisher, 5, "$name is stopped when the publisher starts: it waits");
	$server->start;
	goes_on("$name is back, behind the start");
}

done_testing();
