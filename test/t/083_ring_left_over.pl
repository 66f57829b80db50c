# The ring of a server that was replaced lies where it was: after a failover and back, the stream has gone on from others. A
# publisher that finds it, before the server has made the next one, publishes nothing of it and says what it is.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::RingFile;
use Test::More;
use Time::HiRes qw(time);

my $node = siphon_node('primary');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);
my $ring = Siphon::RingFile->new($node)->{path};
my $kHeartbeat = 200;

$node->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v text)');
add_table($node, 't');

# The ring that the server leaves behind when it is stopped in this mode, published from or not. Starts it again.
sub ring_of
{
	my ($mode, $published) = @_;

	$publisher->stop;
	$publisher->start if $published;
	$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('$mode'), (NULL)");
	wait_confirmed($node) if $published;
	wait_until('the ring is in use', sub { application($node)->{ring_used} > 0 }) unless $published;
	$publisher->stop;
	$node->stop($mode);

	my $content = slurp_file($ring);

	$node->start;
	wait_for_state($node, 'streaming');
	return $content;
}

my $stopped = ring_of('fast', 1);
my $unread = ring_of('fast', 0);
my $killed = ring_of('immediate', 1);

ring_of('fast', 1);
$node->stop;

# Its last sign of life was a minute ago.
substr $killed, $kHeartbeat, 8, pack 'Q', (time - 60) * 1e6;

for my $case ([ 'of a server that was stopped', $stopped ], [ 'that nothing was read of', $unread ], [ 'of a server that was killed', $killed ])
{
	my ($what, $content) = @$case;

	$publisher->stop;
	write_file($ring, $content);
	$publisher->start;
	wait_until("a ring $what: the publisher says what it waits for",
		sub { die $publisher->log unless $publisher->running; $publisher->log =~ /waiting for/ });
	like($publisher->log, qr/ info: waiting for the decoder to create another ring than \Q$ring\E, which is left from before: stream siphon_main at \S+ went on without it/,
		"a ring $what: it is left from before");
	unlike($publisher->log, qr/ (?:error|warning): /, "a ring $what: nothing is wrong");
	is($publisher->metrics->{siphon_rings_corrupt_total}, 0, "a ring $what: nor damaged");
}

# The server comes back.
$node->start;
$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('back')");
wait_confirmed($node);
ok($publisher->running, 'the publisher goes on with the next ring');
unlike($publisher->log, qr/ (?:error|warning): /, 'without a complaint');
positions_increase(replay($nats), 'nothing comes twice');
is_replayed($nats, $node, ['t'], 'nothing is missing');
$publisher->stop;

# What a ring holds from which the stream was published last is published, whoever is not there any more.
$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('last words')");
wait_until('it is in the ring', sub { application($node)->{ring_used} > 0 });
$node->stop;
$publisher->start;
wait_until('it is published', sub { grep { ($_->{columns}{v} // '') eq 'last words' } @{ replay($nats) } });
pass('a ring that the stream goes on from is published to its end, without its server');

done_testing();
