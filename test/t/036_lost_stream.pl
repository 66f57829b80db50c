# A stream that is deleted or emptied by hand, under the publisher or while it is away, and one of another server that runs
# the same application: the publisher ends with one line that says what happened and what to type, again and again until
# that is done, so that no gap goes unnoticed; and then the stream makes the table.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::RecursiveCopy;
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::NatsClient;
use Test::More;

my $node = siphon_node('original');
my $nats = siphon_nats();
my $client = Siphon::NatsClient->new($nats->url);
my $publisher = siphon_publisher($node, $nats);
my $resync = qr/SELECT siphon_resync_application\('main'\)/;

$node->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v text); INSERT INTO t (v) SELECT repeat(md5(g::text), 5) FROM generate_series(1, 500) g');
$node->safe_psql('postgres', "SELECT siphon_add_table('t')");

sub streams
{
	my ($server) = @_;

	wait_for_tables($server);
	$server->safe_psql('postgres', "INSERT INTO t (v) VALUES ('new'); UPDATE t SET v = v || '.' WHERE id < 20; DELETE FROM t WHERE id = (SELECT min(id) FROM t)");
	wait_confirmed($server);
	return;
}

sub api
{
	my ($subject, $request) = @_;
	my $answer = $client->api($subject, $request);

	die "$subject: $answer->{error}{description}" if $answer->{error};
	return $answer;
}

# The publisher ends so, and does so again when it is started again; what it says to type mends it.
sub ends_until_mended
{
	my ($what, $log) = @_;

	for my $time ('', ', and again')
	{
		is($publisher->wait_exit, 4, "$what: the publisher ends$time");
		like($publisher->log, $log, "$what: it says why$time");
		like($publisher->log, $resync, "$what: and what to type$time");
		$publisher->start unless $time;
	}
	$node->safe_psql('postgres', 'SELECT siphon_resync_application()');
	$publisher->start;
	streams($node);
	is_replayed($nats, $node, ['t'], "$what: what it says mends it");
	return;
}

my $insert = sub { $node->safe_psql('postgres', "INSERT INTO t (v) SELECT 'lost' FROM generate_series(1, 10)") };

streams($node);
is_replayed($nats, $node, ['t'], 'the stream makes the table');

api('STREAM.DELETE.siphon_main');
$insert->();
ends_until_mended('deleted stream', qr/stream siphon_main .*(?:has been deleted while it was published to|has lost what it had acknowledged)/);

$publisher->stop;
$insert->();
api('STREAM.DELETE.siphon_main');
$publisher->start;
ends_until_mended('stream deleted while nobody looks', qr/stream siphon_main .*has lost what it had acknowledged/);

$publisher->stop;
api('STREAM.DELETE.siphon_main');
api('STREAM.DELETE.KV_siphon_main');
$publisher->start;
ends_until_mended('stream and bucket deleted', qr/stream siphon_main .*has lost what it had acknowledged: it, or its key-value bucket, was deleted/);

api('STREAM.PURGE.siphon_main');
$insert->();
ends_until_mended('emptied stream', qr/stream siphon_main .*was emptied: (?:its messages before sequence \d+ were removed|none of its messages is left)/);

# Another broker has nothing of it.
my $other = siphon_nats(name => 'other');

$publisher->stop;
$publisher->{nats_url} = $other->url;
$publisher->start;
is($publisher->wait_exit, 4, 'another broker: the publisher ends');
like($publisher->log, qr/has lost what it had acknowledged.* it is another one than before/, 'another broker: it says why');
$publisher->{nats_url} = $nats->url;
$publisher->start;
streams($node);
is_replayed($nats, $node, ['t'], 'another broker: the one before has it all');

# A server that was copied with its slots, as a snapshot of a file system has them, goes on like the original. Of the two
# only one can publish, and the other says so.
$publisher->stop;
$node->stop;
PostgreSQL::Test::RecursiveCopy::copypath($node->data_dir, $node->backup_dir . '/cold', filterfn => sub { $_[0] ne 'postmaster.pid' });
$node->start;
$publisher->start;
streams($node);

my $twin = PostgreSQL::Test::Cluster->new('twin');
$twin->init_from_backup($node, 'cold');
$twin->append_conf('postgresql.conf', Siphon::siphon_conf($twin));
$twin->start;
wait_for_state($twin, 'streaming');
$twin->safe_psql('postgres', "INSERT INTO t (v) VALUES ('of the twin')");

my $twins_publisher = siphon_publisher($twin, $nats, name => 'twins_publisher');

is($twins_publisher->wait_exit, 4, 'twin: its publisher ends');
like($twins_publisher->log, qr/another server, perhaps a copy of this one, publishes as application main/, 'twin: it says why');
like($twins_publisher->log, qr/SELECT siphon_drop_application\('main'\)/, 'twin: and what to type');

# It had looked into the stream, and changed nothing.
ok($publisher->running, 'twin: the original has not noticed');
streams($node);
is(scalar(grep { ($_->{columns}{v} // '') eq 'of the twin' } @{ replay($nats) }), 0, 'twin: nothing of it is published');
is_replayed($nats, $node, ['t'], 'twin: the original goes on');

# A stream in which nothing stays: what that means is said at start.
my $queue = siphon_nats(name => 'queue');

Siphon::NatsClient->new($queue->url)->api('STREAM.CREATE.siphon_work',
	{ name => 'siphon_work', subjects => [ 'siphon.work.events.>', 'siphon.work.held.>', 'siphon.work.watermark' ], retention => 'workqueue' });
add_table($node, 't', application => "'work'");
my $worker = siphon_publisher($node, $queue, name => 'work_publisher', application => 'work');
$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('work')");
wait_confirmed($node, application => 'work');
$worker->{first_log} = $worker->log;
# The publisher dies, and what it had published last is consumed before the next one starts: Nats-Msg-Id alone tells.
my $work = Siphon::NatsClient->new($queue->url);
my @messages;
my $writers = start_pgbench($node, { w => "INSERT INTO t (v) VALUES ('load');\n" }, -c => 2, '--rate' => 300, -T => 300);

for (1 .. 4)
{
	my $before = $node->safe_psql('postgres', 'SELECT count(*) FROM t');

	$node->poll_query_until('postgres', "SELECT count(*) > $before + 100 FROM t");
	kill 'STOP', $queue->{pid} if $_ % 2;
	$node->poll_query_until('postgres', "SELECT count(*) > $before + 150 FROM t");
	$worker->kill9;
	kill 'CONT', $queue->{pid} if $_ % 2;
	$work->api('STREAM.INFO.siphon_work');
	push @messages, $work->messages('siphon_work');
	$work->api('STREAM.PURGE.siphon_work');
	$worker->start;
}
stop_pgbench($writers);
wait_confirmed($node, application => 'work');
push @messages, $work->messages('siphon_work');

my @changes = grep { Siphon::NatsClient::header($_, 'Siphon-Kind') eq 'changes' } @messages;
my %seen;
my $events = 0;

$seen{ Siphon::NatsClient::header($_, 'Nats-Msg-Id') }++ for @changes;
$events += Siphon::NatsClient::header($_, 'Siphon-Events') for @changes;
is(scalar(grep { $_ > 1 } values %seen), 0, 'work queue: no message is stored twice');
is($events, $node->safe_psql('postgres', "SELECT count(*) FROM t WHERE v IN ('work', 'load')"), 'work queue: and none is missing');
like($worker->{first_log}, qr/warning: stream siphon_work has retention workqueue: .*only Nats-Msg-Id keeps them from that/, 'work queue: the publisher says what can not be promised');

done_testing();
