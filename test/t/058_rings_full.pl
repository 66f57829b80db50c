# The file system of the rings has no room for those of a snapshot: it fails with the reason and what to do, is tried
# again, later each time, and goes on by itself when there is room. Other tables go on meanwhile.
#
# A small file system can be mounted where a process has namespaces of its own, so the test starts itself once more.
use strict;
use warnings FATAL => 'all';

my $namespace;

# Before Siphon is loaded, which makes directories.
BEGIN
{
	my @unshare = qw(unshare --user --map-current-user --keep-caps --mount --);
	$namespace = $ENV{SIPHON_TEST_NAMESPACE};
	if (!$namespace && system("@unshare true 2>/dev/null") == 0)
	{
		$ENV{SIPHON_TEST_NAMESPACE} = 1;
		exec @unshare, $^X, (map { "-I$_" } @INC), $0 or die "unshare: $!";
	}
}

use POSIX ();
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Snapshot;
use Test::More;

plan skip_all => 'no namespaces can be made here' unless $namespace;

my $MS_REMOUNT = 32;
my $MNT_DETACH = 2;
# Numbers of the system calls, mount and umount2.
my ($mount, $umount) = @{ { x86_64 => [ 165, 166 ], aarch64 => [ 40, 39 ] }->{ (POSIX::uname())[4] } // [ 0, 0 ] };

plan skip_all => 'unknown system calls' unless $mount;
my $node = siphon_node('primary', start => 0, conf => 'siphon.max_restart_delay = 8s');
my $directory = ring_directory($node);

sub set_size
{
	my ($size, $flags) = @_;
	my @texts = ('tmpfs', $directory, 'tmpfs');

	return syscall($mount, @texts, $flags, my $options = "size=$size,mode=0700") == 0;
}

mkdir $directory, 0700 or die "$directory: $!";
plan skip_all => 'no file system can be mounted here' if !set_size('1600k', 0);

# So that the directory can be removed.
END { syscall($umount, $directory, $MNT_DETACH) if $directory }

# There is room for the decoder's ring, of 1 MB, alone.
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION siphon;
	CREATE TABLE t (id int PRIMARY KEY, v text);
	INSERT INTO t SELECT g, repeat(md5(g::text), 10) FROM generate_series(1, 3000) g;
	CREATE TABLE other (id int PRIMARY KEY)});

my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

add_table($node, 'other');
$node->safe_psql('postgres', "SELECT siphon_add_table('t')");

my $row = wait_until('the reason is told', sub { my $row = table_state($node, 't'); $row->{reason} ? $row : undef });

like($row->{reason}, qr/could not create a ring in ring directory ".*": No space left on device/, 'the reason is told');
is($row->{state}, 'waiting for snapshot', 'the snapshot waits');
$node->safe_psql('postgres', "INSERT INTO other VALUES (1); UPDATE t SET v = 'changed' WHERE id < 10");
wait_confirmed($node);
is(scalar(@{ replay($nats, table => 'public.other') }), 1, 'changes of other tables arrive meanwhile');
$node->wait_for_log(qr/starts over in 2000 ms/);

my $log = slurp_file($node->logfile);

like($log, qr/starts over in 1000 ms.*starts over in 2000 ms/s, 'it is tried again, later each time');
like($log, qr/HINT:  Make the file system larger, or siphon.ring_size \(now 1024 kB\) smaller with ALTER SYSTEM/, 'there is a hint');
is(application($node)->{restarts}, 0, 'the decoder was not disturbed');

# Room for the leader's, but not for its worker's.
set_size('2700k', $MS_REMOUNT) or die "$directory: $!";
$node->wait_for_log(qr/failed: could not create a ring.*starts over in \d+ ms.*background worker "siphon snapshot".*failed: could not create a ring/s, length $log);
pass('no room for the second worker: it fails as well');

set_size('16m', $MS_REMOUNT) or die "$directory: $!";
is(wait_for_table($node, 't')->{reason}, undef, 'with room, it goes on by itself');
$node->safe_psql('postgres', "UPDATE t SET v = 'changed again' WHERE id < 5");
is_clean($nats, $node, $node, 't', ['id'], 'after there was room');

done_testing();
