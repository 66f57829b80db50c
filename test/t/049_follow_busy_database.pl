# Whoever follows a publication waits for nobody's lock with what others need, says nothing of tables that are gone, and
# looks again at what it left out when that has changed.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

$node->safe_psql(
	'postgres', q{
	CREATE TABLE a (id int PRIMARY KEY);
	CREATE TABLE b (id int PRIMARY KEY);
	CREATE TABLE keyless (id int);
	CREATE PUBLICATION p FOR ALL TABLES;
	SELECT siphon_follow_publication('p')});

sub tables_are
{
	my ($expected, $name) = @_;
	my $tables;

	eval {
		wait_until($name, sub {
			$tables = $node->safe_psql('postgres', "SELECT string_agg(table_name || ' ' || state, ', ' ORDER BY table_name) FROM siphon_tables");
			return $tables eq $expected;
		});
	};
	is($tables, $expected, $name);
	return;
}

tables_are('a streaming, b streaming, keyless left out', 'the tables of the publication');

# ---- locked ----

my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; LOCK TABLE a');
$node->safe_psql('postgres', 'CREATE TABLE c (id int PRIMARY KEY)');
tables_are('a streaming, b streaming, c streaming, keyless left out', 'a table enters while another one is locked');
$locker->query_safe('COMMIT');

# The follower sees the table when it is locked already.
my $pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'siphon follower'");
kill 'STOP', $pid;
$node->safe_psql('postgres', 'CREATE TABLE d (id int PRIMARY KEY); CREATE TABLE e (id int PRIMARY KEY)');
$locker->query_safe('BEGIN; LOCK TABLE d');
kill 'CONT', $pid;
tables_are('a streaming, b streaming, c streaming, d left out, e streaming, keyless left out', 'one that is locked itself is left out for now');
is($node->safe_psql('postgres', "SELECT reason FROM siphon_tables WHERE table_name = 'd'"), 'another session has it locked; siphon tries again', 'and why');
for my $call (q{siphon_resync_table('b')}, q{siphon_alter_table('c', workers => 2)})
{
	is($node->psql('postgres', "SET statement_timeout = '20s'; SELECT $call"), 0, "$call does not wait for that");
}
$locker->query_safe('COMMIT');
$locker->quit;
tables_are('a streaming, b streaming, c streaming, d streaming, e streaming, keyless left out', 'it enters when it is not locked any more');

# ---- left out, and mended ----

my $offset = -s $node->logfile;
$node->safe_psql('postgres', 'CREATE TABLE keyless_too (id int)');
tables_are('a streaming, b streaming, c streaming, d streaming, e streaming, keyless left out, keyless_too left out', 'another one is left out');
$node->log_check('what is left out is said once', $offset,
	log_like => [qr/table "public.keyless_too" is left out/],
	log_unlike => [qr/table "public.keyless" is left out/]);
$node->safe_psql('postgres', 'ALTER TABLE keyless ADD PRIMARY KEY (id); DROP TABLE keyless_too');
tables_are('a streaming, b streaming, c streaming, d streaming, e streaming, keyless streaming', 'one that is mended enters');

# ---- dropped at once ----

$offset = -s $node->logfile;
$node->safe_psql('postgres', "CREATE TABLE gone_$_ (id int PRIMARY KEY)"), $node->safe_psql('postgres', "DROP TABLE gone_$_") for 1 .. 40;
tables_are('a streaming, b streaming, c streaming, d streaming, e streaming, keyless streaming', 'tables come and go');
$node->log_check('the log has no nameless tables, no hints that are refused, no errors of processes', $offset,
	log_unlike => [ qr/table "\."/, qr/siphon_remove_table/, qr/ERROR:  the table does not exist any more/, qr/exited with exit code 1/ ]);
$node->safe_psql('postgres', 'INSERT INTO a VALUES (1)');
wait_confirmed($node);
is_replayed($nats, $node, ['a'], 'changes come');

done_testing();
