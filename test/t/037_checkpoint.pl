# What the publisher's stream held when it acknowledged something is durable on the server before the slot moves past that,
# and is handed to the next publisher: after a restart of the decoder, of the server, and a crash. The publisher is played
# by the test, which writes acknowledgements into the ring with checkpoints of its own.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::CheckpointFile;
use Siphon::RingFile;
use Test::More;

my $node = siphon_node('primary', conf => 'fsync = on');
my $ring = Siphon::RingFile->new($node);
my $file = Siphon::CheckpointFile->new($node);
my $path = $file->{path};

$node->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v text); CREATE TABLE other (v int)');
add_table($node, 't');

# Six words that follow from a number, so that each can be told from the others. The first is large: it is a time.
my $given = 0;

sub checkpoint_of
{
	my ($number) = @_;

	return [ map { (1 << 63) + 16 * $number + $_ } 0 .. 5 ];
}

my $none = [ (0) x 6 ];

sub confirmed
{
	return $node->safe_psql('postgres', "SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots WHERE slot_name = 'siphon_main'");
}

# Has the decoder write an event, and acknowledges it. Returns where its transaction ends in the WAL.
sub insert_and_acknowledge
{
	my (@checkpoint) = @_;
	my $written = $ring->look($ring->WRITTEN);
	my $lsn = $node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('x'); SELECT pg_current_wal_insert_lsn() - '0/0'");

	wait_until('the event is in the ring, with its watermark',
		sub { $node->safe_psql('postgres', "SELECT decoded_lsn - '0/0' >= $lsn FROM siphon_applications") eq 't' && $ring->look($ring->WRITTEN) > $written });
	$ring->acknowledge($ring->look($ring->WRITTEN), @checkpoint);
	return $lsn;
}

# The same, until the slot has moved past it: the watermark may come a moment later than the event.
sub publish
{
	my $checkpoint = checkpoint_of(++$given);
	my $lsn = insert_and_acknowledge(@$checkpoint);

	wait_until(
		'the slot is past it',
		sub {
			$ring->acknowledge($ring->look($ring->WRITTEN), @$checkpoint);
			return confirmed() >= $lsn;
		});
	return $checkpoint;
}

sub origin
{
	return wait_until('the decoder says what its events continue', sub { $ring->origin });
}

# ---- what the origin says ------------------------------------------------------------------------------------------

my $origin = origin();
is($origin->{system_identifier}, $node->safe_psql('postgres', 'SELECT system_identifier FROM pg_control_system()'), 'the origin has the system identifier');
is($origin->{database}, $node->safe_psql('postgres', 'SELECT oid FROM pg_database WHERE datname = current_database()'), 'and the database');
cmp_ok($origin->{confirmed}, '>', 0, 'and where the slot stood');
cmp_ok($origin->{confirmed}, '<=', confirmed(), 'when it began');
is_deeply($origin->{checkpoint}, $none, 'there is no checkpoint yet');
is($origin->{take_over}, 0, 'nothing is taken over');
ok(!-e $path, 'and there is no file');

# ---- it is durable before the slot moves ---------------------------------------------------------------------------

# A publisher that gives none, as of a stream that can't be lost.
my $lsn = insert_and_acknowledge();
wait_until('the slot moves', sub { $ring->acknowledge($ring->look($ring->WRITTEN)); confirmed() >= $lsn });
ok(!-e $path, 'what has no checkpoint needs no file');

my $checkpoint = publish();
is_deeply($file->checkpoint, $checkpoint, 'the checkpoint is in the file');
is((stat $path)[2] & 0777, 0600, 'which is the server\'s alone');

# Under load of other tables, whenever the slot has moved past an event, the file has what came with its acknowledgement.
my $writers = start_pgbench($node, { w => "INSERT INTO other VALUES (1);\n" }, -c => 2, -T => 60);

for (1 .. 10)
{
	$checkpoint = publish();
	is_deeply($file->checkpoint, $checkpoint, "the slot has moved, and the file has the checkpoint: $_");
}
stop_pgbench($writers);

# Where it can't be made durable, the slot does not move.
$checkpoint = publish();
my $slot = confirmed();
my $log = -s $node->logfile;
chmod 0, $path or die "$path: $!";
insert_and_acknowledge(@{ checkpoint_of($given + 1) });
$node->wait_for_log(qr/ERROR:  could not open file "siphon\/main.checkpoint": Permission denied/, $log);
is(confirmed(), $slot, 'a checkpoint that can\'t be written keeps the slot where it is');
chmod 0600, $path or die "$path: $!";
wait_for_state($node, 'streaming');
is_deeply(origin()->{checkpoint}, $checkpoint, 'the next decoder hands on what is durable');

# ---- it is handed on -----------------------------------------------------------------------------------------------

sub restarts
{
	my ($what, $restart) = @_;
	my $confirmed = confirmed();
	my $published = publish();
	my $old = $ring->look($ring->EPOCH);

	$restart->();
	wait_until("$what: there is another ring", sub { my $epoch = $ring->look($ring->EPOCH); $epoch && $epoch != $old });
	is_deeply(origin()->{checkpoint}, $published, "$what: the checkpoint is handed on");
	# Before PostgreSQL 17 a shutdown does not write a slot of which nothing but this has moved.
	cmp_ok(origin()->{confirmed}, '>', $confirmed, "$what: so is where the slot stood")
	  if $what eq 'a decoder that ends' || ($what ne 'a crash' && $node->pg_version >= 17);
	return;
}

restarts('a decoder that ends', sub { $node->safe_psql('postgres', 'SELECT pg_terminate_backend(decoder_pid) FROM siphon_applications') });
restarts('a restart of the server', sub { $node->restart });
restarts('a crash', sub { $node->stop('immediate'); $node->start });

# ---- what a crash, or a disk, leaves of the file -------------------------------------------------------------------

# What was written last is torn: the one before counts.
my $before = publish();
$checkpoint = publish();
my $good = slurp_file($path);
restarts_with_file('a torn entry', $file->torn($good), sub { is_deeply(origin()->{checkpoint}, $before, "$_[0]: the one before counts") });

for my $case (
	[ 'nothing', '', qr/checkpoint file "siphon\/main.checkpoint" is damaged/, qr/Run SELECT siphon_resync_application\('main'\) to resync all tables/ ],
	[ 'garbage', "\xa5" x length $good, qr/checkpoint file "siphon\/main.checkpoint" is damaged/, qr/remove the file instead/ ],
	[ 'another format', $good =~ s/\Achkpoint\x01/chkpoint\x02/r, qr/checkpoint file "siphon\/main.checkpoint" has format version 2/, qr/Install the version of siphon that wrote it/ ])
{
	my ($what, $content, $reason, $hint) = @$case;

	restarts_with_file(
		$what, $content,
		sub {
			my $row = wait_until("$what: there is a reason", sub { my $now = application($node); ($now->{reason} // '') =~ /checkpoint/ && $now });

			like($row->{reason}, $reason, "$what: the reason");
			like($row->{hint}, $hint, "$what: and the hint");
			ok(slurp_file($path) eq $content, "$what: the file is left alone");
		});
}
write_file($path, $good);
wait_for_state($node, 'streaming');
is_deeply(origin()->{checkpoint}, $checkpoint, 'a file that was put back counts');

# The server is down meanwhile.
sub restarts_with_file
{
	my ($what, $content, $look) = @_;

	$node->stop;
	write_file($path, $content);
	unlink $ring->{path};
	$node->start;
	$look->($what);
	return;
}

# ---- it goes with its history --------------------------------------------------------------------------------------

my $resync = sub { $node->safe_psql('postgres', "SELECT siphon_resync_application('main')"); wait_for_state($node, 'streaming') };

restarts_with_file('a damaged one', "\xa5" x 100,
	sub { wait_until('it is damaged', sub { (application($node)->{reason} // '') =~ /damaged/ }) });
$resync->();
is_deeply(origin()->{checkpoint}, $none, 'a new history has no checkpoint, and needs none that could be read');
is_deeply(publish(), $file->checkpoint, 'it gets one');
restarts_with_file('one of another history', $good, sub { is_deeply(origin()->{checkpoint}, $none, "$_[0] counts for nothing") });
is_deeply(publish(), $file->checkpoint, 'and gives way to the next');
$node->safe_psql('postgres', "SELECT siphon_drop_application('main')");
ok(!-e $path, 'with the application the file goes');
is_deeply([ glob $node->data_dir . '/siphon/*' ], [], 'and nothing is left');

done_testing();
