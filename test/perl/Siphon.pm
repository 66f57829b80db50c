# What Siphon's TAP tests share: servers with siphon preloaded, a standby, nats-server and publisher beside them, and
# what Siphon::Published has for looking at what was published.
package Siphon;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use File::Temp;
use IPC::Run ();
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Siphon::Nats;
use Siphon::Published;
use Siphon::Publisher;
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = (qw(
  siphon_node siphon_standby siphon_publisher siphon_nats ring_directory standby_supported has_setting
  write_file create_access_method
  application wait_until wait_for_state wait_for_table wait_for_tables wait_confirmed add_table resync_application
  stop_decoder siphon_processes siphon_pids fails_with
  start_pgbench finish_pgbench stop_pgbench pgbench_runs
), @Siphon::Published::EXPORT);

# What a test dies of is to be seen where prove runs, not in its log alone.
my $test_pid = $$;
$SIG{__DIE__} = sub { diag("died: $_[0]") if $$ == $test_pid && defined $^S && !$^S };

# On a memory-backed file system, as the rings should be.
my $rings = File::Temp::tempdir('siphon-test-XXXXXX', DIR => -w '/dev/shm' ? '/dev/shm' : '/tmp', CLEANUP => 1);
my %ring_directory_of;

sub ring_directory
{
	my ($node) = @_;

	return $ring_directory_of{ $node->name };
}

# A server whose extension is built with a sanitizer needs its library before all others; see test/sanitized.mk.
if (my $library = $ENV{SIPHON_SERVER_PRELOAD})
{
	for my $name (qw(start restart))
	{
		no strict 'refs';
		no warnings 'redefine';
		my $method = \&{"PostgreSQL::Test::Cluster::$name"};

		*{"PostgreSQL::Test::Cluster::$name"} = sub {
			local $ENV{LD_PRELOAD} = $library;
			# What a process still has when it ends, its memory contexts have.
			local $ENV{ASAN_OPTIONS} = "$ENV{ASAN_OPTIONS}:detect_leaks=0";
			return $method->(@_);
		};
	}
}

# Is this a setting of the installed PostgreSQL? A server does not start with a core setting that it doesn't know.
my %has_setting;

sub has_setting
{
	my ($setting) = @_;

	return $has_setting{$setting} //= IPC::Run::run(
		[ 'postgres', '-D', $rings, '-c', 'config_file=/dev/null', '-C', $setting ],
		'>' => '/dev/null', '2>' => '/dev/null') ? 1 : 0;
}

# Logical decoding on a standby came with PostgreSQL 16.
sub standby_supported
{
	my ($node) = @_;

	return $node->pg_version >= 16;
}

sub siphon_conf
{
	my ($node, $parent) = @_;
	my $directory = ($parent // $rings) . '/' . $node->name;

	$ring_directory_of{ $node->name } = $directory;
	return join "\n",
	  "shared_preload_libraries = 'siphon'",
	  "siphon.ring_directory = '$directory'",
	  'siphon.ring_size = 1MB',
	  'siphon.flush_interval = 10ms',
	  'siphon.max_restart_delay = 1s',
	  'max_worker_processes = 12',
	  'max_connections = 30',
	  'max_prepared_transactions = 4',
	  'autovacuum = off',
	  'jit = off',
	  "timezone = 'UTC'",
	  has_setting('output_plugin_libraries') ? "output_plugin_libraries = 'siphon'" : ();
}

# A primary, started, with the extension in database postgres. Options: conf, further settings; preloaded, extension,
# start: false to go without; rings: where its ring directory is; install_path, see Siphon::Installation.
sub siphon_node
{
	my ($name, %options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name, $options{install_path} ? (install_path => $options{install_path}) : ());

	$node->init(allows_streaming => 'logical');
	$node->append_conf('postgresql.conf', siphon_conf($node, $options{rings}));
	$node->append_conf('postgresql.conf', "shared_preload_libraries = ''")
	  unless $options{preloaded} // 1;
	# Without the library its settings would be unknown, which is no error.
	$node->append_conf('postgresql.conf', $options{conf}) if $options{conf};
	return $node unless $options{start} // 1;
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION siphon') if $options{extension} // 1;
	return $node;
}

# A hot standby of the node, with a physical slot and feedback, started and caught up. Options: conf and rings, as above.
sub siphon_standby
{
	my ($primary, $name, %options) = @_;
	my $standby = PostgreSQL::Test::Cluster->new($name);

	$primary->backup("for_$name");
	$primary->safe_psql('postgres', "SELECT pg_create_physical_replication_slot('$name', true)");
	$standby->init_from_backup($primary, "for_$name", has_streaming => 1);
	$standby->append_conf('postgresql.conf', siphon_conf($standby, $options{rings}));
	$standby->append_conf('postgresql.conf', "primary_slot_name = '$name'\nhot_standby_feedback = on");
	$standby->append_conf('postgresql.conf', $options{conf}) if $options{conf};
	$standby->start;
	$primary->wait_for_catchup($standby);
	return $standby;
}

sub siphon_nats
{
	return Siphon::Nats->new(@_)->start;
}

# A publisher, started. Options as Siphon::Publisher's.
sub siphon_publisher
{
	my ($node, $nats, %options) = @_;

	return Siphon::Publisher->new(
		ring_directory => ring_directory($node),
		nats_url => $nats->url,
		%options)->start;
}

# Puts these bytes into a file, in place of what it has.
sub write_file
{
	my ($path, $content) = @_;

	open my $file, '>:raw', $path or die "$path: $!";
	print $file $content;
	close $file or die "$path: $!";
	return;
}

# Makes the access method "resembling" of the server's database postgres, which does what heap does and is another one. False
# where there is no C compiler.
sub create_access_method
{
	my ($node) = @_;
	my $directory = PostgreSQL::Test::Utils::tempdir();
	my $include = $node->config_data('--includedir-server');

	write_file("$directory/resembling.c", <<'C');
#include "postgres.h"
#include "access/heapam.h"
#include "access/tableam.h"
#include "fmgr.h"
PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(resembling_handler);
Datum resembling_handler(PG_FUNCTION_ARGS);
Datum
resembling_handler(PG_FUNCTION_ARGS)
{
	static TableAmRoutine routine;

	routine = *GetHeapamTableAmRoutine();
	PG_RETURN_POINTER(&routine);
}
C
	return 0 if system("cc -shared -fPIC -w -I$include -o $directory/resembling.so $directory/resembling.c") != 0;
	$node->safe_psql(
		'postgres', qq{
		CREATE FUNCTION resembling_handler(internal) RETURNS table_am_handler LANGUAGE c AS '$directory/resembling';
		CREATE ACCESS METHOD resembling TYPE TABLE HANDLER resembling_handler});
	return 1;
}

# ---- looking and waiting --------------------------------------------------------------------------------------------

# A row of siphon_applications, as a hash; empty if there is none.
sub application
{
	my ($node, $application) = @_;
	my $name = $application // 'main';
	my $json = $node->safe_psql('postgres', "SELECT to_json(a) FROM siphon_applications a WHERE application = '$name'");

	return $json eq '' ? {} : decode_json($json);
}

# siphon_resync_application() on a standby, where it waits for the primary's running transactions.
sub resync_application
{
	my ($standby, $primary) = @_;
	my $call = $standby->background_psql('postgres', on_error_stop => 0);

	$call->query_until(qr/called/, "\\echo called\nSELECT siphon_resync_application();\n");
	wait_until(
		'the application streams again',
		sub {
			$primary->safe_psql('postgres', 'SELECT pg_log_standby_snapshot()');
			return application($standby)->{state} eq 'streaming';
		});
	$call->quit;
	return;
}

# Stops the decoder where it waits with nothing locked, as one that is stopped elsewhere would keep others from what it
# holds. Returns its process ID, for a CONT.
sub stop_decoder
{
	my ($node, $application) = @_;
	my $pid;
	my $waits = sub {
		return $node->safe_psql('postgres',
			"SELECT wait_event_type = 'Extension' AND NOT EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid) FROM pg_stat_activity a WHERE pid = $pid") eq 't';
	};

	return wait_until(
		'the decoder is stopped where it waits',
		sub {
			$pid = application($node, $application)->{decoder_pid};
			return unless $pid && $waits->();
			kill 'STOP', $pid;
			return $pid if $waits->();
			kill 'CONT', $pid;
			return;
		});
}

# The processes of Siphon that the server runs, by the titles that they give themselves: the launcher is connected to no
# database, and pg_stat_activity does not show it.
sub siphon_processes
{
	my ($node) = @_;
	my %title_of = titles($node);

	return sort values %title_of;
}

# The process IDs of those with this title.
sub siphon_pids
{
	my ($node, $title) = @_;
	my %title_of = titles($node);

	return grep { $title_of{$_} eq $title } keys %title_of;
}

sub titles
{
	my ($node) = @_;
	my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	my ($out) = run_command([ 'ps', '-o', 'pid=,args=', '--ppid', $postmaster ]);

	return map { /^ *(\d+) .*: (siphon (?:launcher|decoder.*?)) *$/ ? ($1 => $2) : () } split /\n/, $out;
}

# Waits until the function returns something true, and returns that; dies with `what` after the usual time.
sub wait_until
{
	my ($what, $condition, $timeout) = @_;
	my $deadline = time + ($timeout // $PostgreSQL::Test::Utils::timeout_default);

	for (;;)
	{
		my $result = $condition->();

		return $result if $result;
		die "timed out waiting until $what" if time > $deadline;
		sleep 0.05;
	}
}

sub wait_for_state
{
	my ($node, $state, $application) = @_;
	my $row;

	return wait_until(
		"application " . ($application // 'main') . " is $state",
		sub {
			$row = application($node, $application);
			return ($row->{state} // 'gone') eq $state ? $row : undef;
		});
}

# Waits until the table is in this state (streaming), all tables if it is undefined. Options: after, in a later generation
# than this; application; database, where to ask. Returns the table's row of siphon_tables.
sub wait_for_table
{
	my ($node, $table, $state, %options) = @_;
	my $is = "state = '" . ($state // 'streaming') . "'" . (defined $options{after} ? " AND generation > $options{after}" : '');
	my $of = join ' AND ', 'true', defined $table ? "table_name = '$table'" : (),
	  $options{application} ? "application = '$options{application}'" : ();

	my $row = wait_until(
		($table // 'each table') . " has $is",
		sub {
			$node->safe_psql($options{database} // 'postgres',
				"SELECT CASE WHEN bool_and($is) THEN min(to_json(t)::text) END FROM siphon_tables t WHERE $of");
		});

	return decode_json($row);
}

# Waits until all tables stream. Options as above.
sub wait_for_tables
{
	my ($node, %options) = @_;

	wait_for_table($node, undef, 'streaming', %options);
	return;
}

# Waits until all that is committed on the primary now has been acknowledged by JetStream to the application on the
# node, which is the primary or its standby.
sub wait_confirmed
{
	my ($node, %options) = @_;
	my $primary = $options{primary} // $node;
	# What the WAL writer has flushed may end in the middle of a record, which nobody can decode before the rest is there.
	my $lsn = (split /\n/, $primary->safe_psql('postgres',
			"SELECT pg_logical_emit_message(true, 'flush', ''); SELECT pg_current_wal_flush_lsn()"))[-1];

	$node->poll_query_until('postgres',
			"SELECT confirmed_lsn >= '$lsn' FROM siphon_applications WHERE application = '"
		  . ($options{application} // 'main')
		  . "'")
	  or die "application " . ($options{application} // 'main') . " does not get to $lsn: "
	  . $node->safe_psql('postgres', 'SELECT to_json(a) FROM siphon_applications a');
	return $lsn;
}

# siphon_add_table() without the notice that there are no snapshots. Options: primary, for a standby, where the call
# waits for the primary's running transactions; database; and the function's own parameters, as text.
sub add_table
{
	my ($node, $table, %options) = @_;
	my $primary = delete $options{primary};
	my $database = delete $options{database} // 'postgres';
	my $arguments = join '', map { ", $_ => $options{$_}" } sort keys %options;
	my $snapshot = $options{snapshot} ? '' : ', snapshot => false';
	my $sql = "SELECT siphon_add_table('$table'$snapshot$arguments)";

	if ($primary)
	{
		wait_until("the standby has table $table", sub { $node->safe_psql($database, "SELECT to_regclass('$table')") ne '' });
		my $call = $node->background_psql($database, on_error_stop => 0);

		$call->query_until(qr/called/, "\\echo called\n$sql;\n");
		until ($node->safe_psql('postgres', "SELECT count(*) FROM siphon_tables WHERE relid = '$table'::regclass") > 0)
		{
			$primary->safe_psql('postgres', 'SELECT pg_log_standby_snapshot()');
			sleep 0.1;
		}
		$call->quit;
		return;
	}
	$node->safe_psql($database, $sql);
	return;
}

# Tests: the statement fails with this message, hint and, if given, detail, which are patterns. Returns all of stderr.
sub fails_with
{
	my ($node, $sql, $name, %expected) = @_;
	my ($code, $stdout, $stderr) = $node->psql('postgres', $sql, on_error_stop => 1);

	isnt($code, 0, "$name: refused");
	like($stderr, qr/ERROR:  $expected{error}/, "$name: message");
	like($stderr, qr/HINT:  $expected{hint}/, "$name: hint");
	like($stderr, qr/DETAIL:  $expected{detail}/, "$name: detail") if $expected{detail};
	return $stderr;
}

# pgbench in the background, with these scripts: name@weight => text. See finish_pgbench().
sub start_pgbench
{
	my ($node, $scripts, @arguments) = @_;
	my $directory = PostgreSQL::Test::Utils::tempdir();
	my $output = '';
	my @files;

	for my $name (sort keys %$scripts)
	{
		my $file = "$directory/" . ($name =~ s/@.*//r);

		append_to_file($file, $scripts->{$name});
		push @files, '-f', $file . ($name =~ /(@.*)/ ? $1 : '');
	}
	my @command = ('pgbench', '-n', '-h', $node->host, '-p', $node->port, @arguments, @files, 'postgres');

	return {
		output => \$output,
		run => IPC::Run::start(\@command, '<', \undef, '>', \$output, '2>', \$output)
	};
}

# Waits for its end; it must not have failed, unless so expected.
sub finish_pgbench
{
	my ($pgbench, %options) = @_;
	my $well = $pgbench->{run}->finish;

	die "pgbench failed: ${$pgbench->{output}}" unless $well || $options{fail_ok};
	return ${ $pgbench->{output} };
}

# Ends one that was given more time than it needs.
sub stop_pgbench
{
	my ($pgbench) = @_;

	die "pgbench has ended: ${$pgbench->{output}}" unless pgbench_runs($pgbench);
	$pgbench->{run}->signal('TERM');
	return finish_pgbench($pgbench, fail_ok => 1);
}

sub pgbench_runs
{
	my ($pgbench) = @_;

	# IPC::Run dies when it finds the end while it looks.
	return eval { $pgbench->{run}->pump_nb; $pgbench->{run}->pumpable };
}

1;
