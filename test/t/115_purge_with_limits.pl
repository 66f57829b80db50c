# A stream that is purged by hand is noticed also where it has limits: the publisher ends with exit code 4 and says what to
# type, again and again until that was done. What the limits themselves remove is no reason to end.
# Covers: max_age, max_bytes, max_msgs and max_msgs_per_subject; a limit that was taken away again; a purge under the
# publisher and while it is away; messages that a limit drops.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Siphon::Broker;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

$node->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v text); INSERT INTO t (v) SELECT md5(g::text) FROM generate_series(1, 20) g');
add_table($node, 't', snapshot => 'true');
wait_for_tables($node);

my $hour = 3600 * 1_000_000_000;
my %unlimited = (max_age => 0, max_bytes => -1, max_msgs => -1, max_msgs_per_subject => -1, discard => 'old');

sub limit
{
	my (%limits) = @_;
	my $config = stream_of($nats, 'siphon_main')->{config};

	api($nats, 'STREAM.UPDATE.siphon_main', { %$config, %unlimited, %limits });
	return;
}

# What is published now is acknowledged, with a message on each subject or more.
sub publishes
{
	my ($name) = @_;

	$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('new')");
	return is_confirmed($node, $publisher, "$name: the publisher publishes");
}

# The publisher looks at the stream every few seconds, and has seen these limits.
sub has_looked
{
	my $since = time;

	wait_until('the publisher has looked at the stream', sub { time > $since + 6 || !$publisher->running });
	return;
}

sub resync
{
	my ($name) = @_;

	$node->safe_psql('postgres', 'SELECT siphon_resync_application()');
	$publisher->kill9;
	$publisher->start;
	wait_for_tables($node);
	publishes("$name, resynced");
	is_replayed($nats, $node, ['t'], "$name: what it says mends it");
	return;
}

# Under the publisher.
limit(max_age => $hour);
publishes('max_age');
has_looked();
api($nats, 'STREAM.PURGE.siphon_main');
if (ends_and_advises($publisher, sub { 0 }, 'purged with max_age'))
{
	$publisher->start;
	ends_and_advises($publisher, sub { 0 }, 'purged with max_age, started again');
}
resync('max_age');

# While it is away, with other limits; and it goes on after that of which it has seen nothing.
for my $limits ([ max_bytes => 1 << 30 ], [ max_msgs => 100_000 ], [ max_msgs_per_subject => 1000 ])
{
	my $name = $limits->[0];

	limit(@$limits);
	publishes($name);
	$publisher->stop;
	api($nats, 'STREAM.PURGE.siphon_main');
	$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('behind')");

	my $sequence = $nats->last_sequence;

	$publisher->start;
	ends_and_advises($publisher, sub { $nats->last_sequence > $sequence }, "purged with $name while nobody looks");
	resync($name);
}

# A limit is there no more.
limit();
publishes('without limits');
api($nats, 'STREAM.PURGE.siphon_main');
ends_and_advises($publisher, sub { 0 }, 'purged when limits are gone');
resync('without limits');

# What a limit drops is nothing to complain of, under the publisher and at its start.
limit(max_msgs => 10);
$node->safe_psql('postgres', "DO 'BEGIN FOR i IN 1 .. 30 LOOP INSERT INTO t (v) VALUES (i); COMMIT; PERFORM pg_sleep(0.02); END LOOP; END'");
publishes('some are dropped');
cmp_ok(stream_of($nats, 'siphon_main')->{state}{messages}, '<=', 10, 'the limit has dropped messages');
stays_up($publisher, 6, 'what limits drop does not end the publisher');
$publisher->stop;
$publisher->start;
publishes('started again');
stays_up($publisher, 2, 'nor when it starts');

done_testing();
