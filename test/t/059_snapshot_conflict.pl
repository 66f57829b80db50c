# A snapshot on a hot standby is in the way of what the primary did, and after max_standby_streaming_delay it is
# cancelled. It says so and starts over, and others go on. (VACUUM is not, thanks to hot_standby_feedback.)
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Snapshot;
use Test::More;

my $primary = siphon_node('primary', preloaded => 0);
plan skip_all => 'logical decoding on a standby needs PostgreSQL 16'
  unless standby_supported($primary);

my $standby = siphon_standby($primary, 'standby', conf => 'max_standby_streaming_delay = 200ms');
my $nats = siphon_nats();
my $publisher = siphon_publisher($standby, $nats);

$primary->safe_psql(
	'postgres', q{
	CREATE TABLE big (id int PRIMARY KEY, v int, filler text);
	INSERT INTO big SELECT g, 0, repeat(md5(g::text), 10) FROM generate_series(1, 4000) g;
	CREATE TABLE other (id bigserial PRIMARY KEY, v text)});
$primary->wait_for_replay_catchup($standby);
add_table($standby, 'other', primary => $primary, snapshot => 'true');
wait_for_table($standby, 'other');

for my $conflict (
	[ 'ALTER TABLE', 'ALTER TABLE big ADD COLUMN added int DEFAULT 7' ],
	[ 'TRUNCATE', 'BEGIN; TRUNCATE big; INSERT INTO big SELECT g, 1, repeat(md5(g::text), 10) FROM generate_series(1, 4000) g; COMMIT' ])
{
	my ($what, $sql) = @$conflict;

	slow_scans($standby);
	$standby->safe_psql('postgres',
		"SELECT siphon_" . (table_state($standby, 'big')->{generation} ? 'resync' : 'add') . "_table('big')");

	my $generation = wait_for_scan($standby, 'big')->{generation};

	$primary->safe_psql('postgres', "UPDATE big SET v = v + 1 WHERE id % 100 = 1; INSERT INTO other (v) VALUES ('$what')");
	wait_confirmed($standby, primary => $primary);
	is(progress($standby, 'big')->{generation}, $generation, "$what: the scan is in its middle");
	$primary->safe_psql('postgres', $sql);

	my $row = wait_until("$what: the reason is told", sub { my $row = table_state($standby, 'big'); $row->{reason} ? $row : undef });

	like($row->{reason}, qr/canceling statement due to conflict with recovery: User was holding a relation lock for too long/, "$what: the snapshot is cancelled");
	$primary->safe_psql('postgres', "INSERT INTO other (v) VALUES ('$what')");
	wait_confirmed($standby, primary => $primary);
	pass("$what: what the primary did is replayed, and other tables go on");
	fast_scans($standby);
	cmp_ok(wait_for_table($standby, 'big')->{generation}, '>', $generation, "$what: the next one does it");
	$primary->safe_psql('postgres', 'UPDATE big SET v = v + 1 WHERE id % 100 = 2');
	is_clean($nats, $standby, $primary, 'big', ['id'], $what);
}

# Dropped in mid-scan.
slow_scans($standby);
$standby->safe_psql('postgres', "SELECT siphon_resync_table('big')");
wait_for_scan($standby, 'big');

my $relid = $primary->safe_psql('postgres', "SELECT 'big'::regclass::oid");

$primary->safe_psql('postgres', 'DROP TABLE big');
wait_until('the table is given up',
	sub { $standby->safe_psql('postgres', "SELECT state, reason FROM siphon_tables WHERE relid = $relid") eq 'dropped|the table does not exist any more' });
is($standby->safe_psql('postgres', 'SELECT count(*) FROM siphon_snapshot_progress'), '0', 'DROP TABLE: no snapshot is left');
ok(wait_until('nothing is held', sub { $nats->held <= 1 }), 'DROP TABLE: nothing is held');
$standby->safe_psql('postgres', "SELECT siphon_remove_table($relid)");
is($standby->safe_psql('postgres', 'SELECT string_agg(table_name, \' \') FROM siphon_tables'), 'other', 'DROP TABLE: it can be removed');

is_replayed($nats, $primary, ['other'], 'the other table has all');

done_testing();
