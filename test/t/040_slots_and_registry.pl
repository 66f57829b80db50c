# What an application stands on is taken from under it: its slot is replaced by somebody else's, its database is
# dropped, its registry is damaged. Each is a state that names its cause, the server stays up, nobody else's slot is
# touched, and what the hint says works at the first try.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $node = siphon_node('primary',
	conf => has_setting('output_plugin_libraries') ? "output_plugin_libraries = 'siphon, test_decoding'" : '');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

$node->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v text); CREATE DATABASE second');
$node->safe_psql('second', 'CREATE EXTENSION siphon; CREATE TABLE t (id bigserial PRIMARY KEY, v text)');

# Calls the function while the application has no decoder, and the launcher can't start one.
sub without_decoder
{
	my ($application, $function) = @_;
	my ($launcher) = siphon_pids($node, 'siphon launcher');
	my $pid = application($node, $application)->{decoder_pid};

	kill 'STOP', $launcher;
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)") if $pid;
	wait_until('no decoder runs', sub { !defined application($node, $application)->{decoder_pid} });
	$function->();
	kill 'CONT', $launcher;
	return;
}

sub slots
{
	return $node->safe_psql('postgres', 'SELECT slot_name, plugin, database FROM pg_replication_slots ORDER BY 1');
}

# ---- another slot under our slot's name -----------------------------------------------------------------------------

# A session that a crash of the server would end.
my $witness = $node->background_psql('postgres');

for my $case (
	[ 'another plugin', 'postgres', 'test_decoding' ],
	[ 'another database', 'second', 'siphon' ])
{
	my ($what, $database, $plugin) = @$case;
	my $foreign = "siphon_main|$plugin|$database";

	add_table($node, 't');
	without_decoder(
		'main',
		sub {
			$node->safe_psql('postgres', "SELECT pg_drop_replication_slot('siphon_main')");
			$node->safe_psql($database, "SELECT pg_create_logical_replication_slot('siphon_main', '$plugin')");
		});
	$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('foreign')");

	my $row = wait_for_state($node, 'failed');

	like($row->{reason}, qr/replication slot "siphon_main" cannot be used: another slot was created under its name/,
		"$what: the reason");
	like($row->{hint}, qr/SELECT siphon_drop_application\('main'\)/, "$what: the hint");
	is(slots(), $foreign, "$what: the slot is left alone");
	$node->safe_psql('postgres', "SELECT siphon_drop_application('main')");
	is(slots(), $foreign, "$what: also by siphon_drop_application()");
	is_deeply(application($node), {}, "$what: the application is gone");
	fails_with(
		$node, "SELECT siphon_add_table('t', snapshot => false)", "$what: adding the table again",
		error => '.*"siphon_main"',
		hint => '.*siphon_main');
	is(slots(), $foreign, "$what: adding a table leaves it alone too");
	$node->safe_psql($database, "SELECT pg_drop_replication_slot('siphon_main')");
}
is($witness->query_safe('SELECT 1'), '1', 'the server stayed up');
$witness->quit;

add_table($node, 't');
$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('ours')");
wait_confirmed($node);
is_deeply([ map { $_->{columns}{v} } @{ replay($nats) } ], ['ours'], 'when the name is free again, events flow');
$node->safe_psql('postgres', "SELECT siphon_drop_application('main')");

# ---- our slot is moved ----------------------------------------------------------------------------------------------

$node->safe_psql('postgres', 'CREATE TABLE moved (id int PRIMARY KEY)');
add_table($node, 'moved');
my $moved = 0;
my $insert = sub { $moved++; $node->safe_psql('postgres', "INSERT INTO moved VALUES ($moved)") };
my $advance = sub { $insert->(); $node->safe_psql('postgres', "SELECT pg_replication_slot_advance('siphon_main', pg_current_wal_lsn())") };

# Where nobody does, no crash and no stop looks like it.
$insert->();
$node->stop('immediate');
$node->start;
$insert->();
wait_confirmed($node);
$node->safe_psql('postgres', "SELECT siphon_stop_application('main')");
$insert->();
$node->restart;
$node->safe_psql('postgres', "SELECT siphon_start_application('main')");
wait_confirmed($node);
is(join(' ', map { $_->{columns}{id} } @{ replay($nats, table => 'public.moved') }), '1 2 3', 'nobody moved the slot: all is there');

for my $what ('while the decoder is started again', 'while the application is stopped')
{
	if ($what =~ /stopped/)
	{
		$node->safe_psql('postgres', "SELECT siphon_stop_application('main')");
		$advance->();
		$node->restart;
		$node->psql('postgres', "SELECT siphon_start_application('main')");
	}
	else
	{
		without_decoder('main', $advance);
	}
	my $row = wait_for_state($node, 'failed');

	like($row->{reason}, qr{^replication slot "siphon_main" was moved from [0-9A-F]+/[0-9A-F]+ to [0-9A-F]+/[0-9A-F]+ by another session, and what was committed in between is not published$},
		"the slot is moved $what: the reason");
	is($row->{hint}, "Run SELECT siphon_resync_application('main') to create a new slot and take new snapshots of its tables.", "the slot is moved $what: the hint");
	$node->restart;
	wait_for_state($node, 'failed');
	$node->safe_psql('postgres', "SELECT siphon_resync_application('main')");
	wait_for_table($node, 'moved');
	$insert->();
	wait_confirmed($node);
	is((replay($nats, table => 'public.moved'))->[-1]{columns}{id}, $moved, "the slot is moved $what: what the hint says begins anew");
}
$node->safe_psql('postgres', "SELECT siphon_drop_application('main')");

# ---- the database is dropped ----------------------------------------------------------------------------------------

for my $failed (0, 1)
{
	my $what = 'database dropped while the decoder ' . ($failed ? 'had failed' : 'was to be started again');

	add_table($node, 't', application => "'orphan'", database => 'second');
	without_decoder(
		'orphan',
		sub {
			$node->safe_psql('postgres', "SELECT pg_drop_replication_slot('siphon_orphan')") if $failed;
			$node->safe_psql('postgres', 'DROP DATABASE second') unless $failed;
		});
	if ($failed)
	{
		wait_for_state($node, 'failed', 'orphan');
		$node->safe_psql('postgres', 'DROP DATABASE second');
	}
	my $row = wait_for_state($node, 'failed', 'orphan');

	is(slots(), '', "$what: the slot went with it");
	like($row->{reason}, qr/replication slot "siphon_orphan" cannot be used: it does not exist any more/, "$what: the reason");
	is($node->safe_psql('postgres', "SELECT state FROM siphon_tables WHERE application = 'orphan'"), 'failed',
		"$what: siphon_tables shows its table");
	$node->safe_psql('postgres', "SELECT siphon_drop_application('orphan')");
	is_deeply(application($node, 'orphan'), {}, "$what: it can be dropped from another database");
	is_deeply([ glob($node->data_dir . '/siphon/orphan*') ], [], "$what: and leaves no file");

	$node->safe_psql('postgres', 'CREATE DATABASE second');
	$node->safe_psql('second', 'CREATE EXTENSION siphon; CREATE TABLE t (id bigserial PRIMARY KEY, v text)');
}

# A database that is there keeps its applications.
add_table($node, 't', application => "'orphan'", database => 'second');
fails_with(
	$node, "SELECT siphon_drop_application('orphan')", 'dropping the application of another database',
	error => 'application "orphan" belongs to database "second"',
	hint => '.*second');
$node->safe_psql('second', "SELECT siphon_drop_application('orphan')");

# ---- a damaged registry, mended as the hint says --------------------------------------------------------------------

my $file = $node->data_dir . '/siphon/main.registry';

add_table($node, 't');
without_decoder(
	'main',
	sub {
		my $content = slurp_file($file);

		substr($content, 100, 1) ^= "\x01";
		open my $out, '>:raw', $file or die "$file: $!";
		print $out $content;
		close $out or die "$file: $!";
	});
my $row = wait_until('the hint is there', sub { my $row = application($node); $row->{hint} ? $row : undef });
like($row->{reason}, qr/registry file "siphon\/main.registry" is damaged/, 'damaged registry: the reason');
like($row->{hint}, qr/remove it, drop its replication slot with pg_drop_replication_slot\(\), and add the tables again/,
	'damaged registry: the hint');
unlink $file or die "$file: $!";
$node->safe_psql('postgres', "SELECT pg_drop_replication_slot('siphon_main')");
my ($code, $stdout, $stderr) = $node->psql('postgres', "SELECT siphon_add_table('t', snapshot => false)", timeout => 60);
is($code, 0, 'damaged registry: what the hint says works at the first try') or diag($stderr);
unlike($stderr // '', qr/WARNING/, 'damaged registry: without a warning');
is(application($node)->{state}, 'streaming', 'damaged registry: the application streams');
$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('mended')");
wait_confirmed($node);
is(replay($nats)->[-1]{columns}{v}, 'mended', 'damaged registry: and its events arrive');

done_testing();
