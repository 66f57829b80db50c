# A scan that waits for the publisher holds no page: VACUUM, as replay on a standby, needs pages for itself and does not wait.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Siphon::Snapshot;
use Test::More;
use Time::HiRes qw(time);

my $node = siphon_node('primary', conf => 'siphon.ring_size = 64kB');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

$node->safe_psql(
	'postgres', q{
	CREATE TABLE big (id int PRIMARY KEY, v int, filler text);
	INSERT INTO big SELECT g, 0, repeat(md5(g::text), 10) FROM generate_series(1, 3000) g});

# Its ring is full, and nobody empties it.
slow_scans($node);
$node->safe_psql('postgres', "SELECT siphon_add_table('big', workers => 1)");
wait_for_scan($node, 'big', 1);
$publisher->pause;
fast_scans($node);
my ($before, $since);
wait_until(
	'the scan stands still',
	sub {
		my $bytes = progress($node, 'big')->{bytes};

		($before, $since) = ($bytes, time) if !defined $before || $bytes != $before;
		return time - $since >= 1;
	});
$node->safe_psql('postgres', "SET statement_timeout = '20s'; VACUUM (FREEZE, DISABLE_PAGE_SKIPPING) big");
pass('VACUUM gets each page');
is(progress($node, 'big')->{bytes}, $before, 'while the scan stands');

$publisher->resume;
wait_for_table($node, 'big');
$node->safe_psql('postgres', 'UPDATE big SET v = v + 1 WHERE id % 100 = 1');
is_clean($nats, $node, $node, 'big', ['id'], 'each row comes once');

done_testing();
