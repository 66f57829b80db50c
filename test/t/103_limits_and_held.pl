# No limit of the stream takes away a change that is held while its table's snapshot runs: who read all that was published has
# each change exactly once.
# Covers: max_bytes, max_age and max_msgs_per_subject below what is held and what the snapshot brings; a stream that is full
# and takes nothing new.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Siphon::Broker;
use Siphon::NatsClient;
use Siphon::Snapshot;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = siphon_node('primary', conf => "siphon.flush_interval = 1ms\nsiphon.ring_size = 4MB");
my $nats = siphon_nats();
my $client = Siphon::NatsClient->new($nats->url);
my $publisher = siphon_publisher($node, $nats, arguments => [ '--compression-level' => 1 ]);

# Rows that do not become small.
$node->safe_psql('postgres', q{
	CREATE FUNCTION noise(kilobytes int) RETURNS text LANGUAGE sql VOLATILE AS
		'SELECT string_agg(md5(random()::text), '''') FROM generate_series(1, kilobytes * 32)';
	CREATE TABLE t (id int PRIMARY KEY, v int, filler text);
	INSERT INTO t SELECT g, 0, noise(1) FROM generate_series(1, 300) g});

sub limit
{
	my (%limits) = @_;
	my $config = stream_of($nats, 'siphon_main')->{config};

	my $keeps_all = !%limits || ($limits{discard} // 'old') eq 'new';

	api($nats, 'STREAM.UPDATE.siphon_main', { %$config, max_age => 0, max_bytes => -1, max_msgs_per_subject => -1, discard => 'old', %limits });
	# A limit that nobody has seen looks like a hand that took messages away.
	wait_until('the publisher knows the limits',
		sub { !$publisher->running || !!($publisher->status->{queue}{stream}{keeps_all} // !$keeps_all) eq !!$keeps_all });
	return;
}

# Changes of rows, one after the other, each in a message of its own, and what they are held by.
sub change
{
	my ($rows) = @_;

	$node->safe_psql('postgres',
		"DO 'BEGIN FOR i IN 1 .. $rows LOOP UPDATE t SET v = v + 1, filler = noise(2) WHERE id = i; COMMIT; PERFORM pg_sleep(0.01); END LOOP; END'");
	return;
}

# A snapshot that stands still in its middle, with changes of its table held meanwhile.
sub begin
{
	my ($rows) = @_;

	slow_scans($node);
	if ($node->safe_psql('postgres', 'SELECT count(*) FROM siphon_tables') eq '0')
	{
		$node->safe_psql('postgres', "SELECT siphon_add_table('t')");
	}
	else
	{
		$node->safe_psql('postgres', "SELECT siphon_resync_table('t')");
	}
	wait_for_scan($node, 't', 1);
	change($rows);
	return;
}

sub finish
{
	my ($after) = @_;

	fast_scans($node);
	wait_for_table($node, 't', 'streaming', after => $after);
	return;
}

sub generation
{
	return $node->safe_psql('postgres', 'SELECT coalesce(max(generation), 0) FROM siphon_tables');
}

$node->safe_psql('postgres', "SELECT siphon_create_application()");
wait_until('there is a stream', sub { $nats->stream->{state} });

for my $limits (
	[ 'max_bytes', max_bytes => 100_000 ],
	[ 'max_age', max_age => 2_000_000_000, duplicate_window => 1_000_000_000 ],
	[ 'max_msgs_per_subject', max_msgs_per_subject => 1 ])
{
	my ($name, %limits) = @$limits;
	my $before = generation();

	limit(%limits);
	# It sees all, whatever the stream drops.
	my $reader = Siphon::NatsClient->new($nats->url);

	$reader->subscribe('siphon.main.events.>', 'siphon.main.watermark');
	begin(20);
	# Time passes as with a table that is larger.
	if ($name eq 'max_age')
	{
		my $since = time;

		wait_until('what was held is older than the stream keeps', sub { time > $since + 3 });
	}
	finish($before);
	$node->safe_psql('postgres', 'UPDATE t SET v = v + 1 WHERE id <= 3');
	is_confirmed($node, $publisher, "$name: the publisher goes on");
	wait_until("nothing is held", sub { !is_held($publisher) });

	my @messages = $reader->arrived;
	my $replay = is_replayed_from(\@messages, $node, ['t'], "$name: what was published makes the table", counter => 'v');

	cmp_ok($replay->{count}{UPDATE} // 0, '>=', 20, "$name: changes came behind the rows");
	cmp_ok($nats->stream->{state}{bytes}, '<', 120_000, 'max_bytes: the stream is small') if $name eq 'max_bytes';
}

# ---- a full stream that takes nothing new --------------------------------------------------------------------------

limit();
my $before = generation();
# Messages with changes of the table that are held, in whichever stream.
my $held = sub {
	my %subjects = map { %{ stream_of_subjects($_) } } grep { /^siphon_main/ } @{ $client->api('STREAM.NAMES')->{streams} };
	my $count = 0;

	$count += $subjects{$_} for grep { /\.held\.public\.t\./ } keys %subjects;
	return $count;
};

begin(10);
wait_until('changes are held', sub { $held->() >= 10 });
# Room for what comes meanwhile, as the update itself may take away what is too much, and not for the rows.
limit(max_bytes => $nats->stream->{state}{bytes} + 20_000, discard => 'new');
fast_scans($node);
wait_until('the stream is full', sub { $publisher->log =~ /rejected a message: maximum bytes exceeded/ });

# It is the snapshot's rows that fill it. Changes are held elsewhere.
sub stream_of_subjects
{
	my ($stream) = @_;

	return $client->api("STREAM.INFO.$stream", { subjects_filter => '>' })->{state}{subjects} // {};
}

change(5);
is_deeply([ grep { /\.held\./ } keys %{ stream_of_subjects('siphon_main') } ], [], 'full: none of them takes the room of others');
ok($publisher->running, 'full: the publisher waits');
ok(eval { wait_until('it says why', sub { $publisher->get('/readyz')->{content} =~ /maximum bytes exceeded/ }, 20) }, 'full: it says why');

# Held changes come behind the rows, so there is room for both.
limit(max_bytes => -1, discard => 'new');
finish($before);
is_confirmed($node, $publisher, 'full: when there is room the publisher goes on');

# The stream alone has forgotten what the first limits dropped: all comes once more.
$before = generation();
begin(10);
finish($before);
$node->safe_psql('postgres', 'UPDATE t SET v = v + 1 WHERE id <= 3');
is_confirmed($node, $publisher, 'without limits: the publisher goes on');
is_replayed($nats, $node, ['t'], 'without limits: the stream makes the table', counter => 'v');

done_testing();
