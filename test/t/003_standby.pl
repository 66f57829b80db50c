# On a hot standby all is as on a primary, and the primary runs nothing of Siphon. An idle primary makes
# siphon_add_table() wait; it says so, can be cancelled, and leaves nothing behind.
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

$primary->safe_psql(
	'postgres', q{
	CREATE TABLE issues (id bigint PRIMARY KEY, title text);
	CREATE TABLE parts (id int PRIMARY KEY, v text);
	INSERT INTO issues VALUES (1, 'before')});
is_deeply([ siphon_processes($primary) ], [], 'the primary runs no process of Siphon');
is_deeply([ siphon_processes($standby) ], ['siphon launcher'], 'the standby runs the launcher');

# A standby's snapshot builder begins at a record of running transactions, which an idle primary does not write.
$primary->wait_for_replay_catchup($standby);
my $slots = sub { $standby->safe_psql('postgres', 'SELECT count(*) FROM pg_replication_slots') };
my ($code, $stdout, $stderr) = $standby->psql('postgres',
	"SET statement_timeout = '2s'; SELECT siphon_add_table('issues', snapshot => false)");
isnt($code, 0, 'on a standby of an idle primary the call waits and can be cancelled');
like($stderr, qr/NOTICE:  .*"siphon_main" waits for the primary to log its running transactions/, 'it says what it waits for');
like($stderr, qr/HINT:  .*SELECT pg_log_standby_snapshot\(\)/, 'and what to do on the primary');
like($stderr, qr/canceling statement due to statement timeout/, 'the timeout ends it');
is($slots->(), '0', 'no slot is left behind');
ok(!glob($standby->data_dir . '/siphon/*'), 'no registry is left behind');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM siphon_applications'), '0', 'no application is left behind');

# This time the primary helps.
my $call = $standby->background_psql('postgres', on_error_stop => 0);
$call->query_until(qr/called/, "\\echo called\nSELECT siphon_add_table('issues', snapshot => false);\n\\echo added\n");
wait_until('the call waits for the primary', sub { $slots->() > 0 });
is($standby->safe_psql('postgres', 'SELECT count(*) FROM siphon_tables'), '0', 'while it waits the table is not there');
$primary->safe_psql('postgres', 'SELECT pg_log_standby_snapshot()');
$call->query_until(qr/done/, "\\echo done\n");
$call->quit;
is($standby->safe_psql('postgres', 'SELECT table_name, state FROM siphon_tables'), 'issues|streaming',
	'pg_log_standby_snapshot() lets it go on');

add_table($standby, 'parts', partitions => 4);
my $publisher = siphon_publisher($standby, $nats);
$primary->safe_psql(
	'postgres', q{
	INSERT INTO issues VALUES (2, 'two'), (3, 'three');
	UPDATE issues SET title = 'first' WHERE id = 1;
	UPDATE issues SET id = 20 WHERE id = 2;
	DELETE FROM issues WHERE id = 3;
	INSERT INTO parts SELECT g, 'v' FROM generate_series(1, 1000) g;
	UPDATE parts SET id = id + 10000 WHERE id % 2 = 0;
	DELETE FROM parts WHERE id % 10 = 5});
wait_confirmed($standby, primary => $primary);

my $events = replay($nats);
is_deeply(
	[ map { "$_->{operation} " . ($_->{columns}{id} // $_->{old}{id}) } grep { $_->{table} eq 'issues' } @$events ],
	[ 'INSERT 2', 'INSERT 3', 'UPDATE 1', 'UPDATE 20', 'DELETE 3' ],
	'changes on the primary arrive through the standby');
is_replica($events, $primary, 'parts', ['id'], 'and so do those of a table with partitions');
positions_increase($events, 'positions strictly increase on each subject');

# Messages are written on the primary, too: those of transactions, at their place, and those that are of none.
$primary->safe_psql(
	'postgres', q{
	BEGIN;
	INSERT INTO issues VALUES (4, 'with a message');
	SELECT pg_logical_emit_message(true, 'siphon.job', 'of it');
	SELECT pg_logical_emit_message(false, 'siphon.job', 'of none');
	COMMIT;
	BEGIN;
	SELECT pg_logical_emit_message(true, 'siphon.job', 'undone');
	ROLLBACK});
wait_confirmed($standby, primary => $primary);
my @lines = @{ replay($nats, messages => 1) };
my ($of_it) = grep { ($_->{columns}{id} // 0) == 4 && $_->{table} && $_->{table} eq 'issues' } @lines;
my @messages = grep { $_->{operation} eq 'MESSAGE' } @lines;
is_deeply([ map { $_->{content} } @messages ], [ 'of none', 'of it' ], 'logical messages of the primary arrive through the standby');
is($messages[1]{position}, $of_it->{position} =~ s{/1$}{/2}r, 'at their place in the transaction');

# A change does not wait for anything but itself: no poll of seconds stands between the primary and JetStream.
wait_confirmed($standby, primary => $primary);
my $row = wait_for_state($standby, 'streaming');
is($row->{tables}, 2, 'siphon_applications counts the tables');
ok($row->{publisher_attached}, 'and sees the publisher');
is($row->{database}, 'postgres', 'and the database');
is($row->{lag_bytes}, 0, 'and that nothing is behind');

# The catalog changes on the primary; the standby's decoder follows.
$primary->safe_psql(
	'postgres', q{
	ALTER TABLE issues ADD COLUMN state int DEFAULT 1;
	INSERT INTO issues VALUES (30, 'wide', 7);
	VACUUM FULL pg_class;
	INSERT INTO issues VALUES (31, 'after', 8)});
wait_confirmed($standby, primary => $primary);
is_deeply(
	[ map { "$_->{columns}{id} $_->{columns}{state}" } grep { exists $_->{columns}{state} } @{ replay($nats) } ],
	[ '30 7', '31 8' ],
	'a new column arrives with the rows that have it');

# A standby can't write; Siphon's functions do not need to.
$standby->safe_psql('postgres', "SELECT siphon_remove_table('parts')");
$primary->safe_psql('postgres', "INSERT INTO parts VALUES (-1, 'unseen'); INSERT INTO issues VALUES (32, 'seen', 9)");
wait_confirmed($standby, primary => $primary);
is(scalar(grep { $_->{table} eq 'parts' && ($_->{columns}{id} // 0) == -1 } @{ replay($nats) }),
	0, 'siphon_remove_table() works on a standby');

$standby->restart;
$primary->safe_psql('postgres', "INSERT INTO issues VALUES (33, 'after restart', 9)");
wait_confirmed($standby, primary => $primary);
is(scalar(grep { ($_->{columns}{id} // 0) == 33 } @{ first_of_each(replay($nats, table => 'public.issues')) }),
	1, 'streaming goes on after a restart of the standby');

$standby->safe_psql('postgres', "SELECT siphon_drop_application('main')");
is($slots->(), '0', 'siphon_drop_application() drops the slot on a standby');

done_testing();
