# The primary dies and its standby is promoted: an application with a failover slot goes on there, from the slot that
# PostgreSQL synchronized and the registry that came in a table. Nothing is published before the standby has it.
use strict;
use warnings FATAL => 'all';

use JSON::PP;
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Failover;
use Test::More;

my $primary = siphon_node('primary');

if ($primary->pg_version < 17)
{
	fails_with(
		$primary,
		"SELECT siphon_create_application('main', failover => true)",
		'before 17',
		error => 'slots that standbys synchronize need PostgreSQL 17 or later',
		hint => qr/SELECT siphon_create_application\('main'\) without failover/);
	is($primary->safe_psql('postgres', 'SELECT count(*) FROM pg_replication_slots'), '0', 'no slot is left behind');
	done_testing();
	exit;
}

my $nats = siphon_nats();

$primary->safe_psql('postgres', q{
	CREATE TABLE t (id bigserial PRIMARY KEY, v bigint DEFAULT 0);
	CREATE TABLE u (id bigint PRIMARY KEY, v bigint DEFAULT 0, w text);
	INSERT INTO t SELECT FROM generate_series(1, 1000);
	INSERT INTO u SELECT g, 0, repeat(md5(g::text), 10) FROM generate_series(1, 1000) g});

# ---- it is created -------------------------------------------------------------------------------------------------

my ($code, $stdout, $stderr) = $primary->psql('postgres', "SELECT siphon_create_application('warned', failover => true)");
is($code, 0, 'an application with failover is created');
like($stderr, qr/WARNING:  "synchronized_standby_slots" is empty/, 'with a warning where nobody is waited for');
like($stderr, qr/HINT:  ALTER SYSTEM SET synchronized_standby_slots/, 'and what to do');
is($primary->safe_psql('postgres', "SELECT failover FROM pg_replication_slots WHERE slot_name = 'siphon_warned'"), 't', 'its slot has failover');
is_mirrored($primary, 'warned', 'its registry is mirrored');
$primary->safe_psql('postgres', "SELECT siphon_drop_application('warned')");
is($primary->safe_psql('postgres', 'SELECT count(*) FROM siphon_registry'), '0', 'when it is dropped, so is its mirror');

my $standby = failover_standby($primary, 'standby');
$primary->append_conf('postgresql.conf', "synchronized_standby_slots = 'standby'");
$primary->reload;
$primary->safe_psql('postgres', "SELECT siphon_create_application('main', failover => true); SELECT siphon_create_application('plain')");
my $publisher = siphon_publisher($primary, $nats);
add_table($primary, 't', snapshot => 'true');
add_table($primary, 'u', snapshot => 'true', partitions => 3);
add_table($primary, 't', application => "'plain'");
wait_for_tables($primary);
is_mirrored($primary, 'main', 'the mirror follows the registry');
is_deeply(
	[ map { $_->{table} } @{ decode_json(mirror_of($primary, 'main'))->{tables} } ],
	[ 't', 'u' ],
	'it names the tables');
is($primary->safe_psql('postgres', "SELECT count(*) FROM siphon_registry"), '1', 'an application without failover has none');
fails_with($primary, "SELECT siphon_add_table('siphon_registry')", 'the mirror', error => '"siphon_registry" is a table of siphon itself', hint => '.*');
my ($role_code, $role_out, $role_err) = $primary->psql('postgres', 'CREATE ROLE nobody; SET ROLE nobody; SELECT * FROM siphon_registry');
like($role_err, qr/permission denied for table siphon_registry/, 'nobody else may read it');

# The decoder's transactions count for others like any. (Those of a process that decodes do not, unless it says so: then
# readers take what is being written for aborted.)
$primary->safe_psql('postgres', 'CREATE TABLE often (id int PRIMARY KEY)');
my @busy = (
	start_pgbench($primary, { write => "INSERT INTO t (v) VALUES (0);\n" }, -c => 2, -T => 4),
	start_pgbench($primary, { look => "SELECT 1 / count(*) FROM siphon_registry;\n" }, -c => 2, -T => 4),
	start_pgbench(
		$primary,
		{ change => "SELECT siphon_add_table('often', snapshot => false);\nSELECT siphon_remove_table('often');\n" },
		-c => 1, -T => 3));
finish_pgbench($_) for @busy;
is(application($primary)->{restarts}, 0, 'the mirror is written while others write and look at it');
is_mirrored($primary, 'main', 'and is what it should be');

# ---- the standby rests ---------------------------------------------------------------------------------------------

wait_synchronized($primary, $standby, 'siphon_main');
$primary->wait_for_replay_catchup($standby);
my $row = application($standby);
is($row->{state}, 'standby', 'on the standby the application rests');
is($row->{slot_name}, 'siphon_main', 'its slot is named');
is($row->{tables}, 2, 'and its tables counted');
is_deeply([ siphon_processes($standby) ], ['siphon launcher'], 'and no decoder runs');
fails_with(
	$standby, $_, $_,
	error => 'application "main" is published by the primary, and this is a standby',
	hint => 'Call the function on the primary, or choose another application identifier')
  for q{SELECT siphon_add_table('t')}, q{SELECT siphon_drop_application('main')};
fails_with(
	$standby, q{SELECT siphon_create_application('other', failover => true)}, 'failover on a standby',
	error => q{an application with failover cannot be created on a standby},
	hint => qr/On the primary: SELECT siphon_create_application\('other', failover => true\)/);

# ---- nothing is published before the standby has it ----------------------------------------------------------------

sub has_come
{
	my ($value) = @_;

	return scalar grep { ($_->{columns}{v} // 0) == $value } @{ replay($nats, table => 'public.t') };
}

wait_confirmed($primary);
$standby->stop;
$primary->safe_psql('postgres', 'INSERT INTO t (v) VALUES (-1)');
$row = wait_until('it says what it waits for', sub { my $now = application($primary); return ($now->{reason} // '') =~ /it waits/ ? $now : undef });
like($row->{reason}, qr/waits until the standbys of synchronized_standby_slots \(standby\) have WAL up to/, 'while the standby is away the decoder says that it waits');
is($row->{state}, 'streaming', 'it still streams');
wait_until('the lag grows', sub { $primary->safe_psql('postgres', "SELECT lag > '2 s' FROM siphon_stats WHERE application = 'main'") eq 't' });
pass('what was committed lags behind');
is(has_come(-1), 0, 'and nothing is published that the standby does not have');
like(slurp_file($primary->logfile), qr/siphon: application "main": it waits until the standbys/, 'the log says so, too');
like(slurp_file($primary->logfile), qr/WARNING: .*"standby" specified in parameter "synchronized_standby_slots" does not have active_pid/, 'and so does PostgreSQL');
$primary->safe_psql('postgres', "SELECT siphon_add_table('u', 'plain', snapshot => false)");
pass('an application without failover does not wait');
$standby->start;
wait_confirmed($primary);
is(has_come(-1), 1, 'when the standby is back, it comes');
wait_until('the primary knows that the standby has the slot', sub { !defined application($primary)->{reason} });
pass('and nothing is waited for');
wait_until('the lag is gone', sub { $primary->safe_psql('postgres', "SELECT lag < '2 s' FROM siphon_stats WHERE application = 'main'") eq 't' });
pass('and nothing lags behind');

# ---- the table of now ----------------------------------------------------------------------------------------------

# A message that belongs to no transaction is handed out with the catalogs of its time, when the table was another one.
$publisher->stop;
$primary->safe_psql('postgres', "SELECT pg_logical_emit_message(false, 'siphon.large', repeat('x', 3000000))");
wait_until('the decoder waits in the message', sub { my $now = application($primary); $now->{ring_used} > $now->{ring_size} / 2 });
$primary->safe_psql('postgres', 'DROP EXTENSION siphon; CREATE EXTENSION siphon');
add_table($primary, 'often');
$publisher->start;
is_mirrored($primary, 'main', 'the mirror is written into the table of now, while what is decoded knows another');
wait_confirmed($primary);
is(application($primary)->{restarts}, 0, 'and the decoder went on');
$primary->safe_psql('postgres', "SELECT siphon_remove_table('often')");

# ---- the primary dies ----------------------------------------------------------------------------------------------

my $scripts = {
	insert => "INSERT INTO t (v) VALUES (0);\n",
	update => "\\set id random(1, 1000)\nBEGIN;\nUPDATE t SET v = v + 1 WHERE id = :id;\nUPDATE u SET v = v + 1 WHERE id = :id;\nCOMMIT;\n",
	delete => "\\set id random(1, 1000)\nDELETE FROM u WHERE id = :id;\nINSERT INTO u VALUES (:id) ON CONFLICT DO NOTHING;\n" };
my $writers = start_pgbench($primary, $scripts, -c => 4, -T => 60);

$primary->poll_query_until('postgres', 'SELECT sum(v) > 500 FROM u');
wait_synchronized($primary, $standby, 'siphon_main');
$primary->stop('immediate');
finish_pgbench($writers, fail_ok => 1);
$publisher->stop;
my $offset = -s $standby->logfile;
$standby->promote;

my $second = siphon_publisher($standby, $nats, name => 'publisher-second');
wait_for_state($standby, 'streaming');
like(slurp_file($standby->logfile, $offset), qr/siphon: the registry of application "main" was taken from the table siphon_registry/,
	'after the promotion the mirror is taken');
$row = application($standby);
is($row->{tables}, 2, 'with its tables');
is($standby->safe_psql('postgres', "SELECT count(*) FROM siphon_applications WHERE application = 'plain'"), '0', 'one without failover does not come over');
finish_pgbench(start_pgbench($standby, $scripts, -c => 4, -t => 300));
wait_confirmed($standby);
is_replayed($nats, $standby, [ 't', 'u' ], 'the stream makes the tables of the new primary', counter => 'v');
is_mirrored($standby, 'main', 'the new primary mirrors its registry');
my $generation = $standby->safe_psql('postgres', "SELECT generation FROM siphon_tables WHERE table_name = 't'");
$standby->safe_psql('postgres', "SELECT siphon_resync_table('t')");
wait_for_table($standby, 't', 'streaming', after => $generation);
pass('a new snapshot there has a greater generation');

# ---- the old primary is built anew as a standby --------------------------------------------------------------------

# A base backup has the registry's file; the slot is synchronized again.
my $third = failover_standby($standby, 'third');
ok(-e $third->data_dir . '/siphon/main.registry', 'a base backup has the registry');
wait_for_state($third, 'standby');
is_deeply([ siphon_processes($third) ], ['siphon launcher'], 'a standby with a registry does not decode');
$standby->append_conf('postgresql.conf', "synchronized_standby_slots = 'third'");
$standby->reload;

# What is changed after the backup comes in the mirror.
$standby->safe_psql('postgres', 'CREATE TABLE later (id bigserial PRIMARY KEY, v bigint DEFAULT 0); INSERT INTO later SELECT FROM generate_series(1, 100)');
add_table($standby, 'later', snapshot => 'true');
wait_for_tables($standby);
wait_synchronized($standby, $third, 'siphon_main');
ok(wait_until('it says why', sub { (application($third)->{reason} // '') =~ /its slot is synchronized from the primary/ }), 'it says why');
is_mirrored($standby, 'main', 'the mirror is written');
$writers = start_pgbench($standby, { %$scripts, later => "INSERT INTO later DEFAULT VALUES;\n" }, -c => 4, -T => 60);
$standby->poll_query_until('postgres', 'SELECT count(*) > 500 FROM later');
$standby->stop('immediate');
finish_pgbench($writers, fail_ok => 1);
$second->stop;
$third->promote;

my $last = siphon_publisher($third, $nats, name => 'publisher-third');
wait_for_state($third, 'streaming');
is($third->safe_psql('postgres', "SELECT string_agg(table_name, ' ' ORDER BY table_name) FROM siphon_tables"),
	'later t u', 'the mirror counts where it was changed later than the file');
finish_pgbench(start_pgbench($third, $scripts, -c => 4, -t => 100));
wait_confirmed($third);
is_replayed($nats, $third, [ 't', 'u', 'later' ], 'the stream makes the tables after a second failover', counter => 'v');

done_testing();
