# What a publisher that was replaced has written to the key-value bucket, and what arrives late, changes nothing: neither the
# state that a table has come to, nor whose the stream is.
# Covers: the claim of the stream; the state of a table that is new to the bucket, and of one that was there before.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Siphon::Broker;
use Siphon::NatsClient;
use Siphon::Proxy;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();
my $proxy = Siphon::Proxy->new(to => $nats->url)->start;
my $client = Siphon::NatsClient->new($nats->url);
my $publishers = 0;

$node->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v int DEFAULT 0); INSERT INTO t SELECT FROM generate_series(1, 100)');
$node->safe_psql('postgres', 'CREATE TABLE u (id bigserial PRIMARY KEY, v int DEFAULT 0)');
add_table($node, 'u');

sub entry
{
	my ($key) = @_;

	return $client->api('STREAM.MSG.GET.KV_siphon_main', { last_by_subj => "\$KV.siphon_main.$key" })->{message};
}

# A publisher hangs, with a write to this key that the network has and the broker has not. Its successor knows nothing of it
# and does what there is to do; then the write arrives.
sub late
{
	my ($key, $name, $start, $meanwhile) = @_;
	my $former = Siphon::Publisher->new(name => 'former_' . ++$publishers, ring_directory => ring_directory($node), nats_url => $proxy->url);
	my $successor = Siphon::Publisher->new(name => 'successor_' . $publishers, ring_directory => ring_directory($node), nats_url => $nats->url);

	$start->($former, sub { $proxy->hold("PUB \$KV.siphon_main.$key ") });
	wait_until("$name is written", sub { die $former->log unless $former->running; $proxy->status->{holding} });
	$former->pause;
	unlink ring_directory($node) . '/main/publisher.lock' or die "publisher.lock: $!";
	$successor->start;
	$meanwhile->($successor);

	my $entry = entry($key);
	my $answered = $proxy->status->{down};

	$proxy->pass;
	wait_until('the broker has what was late', sub { $proxy->status->{down} > $answered });
	is_deeply(entry($key), $entry, "$name: the late write changes nothing");

	# The successor loses its connection, and its successor starts from what the bucket has.
	$nats->kill9;
	$nats->start;
	$client = Siphon::NatsClient->new($nats->url);
	$node->safe_psql('postgres', 'INSERT INTO t (v) VALUES (1); INSERT INTO u (v) VALUES (1)');
	is_confirmed($node, $successor, "$name: the successor goes on");
	$successor->stop;
	$node->safe_psql('postgres', 'INSERT INTO t (v) VALUES (2); UPDATE t SET v = v + 1 WHERE id < 5; INSERT INTO u (v) VALUES (2)');
	$successor->start;
	is_confirmed($node, $successor, "$name: the next one goes on");
	is_replayed($nats, $node, ['t'], "$name: no change of the table is held for ever") if $node->safe_psql('postgres', "SELECT count(*) FROM siphon_tables WHERE table_name = 't'");
	if ($key eq 'publisher')
	{
		# It may try once more, as one that was started last.
		$former->kill9;
	}
	else
	{
		$former->resume;
		$node->safe_psql('postgres', 'INSERT INTO u (v) VALUES (3)');
		is(outcome($former, sub { 0 }), 7, "$name: the former ends as replaced");
		$former->kill9;
	}
	ok($successor->running, "$name: and not the successor");
	is_confirmed($node, $successor, "$name: which goes on");
	$successor->stop;
	return;
}

# Makes the stream and the bucket.
my $first = siphon_publisher($node, $nats);

$node->safe_psql('postgres', 'INSERT INTO u (v) VALUES (0)');
is_confirmed($node, $first, 'there is a stream');
$first->stop;

late('publisher', 'claim',
	sub {
		my ($former, $hold) = @_;

		$hold->();
		$former->start;
	},
	sub {
		$node->safe_psql('postgres', 'INSERT INTO u (v) VALUES (0)');
		is_confirmed($node, $_[0], 'claim: the successor publishes');
	});

for my $name ('first state', 'next state')
{
	my $generation = $node->safe_psql('postgres', "SELECT coalesce(max(generation), 0) FROM siphon_tables WHERE table_name = 't'");

	late('public.t', $name,
		sub {
			my ($former, $hold) = @_;

			$former->start;
			$node->safe_psql('postgres', 'INSERT INTO u (v) VALUES (0)');
			is_confirmed($node, $former, "$name: the former publishes");
			$hold->();
			$node->safe_psql('postgres', $generation ? "SELECT siphon_resync_table('t')" : "SELECT siphon_add_table('t')");
		},
		sub {
			wait_for_table($node, 't', 'streaming', after => $generation);
			$node->safe_psql('postgres', 'UPDATE t SET v = v + 1');
			is_confirmed($node, $_[0], "$name: the successor brings the table to stream");
		});
}

done_testing();
