# How long it takes from the publisher's start to its first message, on a large stream and with many tables, and what the broker
# reads for it. `make bench-start` runs it: a stream of MEGABYTES, STATES tables of which the bucket has a state, ROUNDS starts of
# a broker that has just been started itself and of which the kernel has nothing in memory. Needs MEGABYTES on the disk.
use strict;
use warnings FATAL => 'all';

use File::Find;
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Broker;
use Siphon::ManyStates;
use Test::More;
use Time::HiRes qw(time);

my ($megabytes, $states, $rounds) = ($ENV{MEGABYTES} // 2000, $ENV{STATES} // 10_000, $ENV{ROUNDS} // 5);
# What is promised, in seconds.
my $limit = 5;
# Rows of 128 KB that become no smaller: so many megabytes in a transaction, and between two looks at the slot.
my ($piece, $batch) = (16, 256);

my $node = states_node();
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

$node->safe_psql('postgres', q{
	CREATE TABLE t (id bigserial PRIMARY KEY, noise bytea);
	ALTER TABLE t ALTER noise SET STORAGE EXTERNAL;
	CREATE TABLE noise AS
	SELECT decode(string_agg(md5(random()::text), ''), 'hex') AS noise FROM generate_series(1, 8192)});
add_table($node, 'model', snapshot => 'true');
add_table($node, 't', partitions => 300);
wait_for_tables($node);
for (my $done = 0; $done < $megabytes; $done += $batch)
{
	$node->safe_psql('postgres',
		"INSERT INTO t (noise) SELECT noise FROM noise, generate_series(1, $piece * 8)") for 1 .. $batch / $piece;
	wait_confirmed($node);
	$node->safe_psql('postgres', 'TRUNCATE t; CHECKPOINT');
	diag(sprintf '%d MB of %d', $done + $batch, $megabytes) if $done % ($batch * 8) == 0;
}
wait_confirmed($node);
write_states($nats, $states);

my $stream = $nats->stream->{state};

# The broker's files leave the kernel's memory.
sub forget_files
{
	find({ no_chdir => 1, wanted => sub { system_or_bail('dd', "if=$_", 'iflag=nocache', 'count=0', 'status=none') if -f } }, $nats->{store});
	return;
}

sub read_so_far
{
	my ($bytes) = slurp_file("/proc/$nats->{pid}/io") =~ /^rchar: (\d+)$/m;

	return $bytes;
}

my @seconds;

for my $round (1 .. $rounds)
{
	$publisher->stop;
	$nats->stop;
	forget_files();
	$nats->start;
	wait_until('the broker is there', sub { ($nats->stream->{state}{bytes} // 0) >= $stream->{bytes} });

	my $last = $nats->last_sequence;
	my $read = read_so_far();
	my $since = time;

	$node->safe_psql('postgres', 'INSERT INTO p (filler) VALUES (NULL); INSERT INTO t DEFAULT VALUES');
	$publisher->start;
	# A fence of the publisher is the first.
	wait_until('a message is published', sub { $nats->last_sequence > $last + 1 });
	push @seconds, time - $since;
	diag(sprintf 'round %d: %.2f s to the first message; the broker has read %.1f MB', $round, $seconds[-1], (read_so_far() - $read) / 1e6);
	wait_confirmed($node);
}
@seconds = sort { $a <=> $b } @seconds;
diag(sprintf '%.1f GB in %d messages on %d subjects, %d states: median %.2f s, slowest %.2f s', $stream->{bytes} / 1e9,
	$stream->{messages}, $stream->{num_subjects}, $states, $seconds[ $#seconds / 2 ], $seconds[-1]);
cmp_ok($seconds[ $#seconds / 2 ], '<=', $limit, "the first message comes within $limit s");

done_testing();
