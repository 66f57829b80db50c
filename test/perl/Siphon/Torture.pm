# Torture: writers write all the time, on a primary with a standby, while one fault after the other, and sometimes two at
# once, strikes the publisher, the decoder, the servers, NATS, the network or the tables (see Siphon::Faults). After each
# the application must come to what is committed by then. At the end of each leg, of some 25 faults, the stream must
# make the tables: nothing lost, nothing twice, all in order.
#
# With three nats-servers each has a copy of the streams, and what else can happen to them is in Siphon::ClusterFaults. Then
# all copies must be equal, too.
#
# A leg's seed decides on all that is chosen; when things happen depends on the machine too. Each leg has an application,
# tables and a stream of its own, so that it can be repeated alone, and is compared fast.
package Siphon::Torture;

use strict;
use warnings FATAL => 'all';

use parent qw(Siphon::RandomizedTest Siphon::TortureFigures);

use Digest::MD5 qw(md5);
use IPC::Run ();
use List::Util qw(max min shuffle);
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::ClusterFaults;
use Siphon::Failover;
use Siphon::Faults;
use Siphon::SequenceReplay;
use Siphon::TortureWorkload;
use Siphon::NatsCluster;
use Siphon::RandomizedTest qw(one_of between);
use Siphon::Proxy;
use Test::More;
use Time::HiRes qw(sleep time);

my $LEG = 25;
my $CLIENTS = 6;
# Seconds after which what does not happen never will.
my $PATIENCE = 90;
# Bytes of WAL that may be left to confirm when all is confirmed: what the server writes by itself.
my $LAG = 1024 * 1024;
my $CONF = q{
restart_after_crash = on
log_statement = none
log_min_duration_statement = -1
max_worker_processes = 16
wal_receiver_status_interval = 1s
max_standby_streaming_delay = 2s
logical_decoding_work_mem = 256kB
siphon.max_snapshots = 2
};
# Each leg has some of these, and a rate of transactions.
my %SETTINGS = (
	'siphon.ring_size' => [qw(64kB 1MB)],
	'siphon.package_size' => [qw(8kB 32kB 512kB)],
	'siphon.flush_interval' => [qw(0 10ms 100ms)],
	'siphon.snapshot_rate' => [qw(0 500kB 1MB)]);
my @RATES = (100, 300, 600);

# Options: seed of the first leg; replicas, how many nats-servers there are, each with a copy of the streams.
sub new
{
	my ($class, %options) = @_;
	my $self = bless {
		seed => $options{seed} // int(rand(1 << 30)),
		replicas => $options{replicas} // 1,
		since => time,
		started => time,
		legs => 0,
		servers => 0,
		faults => 0,
		struck => {},
		recovery => {},
		peak => {},
		count => {},
		lost => 0,
		doubled => 0,
		unequal => 0,
		away => {},
		done => []
	}, $class;

	$self->{nats} = $self->{replicas} > 1 ? Siphon::NatsCluster->new($self->{replicas})->start : siphon_nats();
	$self->{proxies} = [ map { Siphon::Proxy->new(name => "proxy_$_->{name}", to => $_->url)->start } $self->{nats}->nodes ];

	# scripts/suite makes a small file system, so that the rings' can be filled.
	$self->{small} = -d '/run/small' ? '/run/small' : undef;
	$self->{primary} = siphon_node($self->server_name, conf => $CONF, rings => $self->{small});
	$self->make_standby if standby_supported($self->{primary});
	return $self;
}

sub server_name
{
	my ($self) = @_;

	return 'server' . ++$self->{servers};
}

sub make_standby
{
	my ($self) = @_;

	my $primary = $self->{primary};
	my $name = $self->server_name;

	$self->{standby} = siphon_standby(
		$primary, $name,
		conf => $CONF . (can_fail_over($primary) ? failover_conf($primary, $name) : ''),
		rings => $self->{small});
	return unless can_fail_over($primary);
	$primary->append_conf('postgresql.conf', "synchronized_standby_slots = '$name'");
	$primary->reload;
	return;
}

sub can_fail_over
{
	my ($node) = @_;

	return $node->pg_version >= 17;
}

# What follows is chosen by this alone.
sub seed
{
	my ($self, $what) = @_;

	srand unpack 'N', md5("$self->{leg_seed} $what");
	return;
}

# As many faults, in legs. Says what is needed to repeat the one that fails.
sub run
{
	my ($self, $faults) = @_;

	$self->{unfinished} = 1;
	for (; $faults > 0; $faults -= $LEG)
	{
		eval { $self->leg(min($faults, $LEG)); 1 } or diag($@), die $@;
	}
	delete $self->{unfinished};
	return;
}

# A server that does not start ends the test without coming back.
my $self_at_end;

sub leg
{
	my ($self, $faults) = @_;

	$self_at_end = $self;
	$self->{leg_seed} = $self->{seed} + $self->{legs}++;
	$self->{done} = [];
	$self->{deck} = [];
	$self->{application} = "torture.$self->{legs}";
	$self->seed('leg');
	$self->{failover} = 0;
	$self->{node} = one_of(grep { defined } @$self{qw(primary standby)});
	$self->{failover} = between(0, 1) if !$self->on_standby && can_fail_over($self->{primary});
	note("leg $self->{legs}, SEED=$self->{leg_seed}, on the "
		  . ($self->on_standby ? 'standby' : 'primary') . ($self->{failover} ? ', with failover' : ''));
	$self->begin;
	$self->fault($_) for 1 .. $faults;
	$self->check;
	$self->check_replicas;
	$self->clean_up;
	return;
}

sub on_standby
{
	my ($self) = @_;

	return $self->{standby} && $self->{node} == $self->{standby};
}

END
{
	my $exit_code = $?;

	$self_at_end->post_mortem if $self_at_end && $self_at_end->{unfinished};
	$? = $exit_code;
}

sub post_mortem
{
	my ($self) = @_;
	my $faults = @{ $self->{done} } || 1;
	my $kept = "$PostgreSQL::Test::Utils::log_path/torture_$self->{leg_seed}.jsonl";

	diag("failed in leg $self->{legs} at fault $faults. To repeat it: make torture FAULTS=$faults SEED=$self->{leg_seed}"
		  . ($self->{replicas} > 1 ? " REPLICAS=$self->{replicas}" : ''));
	diag($_) for @{ $self->{done} };
	eval {
		IPC::Run::run(
			[
				'siphon-tail', '--from-start', '--stop-at-end', '--watermarks',
				'--nats-url' => $self->{nats}->url, '--application' => $self->{application}
			],
			'<' => \undef, '>' => $kept, '2>' => '/dev/null', IPC::Run::timeout(60));
	};
	diag("logs are in $PostgreSQL::Test::Utils::log_path" . (-s $kept ? ", the stream in $kept" : ''));
	return;
}

# ---- a leg begins and ends ------------------------------------------------------------------------------------------

sub begin
{
	my ($self) = @_;
	my $sql = '';

	for my $table (@TABLES)
	{
		$sql .= "CREATE TABLE $table->{name} ($table->{columns});\n";
		$sql .= "INSERT INTO $table->{name} SELECT $table->{rows} FROM generate_series(1, $ROWS) g;\n" if $table->{rows};
	}
	$self->{columns} = 0;
	$self->{column} = 'a';
	$self->{primary}->safe_psql('postgres', $sql);
	$self->{primary}->wait_for_catchup($self->{standby}) if $self->{standby};
	$self->set_up;
	$self->create_application($self->{failover} ? ', failover => true' : '');
	$self->wait_for_feedback if $self->on_standby;
	$self->start_publisher;
	$self->start_writers;
	$self->add($_) for @TABLES;
	$self->wait_for('all tables stream', sub { $self->all_stream });
	return;
}

# Beside the server that publishes.
sub start_publisher
{
	my ($self) = @_;

	$self->{publisher} = Siphon::Publisher->new(
		name => "publisher$self->{legs}-" . $self->{node}->name,
		application => $self->{application},
		ring_directory => ring_directory($self->{node}),
		nats_url => join(',', map { $_->url } @{ $self->{proxies} }),
		arguments => $self->{replicas} > 1 ? [ '--stream-replicas' => $self->{replicas} ] : [])->start;
	return;
}

sub set_up
{
	my ($self) = @_;
	my %chosen = map { $_ => one_of(@{ $SETTINGS{$_} }) } sort keys %SETTINGS;

	$self->{rate} = one_of(@RATES);
	$self->{node}->safe_psql('postgres', "ALTER SYSTEM SET $_ = '$chosen{$_}'") for sort keys %chosen;
	$self->{node}->reload;
	$self->say(join ', ', "$self->{rate} transactions per second", map { "$_ $chosen{$_}" } sort keys %chosen);
	return;
}

# Until the primary knows which catalog rows the standby's slot needs, it may remove them. And until it has written that
# down, in a checkpoint, a crash makes it forget.
sub wait_for_feedback
{
	my ($self) = @_;
	my $slot = application($self->{node}, $self->{application})->{slot_name};
	my $xmin = $self->{node}->safe_psql('postgres', "SELECT catalog_xmin FROM pg_replication_slots WHERE slot_name = '$slot'");

	my $known = "SELECT age(catalog_xmin) >= age('$xmin'::xid) FROM pg_replication_slots WHERE slot_name = '" . $self->{standby}->name . "'";

	$self->wait_for('the primary knows', sub { ($self->ask($self->{primary}, $known) // '') eq 't' });
	$self->ask($self->{primary}, 'CHECKPOINT');
	return;
}

# Everything that is committed arrived, once and in order.
sub check
{
	my ($self) = @_;

	$self->stop_writers;
	$self->wait_for('all tables stream', sub { $self->all_stream });
	$self->recover;
	$self->wait_for('no changes are held any more', sub { $self->{nats}->held($self->{application}) <= 1 });
	$self->say('all is confirmed');

	my $row = application($self->{node}, $self->{application});
	my $where = "leg $self->{legs} (SEED=$self->{leg_seed})";
	my $replay = Siphon::SequenceReplay->new(
		connect => $self->{primary}->connstr('postgres'),
		tables => [ map { "public.$_->{name}" } @TABLES ],
		directory => PostgreSQL::Test::Utils::tempdir(),
		gapless => 'public.ledger',
		counter => 'v');

	$self->{archive}->finish if $self->{archive};
	$replay->read_stream(nats_url => ($self->{archive} // $self->{nats})->url, application => $self->{application});
	ok($replay->compare, "$where: the stream makes the tables") or diag(join "\n", $replay->report);
	is("$replay->{lost} lost, $replay->{doubled} doubled", '0 lost, 0 doubled', "$where: no gaps in what writers count");
	is($row->{state}, 'streaming', "$where: the application streams");
	cmp_ok($row->{lag_bytes}, '<', $LAG, "$where: nothing is left to confirm");
	$self->is_moving($where);
	$self->{$_} += $replay->{$_} for qw(lost doubled);
	$self->{count}{$_} += $replay->{count}{$_} for keys %{ $replay->{count} };
	Test::More->builder->is_passing or die "$where failed\n";
	$self->say('compared');
	return;
}

# Test: the slot itself follows what is committed now.
sub is_moving
{
	my ($self, $where) = @_;
	my $slot = application($self->{node}, $self->{application})->{slot_name};
	my $confirmed = sub { $self->ask($self->{node}, "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '$slot'") };
	my $before = $confirmed->();

	$self->recover;
	ok($self->wait_for('the slot moves', sub { $confirmed->() ne $before }), "$where: the slot moves");
	return;
}

# Tests: all servers have the same of each stream, and whichever leads it. Ends the publisher, as nothing may come meanwhile.
sub check_replicas
{
	my ($self) = @_;
	my $where = "leg $self->{legs} (SEED=$self->{leg_seed})";

	$self->{publisher}->stop;
	return if $self->{replicas} == 1;
	$self->{away}{publisher} = 1;
	$self->wait_for('all servers have all', sub { $self->{nats}->is_whole });
	$self->{away}{publisher} = 0;
	for my $stream ($self->{nats}->streams($self->{application}))
	{
		# A server that is killed has again what a limit took away before, and where the others begin it does not.
		$self->{unequal}++ unless ($self->{archive} && $stream eq $self->{archive}{stream})
		  || $self->{nats}->replicas_are_equal($stream, "$where: all servers have the same of $stream");
		$self->{unequal}++ unless $self->{nats}->contents_are_equal($stream, "$where: $stream is the same, whichever server leads it");
	}
	Test::More->builder->is_passing or die "$where failed\n";
	$self->say('copies compared');
	return;
}

sub clean_up
{
	my ($self) = @_;
	my $stream = 'siphon_' . $self->{application} =~ s/\./_/gr;

	delete $self->{publisher};
	(delete $self->{archive})->stop if $self->{archive};
	$self->{node}->safe_psql('postgres', "SELECT siphon_drop_application('$self->{application}')");
	$self->{primary}->safe_psql('postgres', 'DROP TABLE ' . join ', ', map { $_->{name} } @TABLES);
	$self->{nats}->ask("STREAM.DELETE.$_") for $stream, "${stream}_held", "KV_$stream";
	return;
}

# The standby has the slot, and can go on from it.
sub slot_is_synchronized
{
	my ($self) = @_;
	my $slot = 'siphon_' . $self->{application} =~ s/\./_/gr;

	# The slot's positions move with these.
	$self->ask($self->{primary}, 'SELECT pg_log_standby_snapshot()');
	return ($self->ask($self->{standby},
			"SELECT synced AND NOT temporary AND invalidation_reason IS NULL FROM pg_replication_slots WHERE slot_name = '$slot'") // '') eq 't';
}

# ---- tables ---------------------------------------------------------------------------------------------------------

sub table
{
	my ($self, $name) = @_;

	return (grep { $_->{name} eq $name } @TABLES)[0];
}

# Calls a function for a table.
sub on_table
{
	my ($self, $function, $table, $arguments) = @_;

	return $self->ask($self->{node}, "SET client_min_messages = error; SELECT siphon_$function('$table->{name}', '$self->{application}'" . ($arguments // '') . ')');
}

sub is_listed
{
	my ($self, $table) = @_;

	return $self->ask($self->{node}, "SELECT count(*) FROM siphon_tables WHERE table_name = '$table->{name}' AND application = '$self->{application}'");
}

sub add
{
	my ($self, $table) = @_;

	$self->wait_for(
		"$table->{name} is added",
		sub {
			$self->on_table('add_table', $table, ", partitions => $table->{partitions}, workers => " . between(1, 2));
			return $self->is_listed($table);
		});
	return;
}

sub remove
{
	my ($self, $table) = @_;

	$self->wait_for("$table->{name} is removed", sub { $self->on_table('remove_table', $table); return ($self->is_listed($table) // 1) eq '0' });
	return;
}

sub all_stream
{
	my ($self) = @_;

	return ($self->ask($self->{node}, "SELECT bool_and(state = 'streaming') FROM siphon_tables WHERE application = '$self->{application}'") // '') eq 't';
}

# ---- looking after what runs ----------------------------------------------------------------------------------------

sub start_writers
{
	my ($self) = @_;

	$self->{writers} = start_pgbench($self->{primary}, \%SCRIPTS,
		'--random-seed' => between(1, 1 << 30), '--max-tries' => 5, '--rate' => $self->{rate}, -c => $CLIENTS, -j => 2, -T => 3600);
	$self->{writers_since} = time;
	return;
}

sub stop_writers
{
	my ($self) = @_;
	my $writers = delete $self->{writers} or return;

	$writers->{run}->signal('TERM');
	finish_pgbench($writers, fail_ok => 1);
	$self->wait_for('the last writer is gone',
		sub { ($self->ask($self->{primary}, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'") // 1) eq '0' });
	return;
}

# Writers that lost their server start again. Nothing else may have ended by itself.
sub look_after
{
	my ($self) = @_;

	my %runs = map { $_->{name} => $_ } $self->{nats}->nodes, @{ $self->{proxies} };

	$runs{publisher} = $self->{publisher} if $self->{publisher};
	for my $name (grep { !$self->{away}{$_} && !$runs{$_}->running } sort keys %runs)
	{
		die "$name ended, " . ($runs{$name}{exit_code} // 'killed') . ":\n" . $runs{$name}->log;
	}
	# Before the stream forgets it.
	$self->{archive}->follow if $self->{archive} && $self->{archive}{forgetting};
	if ($self->{writers} && !pgbench_runs($self->{writers}) && time > $self->{writers_since} + 0.3)
	{
		my $output = finish_pgbench($self->{writers}, fail_ok => 1);

		$self->say("writers: $_") for grep { /ERROR: / } split /\n/, $output;
		$self->start_writers unless $self->{away}{primary};
	}
	return;
}

sub wait_for
{
	my ($self, $what, $condition) = @_;
	my $deadline = time + $PATIENCE;
	my $turns = 0;

	for (;;)
	{
		$self->look_after;
		$self->measure unless $turns++ % 20;

		my $result = $condition->();

		return $result if $result;
		die "timed out waiting until $what:\n" . $self->whereabouts if time > $deadline;
		sleep 0.05;
	}
}

# Waits until the application has all that is committed now.
sub recover
{
	my ($self) = @_;
	my $lsn;

	# The primary's postmaster may be there and not take anybody in yet. What is flushed may end within a record, but not
	# behind a commit.
	$self->wait_for('the primary takes a commit',
		sub { $lsn = (split /\n/, $self->ask($self->{primary}, "SELECT pg_logical_emit_message(true, 'flush', ''); SELECT pg_current_wal_flush_lsn()") // '')[-1] });
	$self->wait_for(
		"the application gets to $lsn",
		sub {
			my ($state, $there) = split /\|/,
			  $self->ask($self->{node}, "SELECT state, confirmed_lsn >= '$lsn' FROM siphon_applications WHERE application = '$self->{application}'") // '';

			die 'the application has failed:' . $self->whereabouts if ($state // '') eq 'failed';
			return ($state // '') eq 'streaming' && $there eq 't';
		});
	return;
}

# ---- faults ---------------------------------------------------------------------------------------------------------

# All kinds of faults that there are here; of several servers, twice, what happens to them.
sub kinds
{
	my ($self) = @_;

	return Siphon::Faults::all() if $self->{replicas} == 1;
	return ((grep { !$_->{alone} } Siphon::Faults::all()), (Siphon::ClusterFaults::all()) x 2);
}

# The next kind of fault; each comes once before any comes again.
sub draw
{
	my ($self, @but) = @_;
	my $can = sub {
		my ($fault) = @_;
		my %taken = map { $_ => 1 } map { @{ $_->{touches} } } @but;

		return !grep { $taken{$_} } @{ $fault->{touches} } if @but;
		return 1;
	};

	if (@but)
	{
		return one_of(grep { $can->($_) && Siphon::Faults::possible($_, $self) } $self->kinds);
	}
	for (;;)
	{
		$self->{deck} = [ shuffle($self->kinds) ] unless @{ $self->{deck} };

		my $fault = shift @{ $self->{deck} };

		return $fault if Siphon::Faults::possible($fault, $self);
	}
}

sub fault
{
	my ($self, $number) = @_;

	$self->seed($number);
	my $first = $self->draw;
	my @faults = sort { ($a->{slow} // 0) <=> ($b->{slow} // 0) } $first, between(0, 2) ? () : $self->draw($first) // ();
	my $company = between(0, 1) ? undef : one_of(@COMPANY);
	my $before = rand 0.3;
	my $hold = max((rand) ** 2 * max(map { $_->{hold} // 0 } @faults), map { $_->{least} // 0 } @faults);
	my $names = join ' and ', map { $_->{name} } @faults;
	my $with = $company ? $company->{begin}->($self) : undef;
	my $what = sprintf 'fault %d: %s, for %.1f s%s', $number, $names, $hold,
	  $company ? ", with $company->{name}" . ($with ? " of $with" : '') : '';

	push @{ $self->{done} }, $what;
	$self->{faults}++;
	$self->{struck}{ $_->{name} }++ for @faults;
	$self->say($what);
	sleep $before;

	my @mend = map { my $mend = $_->{strike}->($self); ref $mend ? $mend : () } @faults;
	my $until = time + $hold;

	while (time < $until)
	{
		$self->look_after;
		$self->measure;
		sleep min(0.1, max(0, $until - time));
	}
	$_->() for @mend;
	my $since = time;

	$self->recover;
	for my $fault (grep { $_->{until} } @faults)
	{
		$self->wait_for("$fault->{name} is over", sub { $fault->{until}->($self) });
	}

	my $took = time - $since;

	push @{ $self->{recovery}{ @faults == 1 ? $names : 'two at once' } }, $took;
	$self->say(sprintf 'recovered in %.2f s', $took);
	$_->{after} and $_->{after}->($self) for @faults;
	return;
}

1;
