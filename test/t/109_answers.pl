# An answer is input from outside: what somebody else sends to the subject of an answer neither ends the publisher nor
# acknowledges anything.
# Covers: answers that are no answers, of a stream that is there and of one that is away; forged acknowledgements of a message
# that is then lost.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Siphon::Broker;
use Siphon::NatsClient;
use Siphon::NatsCluster;
use Test::More;
use Time::HiRes qw(sleep);

my $node = siphon_node('primary');
my $nats = Siphon::NatsCluster->new->start;
my $leader = $nats->meta_leader;
my ($streams) = grep { $_ != $leader } $nats->nodes;

make_streams(
	$node, $nats,
	log => { placement => { tags => [ $streams->{name} ] } },
	held => { placement => { tags => [ $streams->{name} ] } },
	bucket => { placement => { tags => [ $leader->{name} ] } });

my $publisher = siphon_publisher($node, $nats, nats_url => $leader->url);
# It may read what is published, and publish anything.
my $reader = Siphon::NatsClient->new($leader->url);

$reader->subscribe('siphon.main.>');
$node->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v int DEFAULT 0)');
add_table($node, 't');
$node->safe_psql('postgres', 'INSERT INTO t SELECT FROM generate_series(1, 5)');
is_confirmed($node, $publisher, 'the publisher publishes');
$reader->arrived;

my @NONSENSE = (
	'', '{', '[]', '1', 'null', '"text"', "\0\xff\xfe",
	'{"error":"no"}', '{"error":1}', '{"error":null}', '{"error":[]}', '{"error":{"err_code":"x"}}', '{"error":{"description":7}}',
	'{"error":{"err_code":1e300}}', '{"error":{"err_code":-1}}',
	'{"seq":"x"}', '{"seq":-1}', '{"seq":1.5}', '{"seq":null}', '{"seq":1e300}', '{"seq":99999999999999999999999}', '{"seq":1,"duplicate":"yes"}',
	'{"stream":7,"seq":1}', '{"stream":"another","seq":1}', '{"duplicate":true}', '[' x 10000);

# The next message that is seen here with this in its subject.
sub next_message
{
	my ($kind) = @_;
	my @messages;

	wait_until('a message is published',
		sub { die $publisher->log unless $publisher->running; push @messages, grep { $_->{reply} && $_->{subject} =~ $kind } $reader->arrived; scalar @messages });
	return $messages[-1];
}

# What an answer's subject is beside its last token, by which the publisher knows which message it is for.
my $event = do {
	$node->safe_psql('postgres', 'INSERT INTO t DEFAULT VALUES');
	next_message(qr/events/);
};
my ($inbox) = $event->{reply} =~ /^(.*)\./;

# ---- nonsense ------------------------------------------------------------------------------------------------------

# For messages that are not yet there, and for none.
sub send_nonsense
{
	my ($reply, $name) = @_;
	my $survived = 1;

	for my $nonsense (@NONSENSE)
	{
		$reader->publish($reply, $nonsense);
		next if outcome($publisher, sub { 0 }, 0.05) eq 'neither';
		fail("$name: the publisher lives on after " . substr $nonsense, 0, 40);
		diag("it ended with $publisher->{exit_code}: " . $publisher->log);
		$survived = 0;
		$publisher->start;
		last;
	}
	pass("$name: the publisher lives on") if $survived;
	return;
}

send_nonsense($event->{reply}, 'of a message that is stored');
send_nonsense("$inbox.x", 'of no message');
send_nonsense("$inbox.99999999999999999999999", 'of a number that is none');
$node->safe_psql('postgres', 'INSERT INTO t DEFAULT VALUES');
is_confirmed($node, $publisher, 'nonsense: the publisher goes on');

# Of messages that have no answer yet.
$streams->pause;
$reader->arrived;
$node->safe_psql('postgres', 'INSERT INTO t DEFAULT VALUES');
send_nonsense(next_message(qr/events/)->{reply}, 'of a message without an answer');
$streams->resume;
is_confirmed($node, $publisher, 'nonsense instead of an answer: the publisher goes on', 60);
is_replayed($nats, $node, ['t'], 'nonsense: all is there, once');

# ---- forged acknowledgements ---------------------------------------------------------------------------------------

# The stream's server hangs, and dies with what it was sent and had not looked at. One with the right stream and sequence can't
# be told from JetStream's own: docs/security.md says which rights keep readers from sending it.
for my $forgery (
	[ 'another stream', sub { qq({"stream":"another","seq":$_[0]}) } ],
	[ 'another sequence', sub { '{"stream":"siphon_main","seq":' . ($_[0] + 1000) . '}' } ])
{
	my ($name, $answer) = @$forgery;

	$publisher->start unless $publisher->running;
	is_confirmed($node, $publisher, "forged, $name: all is well before");
	$reader->arrived;

	$streams->pause;
	$node->safe_psql('postgres', 'INSERT INTO t DEFAULT VALUES');

	my $lsn = $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
	my $events = 0;
	my $forge = sub {
		for my $message (grep { $_->{reply} } $reader->arrived)
		{
			my $expected = Siphon::NatsClient::header($message, 'Nats-Expected-Last-Sequence');

			$reader->publish($message->{reply}, $answer->($expected + 1)) if $expected ne '';
			$events++ if $message->{subject} =~ /events/;
		}
		return $events;
	};

	wait_until('the event is published', $forge);
	# The slot would be confirmed within a moment.
	my $moved = outcome($publisher, sub { $forge->(); $node->safe_psql('postgres', "SELECT confirmed_lsn >= '$lsn' FROM siphon_applications") eq 't' }, 3);

	is($moved, 'neither', "forged, $name: nothing is acknowledged");
	$streams->kill9;
	$streams->start;
	$nats->leader_of;
	is_confirmed($node, $publisher, "forged, $name: the publisher goes on", 60);
	is_replayed($nats, $node, ['t'], "forged, $name: nothing is lost");
}

done_testing();
