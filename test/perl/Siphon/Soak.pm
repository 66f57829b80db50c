# Rounds of the soak: tables with random properties are added, brought out anew, removed and added again, on the primary
# or on its standby, while writers change them, and while publisher, snapshot processes and server are killed in every
# phase of a snapshot. At the end of each round the stream must make the tables.
#
# A round's seed decides on all that is chosen; when things happen depends on the machine too.
package Siphon::Soak;

use strict;
use warnings FATAL => 'all';

use parent 'Siphon::RandomizedTest';

use List::Util qw(max shuffle);
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::NatsClient;
use Siphon::RandomizedTest qw(one_of between);
use Test::More;
use Time::HiRes qw(sleep time);

my @PHASES = ('waiting', 'preparing', 'scanning', 'moving held changes', 'none');
my $CLIENTS = 8;
my $CONF = q{
restart_after_crash = on
max_prepared_transactions = 40
max_worker_processes = 16
siphon.max_snapshots = 2
siphon.package_size = 32kB
max_standby_streaming_delay = 2s
};

# Kinds of tables: definition, what an INSERT gives besides id and v, and what follows the definition, where :T stands
# for the table's name. Each UPDATE increments v.
my %SHAPES = (
	plain => [ 'id bigint PRIMARY KEY, v int, filler text', q{, repeat('x', (random() * 300)::int)} ],
	compound => [ 'id bigint, v int, kind text, amount numeric, PRIMARY KEY (kind, id)', q{, 'k' || (random() * 3)::int, random()::numeric} ],
	wide => [
		'id bigint PRIMARY KEY, v int, big text, at timestamptz, flag bool, j jsonb, b bytea',
		q{, (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, (random() * 150)::int)), clock_timestamp(),
		  random() < 0.5, '{"a": [1, "\"", null]}', decode(md5(random()::text), 'hex')}
	],
	# New keys are in a leaf of their own. Moving there is a DELETE and an INSERT.
	partitioned => [
		'id bigint PRIMARY KEY, v int, filler text',
		q{, repeat('x', (random() * 100)::int)},
		q{PARTITION BY RANGE (id);
		  CREATE TABLE :T_low PARTITION OF :T FOR VALUES FROM (MINVALUE) TO (300);
		  CREATE TABLE :T_high (filler text, v int, id bigint PRIMARY KEY);
		  ALTER TABLE :T_high REPLICA IDENTITY FULL;
		  ALTER TABLE :T ATTACH PARTITION :T_high FOR VALUES FROM (300) TO (1000000);
		  CREATE TABLE :T_new PARTITION OF :T DEFAULT}
	]);

# Options: seed of the first round, standby: false to go without.
sub new
{
	my ($class, %options) = @_;
	my $primary = siphon_node('primary', conf => $CONF);
	my $self = bless {
		seed => $options{seed} // int(rand(1 << 30)),
		round => 0,
		primary => $primary,
		nats => siphon_nats(),
		hits => {},
		count => {}
	}, $class;

	$primary->safe_psql('postgres', <<'SQL');
-- Begins something, waits for a snapshot to be in a phase, and then, or when it has waited long enough, kills or
-- terminates a process: the victim, or one of the snapshot's. Says what was hit in which phase.
CREATE FUNCTION strike(beginning text, wanted text, seconds float, how text, victim int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	deadline timestamptz := clock_timestamp() + make_interval(secs => seconds);
	found text;
	name text := 'victim';
BEGIN
	IF beginning <> '' THEN
		BEGIN
			EXECUTE beginning;
		EXCEPTION WHEN others THEN
			RAISE NOTICE '%', SQLERRM;
		END;
	END IF;
	LOOP
		SELECT phase INTO found FROM siphon_snapshot_progress ORDER BY phase = wanted DESC, phase <> 'waiting' DESC LIMIT 1;
		EXIT WHEN found = wanted OR clock_timestamp() > deadline;
		PERFORM pg_sleep(0.001);
	END LOOP;
	-- Workers start a moment after the scan.
	IF found = 'scanning' THEN
		PERFORM pg_sleep(random() * 0.1);
	END IF;
	IF how <> '' AND victim IS NULL THEN
		SELECT pid INTO victim FROM pg_stat_activity WHERE backend_type = 'siphon snapshot' ORDER BY random() LIMIT 1;
		IF victim IS NULL THEN
			RETURN;
		END IF;
		name := CASE position('worker 0'::bytea IN pg_read_binary_file(format('/proc/%s/cmdline', victim), true))
			WHEN 0 THEN 'snapshot worker' ELSE 'snapshot leader' END;
	END IF;
	RAISE NOTICE 'struck % in phase %', name, coalesce(found, 'none');
	CASE how
		WHEN 'terminated' THEN PERFORM pg_terminate_backend(victim);
		WHEN 'killed' THEN EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'cat >/dev/null; kill -9 ' || victim);
		ELSE NULL;
	END CASE;
END $$;
-- Changes a table in more subtransactions than a snapshot has room for.
CREATE FUNCTION many_subtransactions(name text, first int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN first .. first + 80 LOOP
		BEGIN
			EXECUTE format('UPDATE %I SET v = v + 1 WHERE id = $1', name) USING i;
			IF i % 7 = 0 THEN
				RAISE division_by_zero;
			END IF;
		EXCEPTION WHEN division_by_zero THEN
		END;
	END LOOP;
END $$;
SQL
	$self->{standby} = siphon_standby($primary, 'standby', conf => $CONF) if ($options{standby} // 1) && standby_supported($primary);
	return $self;
}

# ---- its tables -----------------------------------------------------------------------------------------------------

sub on_tables
{
	my ($self, $function, $table, $arguments) = @_;
	my $sql = "SELECT siphon_$function('$table->{name}', '$self->{application}'" . ($arguments // '') . ')';

	$self->say("$function $table->{name}" . ($arguments // ''));
	return $self->ask($self->{node}, "SET client_min_messages = error; $sql");
}

sub is_listed
{
	my ($self, $table) = @_;

	return $self->ask($self->{node}, "SELECT count(*) FROM siphon_tables WHERE table_name = '$table->{name}'");
}

sub add
{
	my ($self, $table) = @_;

	# Large values that an UPDATE leaves alone do not follow a key to another partition.
	$table->{partitions} = $table->{shape} eq 'wide' && !$table->{full} ? 1 : one_of(1, 1, 2, 4, 7);
	$self->on_tables('add_table', $table, ", partitions => $table->{partitions}, workers => " . between(1, 3))
	  until $self->is_listed($table);
	return;
}

sub remove
{
	my ($self, $table) = @_;

	$self->on_tables('remove_table', $table) while $self->is_listed($table);
	return;
}

# ---- the tables and their writers -----------------------------------------------------------------------------------

sub make_tables
{
	my ($self) = @_;
	my $sql = "CREATE SEQUENCE ids START 1000001;\n";

	$self->{tables} = [];
	for my $number (1 .. between(2, 3))
	{
		my $shape = one_of(sort keys %SHAPES);
		my $table = { name => "t$number", shape => $shape, rows => between(0, 9) ? between(500, 10000) : 0, full => !between(0, 2) };
		my ($columns, $values, $more) = @{ $SHAPES{$shape} };

		$table->{rows} = int($table->{rows} / 10) if $shape eq 'wide';
		$table->{full} = 0 if $shape eq 'partitioned';
		$sql .= "CREATE TABLE $table->{name} ($columns) " . (($more // '') =~ s/:T/$table->{name}/gr) . ";\n";
		$sql .= "ALTER TABLE $table->{name} REPLICA IDENTITY FULL;\n" if $table->{full};
		$sql .= "INSERT INTO $table->{name} SELECT g, 0$values FROM generate_series(1, $table->{rows}) g;\n";
		push @{ $self->{tables} }, $table;
		$self->say("$table->{name}: $shape, $table->{rows} rows" . ($table->{full} ? ', identity full' : ''));
	}
	$self->{ids} = max map { $_->{rows} } @{ $self->{tables} };
	$self->{ids} = 100 if $self->{ids} < 100;
	$self->{primary}->safe_psql('postgres', $sql);
	return;
}

sub scripts
{
	my ($self) = @_;
	my @tables = @{ $self->{tables} };
	my $each = sub { join '', map { $_[0]->($_) . ";\n" } @tables };
	my $id = "\\set id random(1, $self->{ids})\n";
	my $insert = sub { "INSERT INTO $_[0]{name} SELECT nextval('ids'), 0$SHAPES{ $_[0]{shape} }[1]" };
	my $update = sub { "UPDATE $_[0]{name} SET v = v + 1" . ($_[0]{shape} eq 'wide' && !between(0, 1) ? ", big = big || 'y'" : '') . ' WHERE id = :id' };
	my $move = sub { "UPDATE $_[0]{name} SET v = v + 1, id = nextval('ids') WHERE id = :id" };
	my $delete = sub { "DELETE FROM $_[0]{name} WHERE id = :id" };
	my $some = $tables[ int rand @tables ]{name};

	return {
		'insert@6' => "\\set fate random(0, 9)\nBEGIN;\n"
		  . $each->($insert)
		  . "SAVEPOINT s;\n"
		  . $each->($insert)
		  . "\\if :fate < 5\nROLLBACK TO s;\n\\endif\n\\if :fate = 0\nROLLBACK;\n\\else\nCOMMIT;\n\\endif\n",
		'update@10' => "${id}BEGIN;\n" . $each->($update) . "COMMIT;\n",
		'update_one@10' => $id . $update->(one_of(@tables)) . ";\n",
		'move@5' => "${id}BEGIN;\n" . $each->($move) . "COMMIT;\n",
		'delete@3' => "${id}BEGIN;\n" . $each->($delete) . "COMMIT;\n",
		'prepare@3' => "${id}\\set fate random(0, 3)\n\\set wait random(0, 200)\nBEGIN;\n"
		  . $each->($update)
		  . "PREPARE TRANSACTION 'client:client_id';\n\\sleep :wait ms\n\\if :fate = 0\nROLLBACK PREPARED 'client:client_id';\n"
		  . "\\else\nCOMMIT PREPARED 'client:client_id';\n\\endif\n",
		'subtransactions@1' => "${id}\\set wait random(0, 500)\nBEGIN;\nSELECT many_subtransactions('$some', :id);\n\\sleep :wait ms\nCOMMIT;\n"
	};
}

sub start_writers
{
	my ($self) = @_;
	my $seconds = int($self->{until} - time + 0.5);

	# Whom a crash left prepared is in the way of writers, and of a slot that is made.
	for my $gid (split /\n/, $self->ask($self->{primary}, 'SELECT gid FROM pg_prepared_xacts') // '')
	{
		$self->ask($self->{primary}, one_of('COMMIT', 'ROLLBACK') . " PREPARED '$gid'");
	}
	$self->{writers} = $seconds < 1 ? undef : start_pgbench(
		$self->{primary}, $self->{scripts},
		'--random-seed' => between(1, 1 << 30), '--max-tries' => 5, '--rate' => $self->{rate}, -c => $CLIENTS, -j => 2, -T => $seconds);
	return;
}

sub writers_run
{
	my ($self) = @_;

	return 1 if $self->{writers} && pgbench_runs($self->{writers});
	return 0 if time > $self->{until} - 0.5;
	finish_pgbench($self->{writers}, fail_ok => $self->{crashed}{primary}) if $self->{writers};
	$self->start_writers;
	return $self->{writers} ? 1 : 0;
}

# ---- what happens ---------------------------------------------------------------------------------------------------

sub crash
{
	my ($self, $node) = @_;

	$self->{crashed}{ $node->name } = 1;
	$self->{restarted} = 1 if $node == $self->{node};
	return;
}

# What is done to whom. The victim's process ID, undef: a process of a snapshot; what is to be done before and after.
my @HARMS = (
	{
		name => 'publisher',
		how => 'killed',
		victim => sub { $_[0]->{publisher}{pid} },
		after => sub {
			my ($self) = @_;

			wait_until('the publisher is gone', sub { !$self->{publisher}->running });
			sleep rand 0.3;
			$self->{publisher}->start;
		}
	},
	{ how => 'killed', victim => sub { 'NULL' }, before => sub { $_[0]->crash($_[0]->{node}) } },
	{ how => 'terminated', victim => sub { 'NULL' } },
	{ name => 'decoder', how => 'terminated', victim => \&decoder, before => sub { $_[0]->{restarted} = 1 } },
	{ name => 'decoder', how => 'killed', victim => \&decoder, before => sub { $_[0]->crash($_[0]->{node}) } },
	{ name => 'server', how => 'restarted', after => sub { $_[0]->restart($_[0]->{node}) } },
	{ name => 'primary', how => 'restarted', after => sub { $_[0]->restart($_[0]->{primary}) } });

sub decoder
{
	my ($self) = @_;

	return "(SELECT decoder_pid FROM siphon_applications WHERE application = '$self->{application}')";
}

sub restart
{
	my ($self, $node) = @_;

	$self->crash($node);
	$node->stop('immediate');
	$node->start;
	return;
}

# Something happens when a snapshot, perhaps one that begins now, is in some phase.
sub strike
{
	my ($self) = @_;
	my $harm = one_of(@HARMS);
	my $wanted = one_of('preparing', 'preparing', 'scanning', 'moving held changes', 'moving held changes', 'none');
	my $table = one_of(@{ $self->{tables} });
	my $beginning = between(0, 3) ? "siphon_resync_table('$table->{name}', '$self->{application}')" : '';
	my $how = $harm->{victim} ? $harm->{how} : '';
	my $victim = $harm->{victim} ? $harm->{victim}->($self) : 'NULL';

	$harm->{before}->($self) if $harm->{before};

	my ($code, $out, $err) = $self->{node}->psql('postgres',
		"SELECT strike(\$\$" . ($beginning && "SELECT $beginning") . "\$\$, '$wanted', 1, '$how', $victim)");
	my ($name, $phase) = $err =~ /struck (.*) in phase (.*)/;

	$self->say("$beginning and wait until $wanted" . ($err =~ /NOTICE:  ((?!struck).*)/ ? ": $1" : ''));
	return unless defined $name;
	$harm->{after}->($self) if $harm->{after};
	$name = $harm->{name} if $harm->{name};
	$self->say("$name $harm->{how}, $phase");
	$self->{hits}{"$name $harm->{how}"}{$phase}++;
	return;
}

# Its rows come anew.
sub begin_anew
{
	my ($self) = @_;
	my $table = one_of(@{ $self->{tables} });

	if (between(0, 1))
	{
		$self->on_tables('resync_table', $table);
	}
	else
	{
		$self->remove($table);
		$self->add($table);
	}
	return;
}

# What users do to tables, which snapshots stand in the way of.
sub maintain
{
	my ($self) = @_;
	my $table = one_of(@{ $self->{tables} });
	my $sql = one_of('TRUNCATE', 'VACUUM') . " $table->{name}";

	# What a crash left prepared is in its way until the writers start again.
	$self->say($sql);
	$self->ask($self->{primary}, "SET lock_timeout = '2s'; $sql");
	return;
}

# ---- a round --------------------------------------------------------------------------------------------------------

sub all_stream
{
	my ($self) = @_;

	return ($self->ask($self->{node}, "SELECT bool_and(state = 'streaming') FROM siphon_tables WHERE application = '$self->{application}'") // '') eq 't';
}

# One round; its test is that the stream makes the tables.
sub round
{
	my ($self) = @_;
	my $seed = $self->{seed} + $self->{round}++;

	srand $seed;
	@$self{qw(since application crashed restarted)} = (time, "soak.$self->{round}", {}, 0);
	$self->{node} = one_of(grep { defined } @$self{qw(primary standby)});
	note("round $self->{round}, SEED=$seed, on the " . $self->{node}->name);
	$self->make_tables;
	$self->{primary}->wait_for_catchup($self->{standby}) if $self->{standby};

	my $rate = one_of('0', '0', '2MB', '5MB');
	my $harms = between(1, 4);

	$self->{rate} = between(100, 1200);
	$self->say("snapshot rate $rate, $self->{rate} transactions per second, up to $harms harms");
	$self->{node}->safe_psql('postgres', "ALTER SYSTEM SET siphon.snapshot_rate = '$rate'");
	$self->{node}->reload;
	$self->create_application;
	$self->{publisher} = siphon_publisher($self->{node}, $self->{nats}, application => $self->{application});
	$self->{scripts} = $self->scripts;
	$self->{until} = time + 4.5;
	$self->start_writers;

	my $together = between(0, 1);

	for my $table (shuffle @{ $self->{tables} })
	{
		$self->add($table);
		$self->strike if $harms && !between(0, 3) && $harms--;
		wait_until("$table->{name} streams", sub { $self->all_stream }) unless $together;
	}

	# Towards the end changes flow behind the last snapshots.
	my $calm = $self->{until} - rand 2;

	while ($self->writers_run)
	{
		sleep rand 0.5;
		next if time > $calm;
		$self->maintain unless between(0, 9);
		$self->begin_anew unless between(0, 2);
		$self->strike if $harms && $harms--;
	}
	$self->check($seed);
	$self->clean_up;
	return;
}

sub check
{
	my ($self, $seed) = @_;
	my $start = time;

	# Whom a crash left prepared.
	$self->start_writers;
	die 'the publisher ended: ' . $self->{publisher}->log unless $self->{publisher}->running;
	wait_until('all tables stream', sub { $self->all_stream });
	wait_confirmed($self->{node}, primary => $self->{primary}, application => $self->{application});
	$self->say('all is confirmed');

	my $row = application($self->{node}, $self->{application});
	my $replay = is_replayed(
		$self->{nats}, $self->{primary}, [ map { $_->{name} } @{ $self->{tables} } ], "round $self->{round}: the stream makes the tables (SEED=$seed)",
		application => $self->{application}, counter => 'v');

	$self->{count}{$_} += $replay->{count}{$_} for keys %{ $replay->{count} };
	is($row->{state}, 'streaming', 'the application streams');
	is($row->{restarts}, 0, 'its decoder was never restarted') unless $self->{restarted};
	Test::More->builder->is_passing or die "round $self->{round} failed, SEED=$seed\n";
	$self->say('compared');
	return;
}

sub clean_up
{
	my ($self) = @_;

	$self->{publisher}->stop;
	$self->{node}->safe_psql('postgres', "SELECT siphon_drop_application('$self->{application}')");
	$self->{primary}->safe_psql('postgres', 'DROP SEQUENCE ids; DROP TABLE ' . join ', ', map { $_->{name} } @{ $self->{tables} });
	Siphon::NatsClient->new($self->{nats}->url)->api('STREAM.DELETE.siphon_' . $self->{application} =~ s/\./_/gr);
	return;
}

# How often each thing happened, by the phase of the snapshot that it hit.
sub summary
{
	my ($self) = @_;
	my @lines = sprintf '%-28s' . '%21s' x @PHASES, 'happened in phase', @PHASES;

	for my $harm (sort keys %{ $self->{hits} })
	{
		push @lines, sprintf '%-28s' . '%21d' x @PHASES, $harm, map { $self->{hits}{$harm}{$_} // 0 } @PHASES;
	}
	push @lines, join ', ', map { "$self->{count}{$_} x $_" } sort keys %{ $self->{count} };
	return @lines;
}

1;
