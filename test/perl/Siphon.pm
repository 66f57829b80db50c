# What Siphon's TAP tests share: servers with siphon preloaded, a standby, nats-server and publisher beside them,
# and ways to read back what was published and to hold it against the tables.
package Siphon;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use File::Temp;
use IPC::Run ();
use JSON::PP;
use List::Util qw(min);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Siphon::Nats;
use Siphon::Publisher;
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(
  siphon_node siphon_standby siphon_publisher siphon_nats ring_directory standby_supported has_setting
  application wait_until wait_for_state wait_confirmed add_table replay first_of_each fold table_rows
  siphon_processes siphon_pids is_replica positions_increase fails_with start_pgbench finish_pgbench pgbench_runs
);

# On a memory-backed file system, as the rings should be.
my $rings = File::Temp::tempdir('siphon-test-XXXXXX', DIR => -w '/dev/shm' ? '/dev/shm' : '/tmp', CLEANUP => 1);
my %ring_directory_of;

sub ring_directory
{
	my ($node) = @_;

	return $ring_directory_of{ $node->name };
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
	my ($node) = @_;
	my $directory = "$rings/" . $node->name;

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
# start: false to go without.
sub siphon_node
{
	my ($name, %options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(allows_streaming => 'logical');
	$node->append_conf('postgresql.conf', siphon_conf($node));
	$node->append_conf('postgresql.conf', "shared_preload_libraries = ''")
	  unless $options{preloaded} // 1;
	# Without the library its settings would be unknown, which is no error.
	$node->append_conf('postgresql.conf', $options{conf}) if $options{conf};
	return $node unless $options{start} // 1;
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION siphon') if $options{extension} // 1;
	return $node;
}

# A hot standby of the node, with a physical slot and feedback, started and caught up.
sub siphon_standby
{
	my ($primary, $name, %options) = @_;
	my $standby = PostgreSQL::Test::Cluster->new($name);

	$primary->backup("for_$name");
	$primary->safe_psql('postgres', "SELECT pg_create_physical_replication_slot('$name', true)");
	$standby->init_from_backup($primary, "for_$name", has_streaming => 1);
	$standby->append_conf('postgresql.conf', siphon_conf($standby));
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

# ---- looking and waiting --------------------------------------------------------------------------------------------

# A row of siphon_applications, as a hash; empty if there is none.
sub application
{
	my ($node, $application) = @_;
	my $name = $application // 'main';
	my $json = $node->safe_psql('postgres', "SELECT to_json(a) FROM siphon_applications a WHERE application = '$name'");

	return $json eq '' ? {} : decode_json($json);
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

# Waits until all that is committed on the primary now has been acknowledged by JetStream to the application on the
# node, which is the primary or its standby.
sub wait_confirmed
{
	my ($node, %options) = @_;
	my $primary = $options{primary} // $node;
	my $lsn = $primary->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');

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

sub pgbench_runs
{
	my ($pgbench) = @_;

	$pgbench->{run}->pump_nb;
	return $pgbench->{run}->pumpable;
}

# ---- what was published ---------------------------------------------------------------------------------------------

# The application's whole stream, as siphon-tail reads it: a reference to an array of events. Options: application,
# table, watermarks.
sub replay
{
	my ($nats, %options) = @_;
	my ($out, $err) = ('', '');
	my @command = (
		'siphon-tail', '--from-start', '--stop-at-end',
		'--nats-url' => $nats->url,
		'--application' => $options{application} // 'main',
		$options{table} ? ('--table' => $options{table}) : (),
		$options{watermarks} ? '--watermarks' : ());

	IPC::Run::run(\@command, '<', \undef, '>', \$out, '2>', \$err)
	  or die "siphon-tail failed: $err";
	return [ map { decode_json($_) } split /\n/, $out ];
}

sub subject
{
	my ($event) = @_;

	return "$event->{schema}.$event->{table}." . ($event->{partition} // 0);
}

# A position as something that sorts as text.
sub position
{
	my ($event) = @_;
	my ($lsn, $ordinal) = split /\//, $event->{position};

	return sprintf '%s/%020d', $lsn, $ordinal;
}

# What a consumer sees that skips, on each subject, all that is not beyond the last position it has seen.
sub first_of_each
{
	my ($events) = @_;
	my %last;
	my @first;

	for my $event (@$events)
	{
		my $subject = subject($event);
		my $position = position($event);

		next if defined $last{$subject} && $position le $last{$subject};
		$last{$subject} = $position;
		push @first, $event;
	}
	return \@first;
}

# Test: positions strictly increase on each subject. A DELETE and the INSERT of one UPDATE stand on two.
sub positions_increase
{
	my ($events, $name) = @_;
	my %last;

	for my $event (grep { $_->{operation} !~ /^SNAPSHOT/ } @$events)
	{
		my $subject = subject($event);
		my $position = position($event);

		if (defined $last{$subject} && $position le $last{$subject})
		{
			fail($name);
			diag("on $subject, $position follows $last{$subject}");
			return 0;
		}
		$last{$subject} = $position;
	}
	pass($name);
	return 1;
}

# Applies the events of one table, snapshots included, in the order of the stream to an empty table; returns its rows by
# key, and what did not fit: it is the replay checker of proto/siphon.proto's rules. Subjects of different partitions have no order among each other, but each key lives in one at a time: a key
# that moved is deleted there and inserted here at one position, so partitions are folded by themselves.
sub fold
{
	my ($events, @key) = @_;
	my %parts;
	my @misfits;
	my %rows;

	my %generation;
	my %counted;

	for my $event (@$events)
	{
		my $partition = $event->{partition} // 0;
		my $part = $parts{$partition} //= {};
		my $generation = $event->{generation} // 0;
		my $key_of = sub { join '|', map { $_[0]->{$_} // 'NULL' } @key };
		my $operation = $event->{operation};
		my $new = $event->{columns};
		my $old = $event->{old} // $new;

		next if $generation < ($generation{$partition} // 0);
		if ($operation eq 'SNAPSHOT-BEGIN')
		{
			push @misfits, "generation $generation begins twice" if $generation == ($generation{$partition} // 0);
			$generation{$partition} = $generation;
			$counted{$partition} = 0;
			%$part = ();
			next;
		}
		push @misfits, "$operation of generation $generation, which has not begun"
		  if $generation > ($generation{$partition} // 0);
		if ($operation eq 'SNAPSHOT-END')
		{
			push @misfits, "$counted{$partition} rows came, of $event->{rows}" if $counted{$partition} != $event->{rows};
			$counted{$partition} = undef;
			next;
		}
		if ($operation eq 'SNAPSHOT')
		{
			defined $counted{$partition} ? $counted{$partition}++ : push @misfits, 'a row outside of a snapshot';
		}
		elsif (defined $counted{$partition})
		{
			push @misfits, "$operation in the middle of a snapshot";
		}
		if ($operation eq 'TRUNCATE')
		{
			%$part = ();
			next;
		}
		if ($operation !~ /^(INSERT|SNAPSHOT)$/)
		{
			my $gone = delete $part->{ $key_of->($old) };

			push @misfits, "$operation of a row that is not there: " . $key_of->($old) . " at $event->{position}"
			  unless $gone;
			$new = { %$new, map { $_ => $gone->{$_} } @{ $event->{unchanged} } } if $event->{unchanged} && $gone;
		}
		next if $operation eq 'DELETE';
		push @misfits, "$operation makes a row that is there: " . $key_of->($new) . " at $event->{position}"
		  if exists $part->{ $key_of->($new) };
		$part->{ $key_of->($new) } = $new;
	}
	for my $part (values %parts)
	{
		for my $key (keys %$part)
		{
			push @misfits, "row $key is in two partitions" if exists $rows{$key};
			$rows{$key} = $part->{$key};
		}
	}
	return (\%rows, \@misfits);
}

# The rows of a table by key, as fold() has them.
sub table_rows
{
	my ($node, $table, @key) = @_;
	my $json = $node->safe_psql('postgres', "SELECT coalesce(json_agg(t), '[]') FROM $table t");

	return { map { my $row = $_; (join('|', map { $row->{$_} // 'NULL' } @key) => $row) } @{ decode_json($json) } };
}

# Test: the events of a table, folded, are its rows. Returns true if so.
sub is_replica
{
	my ($events, $node, $table, $key, $name) = @_;
	my @events = grep { "$_->{schema}.$_->{table}" eq ($table =~ /\./ ? $table : "public.$table") } @$events;
	my ($rows, $misfits) = fold(\@events, @$key);
	my $expected = table_rows($node, $table, @$key);
	my @differences = @$misfits;

	for my $id (keys %$expected)
	{
		if (!exists $rows->{$id})
		{
			push @differences, "row $id is missing";
			next;
		}
		for my $column (keys %{ $expected->{$id} })
		{
			my ($should, $is) = map { defined $_ ? "$_" : 'NULL' } $expected->{$id}{$column}, $rows->{$id}{$column};

			push @differences, "row $id: $column is $is and should be $should" if $is ne $should;
		}
	}
	push @differences, map { "row $_ should not be there" } grep { !exists $expected->{$_} } keys %$rows;
	ok(!@differences, $name . ' (' . scalar(@events) . ' events, ' . scalar(keys %$expected) . ' rows)');
	diag(scalar(@differences) . " differences, such as: " . join '; ', @differences[ 0 .. min(4, $#differences) ])
	  if @differences;
	return !@differences;
}

1;
