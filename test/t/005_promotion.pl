# A standby is promoted while writers write: its decoder follows to the new timeline, and nothing that the new primary
# has is missing.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $primary = siphon_node('primary', preloaded => 0);
plan skip_all => 'logical decoding on a standby needs PostgreSQL 16'
  unless standby_supported($primary);

my $standby = siphon_standby($primary, 'standby');
my $nats = siphon_nats();

$primary->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v text)');
add_table($standby, 't', primary => $primary);
my $publisher = siphon_publisher($standby, $nats);

$primary->safe_psql('postgres', "INSERT INTO t (v) SELECT 'first' FROM generate_series(1, 100)");
wait_confirmed($standby, primary => $primary);
my $pid = application($standby)->{decoder_pid};

# The primary is stopped in the middle of the work; what the standby has received is what counts.
my $writers = start_pgbench(
	$primary,
	{ w => "INSERT INTO t (v) VALUES ('old');\nUPDATE t SET v = 'changed' WHERE id = 1 + :client_id;\n" },
	-c => 4, -T => 60);
$primary->poll_query_until('postgres', "SELECT count(*) > 1000 FROM t");
$primary->stop('immediate');
finish_pgbench($writers, fail_ok => 1);
$standby->promote;
is($standby->safe_psql('postgres', 'SELECT pg_is_in_recovery()'), 'f', 'the standby is promoted');

$standby->safe_psql('postgres', "INSERT INTO t (v) SELECT 'new' FROM generate_series(1, 100)");
$standby->safe_psql('postgres', "UPDATE t SET v = 'newer' WHERE v = 'new' AND id % 2 = 0");
wait_confirmed($standby);

my $row = application($standby);
is($row->{state}, 'streaming', 'the application goes on');
is($row->{decoder_pid}, $pid, 'with the same decoder');

my $events = replay($nats);
positions_increase($events, 'positions strictly increase across the timeline switch');
is_replica($events, $standby, 't', ['id'], 'the stream is the table of the new primary');
cmp_ok(scalar(grep { ($_->{columns}{v} // '') eq 'old' } @$events), '>=', 900, 'there was work in flight');

# A restart reads WAL of both timelines again.
$standby->restart;
$standby->safe_psql('postgres', "INSERT INTO t (v) VALUES ('after restart')");
wait_confirmed($standby);
is_replica(first_of_each(replay($nats)), $standby, 't', ['id'], 'and after a restart too');

done_testing();
