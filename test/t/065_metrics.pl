# What /metrics says is what happened: events by table and operation, each once, bytes, times, lag and WAL that is kept;
# in a form that Prometheus takes, and without names of tables where they are not wanted.
use strict;
use warnings FATAL => 'all';

use IPC::Run ();
use JSON::PP;
use List::Util qw(sum);
use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

# The loop tells once a second.
sub wait_for_metric
{
	my ($name, $condition) = @_;
	my $metrics;

	wait_until("$name is as it should be", sub { $metrics = $publisher->metrics; $condition->($metrics->{$name}) });
	return $metrics;
}

sub events
{
	my ($metrics, $table) = @_;

	return {
		map { /^siphon_events_total\{schema="public",table="\Q$table\E",operation="(\w+)"\}$/ ? ($1 => $metrics->{$_}) : () }
		  keys %$metrics
	};
}

$node->safe_psql(
	'postgres', q{
	CREATE TABLE issues (id bigint PRIMARY KEY, title text);
	CREATE TABLE "it's ""odd""\ " (id bigint PRIMARY KEY);
	CREATE TABLE old (id bigint PRIMARY KEY, title text);
	INSERT INTO old SELECT g, repeat('row ', 100) FROM generate_series(1, 1000) g});
add_table($node, 'issues');
add_table($node, '"it\'\'s ""odd""\\ "');
add_table($node, 'old', snapshot => 'true');
wait_until('the snapshot is through',
	sub { $node->safe_psql('postgres', "SELECT state FROM siphon_tables WHERE table_name = 'old'") eq 'streaming' });
$node->safe_psql(
	'postgres', q{
	INSERT INTO issues SELECT g, repeat('title ', 50) FROM generate_series(1, 300) g;
	UPDATE issues SET title = 'new' WHERE id <= 20;
	DELETE FROM issues WHERE id > 290;
	INSERT INTO "it's ""odd""\ " VALUES (1);
	TRUNCATE issues});
wait_confirmed($node);

# What the decoder says is there once in a second, what is published at once.
my $metrics;

wait_for_metric('siphon_slot_lag_seconds', sub { defined $_[0] && $_[0] < 1 });
wait_for_metric('siphon_events_total{schema="public",table="issues",operation="truncate"}', sub { ($_[0] // 0) > 0 });
wait_for_metric('siphon_ready', sub { $_[0] });
$metrics = wait_for_metric('siphon_tables{state="streaming"}', sub { ($_[0] // 0) == 3 });

is_deeply(
	events($metrics, 'issues'),
	{ insert => 300, update => 20, delete => 10, truncate => 1, other => 0, snapshot => 0 },
	'events by operation');
is(events($metrics, 'old')->{snapshot}, 1000, 'rows of a snapshot');
is($metrics->{'siphon_events_total{schema="public",table="it\'s \"odd\"\\\\ ",operation="insert"}'},
	1, 'a name that has to be quoted');

my $sum = sub { my ($pattern) = @_; sum(map { $metrics->{$_} } grep { /$pattern/ } keys %$metrics) };
my $raw = $sum->(qr/^siphon_raw_bytes_total/);
my $published = $sum->(qr/^siphon_published_bytes_total/);

cmp_ok($raw, '>', 1000 * 400, 'bytes before compression');
cmp_ok($published, '>', 0, 'and after it');
cmp_ok($published, '<', $raw / 5, 'which saved something');
is($sum->(qr/^siphon_packages_total\{schema="public",table="(issues|it)/),
	application($node)->{packages}, 'packages, as many as the decoder has written');
# But for those that keep others out, which carry nothing.
is( $sum->(qr/^siphon_messages_total/),
	$nats->last_sequence - $nats->subjects->{'siphon.main.fence'} + $nats->last_sequence('main_held') - 1,
	'messages, as many as the streams had');

for my $name (qw(compression publish_to_ack commit_to_ack decode encode))
{
	my $count = $metrics->{"siphon_${name}_seconds_count"};

	cmp_ok($count, '>', 0, "$name: counted");
	is($metrics->{"siphon_${name}_seconds_bucket{le=\"+Inf\"}"}, $count, "$name: the last bucket has all");
	cmp_ok($metrics->{"siphon_${name}_seconds_sum"}, '>', 0, "$name: it took time");
	cmp_ok($metrics->{"siphon_${name}_seconds_sum"}, '<', 60 * $count, "$name: but no more than there was");
}
is($metrics->{siphon_ring_wait_seconds_count}, 0, 'nobody waited for the ring');
is($metrics->{siphon_ready}, 1, 'ready');
is($metrics->{'siphon_tables{state="streaming"}'}, 3, 'tables');
is($metrics->{'siphon_ring_size_bytes{ring="decoder"}'}, 1024 * 1024, 'size of the ring');
cmp_ok($metrics->{siphon_slot_retained_bytes}, '>', 0, 'the slot keeps WAL');
ok(!exists $metrics->{siphon_slot_headroom_bytes}, 'without a limit there is no distance to it');
cmp_ok($metrics->{process_resident_memory_bytes}, '>', 1024 * 1024, 'resident memory');
ok((grep { /^siphon_build_info\{version="[\d.]+",ring_version="\d+"/ } keys %$metrics), 'versions');

# Prometheus' own opinion, where there is Debian's package of it.
SKIP:
{
	skip 'promtool is not installed', 1 unless grep { -x "$_/promtool" } split /:/, $ENV{PATH};
	my $text = $publisher->get('/metrics')->{content};
	my $said = '';

	ok(IPC::Run::run([ 'promtool', 'check', 'metrics' ], '<' => \$text, '>&' => \$said), 'promtool finds nothing to say');
	note($said);
}

# A limit to what the slot may keep.
$node->safe_psql('postgres', "ALTER SYSTEM SET siphon.max_retained_wal = '512MB'");
$node->reload;
$metrics = wait_for_metric('siphon_slot_headroom_bytes', sub { defined $_[0] });
is($metrics->{siphon_slot_headroom_bytes} + $metrics->{siphon_slot_retained_bytes}, 512 * 1024 * 1024,
	'the distance to the limit');

# A broker that stands still, when all that precedes a table's first change was dealt with: lag grows, the ring fills, the decoder waits.
$node->safe_psql('postgres', 'INSERT INTO old VALUES (1999)');
wait_confirmed($node);
kill 'STOP', $nats->{pid};
# The first row holds the slot: without it the slot may be confirmed up to the middle of the second transaction's WAL.
$node->safe_psql('postgres', 'INSERT INTO old VALUES (2000)');
$node->safe_psql('postgres',
	"INSERT INTO old SELECT g, string_agg(md5(g::text || i), '') FROM generate_series(2001, 4000) g, generate_series(1, 40) i GROUP BY g"
);
wait_for_metric('siphon_slot_lag_seconds', sub { ($_[0] // 0) > 2 });
$metrics = wait_for_metric('siphon_slot_lag_bytes', sub { ($_[0] // 0) > 1024 * 1024 });
cmp_ok($metrics->{siphon_slot_lag_seconds}, '>', 2, 'lag in seconds');
cmp_ok($metrics->{'siphon_ring_used_bytes{ring="decoder"}'}, '>', 512 * 1024, 'the ring fills');
cmp_ok($metrics->{siphon_stalled_seconds}, '>', 1, 'nothing is acknowledged');
wait_for_metric('siphon_in_flight_messages', sub { $_[0] > 0 });
kill 'CONT', $nats->{pid};
wait_confirmed($node);
$metrics = wait_for_metric('siphon_events_total{schema="public",table="old",operation="insert"}',
	sub { ($_[0] // 0) >= 2002 });
is(events($metrics, 'old')->{insert}, 2002, 'each event is counted once');
$metrics = wait_for_metric('siphon_ring_wait_seconds_count', sub { $_[0] > 0 });
cmp_ok($metrics->{siphon_ring_wait_seconds_sum}, '>', 1, 'how long the decoder waited for the ring');
$metrics = wait_for_metric('siphon_slot_lag_seconds', sub { defined $_[0] && $_[0] < 1 });

# One that went away.
$nats->kill9;
wait_for_metric('siphon_nats_connected', sub { $_[0] == 0 });
$nats->start;
$metrics = wait_for_metric('siphon_nats_connected', sub { $_[0] == 1 });
cmp_ok($metrics->{siphon_nats_disconnects_total}, '>=', 1, 'lost connections are counted');

# Whoever looks at the database sees the same.
my $stats;
my $all = sub { my ($pattern) = @_; sum(map { $metrics->{$_} } grep { /$pattern/ } keys %$metrics) };

wait_confirmed($node);
wait_until(
	'siphon_stats and /metrics say the same',
	sub {
		$metrics = $publisher->metrics;
		$stats = decode_json($node->safe_psql('postgres', 'SELECT to_json(s) FROM siphon_stats s'));
		return $stats->{in_flight_messages} == 0 && $stats->{messages} == $all->(qr/^siphon_messages_total/);
	});
is($stats->{inserts}, $all->(qr/^siphon_events_total.*operation="insert"/), 'siphon_stats: inserts');
is($stats->{updates}, 20, 'siphon_stats: updates');
is($stats->{deletes}, 10, 'siphon_stats: deletes');
is($stats->{truncates}, 1, 'siphon_stats: truncates');
is($stats->{other_events}, 0, 'siphon_stats: nothing else');
is($stats->{published_events}, $all->(qr/^siphon_events_total/), 'siphon_stats: events, with those of the snapshot');
is($stats->{published_packages}, $all->(qr/^siphon_packages_total/), 'siphon_stats: packages');
# What belongs to no table, watermarks above all, has few bytes.
for my $bytes (qw(raw_bytes published_bytes))
{
	my $of_tables = $all->(qr/^siphon_${bytes}_total/);

	cmp_ok($stats->{$bytes}, '>=', $of_tables, "siphon_stats: $bytes");
	cmp_ok($stats->{$bytes}, '<', $of_tables + 4096, "siphon_stats: and not more $bytes than there were");
}
is($stats->{ring_waits}, $metrics->{siphon_ring_wait_seconds_count}, 'siphon_stats: waits for the ring');
is($stats->{encodes}, $metrics->{siphon_encode_seconds_count}, 'siphon_stats: changes whose encoding was timed');
is($stats->{disconnects}, $metrics->{siphon_nats_disconnects_total}, 'siphon_stats: lost connections');
is($stats->{in_flight_bytes}, 0, 'siphon_stats: nothing is in flight');
cmp_ok($stats->{headroom_bytes}, '<=', 512 * 1024 * 1024, 'siphon_stats: the distance to the limit');
for my $time ([ compression => 'messages' ], [ publish_to_ack => 'messages' ], [ commit_to_ack => 'published_packages' ],
	[ decode => 'decodes' ], [ encode => 'encodes' ], [ ring_wait => 'ring_waits' ])
{
	my ($what, $number) = @$time;

	cmp_ok(abs($stats->{"${what}_time"} / 1000 - $metrics->{"siphon_${what}_seconds_sum"}),
		'<', 0.001 + 0.01 * $metrics->{"siphon_${what}_seconds_sum"}, "siphon_stats: time of $what");
	cmp_ok($stats->{$number}, '>', 0, "siphon_stats: and of how many");
}

# Without names of tables.
is($publisher->stop, 0, 'the publisher stops');
push @{ $publisher->{arguments} }, '--table-metrics', 'off';
$publisher->start;
$node->safe_psql('postgres', 'INSERT INTO issues SELECT generate_series(1, 7)');
$metrics = wait_for_metric('siphon_events_total{operation="insert"}', sub { ($_[0] // 0) >= 7 });
is($metrics->{'siphon_events_total{operation="insert"}'}, 7, 'all tables are one');
is((grep { /table="|schema="/ } keys %$metrics), 0, 'and none is named');

# Somebody else is there already.
my ($port) = $publisher->url =~ /(\d+)$/;
my $second = Siphon::Publisher->new(
	name => 'second',
	application => 'other',
	ring_directory => ring_directory($node),
	nats_url => $nats->url,
	http_listen => "127.0.0.1:$port")->start;
is($second->wait_exit, 2, 'a port that is taken, and was asked for');
like($second->log, qr/can't listen on 127.0.0.1:$port, which may be taken/, 'says so');

done_testing();
