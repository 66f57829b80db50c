# The page at / in a real browser: what it shows is what happened, on a wide and a narrow screen, light and dark, and it
# asks no other host for anything. Screenshots are kept beside the logs.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Browser qw(has_browser browse);
use Test::More;
use Time::HiRes qw(sleep);

plan skip_all => 'chromium is not installed' unless has_browser();

my $node = siphon_node('primary');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

$node->safe_psql(
	'postgres', q{
	CREATE TABLE issues (id bigint PRIMARY KEY, title text);
	CREATE TABLE "<img src=x onerror=document.title='hacked'>" (id bigint PRIMARY KEY);
	CREATE TABLE big (id bigint PRIMARY KEY, filler text);
	ALTER TABLE big ALTER filler SET STORAGE PLAIN;
	INSERT INTO big SELECT g, repeat('x', 1000) FROM generate_series(1, 20000) g});
add_table($node, 'issues');
add_table($node, q{"<img src=x onerror=document.title=''hacked''>"});

# A snapshot that takes its time, and changes meanwhile: the plots need some of the samples that are taken every five seconds.
$node->safe_psql('postgres', "ALTER SYSTEM SET siphon.snapshot_rate = '200kB'");
$node->reload;
add_table($node, 'big', snapshot => 'true');
$node->safe_psql('postgres', q{INSERT INTO "<img src=x onerror=document.title='hacked'>" VALUES (1)});
my $next = 0;
wait_until(
	'there are samples',
	sub {
		$next++;
		$node->safe_psql('postgres',
			"INSERT INTO issues SELECT $next * 1000 + g, repeat('title ', 20) FROM generate_series(1, 100 + 40 * ($next % 7)) g");
		sleep 0.2;
		return @{ JSON::PP::decode_json($publisher->get('/history')->{content})->{samples} } >= 6;
	});
wait_confirmed($node);
wait_until('the snapshot is under way',
	sub { grep { $_->{snapshot} && $_->{snapshot}{rows} > 0 } @{ $publisher->status->{tables} } });

my $page = $publisher->get('/')->{content};
unlike($page, qr{(?:src|href)="(?!data:)|url\(|//(?!www\.w3\.org/2000/svg)[a-z]+\.}, 'the page names no other host');

my %theme = (light => [], dark => ['--blink-settings=preferredColorScheme=0']);

for my $theme (sort keys %theme)
{
	for my $size ([ 'wide', '1280,1150' ], [ 'phone', '500,2700' ])
	{
		my $name = "status-$size->[0]-$theme";
		my $dom = browse($name, $publisher->url . '/', size => $size->[1], arguments => $theme{$theme});

		like($dom, qr{<title>Siphon main</title>}, "$name: no script from a table's name");
		like($dom, qr{class="state (?:good|warn)"[^>]*>replicating<}, "$name: it replicates");
		like($dom, qr{public\.issues</td>.*?data-label="inserts">[\d.]+ ?k?<}s, "$name: a table and its figures");
		like($dom, qr{public\.&lt;img src=x}, "$name: a name that would be HTML");
		like($dom, qr{public\.big</td>.*?>snapshot<div class="bar"[^>]*><i style="width:[\d.]+%"}s, "$name: a snapshot's bar");
		like($dom, qr{public\.big</td>.*?>changes held for [\d.]+ (?:s|min)<}s, "$name: since when changes are held");
		like($dom, qr{siphon_main</td><td data-label="retention">unlimited</td><td data-label="messages">[\d.]+ ?k?</td>}, "$name: a stream");
		like($dom, qr{siphon_main_held</td>.*?data-label="replicas">1<}s, "$name: that of held changes");
		like($dom, qr{<path[^>]* d="M[\d.]+ [\d.]+h0L}, "$name: a plot has a line");
		like($dom, qr{<b>decoder</b><span class="big">running<}, "$name: the decoder's state");
		like($dom, qr{<b>JetStream</b><span class="big">connected<}, "$name: the flow's end");
		like($dom, qr{>\Q$_\E: <span class="value">[\d.]+ (?:B|kB|MB|ns|µs|ms|s)<}, "$name: $_")
		  for 'retained WAL', 'WAL to decode', 'encode time p50', 'publish-to-ack p50';
		like($dom, qr{>WAL limit: <span class="value">none<}, "$name: the WAL limit");
		like($dom, qr{<figcaption>\Q$_\E: <b class="one">[^<]+</b>(?:, <b class="two">[^<]+</b>)? \(max [^<]*\d[^<]*\)<}, "$name: $_")
		  for 'commit-to-ack latency (p50, p99)', 'replication lag (time)', 'replication lag (WAL bytes)', 'ring usage (%)';
	}
}

$nats->kill9;
wait_until('it is noticed', sub { $publisher->get('/readyz')->{status} == 503 });
my $dom = browse('status-trouble', $publisher->url . '/');
like($dom, qr{>not ready<}, 'trouble: it says so');
like($dom, qr{<b>JetStream</b><span class="big">disconnected<}, 'trouble: where');
like($dom, qr{there is no connection to NATS.*Check that nats-server runs.*</div><code[^>]*>systemctl status nats-server</code>}s, 'trouble: what is wrong and what to do');
is($publisher->stop, 0, 'the publisher stops, whoever looks');

done_testing();
