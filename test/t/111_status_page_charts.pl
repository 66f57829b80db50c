# The status page's charts: units and times at their axes, gaps where nothing is known, and where a restart cuts the history.
use strict;
use warnings FATAL => 'all';
use utf8;

use JSON::PP;
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Browser qw(has_browser ask_page);
use Test::More;

plan skip_all => 'chromium is not installed' unless has_browser();
$ENV{TZ} = 'UTC';

# The page comes from a publisher, which needs no server for that; what it shows is made up.
my $directory = PostgreSQL::Test::Utils::tempdir();
my $begun = time;
my $publisher = Siphon::Publisher->new(ring_directory => "$directory/rings", nats_url => "file:$directory/files")->start;
my $answer = $publisher->get('/');
my $status = $publisher->status;
my $history = decode_json($publisher->get('/history')->{content});
cmp_ok($history->{started_at}, '>=', $begun - 1, 'the history begins when the publisher is started');
cmp_ok($history->{started_at}, '<=', time, 'and not later');
is($history->{kept_seconds}, 3600, 'an hour is kept');

# So many seconds before 14:02:00, a Monday in November.
my $end = 1_763_992_920;
my $sample = sub {
	my ($ago, %fields) = @_;

	return {
		at => $end - $ago, events_rate => 1234, raw_rate => 300 * 1024, published_rate => 2048, wal_rate => 0, lag_bytes => 5 * 1024 * 1024,
		lag_seconds => 95, ring_used => 0.25, latency_p50 => 0.012, latency_p99 => 0.034, %fields };
};
my $ask = sub {
	my ($name, $started_at, @samples) = @_;

	return ask_page($name, $answer,
		{ status => $status, history => { %$history, started_at => $started_at, samples => \@samples } }, <<'END');
const wait = milliseconds => new Promise(done => setTimeout(done, milliseconds));
for (let i = 0; i < 100 && !document.querySelector('figure'); i++) await wait(20);
said.span = $('span').textContent;
said.cut = $('cut').textContent;
for (const figure of document.querySelectorAll('figure')) {
  const caption = figure.querySelector('figcaption').textContent;
  said[caption.replace(/:.*/, '')] = {
    caption,
    y: [...figure.querySelectorAll('.y span')].map(label => label.textContent).join(' '),
    x: [...figure.querySelectorAll('.x span')].map(label => label.textContent).join(' '),
    parts: [...figure.querySelectorAll('path')].map(path => path.getAttribute('d').split('M').length - 1).join(),
    lines: [...figure.querySelectorAll('path')].map(path => getComputedStyle(path).strokeDasharray).join(),
    began: figure.querySelectorAll('.began').length,
    label: figure.querySelector('svg').getAttribute('aria-label')};
}
said.bytes = [0, 1, 999, 1023, 1024, 99.6 * 1024, 1023.9 * 1024, 512 * 1024 ** 2, 1024 ** 4].map(bytes);
said.counts = [0, 7, 999, 999.96, 12345, 999999].map(count);
said.times = [null, 0, 1.6e-7, 8.7e-5, 0.9996, 0.0123, 95, 150, 7300, 200000].map(time);
said.ends = [[0, kBytes], [3, kBytes], [600 * 1024, kBytes], [1010 * 1024, kBytes], [0.03, kTime], [58, kTime], [110, kTime], [7000, kTime],
  [1234, kCount]].map(([value, kind]) => scaled(roundUp(value, kind), kind));
END
};

# An hour, with a minute in which the publisher stood still, and some in which nothing was acknowledged.
my @latencies = (latency_p50 => 0, latency_p99 => 0);
my $said = $ask->(
	'charts-hour', $end - 86400,
	map { $sample->($_ * 5, $_ >= 100 && $_ < 150 ? @latencies : ()) } grep { $_ < 300 || $_ > 312 } reverse 0 .. 719);
is($said->{span}, 'The last hour, 13:02 to 14:02 UTC', 'the time that is shown');
is($said->{cut}, '', 'all of the hour is known');
my $figure = $said->{'commit-to-ack latency (p50, p99)'};
is($figure->{caption}, 'commit-to-ack latency (p50, p99): 12 ms, 34 ms (max 34 ms)', 'latency');
is($figure->{y}, '50 ms 25 ms 0 s', 'its axis');
is($figure->{x}, '13:02 13:32 14:02', 'its times');
is($figure->{parts}, '3,3', 'gaps where nothing was acknowledged, and where there are no samples');
is($figure->{lines}, 'none,4px, 3px', 'its lines differ by more than their colours');
is($figure->{began}, 0, 'no beginning');
is($figure->{label}, 'commit-to-ack latency (p50, p99), 13:02 to 14:02: now 12 ms, 34 ms, max 34 ms', 'and for those who hear it');
$figure = $said->{'replication lag (time)'};
is("$figure->{y} $figure->{parts}", '2 min 60 s 0 s 2', 'lag, in time');
is($said->{'replication lag (WAL bytes)'}{y}, '5 MB 2.5 MB 0 B', 'and in bytes');
is($said->{'ring usage (%)'}{y}, '100 % 50 % 0 %', 'the ring as a whole');
is($said->{'events/s'}{caption}, 'events/s: 1.23 k (max 1.23 k)', 'events');
is($said->{'bytes/s (before, after compression)'}{caption}, 'bytes/s (before, after compression): 300 kB, 2 kB (max 300 kB)', 'bytes');
is_deeply($said->{bytes}, [ '0 B', '1 B', '999 B', '1020 B', '1 kB', '99.6 kB', '1020 kB', '512 MB', '1 TB' ], 'numbers of bytes')
  or diag(explain($said->{bytes}));
is_deeply($said->{counts}, [ '0', '7', '999', '1 k', '12.3 k', '1 M' ], 'numbers') or diag(explain($said->{counts}));
is_deeply($said->{times}, [ '–', '0 s', '160 ns', '87 µs', '1 s', '12.3 ms', '95 s', '2.5 min', '2.03 h', '2.31 d' ], 'times')
  or diag(explain($said->{times}));
is_deeply($said->{ends}, [ '1 B', '5 B', '1000 kB', '1 MB', '50 ms', '60 s', '2 min', '2 h', '2 k' ], 'ends of axes') or diag(explain($said->{ends}));

# It was started ten minutes ago, and a minute ago.
$said = $ask->('charts-restart', $end - 601, map { $sample->($_ * 5) } reverse 0 .. 120);
is($said->{span}, 'The last 10 minutes, 13:52 to 14:02 UTC', 'less than an hour');
like($said->{cut}, qr/^The history begins at 13:51, when the publisher was started/, 'and why');
$said = $ask->('charts-start', $end - 61, map { $sample->($_ * 5) } reverse 0 .. 12);
is($said->{span}, 'The last 5 minutes, 13:57 to 14:02 UTC', 'not less than five minutes');
is($said->{'events/s'}{began}, 1, 'and the beginning in the charts');
$said = $ask->('charts-none', $end - 1);
like($said->{'events/s'}{caption}, qr/^events\/s: – \(max 0\)$/, 'no sample yet');
is($publisher->stop, 0, 'the publisher stops');

done_testing();
