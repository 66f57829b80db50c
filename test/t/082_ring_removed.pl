# Files of a ring are removed under the worker that has them, by a person or by what cleans up: the worker says which one is
# gone, ends, and starts over with new ones, in a directory that it makes if it has to. That holds while it writes, while it
# waits for space, and for snapshots. Nothing is missing, and nothing comes twice.
use strict;
use warnings FATAL => 'all';

use File::Path qw(remove_tree);
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Snapshot;
use Test::More;

my $node = siphon_node('primary', conf => 'siphon.ring_size = 256kB');
my $nats = siphon_nats();
my $rings = ring_directory($node);

$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (id bigserial PRIMARY KEY, v text);
	CREATE TABLE big (id int PRIMARY KEY, v int, filler text);
	INSERT INTO big SELECT g, 0, repeat(md5(g::text), 10) FROM generate_series(1, 4000) g});
add_table($node, 't');
my $publisher = siphon_publisher($node, $nats);

wait_confirmed($node);

# Removes files of applications (file => what does it), and expects a worker to miss each, and other decoders.
sub misses
{
	my ($what, $missed, $remove) = @_;
	my @applications = map { m{^(\w+)/} } @$missed;
	my %before = map { $_ => wait_for_state($node, 'streaming', $_)->{decoder_pid} } @applications;
	my $offset = -s $node->logfile;

	$remove->();
	for my $file (@$missed)
	{
		$node->wait_for_log(qr/ERROR:  "\Q$rings\/$file\E" was removed by another process/, $offset);
		pass("$what: a worker misses $file");
	}
	like(slurp_file($node->logfile, $offset), qr/HINT:  See who removes files from "\Q$rings\E"; the worker starts again with a new ring\./,
		"$what: and says what to do");
	for my $application (@applications)
	{
		wait_until(
			"$what: another decoder of $application streams",
			sub { my $row = application($node, $application); $row->{state} eq 'streaming' && $row->{decoder_pid} != $before{$application} });
		is_deeply([ grep { !-e "$rings/$application/$_" } qw(decoder.ring decoder.lock decoder.bell publisher.bell) ],
			[], "$what: $application has all its files again");
	}
	return;
}

# ---- the decoder's, one at a time, under load ------------------------------------------------------------------------

my @others = qw(lock bell door moved);

add_table($node, 't', application => "'$_'") for @others;
my $writers = start_pgbench($node, { w => "INSERT INTO t (v) VALUES ('x'), ('y');\nUPDATE t SET v = 'z' WHERE id = 1 + :client_id;\n" },
	-c => 2, '--rate' => 100, -T => 60);

misses(
	'single files',
	[qw(main/decoder.ring lock/decoder.lock bell/decoder.bell door/publisher.bell moved/decoder.ring)],
	sub {
		for my $file (qw(main/decoder.ring lock/decoder.lock bell/decoder.bell door/publisher.bell))
		{
			unlink "$rings/$file" or die "$file: $!";
		}
		rename "$rings/moved", "$rings/elsewhere" or die "moved: $!";
	});
remove_tree("$rings/elsewhere");
wait_confirmed($node);
pass('the publisher goes on');
$node->safe_psql('postgres', "SELECT siphon_drop_application('$_')") for @others;

# ---- all of them -----------------------------------------------------------------------------------------------------

misses('the ring directory', ['main/decoder.ring'], sub { remove_tree($rings) });
wait_confirmed($node);
stop_pgbench($writers);

# While the decoder waits for space.
$publisher->pause;
$node->safe_psql('postgres', "INSERT INTO t (v) SELECT repeat(md5(g::text), 10) FROM generate_series(1, 1500) g");
wait_until('the ring is full', sub { application($node)->{ring_used} > 128 * 1024 });
misses('a full ring', ['main/decoder.ring'], sub { remove_tree("$rings/main") });
$publisher->resume;
wait_confirmed($node);
ok($publisher->running, 'the publisher was not started again');
positions_increase(replay($nats), 'nothing comes twice');
is_replayed($nats, $node, ['t'], 'nothing is missing');

# ---- a snapshot's ----------------------------------------------------------------------------------------------------

# A snapshot of this generation fails for a ring that is missed, and the next one does it.
sub starts_over
{
	my ($what, $generation) = @_;

	$node->wait_for_log(
		qr{snapshot $generation of table "public.big" failed: "\Q$rings\E/main/snapshot-\d+-\d\.ring" was removed by another process});
	pass("$what: the snapshot fails, and says why");
	$publisher->resume;
	fast_scans($node);
	wait_for_table($node, 'big', 'streaming', after => $generation);
	is_clean($nats, $node, $node, 'big', ['id'], $what);
	is_deeply([ glob "$rings/main/snapshot-*" ], [], "$what: nothing of it is left");
	return;
}

# While it waits for its turn.
slow_scans($node);
$node->safe_psql('postgres', "SELECT siphon_add_table('big')");
my $generation = wait_for_scan($node, 'big')->{generation};
unlink glob "$rings/main/snapshot-*.ring" or die "no ring: $!";
starts_over('a slow scan', $generation);

# While it waits for space, and the decoder loses its ring as well.
slow_scans($node);
$node->safe_psql('postgres', "SELECT siphon_resync_table('big')");
$generation = wait_for_scan($node, 'big')->{generation};
$publisher->pause;
fast_scans($node);
# A scan waits from where two packages of the largest size have no room: half of so small a ring, in each of two processes.
wait_until('the rings are full', sub { progress($node, 'big')->{bytes} > 240 * 1024 });
misses('a full ring of a snapshot', ['main/decoder.ring'], sub { remove_tree("$rings/main") });
starts_over('a scan that waits for space', $generation);
is_replayed($nats, $node, ['t'], 'and the other table misses nothing');

done_testing();
