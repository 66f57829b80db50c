# The faults with which Siphon::Torture strikes. Each is a hash:
#
#   name      what is said and counted
#   touches   what it takes away; of two at once, no two touch the same
#   possible  whether it can be done now; always, if not given
#   hold      the longest that it lasts, in seconds; 0 if not given
#   least     the shortest
#   slow      true if to strike takes some time: of two at once, this one strikes second
#   alone     true if it strikes the only nats-server. Where there are more, Siphon::ClusterFaults has others for it
#   strike    does it. Returns a function that ends it, if it has to be ended
#   until     what must come true before it counts as recovered from, besides what is committed being confirmed
#   after     what is done when it is over
#
# All functions get the Siphon::Torture.
package Siphon::Faults;

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::TortureWorkload;
use Siphon::RandomizedTest qw(one_of between);
use Time::HiRes qw(sleep time);

sub all
{
	our @FAULTS;

	return @FAULTS;
}

sub possible
{
	my ($fault, $torture) = @_;

	return !$fault->{possible} || $fault->{possible}->($torture);
}

# ---- processes ------------------------------------------------------------------------------------------------------

# Children of a server's postmaster whose titles match. There are none where the server is away.
sub server_processes
{
	my ($node, $title) = @_;
	my ($postmaster) = eval { slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/ } or return;
	my ($out) = run_command([ 'ps', '-o', 'pid=,args=', '--ppid', $postmaster ]);

	return map { /^ *(\d+) .*$title/ ? $1 : () } split /\n/, $out;
}

sub decoder
{
	my ($torture) = @_;

	return server_processes($torture->{node}, qr/siphon decoder \Q$torture->{application}\E/);
}

sub freeze
{
	my (@pids) = @_;

	kill 'STOP', @pids;
	return sub { kill 'CONT', @pids };
}

sub signal_decoder
{
	my ($torture, $signal) = @_;

	kill $signal, decoder($torture);
	return;
}

sub publisher_returns
{
	my ($torture) = @_;

	return sub {
		$torture->{publisher}->start;
		$torture->{away}{publisher} = 0;
	};
}

# Brings a table's rows out anew, and does this to one of the processes that do.
sub signal_snapshot
{
	my ($torture, $signal) = @_;
	my $deadline = time + 1;
	my @pids;

	$torture->on_table('resync_table', $torture->table(one_of(@ANEW)));
	until (@pids = server_processes($torture->{node}, qr/siphon snapshot/))
	{
		return if time > $deadline;
		sleep 0.01;
	}
	# Workers start a moment after the leader.
	sleep rand 0.1;
	@pids = server_processes($torture->{node}, qr/siphon snapshot/);
	kill $signal, one_of(@pids) if @pids;
	return;
}

# A table's snapshot is paused, wherever it is.
sub pause_snapshot
{
	my ($torture) = @_;
	my $table = $torture->table(one_of(@ANEW));

	$torture->on_table('resync_table', $table);
	$torture->on_table('pause', $table);
	return sub { $torture->on_table('resume', $table) };
}

# ---- servers --------------------------------------------------------------------------------------------------------

sub stop_server
{
	my ($torture, $role, $mode) = @_;
	my $node = $torture->{$role};

	$torture->{away}{$role} = 1;
	$node->stop($mode);
	return sub {
		$node->start;
		$torture->{away}{$role} = 0;
	};
}

# The standby becomes the primary, and the application goes on there: it was there before, or goes over with its slot, as
# soon as that is synchronized. The old primary is thrown away, with the publisher beside it, and when the application has
# recovered there is a new standby.
sub promote
{
	my ($torture) = @_;
	my $old = $torture->{primary};

	$torture->wait_for('the standby can take over', sub { $torture->slot_is_synchronized }) if $torture->{failover};
	$old->stop('immediate');
	@$torture{qw(primary standby)} = ($torture->{standby}, undef);
	if ($torture->{failover})
	{
		$torture->{publisher}->kill9;
		$torture->{node} = $torture->{primary};
		$torture->start_publisher;
	}
	$torture->{primary}->promote;
	$old->clean_node;
	return;
}

# A copy of an application that a base backup brings has no slot. One that can fail over rests.
sub new_standby
{
	my ($torture) = @_;

	$torture->make_standby;
	$torture->ask($torture->{standby}, "SELECT siphon_drop_application('$torture->{application}')") unless $torture->{failover};
	return;
}

# ---- NATS -----------------------------------------------------------------------------------------------------------

sub nats_goes
{
	my ($torture, $how) = @_;

	$torture->{away}{nats} = 1;
	$torture->{nats}->$how;
	return sub {
		$torture->{nats}->start;
		$torture->{away}{nats} = 0;
	};
}

sub stream
{
	my ($torture) = @_;

	return 'siphon_' . $torture->{application} =~ s/\./_/gr;
}

# Of several servers, none may know for a moment.
sub stream_info
{
	my ($torture) = @_;
	my $info;

	$torture->wait_for('the stream is known', sub { $info = $torture->{nats}->ask('STREAM.INFO.' . stream($torture)); $info->{state} });
	return $info;
}

sub update_stream
{
	my ($torture, %changes) = @_;
	my $config = { %{ stream_info($torture)->{config} }, %changes };
	my $answer;

	eval {
		$torture->wait_for('the stream is changed', sub { $answer = $torture->{nats}->ask('STREAM.UPDATE.' . stream($torture), $config); $answer->{config} });
		1;
	} or die "the stream can't be changed, " . ($answer->{error}{description} // 'no answer') . ": $@";
	return;
}

sub fill_stream
{
	my ($torture) = @_;

	update_stream($torture, max_bytes => stream_info($torture)->{state}{bytes} + between(1000, 20000), discard => 'new');
	return sub { update_stream($torture, max_bytes => -1, discard => 'old') };
}

# ---- the network between publisher and NATS -------------------------------------------------------------------------

sub spoil_network
{
	my ($torture, $how, @arguments) = @_;

	my @proxies = @{ $torture->{proxies} };

	# To one node, or to all.
	@proxies = one_of(@proxies) if @proxies > 1 && between(0, 1);
	$_->$how(@arguments) for @proxies;
	return sub { $_->pass for @proxies };
}

# ---- rings ----------------------------------------------------------------------------------------------------------

# A running decoder has its ring; the next one finds no room for it, and neither does a snapshot.
sub fill_ring_directory
{
	my ($torture) = @_;
	my $filler = "$torture->{small}/filler";

	open my $file, '>:raw', $filler or die "$filler: $!";
	1 while syswrite $file, "\0" x 65536;
	close $file;
	signal_decoder($torture, 'TERM');
	return sub { unlink $filler or die "$filler: $!" };
}

# ---- tables ---------------------------------------------------------------------------------------------------------

# What stands in the way, such as a snapshot of the table, is waited for, but not for long: writers queue up behind.
sub change
{
	my ($torture, $sql) = @_;
	my $deadline = time + 60;

	until (defined $torture->ask($torture->{primary}, "SET lock_timeout = '1s'; SET deadlock_timeout = '200ms'; BEGIN; $sql; COMMIT"))
	{
		die "there is no getting through: $sql" if time > $deadline;
		$torture->look_after;
		sleep 0.1;
	}
	return;
}

sub table_goes
{
	my ($torture) = @_;
	my $table = $torture->table('comes');

	$torture->remove($table);
	change($torture, "DROP TABLE $table->{name}; CREATE TABLE $table->{name} ($table->{columns});"
		  . "INSERT INTO $table->{name} SELECT $table->{rows} FROM generate_series(1, 1000) g") if between(0, 1);
	return sub {
		wait_replayed($torture);
		$torture->add($table);
	};
}

# A standby does not know of a table that is just made.
sub wait_replayed
{
	my ($torture) = @_;

	return unless $torture->on_standby;
	my $lsn = $torture->ask($torture->{primary}, 'SELECT pg_current_wal_lsn()');

	$torture->wait_for('the standby has the table',
		sub { ($torture->ask($torture->{standby}, "SELECT pg_last_wal_replay_lsn() >= '$lsn'") // '') eq 't' });
	return;
}

sub resync_all
{
	my ($torture) = @_;

	$torture->on_table('resync_table', $torture->table($_)) for @ANEW;
	return;
}

# A copy of the table has what rows had under the names that columns had then: all are written again.
sub change_columns
{
	my ($torture, $how) = @_;
	my $name = 'c' . ++$torture->{columns};

	change($torture, 'ALTER TABLE shifting ' . ($how =~ s/:new/$name/r =~ s/:old/$torture->{column}/r) . '; UPDATE shifting SET v = v + 1'
		  . ($how =~ /ADD/ ? ", $name = md5(id::text)" : ''));
	$torture->{column} = $name if $how =~ /:new/;
	return;
}

# ---- all of them ----------------------------------------------------------------------------------------------------

our @FAULTS = (
	{
		name => 'publisher killed',
		touches => ['publisher'],
		hold => 1,
		strike => sub {
			my ($torture) = @_;

			$torture->{away}{publisher} = 1;
			$torture->{publisher}->kill9;
			return publisher_returns($torture);
		}
	},
	{
		name => 'publisher restarted',
		touches => ['publisher'],
		hold => 0.5,
		strike => sub {
			my ($torture) = @_;

			$torture->{away}{publisher} = 1;
			$torture->{publisher}->stop;
			return publisher_returns($torture);
		}
	},
	{ name => 'publisher frozen', touches => ['publisher'], hold => 4, strike => sub { freeze($_[0]->{publisher}{pid}) } },
	{ name => 'decoder terminated', touches => ['decoder'], strike => sub { signal_decoder($_[0], 'TERM') } },
	{ name => 'decoder frozen', touches => ['decoder'], hold => 4, strike => sub { freeze(decoder($_[0])) } },
	{ name => 'decoder killed', touches => ['decoder'], strike => sub { signal_decoder($_[0], 'KILL') } },
	{ name => 'launcher terminated', touches => ['launcher'], strike => sub { kill 'TERM', server_processes($_[0]->{node}, qr/siphon launcher/) } },
	{
		name => 'snapshot terminated',
		touches => [qw(snapshot primary standby)],
		strike => sub { signal_snapshot($_[0], 'TERM') },
		until => sub { $_[0]->all_stream }
	},
	{
		name => 'snapshot killed',
		touches => [qw(snapshot decoder primary standby)],
		strike => sub { signal_snapshot($_[0], 'KILL') },
		until => sub { $_[0]->all_stream }
	},
	{
		name => 'snapshot paused',
		touches => [qw(snapshot primary standby)],
		hold => 1,
		strike => \&pause_snapshot,
		until => sub { $_[0]->all_stream }
	},
	{
		name => 'walreceiver terminated',
		touches => ['standby'],
		possible => sub { $_[0]->{standby} },
		strike => sub { kill 'TERM', server_processes($_[0]->{standby}, qr/walreceiver/) }
	},
	{
		name => 'walreceiver killed',
		touches => ['standby'],
		possible => sub { $_[0]->{standby} },
		strike => sub { kill 'KILL', server_processes($_[0]->{standby}, qr/walreceiver/) }
	},
	{
		name => 'primary crashed',
		touches => ['primary'],
		strike => sub { kill 'KILL', server_processes($_[0]->{primary}, qr/checkpointer/) }
	},
	{ name => 'primary stopped at once', touches => ['primary'], hold => 1, strike => sub { stop_server($_[0], 'primary', 'immediate') } },
	# A decoder that is frozen would not let it stop.
	{ name => 'primary restarted', touches => [qw(primary decoder)], strike => sub { stop_server($_[0], 'primary', 'fast') } },
	{
		name => 'standby stopped at once',
		touches => ['standby'],
		possible => sub { $_[0]->{standby} },
		hold => 1,
		strike => sub { stop_server($_[0], 'standby', 'immediate') }
	},
	{
		name => 'standby restarted',
		touches => [qw(standby decoder)],
		possible => sub { $_[0]->{standby} },
		strike => sub { stop_server($_[0], 'standby', 'fast') }
	},
	{
		name => 'standby promoted',
		touches => [qw(primary standby decoder publisher launcher)],
		possible => sub { $_[0]->on_standby || $_[0]->{failover} },
		strike => \&promote,
		after => \&new_standby
	},
	{ name => 'nats-server killed', touches => ['nats'], alone => 1, hold => 1, strike => sub { nats_goes($_[0], 'kill9') } },
	{ name => 'nats-server restarted', touches => ['nats'], alone => 1, hold => 1, strike => sub { nats_goes($_[0], 'stop') } },
	{ name => 'nats-server frozen', touches => ['nats'], alone => 1, hold => 4, strike => sub { freeze($_[0]->{nats}{pid}) } },
	{ name => 'stream full', touches => ['nats'], alone => 1, hold => 2, strike => \&fill_stream },
	{ name => 'network cut', touches => ['network'], hold => 2, strike => sub { spoil_network($_[0], 'cut') } },
	{ name => 'connection reset', touches => ['network'], strike => sub { spoil_network($_[0], 'reset') } },
	{ name => 'network stalled', touches => ['network'], hold => 4, strike => sub { spoil_network($_[0], 'stall', one_of(qw(both up down))) } },
	{ name => 'answers lost', touches => ['network'], hold => 2, strike => sub { spoil_network($_[0], 'lose_answers') } },
	{
		name => 'some answers lost',
		touches => ['network'],
		hold => 0.5,
		strike => sub { spoil_network($_[0], 'lose_answers', between(1, 3000)) }
	},
	{ name => 'network slow', touches => ['network'], hold => 2, strike => sub { spoil_network($_[0], 'delay', rand 0.3) } },
	{
		name => 'ring directory full',
		touches => [qw(decoder rings)],
		possible => sub { $_[0]->{small} },
		hold => 2,
		strike => \&fill_ring_directory
	},
	# It waits for the decoder.
	{ name => 'table removed and added', touches => [qw(table primary standby decoder)], hold => 0.5, strike => \&table_goes, until => sub { $_[0]->all_stream } },
	{ name => 'tables brought out anew', touches => [qw(table primary standby)], strike => \&resync_all, until => sub { $_[0]->all_stream } },
	{ name => 'table truncated', touches => [qw(table primary standby)], strike => sub { change($_[0], 'TRUNCATE counters, comes; INSERT INTO counters SELECT g, 0, NULL FROM generate_series(1, 1000) g') } },
	{ name => 'column added', touches => [qw(shifting primary)], strike => sub { change_columns($_[0], 'ADD COLUMN :new text') } },
	{ name => 'column renamed', touches => [qw(shifting primary)], strike => sub { change_columns($_[0], 'RENAME COLUMN :old TO :new') } },
	{ name => 'column dropped', touches => [qw(shifting primary)], strike => sub { change_columns($_[0], 'DROP COLUMN :old, ADD COLUMN :new text') } });

1;
