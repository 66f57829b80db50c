# What is wrong around a decoder that works is told: that a table was made again, or the extension dropped; that no standby has a failover slot ready, and, of a standby that
# decodes, that its replay is paused or delayed, which lag counts too. Of rows of catalogs that the slot keeps the age is known.
use strict;
use warnings FATAL => 'all';

use JSON::PP;
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Failover;
use Test::More;

my $primary = siphon_node('primary');
my $nats = siphon_nats();
my $failover = $primary->pg_version >= 17;

$primary->safe_psql('postgres', 'CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)');
$primary->safe_psql('postgres', q{SELECT siphon_create_application(failover => true)}) if $failover;
add_table($primary, 't');
my $publisher = siphon_publisher($primary, $nats);
wait_until('the primary\'s publisher is ready', sub { $publisher->get('/readyz')->{status} == 200 });

sub check
{
	my ($node, $application) = @_;
	my $out = '';

	IPC::Run::run(
		[ 'siphon-publisher', 'check', '--application' => $application, '--ring-directory' => ring_directory($node), '--nats-url' => $nats->url ],
		'>', \$out);
	return $out;
}

sub reason
{
	my ($node, $application, $reason, $hint, $name) = @_;
	my $row = wait_until($name, sub { my $now = application($node, $application); return ($now->{reason} // '') =~ $reason ? $now : undef });

	is($row->{state}, 'streaming', "$name: it streams");
	like($row->{hint}, $hint, "$name: what to type");
	return;
}

sub lag
{
	my ($node, $application) = @_;

	return $node->safe_psql('postgres', "SELECT coalesce(extract(epoch FROM lag), -1) FROM siphon_stats WHERE application = '$application'");
}

# ---- the age of the slot's catalogs ----------------------------------------------------------------------------------

$primary->safe_psql('postgres', 'SELECT pg_current_xact_id()') for 1 .. 20;
my $age = wait_until('an age', sub { $publisher->metrics->{siphon_slot_catalog_xmin_age} });
cmp_ok($age, '>', 0, 'the age of the oldest rows of catalogs that the slot keeps is a metric');
cmp_ok($age, '<=', $primary->safe_psql('postgres', "SELECT age(catalog_xmin) + 100 FROM pg_replication_slots WHERE slot_name = 'siphon_main'"), 'and what PostgreSQL says');

# ---- a table that was made again -------------------------------------------------------------------------------------

$primary->safe_psql('postgres', 'CREATE TABLE again (id int PRIMARY KEY)');
add_table($primary, 'again');
wait_confirmed($primary);
$primary->safe_psql('postgres', 'DROP TABLE again');
wait_confirmed($primary);
is(application($primary)->{reason}, $failover ? 'no standby has its slot ready, so a failover would lose it' : undef, 'a table that was dropped is no reason');
$primary->safe_psql('postgres', 'CREATE TABLE again (id int PRIMARY KEY)');

sub problem
{
	my ($code) = @_;

	return (grep { $_->{code} eq $code } @{ $publisher->status->{problems} }) ? 1 : 0;
}

for my $when ('as it is made', 'after a restart of the decoder')
{
	wait_until("it is told $when", sub { check($primary, 'main') =~ /^wrong  a listed table was dropped, and another table has its name.*\n.*siphon_tables/m });
	wait_until("the publisher tells it $when", sub { problem('table_replaced') && $publisher->get('/readyz')->{status} == 200 });
	pass("another of its name, $when: it is told, and the others are published");
	my $pid = application($primary)->{decoder_pid};
	$primary->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	wait_until('another decoder streams', sub { my $row = application($primary); $row->{state} eq 'streaming' && ($row->{decoder_pid} // 0) != $pid });
}
add_table($primary, 'again');
wait_until('both are listed', sub { !problem('table_replaced') });
$primary->safe_psql('postgres', q{SELECT siphon_remove_table(relid) FROM siphon_tables WHERE table_name = 'again'});
pass('when it is added, nothing is told any more');

# ---- slots and applications that somebody left behind ----------------------------------------------------------------

$primary->safe_psql('postgres', q{SELECT pg_create_logical_replication_slot('siphon_left_behind', 'siphon')});
$primary->restart;
wait_until('the launcher tells of a slot', sub { slurp_file($primary->logfile) =~ /siphon: replication slot "siphon_left_behind" belongs to no application and retains WAL\n.*DETAIL.*\n.*HINT:  SELECT pg_drop_replication_slot\('siphon_left_behind'\)/ });
unlike(slurp_file($primary->logfile), qr/"siphon_main" belongs to no application/, 'of no other one');
$primary->safe_psql('postgres', q{SELECT pg_drop_replication_slot('siphon_left_behind')});

wait_for_state($primary, 'streaming');
$primary->safe_psql('postgres', 'DROP EXTENSION siphon');
wait_until('the extension is missed', sub { problem('no_extension') });
like($publisher->get('/readyz')->{content}, qr/^ready\n(.*\n)*warning: the database does not have the extension any more.*\n.*\n  CREATE EXTENSION siphon;/, 'so is how to end what it left');
$primary->safe_psql('postgres', 'CREATE EXTENSION siphon');
wait_until('the extension is there', sub { !problem('no_extension') });

if (!standby_supported($primary))
{
	done_testing();
	exit;
}

# ---- failover, and no standby ----------------------------------------------------------------------------------------

my $standby = siphon_standby($primary, 'standby', conf => "wal_receiver_status_interval = 1s\n" . ($failover ? failover_conf($primary, 'standby', sync => 0) : ''));

if ($failover)
{
	reason($primary, 'main', qr/no standby has its slot ready/, qr/sync_replication_slots = on/, 'a standby that synchronizes no slots');
	my $ready = $publisher->get('/readyz');
	is($ready->{status}, 200, 'changes are replicated');
	like($ready->{content}, qr/^ready\nwarning: no standby has the slot ready.*\n  On the standby, set sync_replication_slots/, 'and /readyz names it');
	ok((grep { $_->{code} eq 'no_standby_slot' && !$_->{unready} } @{ $publisher->status->{problems} }), 'so does /status');
	like(check($primary, 'main'), qr/^wrong  no standby has the slot ready/m, 'so does the check');
	$standby->safe_psql('postgres', $_) for 'ALTER SYSTEM SET sync_replication_slots = on', 'SELECT pg_reload_conf()';
	wait_synchronized($primary, $standby, 'siphon_main');
	wait_until('the primary knows', sub { !defined application($primary)->{reason} });
	wait_until('the publisher, too', sub { $publisher->get('/readyz')->{content} eq "ready\n" });
	pass('with the slot on a standby nothing is named');
}

# ---- a standby that decodes ------------------------------------------------------------------------------------------

add_table($standby, 'u', application => "'copy'", primary => $primary);
my $second = siphon_publisher($standby, $nats, application => 'copy', name => 'publisher-copy');
$primary->safe_psql('postgres', 'INSERT INTO u VALUES (10)');
wait_confirmed($standby, primary => $primary, application => 'copy');
wait_until('no lag', sub { my $lag = lag($standby, 'copy'); $lag >= 0 && $lag < 1 });
pass('without lag');

$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
$primary->safe_psql('postgres', 'INSERT INTO u VALUES (11)');
reason($standby, 'copy', qr/replay of WAL is paused on this standby/, qr/^SELECT pg_wal_replay_resume\(\);$/, 'paused replay');
wait_until('a lag that grows', sub { lag($standby, 'copy') > 2 });
cmp_ok(application($standby, 'copy')->{lag_bytes}, '>', 0, 'paused replay: there is WAL that is not acknowledged');
my $answer = $second->get('/readyz');
is($answer->{status}, 503, 'paused replay: nothing is replicated');
like($answer->{content}, qr/^not ready: replay of WAL is paused.*\n.*\n  SELECT pg_wal_replay_resume/, 'paused replay: /readyz says why');
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
wait_until('it is over', sub { !defined application($standby, 'copy')->{reason} && $second->get('/readyz')->{status} == 200 });
wait_until('the lag is gone', sub { my $lag = lag($standby, 'copy'); $lag >= 0 && $lag < 1 });
pass('replay goes on');

$standby->safe_psql('postgres', $_) for q{ALTER SYSTEM SET recovery_min_apply_delay = '3s'}, 'SELECT pg_reload_conf()';
reason($standby, 'copy', qr/recovery_min_apply_delay/, qr/ALTER SYSTEM SET recovery_min_apply_delay = 0/, 'delayed replay');
$primary->safe_psql('postgres', 'INSERT INTO u VALUES (12)');
wait_until('a lag as large', sub { lag($standby, 'copy') > 1.5 });
is($second->get('/readyz')->{status}, 200, 'delayed replay: changes are replicated');
wait_confirmed($standby, primary => $primary, application => 'copy');
wait_until('it is gone in between', sub { my $lag = lag($standby, 'copy'); $lag >= 0 && $lag < 1 });
pass('delayed replay: the lag shows it');

done_testing();
