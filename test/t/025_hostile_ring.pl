# Whatever another process does to the ring, the server stays up, nothing wrong is published, and nothing is missing in
# the end: stray acknowledgements are not believed, damage is noticed by its checksum, and the ring is given up for a new
# one. The longer part of it: SIPHON_SECONDS=180.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::RingFile;
use Test::More;
use Time::HiRes qw(sleep time);

my $seed = $ENV{SIPHON_SEED} // int(rand(1 << 31));
diag("SIPHON_SEED=$seed");
srand $seed;

my $node = siphon_node('primary');
my $nats = siphon_nats();
my $file = Siphon::RingFile->new($node);
my $ring = $file->{path};

my $kWritten = $file->WRITTEN;
my $kRead = $file->READ;
my $kFlags = $file->FLAGS;
my $kData = $file->DATA;

# A crash of the decoder would end the server: the test nodes do not restart after one.
is($node->safe_psql('postgres', 'SHOW restart_after_crash'), 'off', 'a crash would be seen');

$node->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v text)');
add_table($node, 't');
is((stat $ring)[2] & 0777, 0600, 'the ring is for the server\'s user alone');
is((stat ring_directory($node))[2] & 0777, 0700, 'and so is its directory');

sub scribble { $file->scribble(@_); return }
sub look { return $file->look(@_) }

# Into both acknowledgements: over what they say, and over their check words.
sub scribble_acked { $file->scribble($file->offset_of_acked($_), @_) for 0, 1; return }
sub scribble_check { $file->scribble($file->offset_of_check($_), @_) for 0, 1; return }

# An acknowledgement with the check word that makes it count.
sub forge { $file->acknowledge(@_); return }

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
my $removed = qr/ERROR:  "\Q$ring\E" was removed by another process/;
my $damaged = qr/ERROR:  the publisher found the ring of application "main" damaged/;
my $insert = sub { $node->safe_psql('postgres', "INSERT INTO t (v) SELECT repeat('x', 100) FROM generate_series(1, 100)") };

$insert->();
survives('acked beyond written', sub { forge(1 << 60); $insert->() }, $impossible);
survives('acked just beyond written', sub { forge(16 << 20); $insert->() }, $impossible);
survives('acked unaligned', sub { forge(8); $insert->() }, $impossible);
survives('a cut to nothing', sub { truncate $ring, 0 or die "$ring: $!"; $insert->() }, $truncated);
survives('a cut behind the headers', sub { truncate $ring, 8192 or die "$ring: $!"; $insert->() }, $truncated);
survives('a cut while nothing is written', sub { truncate $ring, 8192 or die "$ring: $!" }, $truncated);
survives('a removed ring', sub { unlink $ring or die "$ring: $!"; $insert->() }, $removed);

# What the decoder does not read can be anything, and an acknowledgement without its check word counts for nothing.
survives('garbage in the worker\'s own header', sub { scribble(8, "\xa5" x 120); $insert->() });
survives('garbage in acked', sub { scribble_acked("\xff" x 8); $insert->() });
survives('a possible position in acked', sub { scribble_acked(pack 'Q', look($kWritten)); $insert->() });
survives('garbage in the rest of the publisher\'s page', sub { scribble($kFlags, "\xa5" x 3000); $insert->() });
survives('garbage in the data', sub { scribble($kData, "\xa5" x 4096); $insert->() });
survives('garbage in read', sub { scribble($kRead, "\xa5" x 8); $insert->() });
my $end = $node->lsn('insert');
$node->poll_query_until('postgres', "SELECT decoded_lsn >= '$end' FROM siphon_applications") or die 'nothing is decoded';
is($node->safe_psql('postgres', 'SELECT confirmed_lsn < decoded_lsn FROM siphon_applications'), 't', 'nothing was confirmed by any of that');
my $pid = application($node)->{decoder_pid};
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
wait_until('another decoder streams', sub { my $row = application($node); $row->{state} eq 'streaming' && $row->{decoder_pid} != $pid });

my $publisher = siphon_publisher($node, $nats);
wait_confirmed($node);
is_replica(replay($nats), $node, 't', ['id'], 'after all that, nothing is missing');

# Damage that the publisher finds: the data between what it has read and what is written.
my $offset = -s $node->logfile;
kill 'STOP', $publisher->{pid};
$insert->();
wait_until('the events are in the ring', sub { application($node)->{ring_used} > 2000 });
scribble($kData + $file->acked % (1 << 20) + 300, "\xa5" x 64);
kill 'CONT', $publisher->{pid};
$node->wait_for_log($damaged, $offset);
wait_confirmed($node);
like($publisher->log, qr/error: \S+decoder.ring is corrupt behind position \d+; nothing after that was published, and a new ring was requested from its worker/,
	'the publisher says what it found, and goes on with another ring');
ok($publisher->running, 'without being started again');
is_replica(replay($nats), $node, 't', ['id'], 'and nothing is missing');

# Damage to what it attaches by.
$publisher->stop;
$insert->();
$offset = -s $node->logfile;
scribble(32, pack 'Q', 12345);
$publisher->start;
$node->wait_for_log($damaged, $offset);
wait_confirmed($node);
ok($publisher->running, 'a ring that no publisher can attach to is replaced, too');

# Under load, at random places, and where it hurts: every word that the publisher writes, what the worker writes but
# does not read back, and what lies between the two.
my $seconds = $ENV{SIPHON_SECONDS} // 8;
my $writers = start_pgbench($node,
	{ w => "\\set n random(1, 40)\nINSERT INTO t (v) SELECT repeat(md5(random()::text), :n) FROM generate_series(1, 3);\n" },
	-c => 3, '--rate' => 300, -T => $seconds);
my %done;
my @harms = (
	[ 'acked', sub { scribble_acked(pack 'Q', look($kWritten)) } ],
	[ 'acked back', sub { scribble_acked(pack 'Q', 0) } ],
	[ 'check word', sub { scribble_check(pack 'Q', int rand 1 << 40) } ],
	[ 'checkpoint', sub { scribble($file->offset_of_acked(int rand 2) + 8 + 8 * int rand 6, pack 'Q', int rand 1 << 40) } ],
	[ 'all words', sub { scribble($file->ACKNOWLEDGEMENTS, pack 'Q18', (look($kWritten)) x 18) } ],
	[ 'read', sub { scribble($kRead, pack 'Q', int rand 1 << 40) } ],
	[ 'written', sub { scribble($kWritten, pack 'Q', look($kWritten) + 16 * int rand 1000) } ],
	[ 'flags', sub { scribble($kFlags, pack 'L4', map { int rand 2 } 1 .. 4) } ],
	[ 'anything of the publisher', sub { scribble(4096 + int rand 384, join '', map { chr rand 256 } 1 .. 1 + rand 64) } ],
	[ 'data', sub { scribble($kData + int rand(1 << 20), join '', map { chr rand 256 } 1 .. 1 + rand 64) } ],
	[ 'data ahead', sub { scribble($kData + ($file->acked + int rand 20000) % (1 << 20), chr(rand 256) x 32) } ],
	[ 'cut', sub { truncate $ring, int rand 16384 } ]);

while (pgbench_runs($writers))
{
	# Where nobody is there to be harmed, a moment later.
	my ($what, $harm) = @{ $harms[ rand @harms ] };

	if (-e $ring && (application($node)->{state} // '') eq 'streaming')
	{
		$done{$what}++;
		$harm->();
	}
	sleep rand 0.1;
	# It may well refuse a ring whose header it finds damaged when it attaches; somebody starts it again.
	$publisher->start unless $publisher->running;
}
finish_pgbench($writers);
is($node->safe_psql('postgres', 'SELECT 1'), '1', 'the server stays up under load');
note(join ', ', map { "$_: $done{$_}" } sort keys %done);

# The last scribbling may have left a ring that no publisher takes. Nothing else is done for it to recover.
wait_until('the slot moves again', sub {
	$publisher->start unless $publisher->running;
	my $row = application($node);
	return $row->{state} eq 'streaming' && $row->{ring_used} == 0 && $publisher->running;
});
$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('in peace')");
wait_confirmed($node);
my $events = replay($nats);
positions_increase($events, 'nothing came twice');
is_replica($events, $node, 't', ['id'], 'nothing is missing, and nothing wrong was published');

done_testing();
