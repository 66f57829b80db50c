# Thousands of tables in one application: figures of what that takes, each beside its target. Whatever the size, all must
# arrive, and the decoder must run all the while; times and memory are printed, as machines differ and may be busy.
#
# Each part makes tables, an application, and what runs beside it, and takes them away.
package Siphon::Scale;

use strict;
use warnings FATAL => 'all';

use FindBin;
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::NatsClient;
use Test::More;
use Time::HiRes qw(sleep time);

# What a part is called in BIG_PARTS.
our %parts = (
	follow => \&follow,
	snapshots => \&snapshots,
	rename => \&rename,
	removal => \&removal,
	drop => \&drop,
	add => \&add,
	leaves => \&leaves,
	events => \&events);
our @order = qw(follow snapshots rename removal drop add leaves events);

sub new
{
	my ($class, $tables) = @_;
	# With fsync, as servers have it: the registry is synced at each change of it.
	my $snapshots = $ENV{BIG_SNAPSHOTS} // 1;
	my $node = siphon_node('primary', conf => qq{
siphon.max_snapshots = $snapshots
fsync = on
shared_buffers = 256MB
max_wal_size = 4GB
max_locks_per_transaction = 4096
siphon.ring_size = 64MB
log_statement = none
});

	return bless { node => $node, nats => siphon_nats(), tables => $tables, things => 0 }, $class;
}

sub run
{
	my ($self, $part) = @_;
	my $restarts;

	note("part $part");
	$self->{node}->safe_psql('postgres', 'DROP SCHEMA IF EXISTS crowd CASCADE; DROP SCHEMA IF EXISTS crowd2 CASCADE');
	$self->{node}->safe_psql('postgres', 'CREATE SCHEMA crowd; CREATE TABLE IF NOT EXISTS other (id serial PRIMARY KEY)');
	$parts{$part}->($self);
	return;
}

# ---- what parts are made of ----

sub sql
{
	my ($self, $sql) = @_;

	return $self->{node}->safe_psql('postgres', $sql);
}

# A statement for each number, in transactions of 500: in one, all tables would be locked.
sub each_table
{
	my ($self, $last, $statement) = @_;

	for (my $first = 1; $first <= $last; $first += 500)
	{
		my $to = $first + 499 < $last ? $first + 499 : $last;

		$self->sql("DO \$do\$ BEGIN FOR i IN $first..$to LOOP EXECUTE replace(\$q\$$statement\$q\$, ':i', i::text); END LOOP; END \$do\$");
	}
	return;
}

sub make_tables
{
	my ($self, $tables) = @_;

	$self->each_table($tables, 'CREATE TABLE crowd.many_:i (id bigserial PRIMARY KEY, v text)');
	return;
}

# An application without tables; with `publisher`, one that publishes it.
sub begin
{
	my ($self, $publisher) = @_;
	my $node = $self->{node};
	my $application = $self->{application} = 'scale' . ++$self->{things};

	$self->sql("SELECT siphon_create_application('$application')");
	wait_for_state($node, 'streaming', $application);
	$self->{publisher} = $publisher && siphon_publisher($node, $self->{nats}, application => $application, name => "publisher_$application");
	return $application;
}

sub finish
{
	my ($self, $what) = @_;
	my $application = $self->{application};

	is(application($self->{node}, $application)->{restarts}, 0, "$what: the decoder was never restarted");
	is($self->{publisher}->stop, 0, "$what: the publisher stops cleanly") if $self->{publisher};
	$self->sql("SELECT siphon_drop_application('$application')");
	return;
}

# Begins to watch processes and the decoder's heartbeat.
sub watch
{
	my ($self) = @_;

	$self->{watches}++;
	$self->{watch} = Siphon::Scale::Watch->new("watch_$self->{watches}", server => $self->{node}, nats => $self->{nats},
		publisher => $self->{publisher}, ring => ring_directory($self->{node}) . "/$self->{application}/decoder.ring")->start;
	return;
}

# Ends that. Returns, by kind of process, MB of its own at the peak and seconds of processor time; and the longest time that
# the decoder did not listen.
sub watched
{
	my ($self) = @_;
	my (%mb, %cpu);

	$self->{watch}->stop;
	my $log = $self->{watch}->log;
	my ($gap) = $log =~ /^gap (\S+)/m or die "no figures: $log";
	for (split /\n/, $log)
	{
		my ($kind, $kB, $seconds) = /^(\w+) (\d+) (\S+)$/ or next;

		($mb{$kind}, $cpu{$kind}) = ($kB / 1024, $seconds);
	}
	return (\%mb, \%cpu, $gap);
}

# Prints a figure beside its target, the most that it should be.
sub figure
{
	my ($what, $value, $target, $unit, $note) = @_;

	diag(sprintf 'figure: %s: %.3g %s, target <= %g: %s%s', $what, $value, $unit, $target, $value <= $target ? 'met' : 'MISSED', $note ? "; $note" : '');
	return;
}

sub cpu_note
{
	my ($cpu, $seconds) = @_;

	return 'processor time: ' . join ', ', map { sprintf '%s %.1f s', $_, $cpu->{$_} } grep { $cpu->{$_} >= 0.05 } sort keys %$cpu;
}

sub listed
{
	my ($self, $where) = @_;

	return $self->sql("SELECT count(*) FROM siphon_tables WHERE application = '$self->{application}'" . ($where ? " AND $where" : ''));
}

# Polled slowly: to read the whole list takes processor time, too.
sub wait_listed
{
	my ($self, $count, $where, $progress) = @_;
	my $next = time + 30;

	wait_until("$count tables are listed" . ($where ? " with $where" : ''), sub {
		my $now = $self->listed($where);

		return 1 if $now == $count;
		die 'the publisher ended: ' . $self->{publisher}->log if $self->{publisher} && !$self->{publisher}->running;
		diag(sprintf '  %d of %d', $now, $count) if $progress && time > $next && ($next = time + 30);
		sleep($count / 20_000);
		return 0;
	}, 7200);
	return;
}

# How long, since now or `start`, until a row of table `other` that is inserted is in the stream. Calls the function meanwhile.
sub seconds_until_other
{
	my ($self, $start, $function) = @_;
	my $client = $self->{client} //= Siphon::NatsClient->new($self->{nats}->url);
	my $subject = "siphon.$self->{application}.events.public.other.0";
	my $sequence = sub {
		my $answer = $client->api("STREAM.MSG.GET.siphon_$self->{application}", { last_by_subj => $subject });

		return $answer->{message} ? $answer->{message}{seq} : 0;
	};
	my $before = $sequence->();

	$self->sql('INSERT INTO other DEFAULT VALUES');
	$start //= time;
	wait_until('the row has arrived', sub {
		$function->() if $function;
		return $sequence->() > $before;
	});
	return time - $start;
}

sub events_written
{
	my ($self) = @_;

	return $self->sql("SELECT events FROM siphon_applications WHERE application = '$self->{application}'");
}

# All tables, listed without snapshots, and each with a change.
sub stream_tables
{
	my ($self, $tables) = @_;
	my $application = $self->{application};

	is($self->sql("SELECT count(*) FROM siphon_add_tables('crowd', '%', '$application', snapshot => false) WHERE added"), $tables, 'all tables are listed');
	add_table($self->{node}, 'other', application => "'$application'");
	$self->each_table($tables, "INSERT INTO crowd.many_:i (v) VALUES ('x')");
	wait_confirmed($self->{node}, application => $application);
	return;
}

# ---- the parts ----

# A publication of all tables is followed. Nothing is published: that is another figure.
sub follow
{
	my ($self) = @_;
	my $tables = $self->{tables};
	my $what = "$tables tables followed";

	$self->make_tables($tables);
	my $application = $self->begin;
	$self->watch;
	sleep 1;
	my $start = time;
	$self->sql("CREATE PUBLICATION p FOR TABLES IN SCHEMA crowd; SELECT siphon_follow_publication('p', '$application')");
	$self->wait_listed($tables);
	my $seconds = time - $start;
	sleep 3;
	my ($mb, $cpu, $gap) = $self->watched;

	figure("$what: listed after", $seconds, 60, 's', cpu_note($cpu));
	figure("$what: memory of the $_", $mb->{$_}, 100, 'MB') for qw(launcher follower);
	figure("$what: the decoder's memory for a table", $mb->{decoder} * 1024 / $tables, 30, 'kB');
	figure("$what: longest time without an answer of the decoder", $gap, 1, 's');
	$self->finish($what);
	$self->sql('DROP PUBLICATION p');
	return;
}

# Snapshots of empty tables: what each takes beside its rows.
sub snapshots
{
	my ($self) = @_;
	my $tables = $self->{tables};
	my $what = "snapshots of $tables empty tables";

	$self->make_tables($tables);
	my $application = $self->begin(1);
	$self->watch;
	my $start = time;
	is($self->sql("SELECT count(*) FROM siphon_add_tables('crowd', '%', '$application') WHERE added"), $tables, "$what: all are listed");
	my $listed = time;
	$self->wait_listed($tables, "state = 'streaming'", 1);
	my $seconds = time - $listed;
	my ($mb, $cpu, $gap) = $self->watched;

	figure($what, $seconds, $tables * 0.03, 's', sprintf('%.1f a second; ', $tables / $seconds) . cpu_note($cpu));
	figure("$what: memory of the launcher", $mb->{launcher}, 100, 'MB');
	figure("$what: longest time without an answer of the decoder", $gap, 1, 's');
	wait_confirmed($self->{node}, application => $application);
	$self->finish($what);
	return;
}

# ALTER SCHEMA RENAME over half of the tables.
sub rename
{
	my ($self) = @_;
	my $tables = $self->{tables} / 2;
	my $what = "a schema of $tables tables is renamed";

	$self->make_tables($tables);
	$self->begin(1);
	$self->stream_tables($tables);
	$self->seconds_until_other;
	$self->watch;
	sleep 1;
	my $before = $self->events_written;
	my $start = time;
	$self->sql('ALTER SCHEMA crowd RENAME TO crowd2');
	my $decoded;
	my $seconds = $self->seconds_until_other($start, sub {
		$decoded //= time - $start if $self->events_written > $before + $tables;
	});
	$decoded //= $seconds;
	wait_confirmed($self->{node}, application => $self->{application});
	sleep 1;
	my ($mb, $cpu, $gap) = $self->watched;

	figure("$what: that is in the ring after", $decoded, 2, 's');
	figure("$what: the next change of another table is in the stream after", $seconds, 2, 's', cpu_note($cpu));
	figure("$what: longest time without an answer of the decoder", $gap, 1, 's');
	is($self->listed("schema_name = 'crowd2'"), $tables, "$what: all have their new name");
	$self->finish($what);
	return;
}

# Half of the tables leave a publication.
sub removal
{
	my ($self) = @_;
	my $tables = $self->{tables} / 2;
	my $what = "$tables tables leave a publication";

	$self->make_tables($tables);
	my $application = $self->begin(1);
	$self->sql("CREATE PUBLICATION p FOR TABLES IN SCHEMA crowd; SELECT siphon_follow_publication('p', '$application')");
	$self->wait_listed($tables, "state = 'streaming'", 1);
	wait_confirmed($self->{node}, application => $application);
	$self->watch;
	sleep 1;
	my $start = time;
	$self->sql('ALTER PUBLICATION p SET TABLE other');
	wait_until('all removals are acknowledged', sub {
		sleep 0.2;
		return slurp_file($self->{node}->data_dir . "/siphon/$application.registry") =~ /"removed": \[\].*"table": "other"/s;
	}, 1800);
	my $seconds = time - $start;
	$self->wait_listed(1, "state = 'streaming'");
	sleep 1;
	my ($mb, $cpu, $gap) = $self->watched;

	figure("$what: longest time without an answer of the decoder", $gap, 1, 's', sprintf('all took %.1f s; ', $seconds) . cpu_note($cpu));
	$self->finish($what);
	$self->sql('DROP PUBLICATION p');
	return;
}

# DROP SCHEMA CASCADE over all tables.
sub drop
{
	my ($self) = @_;
	my $tables = $self->{tables};
	my $what = "a schema of $tables tables is dropped";

	$self->make_tables($tables);
	$self->begin(1);
	$self->stream_tables($tables);
	$self->watch;
	sleep 1;
	$self->sql('DROP SCHEMA crowd CASCADE');
	my $start = time;
	wait_confirmed($self->{node}, application => $self->{application});
	my $seconds = time - $start;
	sleep 1;
	my ($mb, $cpu, $gap) = $self->watched;

	figure("$what: longest time without an answer of the decoder", $gap, 1, 's', sprintf('all took %.1f s; ', $seconds) . cpu_note($cpu));
	$self->finish($what);
	return;
}

# Tables are added, one a second, while others are written: what it does to the time from commit to stream.
sub add
{
	my ($self) = @_;
	my $tables = $self->{tables};
	my $what = "a table is added beside $tables";
	my $seconds = $ENV{BIG_SECONDS} // 20;
	my $node = $self->{node};

	$self->make_tables($tables);
	$self->sql("DROP SCHEMA IF EXISTS late CASCADE; CREATE SCHEMA late; SELECT format('CREATE TABLE late.t_%s (id int PRIMARY KEY)', i) FROM generate_series(1, $seconds) i \\gexec");
	my $application = $self->begin(1);
	$self->stream_tables($tables);

	my $load = start_pgbench($node, { insert => "\\set t random(1, $tables)\nINSERT INTO crowd.many_:t (v) VALUES ('new');\n" },
		'--rate' => 500, -c => 4, -j => 1, -T => 2 * $seconds + 60);
	my $delays = sub {
		my ($during) = @_;
		my $start = time;

		$during->();
		my $end = time;
		wait_confirmed($node, application => $application);
		my ($out) = run_command([ "$ENV{BIG_PROGRAMS}/message-delay", $self->{nats}->url, "siphon_$application", "siphon.$application.events.crowd.>", $start, $end ]);

		return split ' ', $out;
	};

	# Sessions of the load open each table, and the publisher reads what the stream has, in the first seconds.
	sleep 10;
	my @before = $delays->(sub { sleep $seconds });
	$self->watch;
	my @beside = $delays->(sub {
		for my $i (1 .. $seconds)
		{
			my $next = time + 1;

			$self->sql("SELECT siphon_add_table('late.t_$i', '$application')");
			sleep($next - time) if $next > time;
		}
	});
	my ($mb, $cpu, $gap) = $self->watched;
	stop_pgbench($load);
	wait_for_tables($node, application => $application);

	diag(sprintf '  commit to stream: %d events, half after %.1f ms, 99 %% after %.1f ms, all after %.1f ms; while tables were added: %d, %.1f, %.1f, %.1f',
		@before, @beside);
	figure("$what: 99 % of the others arrive after, times that of before", $beside[2] / $before[2], 2, 'x', cpu_note($cpu));
	figure("$what: longest time without an answer of the decoder", $gap, 1, 's');
	$self->finish($what);
	$self->sql('DROP SCHEMA late CASCADE');
	return;
}

# One table of many partitions, 200 below each partitioned one: PostgreSQL makes one in a time that grows with those beside it.
sub leaves
{
	my ($self) = @_;
	my $leaves = $ENV{BIG_LEAVES} // 2 * $self->{tables};
	my $what = "a table of $leaves partitions";
	my $rows = sub { return "INSERT INTO crowd.root SELECT g, '$_[0]' FROM generate_series(1, $leaves) g" };

	$self->sql('CREATE TABLE crowd.root (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)');
	for (my $first = 1; $first <= $leaves; $first += 200)
	{
		my $last = $first + 199 < $leaves ? $first + 199 : $leaves;

		$self->sql("CREATE TABLE crowd.branch_$first PARTITION OF crowd.root FOR VALUES FROM ($first) TO ($last + 1) PARTITION BY RANGE (id);
			SELECT format('CREATE TABLE crowd.leaf_%1\$s PARTITION OF crowd.branch_$first FOR VALUES FROM (%1\$s) TO (%1\$s + 1)', i)
			FROM generate_series($first, $last) i \\gexec");
	}
	my $application = $self->begin(1);
	my $start = time;
	$self->sql("SELECT siphon_add_table('crowd.root', '$application')");
	$self->wait_listed(1, "state = 'streaming'");
	diag(sprintf '  its snapshot took %.1f s', time - $start);
	$self->sql("SELECT siphon_add_table('other', '$application', snapshot => false)");
	$self->watch;
	sleep 1;
	$start = time;
	$self->sql($rows->('first'));
	my $written = time;
	wait_confirmed($self->{node}, application => $application);
	diag(sprintf '  a row in each was written in %.1f s and acknowledged %.1f s later', $written - $start, time - $written);
	sleep 1;
	my ($mb, $cpu, $gap) = $self->watched;
	figure("$what: longest time without an answer of the decoder", $gap, 1, 's', 'a row in each; ' . cpu_note($cpu));
	figure("$what: the decoder's memory for a partition", $mb->{decoder} * 1024 / $leaves, 30, 'kB');

	$self->watch;
	sleep 1;
	$self->sql("CREATE TABLE crowd.more PARTITION OF crowd.root FOR VALUES FROM ($leaves + 1) TO ($leaves + 2); INSERT INTO crowd.root VALUES ($leaves + 1, 'attached')");
	$start = time;
	diag(sprintf '  another table\'s change behind an attached partition came after %.2f s', $self->seconds_until_other);
	sleep 1;
	($mb, $cpu, $gap) = $self->watched;
	figure("$what: longest time without an answer of the decoder", $gap, 1, 's', 'one more is attached; ' . cpu_note($cpu));

	my $count = $self->{nats}->subjects($application)->{"siphon.$application.events.crowd.root.0"};
	ok($count, "$what: its changes have arrived");
	$self->finish($what);
	return;
}

# The decoder's processor time for an event, of many tables and of one. Both in transactions of 500 rows.
sub events
{
	my ($self) = @_;
	my $tables = $ENV{BIG_EVENT_TABLES} // 2000;
	my $what = "an event of one of $tables tables";
	my $events = 200_000;
	my %seconds;

	$self->make_tables($tables);
	my $application = $self->begin(1);
	$self->stream_tables($tables);
	# As it is by default: with less, a package has few events, and what a package takes is most of it.
	$self->sql('ALTER SYSTEM SET siphon.flush_interval = 100');
	$self->{node}->reload;
	for my $round (1 .. 5)
	{
		for my $of (1, $tables)
		{
			my $each = $events / $of;
			my $statement = $of == 1 ? "INSERT INTO crowd.many_1 (v) SELECT 'v' FROM generate_series(1, 500)"
			  : "FOR j IN 1..500 LOOP n := n % $of + 1; EXECUTE format('INSERT INTO crowd.many_%s (v) VALUES (''v'')', n); END LOOP";

			# Written first, so that it is decoded in one go.
			kill 'STOP', my $decoder = application($self->{node}, $application)->{decoder_pid};
			$self->sql("DO \$do\$ DECLARE n int := 0; BEGIN FOR i IN 1..$events / 500 LOOP $statement; COMMIT; END LOOP; END \$do\$");
			my $before = cpu_of_decoder($decoder);
			kill 'CONT', $decoder;
			wait_confirmed($self->{node}, application => $application);
			push @{ $seconds{$of} }, cpu_of_decoder($decoder) - $before;
		}
	}
	my ($one, $many) = map { (sort { $a <=> $b } @{ $seconds{$_} })[2] } 1, $tables;

	diag(sprintf '  one table: %.3f us of the decoder\'s processor time for an event; %d tables: %.3f us', $one / $events * 1e6, $tables, $many / $events * 1e6);
	figure("$what, times one of one table", $many / $one, 1.3, 'x', 'median of 5');
	$self->sql('ALTER SYSTEM RESET siphon.flush_interval');
	$self->{node}->reload;
	$self->finish($what);
	return;
}

sub cpu_of_decoder
{
	my ($pid) = @_;
	# In nanoseconds: others count by ticks of 10 ms, of which a round has ten.
	my ($nanoseconds) = slurp_file("/proc/$pid/schedstat") =~ /^(\d+)/;

	return $nanoseconds / 1e9;
}

# Watches processes, see test/scale-watch.
package Siphon::Scale::Watch;

use parent -norequire, 'Siphon::Process';

use PostgreSQL::Test::Utils;

sub command
{
	my ($self) = @_;
	my ($postmaster) = slurp_file($self->{server}->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	my $publisher = $self->{publisher};

	return ("$FindBin::RealBin/../scale-watch", $postmaster, $self->{ring}, "nats=$self->{nats}{pid}", $publisher ? "publisher=$publisher->{pid}" : ());
}

1;
