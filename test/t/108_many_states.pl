# What the publisher does for a message does not depend on how many tables there are.
# Covers: 10,000 tables of which the bucket has a state: the publisher's start, a message, and its processor time for one beside
# that with no such table. See test/bench/many_states.pl for figures.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Siphon::Broker;
use Siphon::ManyStates;
use Test::More;
use Time::HiRes qw(time);

my $STATES = 10_000;
my $COMMITS = 6;
# On a machine that is busy with other things. What is promised is 1.1.
my $RATIO = 3;

my $node = states_node();
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

add_table($node, 'model', snapshot => 'true');
add_table($node, 'p', partitions => 1000);
wait_for_tables($node);
messages_cost($node, $nats, $publisher, 1);

my ($messages, $none) = messages_cost($node, $nats, $publisher, $COMMITS);

cmp_ok($messages, '>', 1000, "$messages messages");
$publisher->stop;
write_states($nats, $STATES);

my $since = time;

$node->safe_psql('postgres', 'INSERT INTO p VALUES (0)');
$publisher->start;
is_confirmed($node, $publisher, "with $STATES states the publisher starts and publishes");
note(sprintf 'after %.2f s', time - $since);
messages_cost($node, $nats, $publisher, 1);
($messages, my $many) = messages_cost($node, $nats, $publisher, $COMMITS);
note(sprintf '%.1f us a message with none, %.1f us with %d states', $none, $many, $STATES);
cmp_ok($many, '<', $RATIO * $none, 'a message takes no more processor time for them');
is_replayed($nats, $node, [ 'p', 'model' ], 'nothing is lost');

done_testing();
