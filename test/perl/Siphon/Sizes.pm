# Big things on their way to JetStream: a transaction of many rows, rows larger than a ring, many tables. Each must arrive
# whole, and be put together again from parts; and no process may take more memory for it than is unavoidable. The sizes
# are the caller's: a test of the suite takes moderate ones, `make big` those of the real world.
#
# Each thing has an application, and so a decoder and a publisher, of its own, so that their peaks of memory are its.
package Siphon::Sizes;

use strict;
use warnings FATAL => 'all';

use Digest::MD5 qw(md5_hex);
use FindBin;
use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;
use Time::HiRes qw(time);


# In MB: what a process has for itself whatever it does. A server's process begins with about 4, and fills caches; the
# publisher has its messages under way, which NATS' client has once more.
my $DECODER = 48;
my $PUBLISHER = 224;
# What decoding itself may keep in memory of transactions, before it puts them on disk.
my $WORK_MEM = 64;

sub new
{
	my ($class) = @_;
	my $node = siphon_node('primary', conf => qq{
shared_buffers = 64MB
max_wal_size = 4GB
max_locks_per_transaction = 2048
logical_decoding_work_mem = ${WORK_MEM}MB
log_statement = none
});

	return bless { node => $node, nats => siphon_nats(), things => 0 }, $class;
}

# A decoder with a ring of this size will publish the table; returns its application.
sub begin
{
	my ($self, $ring_size) = @_;
	my $node = $self->{node};
	my $application = 'thing' . ++$self->{things};

	$node->safe_psql('postgres', "ALTER SYSTEM SET siphon.ring_size = '$ring_size'");
	$node->reload;
	$node->safe_psql('postgres', "SELECT siphon_create_application('$application')");
	wait_for_state($node, 'streaming', $application);
	$self->{publisher} = siphon_publisher($node, $self->{nats}, application => $application, name => "publisher_$application");
	$self->{memory} = Siphon::Sizes::Memory->new("memory_$application", server => $node, publisher => $self->{publisher})->start;
	$self->{start} = time;
	return $application;
}

# Waits until all has arrived.
sub arrived
{
	my ($self, $application, $what) = @_;

	wait_until("$what has arrived", sub {
		die 'the publisher ended: ' . $self->{publisher}->log unless $self->{publisher}->running;
		return $self->{node}->safe_psql('postgres', "SELECT bool_and(state = 'streaming') FROM siphon_tables WHERE application = '$application'") eq 't';
	});
	$self->{lsn} = wait_confirmed($self->{node}, application => $application);
	$self->{seconds} = time - $self->{start};
	return;
}

# Takes the application away, and tests the peaks of memory against these limits in MB.
sub finish
{
	my ($self, $application, $what, %limits) = @_;

	$self->{memory}->stop;
	diag(sprintf '%s: arrived after %.1f s', $what, $self->{seconds});
	my %peak = $self->{memory}->log =~ /^(.*?)(?: \w+)?=(\d+,\d+)$/gm;
	for my $name (sort keys %peak)
	{
		my ($rss, $anonymous) = map { $_ / 1024 } split /,/, $peak{$name};
		my ($kind) = grep { $name =~ /$_/ } keys %limits;

		diag(sprintf '  %-28s peak RSS %6.0f MB, its own %6.0f MB', $name, $rss, $anonymous);
		# Sanitizers keep memory that was freed.
		cmp_ok($anonymous, '<', $limits{$kind}, "$what: memory of $name is bounded")
		  if defined $kind && !grep { /^[AT]SAN_OPTIONS$/ } keys %ENV;
	}
	is(application($self->{node}, $application)->{restarts}, 0, "$what: the decoder was never restarted");
	is($self->{publisher}->stop, 0, "$what: the publisher stops cleanly");
	$self->{node}->safe_psql('postgres', "SELECT siphon_drop_application('$application')");
	return;
}

# Gives the function each line that siphon-tail prints.
sub each_line
{
	my ($self, $application, $function) = @_;

	open my $tail, '-|', 'siphon-tail', '--from-start', '--stop-at-end', '--nats-url', $self->{nats}->url, '--application', $application
	  or die "siphon-tail: $!";
	while (my $line = <$tail>)
	{
		$function->($line);
	}
	close $tail or die "siphon-tail failed: $?";
	return;
}

# One transaction inserts so many rows.
sub transaction
{
	my ($self, $rows) = @_;
	my $node = $self->{node};
	my $what = "a transaction of $rows rows";

	$node->safe_psql('postgres', 'CREATE TABLE narrow (id int PRIMARY KEY, v int)');
	my $application = $self->begin('1MB');
	add_table($node, 'narrow', application => "'$application'");
	$node->safe_psql('postgres', "INSERT INTO narrow SELECT g, g % 1000 FROM generate_series(1, $rows) g");
	diag(sprintf '%s: written in %.1f s', $what, time - $self->{start});
	$self->arrived($application, $what);

	my ($count, $wrong, $lsn, $start) = (0, 0, undef, time);
	$self->each_line($application, sub {
		my ($of, $ordinal, $id, $v) = $_[0] =~ /"INSERT".*"position":"([0-9A-F]{16})\/(\d+)".*"columns":\{"id":(\d+),"v":(\d+)\}\}$/;

		$count++;
		$lsn //= $of;
		$wrong++ unless defined $v && $of eq $lsn && $ordinal == $count && $id == $count && $v == $id % 1000;
	});
	diag(sprintf '%s: read and compared in %.1f s', $what, time - $start);
	is($count, $rows, "$what: all rows arrived");
	is($wrong, 0, "$what: in their order, at their positions, with their values");
	$self->finish($application, $what, decoder => $DECODER + $WORK_MEM, publisher => $PUBLISHER);
	$node->safe_psql('postgres', 'DROP TABLE narrow');
	return;
}

# Rows of so many MB, in every kind of event, through a ring of this size.
sub rows
{
	my ($self, $megabytes, $ring_size) = @_;
	my $node = $self->{node};
	my $what = "rows of $megabytes MB through a ring of $ring_size";
	my $pieces = $megabytes * 1024 * 1024 / 32;
	my $text = sub { "(SELECT string_agg(md5(g || '$_[0]'), '') FROM generate_series(1, $pieces) g)" };
	my $md5 = sub { $node->safe_psql('postgres', "SELECT md5(v) FROM wide WHERE id = $_[0]") };

	$node->safe_psql('postgres', <<"SQL");
CREATE TABLE wide (id int PRIMARY KEY, n int, v text);
ALTER TABLE wide REPLICA IDENTITY FULL;
ALTER TABLE wide ALTER v SET STORAGE EXTERNAL;
INSERT INTO wide VALUES (1, 0, @{[ $text->('a') ]});
SQL
	my $a = $md5->(1);
	my $application = $self->begin($ring_size);
	$node->safe_psql('postgres', "SELECT siphon_add_table('wide', '$application', workers => 1)");
	$self->arrived($application, "$what, a snapshot");
	$node->safe_psql('postgres', "INSERT INTO wide VALUES (2, 0, @{[ $text->('b') ]})");
	my $b = $md5->(2);
	$node->safe_psql('postgres', "UPDATE wide SET v = @{[ $text->('c') ]} WHERE id = 2");
	my $c = $md5->(2);
	$node->safe_psql('postgres', 'UPDATE wide SET n = 1 WHERE id = 1');
	$node->safe_psql('postgres', 'DELETE FROM wide WHERE id = 2');
	$self->arrived($application, $what);

	my @came;
	$self->each_line($application, sub {
		my ($operation) = $_[0] =~ /"operation":"([A-Z-]+)"/;
		my @values;

		push @values, md5_hex($1) while $_[0] =~ /"v":"([0-9a-f]*)"/g;
		push @came, join ' ', $operation, @values;
	});
	is_deeply(\@came,
		[ 'SNAPSHOT-BEGIN', "SNAPSHOT $a", 'SNAPSHOT-END', "INSERT $b", "UPDATE $c $b", "UPDATE $a $a", "DELETE $c" ],
		"$what: all values are whole");

	my $parts = $self->{nats}->subjects($application)->{"siphon.$application.events.public.wide.0"};
	cmp_ok($parts, '>=', 7 * $megabytes, "$what: they came in parts");
	diag("$what: $parts messages");
	is_replayed($self->{nats}, $node, ['wide'], "$what: the stream makes the table", application => $application);
	# The old row is in the WAL record, which is put together and decoded; the new one in chunks, which are put together;
	# and then both are in the event.
	$self->finish(
		$application, $what,
		decoder => $DECODER + $WORK_MEM + 7.5 * $megabytes,
		snapshot => $DECODER + 4 * $megabytes,
		publisher => $PUBLISHER);
	$node->safe_psql('postgres', 'DROP TABLE wide');
	return;
}

# A row that no message can hold: its table stops, and says so, and the others go on.
sub too_large
{
	my ($self) = @_;
	my $node = $self->{node};
	my $what = 'a change of 2.2 GB';

	# Compressed, they are small in the table and in the WAL.
	$node->safe_psql('postgres', q{
CREATE TABLE immense (id int PRIMARY KEY, n int, a text, b text);
ALTER TABLE immense REPLICA IDENTITY FULL;
CREATE TABLE other (id int PRIMARY KEY);
INSERT INTO immense VALUES (1, 0, repeat('a', 560000000));
UPDATE immense SET b = repeat('b', 560000000);
});
	my $application = $self->begin('1MB');
	add_table($node, $_, application => "'$application'", snapshot => 'false') for qw(immense other);
	# Old row and new one.
	$node->safe_psql('postgres', q{
INSERT INTO immense VALUES (2);
UPDATE immense SET n = 1 WHERE id = 1;
INSERT INTO immense VALUES (3);
INSERT INTO other VALUES (1);
});
	wait_confirmed($node, application => $application);
	like($node->safe_psql('postgres', "SELECT state || ': ' || reason FROM siphon_tables WHERE application = '$application' AND table_name = 'immense'"),
		qr/^failed: a row cannot be published: a change of 22\d{8} bytes is larger than a message can be$/, "$what: the table stops");
	my @came;
	$self->each_line($application, sub { push @came, $_[0] =~ /"table":"(\w+)".*"columns":\{"id":(\d+)/ });
	is_deeply(\@came, [ 'immense', 2, 'other', 1 ], "$what: what was before it, and the other table, come");
	is($self->{publisher}->stop, 0, "$what: the publisher stops cleanly");
	$self->{memory}->stop;
	$node->safe_psql('postgres', "SELECT siphon_drop_application('$application')");
	$node->safe_psql('postgres', 'DROP TABLE immense, other');
	return;
}

# So many tables of one application, with changes of all in one transaction, which are renamed in another one.
sub tables
{
	my ($self, $tables) = @_;
	my $node = $self->{node};
	my $what = "$tables tables in one transaction";
	my $each = sub {
		my ($first, $last, @statements) = @_;

		return join "\n", 'DO $$ BEGIN',
		  (map { "FOR i IN $first..$last LOOP EXECUTE replace(\$q\$$_\$q\$, ':i', i::text); END LOOP;" } @statements), 'END $$';
	};

	$node->safe_psql('postgres', 'CREATE SCHEMA crowd');
	# In one transaction they would all be locked.
	for (my $first = 1; $first <= $tables; $first += 500)
	{
		my $last = $first + 499 < $tables ? $first + 499 : $tables;

		$node->safe_psql('postgres', $each->($first, $last, 'CREATE TABLE crowd.many_:i (id int PRIMARY KEY, v text)'));
	}
	my $application = $self->begin('1MB');
	my $hundred = $tables < 1000 ? $tables / 10 : 100;
	my @seconds;

	# One by one, each in a transaction of its own.
	for my $first (map { $_ * $hundred + 1 } 0 .. $tables / $hundred - 1)
	{
		my $start = time;

		$node->safe_psql('postgres', join ";\n", map { "SELECT siphon_add_table('crowd.many_$_', '$application', snapshot => false)" } $first .. $first + $hundred - 1);
		push @seconds, (time - $start) / $hundred;
	}
	diag(sprintf '%s: adding one took %.1f ms at the beginning, %.1f ms at the end', $what, $seconds[0] * 1000, $seconds[-1] * 1000);
	wait_confirmed($node, application => $application);
	$self->{start} = time;
	$node->safe_psql('postgres',
		$each->(1, $tables, q{INSERT INTO crowd.many_:i VALUES (:i, repeat('x', 100))}, q{UPDATE crowd.many_:i SET v = 'y'}));
	$self->arrived($application, $what);

	my ($count, $wrong, $lsn, %ordinals) = (0, 0);
	$self->each_line($application, sub {
		my ($number, $operation, $of, $ordinal, $id) =
		  $_[0] =~ /"table":"many_(\d+)".*"operation":"([A-Z]+)".*"position":"([0-9A-F]{16})\/(\d+)".*"columns":\{"id":(\d+),/;

		$count++;
		$lsn //= $of;
		$wrong++ unless defined $id && $of eq $lsn && $id == $number && $ordinal == $number + ($operation eq 'UPDATE' ? $tables : 0);
		$ordinals{$ordinal} = 1;
	});
	is($count, 2 * $tables, "$what: all changes arrived");
	is(scalar(keys %ordinals), 2 * $tables, "$what: each once");
	is($wrong, 0, "$what: at their positions, with their values");
	my $start = time;
	$node->safe_psql('postgres', 'ALTER SCHEMA crowd RENAME TO renamed');
	wait_confirmed($node, application => $application);
	diag(sprintf '%s: that they were renamed is acknowledged after %.1f s', $what, time - $start);
	# The catalog caches have some kB for each table, and so has the list of tables.
	$self->finish($application, $what, decoder => 2 * ($DECODER + $WORK_MEM) + $tables * 0.05, publisher => $PUBLISHER);
	return;
}

# Watches memory, see test/memory-peaks.
package Siphon::Sizes::Memory;

use parent -norequire, 'Siphon::Process';

use PostgreSQL::Test::Utils;

sub command
{
	my ($self) = @_;
	my ($postmaster) = slurp_file($self->{server}->data_dir . '/postmaster.pid') =~ /^(\d+)/;

	return ("$FindBin::RealBin/../memory-peaks", $postmaster, "publisher=$self->{publisher}{pid}");
}

1;
