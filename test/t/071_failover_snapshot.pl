# The primary dies while rows are brought out, and soon after: on the new primary what was cut off starts over, with a
# greater generation, and what was done stays as it is.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Siphon::Failover;
use Siphon::Snapshot;
use Test::More;

my $primary = siphon_node('primary', conf => 'siphon.ring_size = 4MB');
plan skip_all => 'slots that standbys synchronize need PostgreSQL 17'
  if $primary->pg_version < 17;

my $nats = siphon_nats();
my $scripts = {
	small => "INSERT INTO small (v) VALUES (0);\n",
	big => "\\set id random(1, 6000)\nUPDATE big SET v = v + 1 WHERE id = :id;\n",
	waits => "\\set id random(1, 100)\nUPDATE waits SET v = v + 1 WHERE id = :id;\n" };

$primary->safe_psql(
	'postgres', q{
	CREATE TABLE small (id bigserial PRIMARY KEY, v bigint DEFAULT 0);
	CREATE TABLE big (id bigint PRIMARY KEY, v bigint, filler text);
	INSERT INTO big SELECT g, 0, repeat(md5(g::text), 10) FROM generate_series(1, 6000) g;
	CREATE TABLE waits (id bigint PRIMARY KEY, v bigint);
	INSERT INTO waits SELECT g, 0 FROM generate_series(1, 100) g;
	SELECT siphon_create_application('main', failover => true)});

# Kills the node under load, and promotes the standby. Returns the publisher beside that.
sub fail_over
{
	my ($node, $standby, $publisher, $writers) = @_;

	$node->stop('immediate');
	finish_pgbench($writers, fail_ok => 1);
	$publisher->stop;
	$standby->promote;
	return siphon_publisher($standby, $nats, name => "publisher-" . $standby->name);
}

# Phase and generation of a table, as the mirror has them.
sub mirrored
{
	my ($node, $table) = @_;

	return $node->safe_psql('postgres', qq{
		SELECT t ->> 'phase' || ' ' || (t ->> 'generation')
		  FROM siphon_registry, json_array_elements(content::json -> 'tables') t WHERE t ->> 'table' = '$table'});
}

# ---- in its middle -------------------------------------------------------------------------------------------------

my $standby = failover_standby($primary, 'standby');
set_and_reload($primary, 'synchronized_standby_slots' => 'standby');
my $publisher = siphon_publisher($primary, $nats);
add_table($primary, 'small', snapshot => 'true');
wait_for_table($primary, 'small');
wait_synchronized($primary, $standby, 'siphon_main');

my $writers = start_pgbench($primary, $scripts, -c => 3, -T => 120, '--rate' => 500);
slow_scans($primary);
$primary->safe_psql('postgres', "SELECT siphon_add_table('big'); SELECT siphon_add_table('waits')");
wait_for_scan($primary, 'big');
my $generation = table_state($primary, 'big')->{generation};

# The mirror of what is under way is on the standby before anything of it is published.
is(mirrored($standby, 'big'), "scanning $generation", 'the standby knows of a snapshot that is under way');
$publisher = fail_over($primary, $standby, $publisher, $writers);
wait_for_tables($standby);
cmp_ok(table_state($standby, 'big')->{generation}, '>', $generation, 'on the new primary it starts over with a greater generation');
finish_pgbench(start_pgbench($standby, $scripts, -c => 3, -t => 200));
wait_confirmed($standby);
is_replayed($nats, $standby, [ 'small', 'big', 'waits' ], 'the stream makes the tables', counter => 'v');

# ---- soon after its end --------------------------------------------------------------------------------------------

my $third = failover_standby($standby, 'third');
set_and_reload($standby, 'synchronized_standby_slots' => 'third', 'siphon.snapshot_rate' => '4MB');
wait_synchronized($standby, $third, 'siphon_main');

# From here on the slot of the standby stays behind: the time of the snapshot is decoded again.
set_and_reload($third, 'sync_replication_slots' => 'off');
$writers = start_pgbench($standby, $scripts, -c => 3, -T => 120, '--rate' => 500);
$generation = table_state($standby, 'big')->{generation};
$standby->safe_psql('postgres', "SELECT siphon_resync_table('big')");
wait_until('the resync is done', sub { mirrored($third, 'big') =~ /^streaming (\d+)/ && $1 > $generation });
$generation = table_state($standby, 'big')->{generation};
$publisher = fail_over($standby, $third, $publisher, $writers);
wait_for_tables($third);
is(table_state($third, 'big')->{generation}, $generation, 'a snapshot that was over is not begun again');
finish_pgbench(start_pgbench($third, $scripts, -c => 3, -t => 200));
wait_confirmed($third);
is_replayed($nats, $third, [ 'small', 'big', 'waits' ], 'the stream makes the tables of the third server', counter => 'v');

done_testing();
