# An answer "duplicate" without a place says that the message was proposed, not that it is stored: it acknowledges nothing.
# Covers: such an answer, as clustered servers up to 2.10.29 give it, to an event, to a watermark and to a held change, each of
# which the stream's server then loses.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Siphon::Broker;
use Siphon::NatsClient;
use Siphon::NatsCluster;
use Siphon::Snapshot;
use Test::More;

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
# It answers in the server's place.
my $reader = Siphon::NatsClient->new($leader->url);

$reader->subscribe('siphon.main.>');
$node->safe_psql('postgres', q{
	CREATE TABLE t (id bigserial PRIMARY KEY, v int DEFAULT 0);
	CREATE TABLE big (id int PRIMARY KEY, v int, filler text);
	INSERT INTO big SELECT g, 0, repeat(md5(g::text), 10) FROM generate_series(1, 6000) g});
add_table($node, 't');
$node->safe_psql('postgres', 'INSERT INTO t SELECT FROM generate_series(1, 5)');
is_confirmed($node, $publisher, 'the publisher publishes');
$reader->arrived;

# The stream's server hangs; messages to it whose subjects fit are answered so, and lost with the server.
sub lose
{
	my ($what, $kind, $change) = @_;
	my $answered = 0;
	my $answer = sub {
		for my $message (grep { $_->{reply} && $_->{subject} =~ $kind } $reader->arrived)
		{
			my $stream = $message->{subject} =~ /\.held\./ && (() = $nats->streams) > 2 ? 'siphon_main_held' : 'siphon_main';

			$reader->publish($message->{reply}, qq({"stream":"$stream","seq":0,"duplicate":true}));
			$answered++;
		}
		return $answered;
	};

	$streams->pause;
	$change->();

	my $lsn = $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');

	wait_until("$what is published", $answer);
	is(outcome($publisher, sub { $answer->(); $node->safe_psql('postgres', "SELECT confirmed_lsn >= '$lsn' FROM siphon_applications") eq 't' }, 3),
		'neither', "$what: nothing is acknowledged");
	$streams->kill9;
	$streams->start;
	$nats->leader_of;
	$change->();
	is_confirmed($node, $publisher, "$what: the publisher goes on", 60);
	return;
}

lose('an event', qr/\.events\./, sub { $node->safe_psql('postgres', 'INSERT INTO t DEFAULT VALUES') });
is_replayed($nats, $node, ['t'], 'an event: nothing is lost');

lose('an event and its watermark', qr/./, sub { $node->safe_psql('postgres', 'INSERT INTO t DEFAULT VALUES') });
is_replayed($nats, $node, ['t'], 'an event and its watermark: nothing is lost');

slow_scans($node);
$node->safe_psql('postgres', "SELECT siphon_add_table('big')");
wait_for_scan($node, 'big');
$node->safe_psql('postgres', "SELECT siphon_pause('big')");
is_confirmed($node, $publisher, 'a snapshot stands still');
$reader->arrived;
lose('a held change', qr/\.held\./, sub { $node->safe_psql('postgres', 'UPDATE big SET v = v + 1 WHERE id < 4') });
$node->safe_psql('postgres', "SELECT siphon_resume('big')");
fast_scans($node);
wait_for_table($node, 'big');
is_confirmed($node, $publisher, 'the snapshot is over');
is_replayed($nats, $node, [ 't', 'big' ], 'a held change: nothing is lost', counter => 'v');

done_testing();
