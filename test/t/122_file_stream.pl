# A directory of files takes the stream in place of NATS: each event is there once, whoever dies; and what is wrong with the
# directory, one line says.
# Covers: a snapshot under load while decoder and publisher are killed; a torn record; a directory that is read-only, full,
# another publisher's, open to others, damaged.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Files;
use Test::More;
use Time::HiRes qw(sleep);

my $seed = $ENV{SIPHON_SEED} // int(rand(1 << 31));
diag("SIPHON_SEED=$seed");
srand $seed;

my $node = siphon_node('primary');
my $files = Siphon::Files->new;
my $publisher = siphon_publisher($node, $files);

$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (id bigserial PRIMARY KEY, v int, filler text);
	INSERT INTO t (v, filler) SELECT 0, repeat(md5(g::text), 10) FROM generate_series(1, 30000) g;
	CREATE TABLE u (id bigint PRIMARY KEY);
});

my $writers = start_pgbench(
	$node,
	{ w => "\\set id random(1, 30000)\nINSERT INTO t (v) SELECT 0 FROM generate_series(1, 3);\nUPDATE t SET v = v + 1 WHERE id = :id;\n" },
	-c => 4, '--rate' => 300, -T => 6);
add_table($node, 't', partitions => 2, snapshot => 'true');
add_table($node, 'u');
my $killed = 0;
while (pgbench_runs($writers))
{
	sleep rand 0.5;
	if (rand() < 0.3)
	{
		my $pid = application($node)->{decoder_pid};

		kill 'TERM', $pid if $pid;
	}
	else
	{
		$publisher->kill9;
		$publisher->start;
		$killed++;
	}
}
finish_pgbench($writers);
wait_for_tables($node);
wait_confirmed($node);
note("the publisher was killed $killed times");
is_replayed($files, $node, ['t', 'u'], 'each event is there once, behind the rows', counter => 'v');
positions_increase(replay($files), 'nothing is there twice');
cmp_ok($killed, '>', 2, 'the publisher was killed under load');
like($publisher->log, qr/publishing ring [0-9a-f]+ from ring offset \d+ to directory \S+\/stream\/main\/?.*, after sequence \d+/,
	'the log tells where the publisher goes on');

# ---- what can be wrong with the directory ---------------------------------------------------------------------------

# Another publisher, of another server with the same application's name, as it seems.
my $second = Siphon::Publisher->new(
	name => 'second',
	nats_url => $files->url,
	ring_directory => PostgreSQL::Test::Utils::tempdir() . '/rings')->start;
is($second->wait_exit, 3, 'a second publisher is refused');
like($second->log, qr/another publisher writes to directory \S+\/main: it holds \S+\/main\/lock/, 'and told why');

# Full: a file must not become larger.
my ($segment) = reverse $files->segments;
system_or_bail('prlimit', '--pid', $publisher->{pid}, '--fsize=' . (-s $segment) . ':unlimited');
$node->safe_psql('postgres', 'INSERT INTO u SELECT g FROM generate_series(1, 100) g');
wait_until('the publisher says that there is no room', sub { $publisher->log =~ /rejected a message: File too large; publishing is paused/ });
wait_until('the publisher waits for room', sub { $publisher->log =~ /waiting for directory \S+ to take messages \(File too large\)/ });
is(scalar(grep { $_->{table} eq 'u' } @{ replay($files) }), 0, 'nothing of it is there');
my $readiness;
wait_until('the publisher is not ready', sub { $readiness = $publisher->get('/readyz')->{content}; $readiness =~ /rejected a message/ });
like($readiness, qr/directory \S+ rejected a message: File too large; publishing is paused\n  Make room/, 'readiness says what to do');
unlike($readiness, qr/nats/i, 'and names what is there, not NATS');
system_or_bail('prlimit', '--pid', $publisher->{pid}, '--fsize=unlimited');
wait_confirmed($node);
is(scalar(grep { $_->{table} eq 'u' } @{ replay($files) }), 100, 'when there is room again it goes on');

# Read-only.
is($publisher->stop, 0, 'the publisher stops cleanly');
chmod 0400, $segment;
chmod 0500, $files->part('log');
$publisher->start;
$node->safe_psql('postgres', 'INSERT INTO u VALUES (101)');
SKIP:
{
	skip 'root may write anywhere', 1 if $> == 0;
	wait_until('the publisher waits for a directory that it may write to',
		sub { $publisher->log =~ /waiting for directory \S+ to be written to \(Permission denied\)/ });
	pass('a directory that is read-only is waited for');
}
chmod 0700, $files->part('log');
chmod 0600, $segment;
wait_confirmed($node);
is_replayed($files, $node, ['t', 'u'], 'and nothing is lost', counter => 'v');

# The publisher dies in the middle of a record.
$publisher->kill9;
append_to_file($segment, 'rec1 and no more');
$node->safe_psql('postgres', 'INSERT INTO u VALUES (102)');
$publisher->start;
wait_confirmed($node);
like($publisher->log, qr/truncating 16 bytes of \Q$segment\E after message \d+/, 'a torn record is cut off');
is_replayed($files, $node, ['t', 'u'], 'and nothing else', counter => 'v');
is($publisher->stop, 0, 'the publisher stops cleanly');

# Open to others.
chmod 0770, $files->{directory};
is($publisher->start->wait_exit, 2, 'a directory to which others may write is refused');
like($publisher->log, qr/others may write to directory \Q$files->{directory}\E: chmod go-w \Q$files->{directory}\E/, 'with the command that mends it');
chmod 0700, $files->{directory};

# Damaged.
my $content = slurp_file($segment);
write_file($segment, substr($content, 0, 5000) . chr(ord(substr $content, 5000, 1) ^ 1) . substr $content, 5001);
$node->safe_psql('postgres', 'INSERT INTO u VALUES (103)');
is($publisher->start->wait_exit, 4, 'a file that is damaged is refused');
like(
	$publisher->log,
	qr/\Q$segment\E is damaged at byte \d+ \(message \d+\), and whole messages follow: restore the file from a copy, or cut it there with truncate -s \d+ \Q$segment\E; .*siphon_resync_application/,
	'with the place and the commands that mend it');

# What was cut off there was acknowledged, and the server knows it.
my ($size) = $publisher->log =~ /truncate -s (\d+)/;
truncate $segment, $size;
is($publisher->start->wait_exit, 4, 'a file that has lost what was acknowledged is refused');
like($publisher->log, qr/has lost messages that it had acknowledged.*siphon_resync_application/, 'with the command that mends it');
is($publisher->start->wait_exit, 4, 'each time');
write_file($segment, $content);
$publisher->start;
wait_confirmed($node);
is_replayed($files, $node, ['t', 'u'], 'restored from a copy, it goes on', counter => 'v');

done_testing();
