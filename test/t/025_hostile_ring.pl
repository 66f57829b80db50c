# Whatever another process does to the ring, the server stays up: the decoder says what happened, and starts again with
# a new ring. Nothing is lost by it.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;
use Time::HiRes qw(sleep);

my $node = siphon_node('primary');
my $nats = siphon_nats();
my $ring = ring_directory($node) . '/main/decoder.ring';

# Offsets in the ring's header, see src/ring.h: the publisher's page has read first, and acked in the cache line behind.
my $kRead = 4096;
my $kAcked = 4096 + 64;

# A crash of the decoder would end the server: the test nodes do not restart after one.
is($node->safe_psql('postgres', 'SHOW restart_after_crash'), 'off', 'a crash would be seen');

$node->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v text)');
add_table($node, 't');
is((stat $ring)[2] & 0777, 0600, 'the ring is for the server\'s user alone');
is((stat ring_directory($node))[2] & 0777, 0700, 'and so is its directory');

sub scribble
{
	my ($offset, $bytes) = @_;

	open my $file, '+<:raw', $ring or die "$ring: $!";
	seek $file, $offset, 0;
	print $file $bytes;
	close $file or die "$ring: $!";
	return;
}

# Does something to the ring under load, and expects the decoder to end with this message and to come back.
sub survives
{
	my ($what, $damage, $message) = @_;
	my $before = wait_for_state($node, 'streaming');
	my $offset = -s $node->logfile;

	$damage->();
	if ($message)
	{
		$node->wait_for_log($message, $offset);
		wait_until("$what: another decoder streams",
			sub { my $row = application($node); $row->{state} eq 'streaming' && $row->{decoder_pid} != $before->{decoder_pid} });
		pass("$what: the decoder says what happened, and starts again");
	}
	is($node->safe_psql('postgres', 'SELECT 1'), '1', "$what: the server stays up");
	return;
}

# The publisher is not attached, so that the damage is done by nobody but us, and found by the decoder.
my $impossible = qr/ERROR:  an impossible position was written into the ring of application "main"/;
my $truncated = qr/ERROR:  the ring of application "main" was truncated by another process/;
my $insert = sub { $node->safe_psql('postgres', "INSERT INTO t (v) SELECT repeat('x', 100) FROM generate_series(1, 100)") };

$insert->();
survives('acked beyond written', sub { scribble($kAcked, pack('Q', 1 << 60)); $insert->() }, $impossible);
survives('acked just beyond written', sub { scribble($kAcked, pack('Q', 16 << 20)); $insert->() }, $impossible);
survives('all bits of acked', sub { scribble($kAcked, "\xff" x 8); $insert->() }, $impossible);
survives('a cut to nothing', sub { truncate $ring, 0 or die "$ring: $!"; $insert->() }, $truncated);
survives('a cut behind the headers', sub { truncate $ring, 8192 or die "$ring: $!"; $insert->() }, $truncated);
survives('a removed ring', sub { unlink $ring or die "$ring: $!"; $insert->() });
$node->safe_psql('postgres', "SELECT pg_terminate_backend(decoder_pid) FROM siphon_applications");
wait_until('the ring is there again', sub { -e $ring });

# What the decoder does not read can be anything.
survives('garbage in the worker\'s own header', sub { scribble(8, "\xa5" x 500); $insert->() });
survives('garbage in the rest of the publisher\'s page', sub { scribble($kAcked + 8, "\xa5" x 3000); $insert->() });
survives('garbage in the data', sub { scribble(8192, "\xa5" x 4096); $insert->() });
survives('garbage in read', sub { scribble($kRead, "\xa5" x 8); $insert->() });
my $pid = application($node)->{decoder_pid};
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
wait_until('another decoder streams', sub { my $row = application($node); $row->{state} eq 'streaming' && $row->{decoder_pid} != $pid });

my $publisher = siphon_publisher($node, $nats);
wait_confirmed($node);
is_replica(first_of_each(replay($nats)), $node, 't', ['id'], 'after all that, nothing is missing');

# The same under load, with a publisher, at random places.
my $seed = $ENV{SIPHON_SEED} // int(rand(1 << 31));
diag("SIPHON_SEED=$seed");
srand $seed;
my $writers = start_pgbench($node, { w => "INSERT INTO t (v) SELECT 'load' FROM generate_series(1, 3);\n" },
	-c => 3, '--rate' => 150, -T => 6);
my $rounds = 0;
while (pgbench_runs($writers))
{
	if (-e $ring)
	{
		if (rand() < 0.2)
		{
			truncate $ring, int rand 16384;
		}
		else
		{
			scribble(int(rand 20000), join '', map { chr rand 256 } 1 .. 1 + rand 64);
		}
	}
	$rounds++;
	sleep rand 0.2;
	# A publisher may well refuse such a ring; somebody starts it again.
	$publisher->start unless $publisher->running;
}
finish_pgbench($writers);
is($node->safe_psql('postgres', 'SELECT 1'), '1', "the server stays up under load, after $rounds rounds of scribbling");

# Once the scribbling ends, a new ring works. What was acknowledged by a forged but possible position may be missing.
$publisher->stop;
$node->restart;
$publisher->start;
$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('in peace')");
wait_confirmed($node);
is(scalar(grep { ($_->{columns}{v} // '') eq 'in peace' } @{ replay($nats) }), 1, 'and streams when it is left in peace');

done_testing();
