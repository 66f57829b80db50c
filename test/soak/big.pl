# A large table is added under load: five million rows of about 1.2 kB (SOAK_ROWS says otherwise). The stream must make
# the table, and no process may need more memory for it than a small one takes. Prints rates, and the peaks of memory.
# `make soak BIG=1` runs it; it takes some minutes and 25 GB of disk.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;
use Time::HiRes qw(sleep time);

my $rows = $ENV{SOAK_ROWS} || 5_000_000;
my $seed = $ENV{SOAK_SEED} || int(rand(1 << 30));
my $limit = 256 * 1024;    # kB that no process may have for itself
diag("SEED=$seed");

my $node = siphon_node('primary', conf => q{
shared_buffers = 256MB
max_wal_size = 4GB
siphon.ring_size = 64MB
siphon.flush_interval = 100ms
log_statement = none
});
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);
my $start = time;

$node->safe_psql('postgres', <<"SQL");
CREATE SEQUENCE ids START 10000001;
CREATE TABLE big (id bigint PRIMARY KEY, v int, at timestamptz, text text);
INSERT INTO big SELECT g, 0, now(), repeat((SELECT string_agg(md5((g * i)::text), '') FROM generate_series(1, 12) i), 3)
  FROM generate_series(1, $rows) g;
VACUUM ANALYZE big;
CHECKPOINT;
SQL
diag(sprintf 'filled in %.0f s', time - $start);

my $script = qq{
\\set a random(1, $rows)
\\set b random(1, $rows)
\\set c random(1, $rows)
\\set d random(1, $rows)
BEGIN;
INSERT INTO big VALUES (nextval('ids'), 0, now(), repeat('new', 400));
UPDATE big SET v = v + 1 WHERE id = :a;
UPDATE big SET v = v + 1, text = 'changed' WHERE id = :b;
UPDATE big SET v = v + 1, id = nextval('ids') WHERE id = :c;
DELETE FROM big WHERE id = :d;
COMMIT;
};
my $load;

sub under_load
{
	return if $load && pgbench_runs($load);
	finish_pgbench($load) if $load;
	$load = start_pgbench($node, { change => $script }, '--random-seed' => $seed++, '--max-tries' => 5, '--rate' => 300, -c => 8, -j => 2, -T => 10);
	return;
}

# Peaks in kB: by process, by what /proc/PID/status calls it.
my %peak;
my @figures = qw(VmHWM RssAnon RssShmem);

sub look_at
{
	my ($name, $pid) = @_;

	open my $status, '<', "/proc/$pid/status" or return;
	while (<$status>)
	{
		/^(\w+):\s+(\d+) kB/ or next;
		$peak{$name}{$1} = $2 if $2 > ($peak{$name}{$1} // 0);
	}
	return;
}

sub look
{
	my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	my ($processes) = run_command([ 'ps', '-o', 'pid=,args=', '--ppid', $postmaster ]);

	look_at('publisher', $publisher->{pid});
	look_at($2, $1) while $processes =~ /^ *(\d+) .*: siphon (decoder|snapshot.* worker \d+)/gm;
	return;
}

under_load();
$start = time;
$node->safe_psql('postgres', "SELECT siphon_add_table('big', partitions => 4, workers => 2)");

my ($scanned, $bytes, $state);
until (($state = $node->safe_psql('postgres', 'SELECT state FROM siphon_tables')) eq 'streaming')
{
	my ($phase, $so_far, $total, $held) = split /\|/, $node->safe_psql('postgres', 'SELECT phase, bytes, blocks_total, held_events FROM siphon_snapshot_progress');

	$bytes = $so_far if $so_far;
	$scanned //= time if ($phase // '') eq 'moving held changes';
	under_load();
	look();
	die 'the snapshot takes too long: ' . $node->safe_psql('postgres', 'SELECT * FROM siphon_snapshot_progress') if time > $start + 1800;
	sleep 0.2;
}

my $streaming = time;

finish_pgbench($load);
look();
wait_confirmed($node);
look();
is($state, 'streaming', 'a large table streams while writers write');
diag(sprintf 'scanned %d rows, %.0f MB, in %.1f s: %.0f rows/s, %.0f MB/s; streaming after %.1f s',
	$rows, $bytes / 1e6, $scanned - $start, $rows / ($scanned - $start), $bytes / 1e6 / ($scanned - $start), $streaming - $start);
for my $name (sort keys %peak)
{
	diag(sprintf '%-36s' . ' %s %7d kB' x @figures, $name, map { ($_, $peak{$name}{$_}) } @figures);
	cmp_ok($peak{$name}{RssAnon}, '<', $limit, "$name stays small");
}
$start = time;
my $replay = is_replayed($nats, $node, ['big'], 'the stream makes the table', counter => 'v');
diag(join "\n", sprintf('replayed and compared in %.0f s', time - $start), $replay->report);

done_testing();
