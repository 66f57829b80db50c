# A publisher that starts, and a table that is brought out, read no more of a large stream than its end: what the broker reads
# from its disk does not grow with the stream.
# Covers: 300 subjects and 200 MB, with a broker that has nothing of it in memory; a start, a lost connection, a snapshot.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Broker;
use Test::More;
use Time::HiRes qw(time);

# From 256 on the broker looks for them block by block.
my $SUBJECTS = 300;
my $MEGABYTES = 200;
# Of what there is.
my $FRACTION = 0.2;

my $node = siphon_node('primary', conf => "siphon.ring_size = 32MB\nmax_wal_size = 2GB");
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

# A row that does not become smaller; each is in a message of its own.
$node->safe_psql('postgres', q{
	CREATE TABLE t (id bigserial PRIMARY KEY, noise bytea);
	ALTER TABLE t ALTER noise SET STORAGE EXTERNAL;
	CREATE TABLE small (id bigserial PRIMARY KEY, v int DEFAULT 0);
	INSERT INTO small SELECT FROM generate_series(1, 10)});
add_table($node, 't', partitions => $SUBJECTS);
$node->safe_psql('postgres', qq{
	WITH noise AS MATERIALIZED (SELECT decode(string_agg(md5(random()::text), ''), 'hex') AS noise FROM generate_series(1, 8192))
	INSERT INTO t (noise) SELECT noise FROM noise, generate_series(1, $MEGABYTES * 8)});
# Each subject has something.
$node->safe_psql('postgres', "INSERT INTO t SELECT FROM generate_series(1, 3000)");
wait_confirmed($node);

my $state = $nats->stream->{state};

cmp_ok($state->{num_subjects}, '>', 256, "there are $state->{num_subjects} subjects");
cmp_ok($state->{bytes}, '>', $MEGABYTES * 0.9e6, "and $state->{bytes} bytes");

# Bytes that the broker has read since it was started.
sub read_so_far
{
	my ($bytes) = slurp_file("/proc/$nats->{pid}/io") =~ /^rchar: (\d+)$/m;

	return $bytes;
}

# The broker as it is after a restart, when it has read what it reads by itself. What has no index any more, as after a crash, is
# not to be counted here.
sub cold_broker
{
	$nats->stop;
	$nats->start;
	wait_until('the broker is there', sub { ($nats->stream->{state}{bytes} // 0) >= $state->{bytes} });
	return read_so_far();
}

sub reads_little
{
	my ($before, $name) = @_;
	my $read = read_so_far() - $before;

	note(sprintf '%s: the broker has read %.1f MB of %.1f MB', $name, $read / 1e6, $state->{bytes} / 1e6);
	cmp_ok($read, '<', $FRACTION * $state->{bytes}, "$name: the broker reads little");
	return;
}

# Publisher and broker start. What the broker reads back for the ids of its last second does not count.
$publisher->stop;
wait_until('the last message is over a second old', sub { since_last_message($nats, 'siphon_main') > 1.5 });

my $before = cold_broker();
my $since = time;

$node->safe_psql('postgres', 'INSERT INTO t DEFAULT VALUES');
$publisher->start;
is_confirmed($node, $publisher, 'the publisher publishes', 60);
note(sprintf 'start: to the first message %.2f s', time - $since);
reads_little($before, 'start');

# The publisher does not, but loses its connection.
$before = cold_broker();
$node->safe_psql('postgres', 'INSERT INTO t DEFAULT VALUES');
is_confirmed($node, $publisher, 'the publisher goes on', 60);
reads_little($before, 'lost connection');

# A new decoder's ring.
$before = cold_broker();
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'siphon decoder'");
wait_for_state($node, 'streaming');
$node->safe_psql('postgres', 'INSERT INTO t DEFAULT VALUES');
is_confirmed($node, $publisher, 'the publisher takes the next ring', 60);
reads_little($before, 'next ring');

# A table is added, of which nothing is held.
$before = cold_broker();
add_table($node, 'small', snapshot => 'true');
wait_for_table($node, 'small');
is_confirmed($node, $publisher, 'a table is added', 60);
SKIP:
{
	my ($version) = `nats-server --version` =~ /v2\.(\d+)/;

	skip 'before 2.10 nats-server reads all blocks to find the first message of a subject', 1 if $version < 10;
	reads_little($before, 'snapshot');
}
is_replayed($nats, $node, ['small'], 'the table is there');

done_testing();
