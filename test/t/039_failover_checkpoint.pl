# What the stream must hold reaches the standby that is promoted: the decoder of an application with failover writes it
# into siphon_registry, every few seconds, without writing anew what else is there. The publisher is played by the test.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::CheckpointFile;
use Siphon::Failover;
use Siphon::RingFile;
use Test::More;
use Time::HiRes qw(sleep time);

my $primary = siphon_node('primary');

plan skip_all => 'slots are synchronized since PostgreSQL 17' if $primary->pg_version < 17;

# Many tables, so that the registry is long and stands beside the row.
$primary->safe_psql('postgres', join ';', 'CREATE TABLE t (id bigserial PRIMARY KEY, v bigint DEFAULT 0)',
	'ALTER TABLE siphon_registry ALTER content SET STORAGE EXTERNAL',
	map { "CREATE TABLE listed_$_ (id int PRIMARY KEY)" } 1 .. 20);
my $standby = failover_standby($primary, 'standby');
$primary->append_conf('postgresql.conf', "synchronized_standby_slots = 'standby'");
$primary->reload;
$primary->safe_psql('postgres', "SELECT siphon_create_application('main', failover => true)");
add_table($primary, 't');
$primary->safe_psql('postgres', "SELECT count(*) FROM siphon_add_tables('public', 'listed%', snapshot => false)");
is_mirrored($primary, 'main', 'the registry is mirrored');

my $number = 0;

sub checkpoint_of { return [ map { (1 << 63) + 16 * $_[0] + $_ } 0 .. 5 ] }

# As a publisher that acknowledges all that there is.
sub acknowledge
{
	my ($node) = @_;
	my $ring = Siphon::RingFile->new($node);

	$ring->acknowledge($ring->look($ring->WRITTEN), @{ checkpoint_of(++$number) });
	return;
}

# The six words that the row has, and those that the file has.
sub mirrored
{
	my ($node) = @_;
	my $text = $node->safe_psql('postgres', "SELECT checkpoint FROM siphon_registry WHERE application = 'main'");

	no warnings 'portable';

	return [ map { hex } $text =~ /^[0-9A-F]+ \d+ [0-9A-F]+ ([0-9A-F]+)\/([0-9A-F]+)\/([0-9A-F]+) ([0-9A-F]+)\/([0-9A-F]+)\/([0-9A-F]+)$/ ];
}

sub wait_mirrored
{
	my ($node) = @_;
	my $file = Siphon::CheckpointFile->new($node);

	$node->safe_psql('postgres', 'INSERT INTO t DEFAULT VALUES');
	acknowledge($node);
	wait_until('the checkpoint is in the file', sub { -e $file->{path} && $file->checkpoint->[0] == checkpoint_of($number)->[0] });
	wait_until('and in the row', sub { "@{ mirrored($node) }" eq "@{ checkpoint_of($number) }" });
	return;
}

wait_mirrored($primary);
pass('the checkpoint is mirrored');
is_mirrored($primary, 'main', 'beside the registry');

# It changes all the time, and is written seldom. What is long stays where it is: the row's other part is not written anew.
my $toast = $primary->safe_psql('postgres', "SELECT reltoastrelid::regclass FROM pg_class WHERE relname = 'siphon_registry'");
my $chunks = sub { return $primary->safe_psql('postgres', "SELECT count(*), max(xmin::text::bigint) FROM $toast") };
my $before = $chunks->();
my $writes = 0;
my $seen = "@{ mirrored($primary) }";
my $end = time + 12;

like($before, qr/^[1-9]/, 'the registry stands beside the row');
while (time < $end)
{
	acknowledge($primary);
	my $now = "@{ mirrored($primary) }";

	$writes++ if $now ne $seen;
	$seen = $now;
}
cmp_ok($number, '>', 10, 'it changed often');
cmp_ok($writes, '<=', 3, 'and was written seldom');
cmp_ok($writes, '>=', 1, 'though it was');
is($chunks->(), $before, 'without the registry');
is(application($primary)->{restarts}, 0, 'the decoder goes on');

# Somebody who has the table locked holds up nobody.
my $locker = $primary->background_psql('postgres');

$locker->query_safe('BEGIN; LOCK TABLE siphon_registry IN ACCESS EXCLUSIVE MODE');
$end = time + 7;
while (time < $end)
{
	acknowledge($primary);
	sleep 0.1;
}
my $file = Siphon::CheckpointFile->new($primary);
wait_until('it is durable all the same', sub { $file->checkpoint->[0] == checkpoint_of($number)->[0] });
$locker->query_safe('COMMIT');
$locker->quit;
wait_mirrored($primary);
pass('and is mirrored later');

# ---- promotion -----------------------------------------------------------------------------------------------------

sub fails_over
{
	my ($what, $from, $to) = @_;

	# Without a publisher that acknowledges, the slot does not move.
	wait_synchronized($from, $to, 'siphon_main', sub { acknowledge($from) });
	wait_mirrored($from);
	acknowledge($from);
	$from->wait_for_replay_catchup($to);
	$from->stop('immediate');
	$to->promote;
	wait_for_state($to, 'streaming');

	my $ring = Siphon::RingFile->new($to);
	my $origin = wait_until("$what: the decoder says what its events continue", sub { $ring->origin });

	cmp_ok($origin->{checkpoint}[0], '>=', checkpoint_of($number - 1)->[0], "$what: the checkpoint came over");
	is("@{ $origin->{checkpoint} }", "@{ mirrored($to) }", "$what: in the row");
	is_deeply(Siphon::CheckpointFile->new($to)->checkpoint, $origin->{checkpoint}, "$what: and is a file there");
	return;
}

fails_over('a promotion', $primary, $standby);
$standby->safe_psql('postgres', 'CHECKPOINT');
wait_mirrored($standby);
pass('the new primary mirrors its own');

# A base backup has the file as it was then; the row counts, which is of later.
my $third = failover_standby($standby, 'third');
ok(-e Siphon::CheckpointFile->new($third)->{path}, 'a base backup has the file');
fails_over('a standby with a file of its own', $standby, $third);

done_testing();
