# The exact hand-off: every transaction is either in a snapshot's rows or among the changes behind them, whenever it
# began and ended, and whatever made it hard to see which.
#
# A snapshot has four stations at which a transaction may begin or end:
#   0  before its changes are held
#   1  held, and the snapshot not yet taken: the publisher is stopped, so that the leader waits for it
#   2  taken, and no row read yet: it is paused
#   3  the table streams
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $conf = "max_connections = 60\nmax_prepared_transactions = 40";
# No commit waits for the absent standby but those that ask to.
my $primary =
  siphon_node('primary', conf => "$conf\nsynchronous_standby_names = 'absent'\nsynchronous_commit = local");
my $nats;
my $publisher;

# 300 blocks, half empty, so that several processes read it and changed rows stay in their blocks.
$primary->safe_psql(
	'postgres', q{
	CREATE TABLE t (id int PRIMARY KEY, v text, filler text) WITH (fillfactor = 50);
	INSERT INTO t SELECT g, 'old', repeat('x', 400) FROM generate_series(1, 2700) g;
	CREATE TABLE other (id int PRIMARY KEY);
});

# Not of siphon_snapshot_progress, which says "paused" in all phases.
sub phase
{
	my ($node) = @_;

	return $node->safe_psql('postgres', 'SELECT phase FROM siphon_get_snapshots()');
}

# The snapshot is taken, and its processes have it.
sub wait_taken
{
	my ($node, $processes) = @_;
	my $sql = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'siphon snapshot' AND backend_xmin IS NOT NULL";

	return wait_until('the snapshot is taken',
		sub { phase($node) eq 'scanning' && $node->safe_psql('postgres', $sql) == $processes });
}

# What happened to a row since the table's last generation began, such as "SNAPSHOT UPDATE".
sub history
{
	my ($events, $id) = @_;
	my $generation = (grep { $_->{operation} eq 'SNAPSHOT-BEGIN' } @$events)[-1]{generation};

	return join ' ', map { $_->{operation} }
	  grep { ($_->{generation} // 0) == $generation && (($_->{columns} // $_->{old} // {})->{id} // 0) == $id } @$events;
}

# ---- transactions of all kinds, between all stations -----------------------------------------------------------------

my $next_id = 10000;

# A transaction that will do all that can be done to rows, in the blocks of different processes.
sub transaction
{
	my ($kind, $begin, $end, $outcome) = @_;
	my $id = $next_id++;

	return {
		name => "$kind, from $begin to $end, $outcome",
		kind => $kind,
		begin => $begin,
		end => $end,
		outcome => $outcome,
		id => $id,
		# rows of its own at both ends of the table and in the middle
		rows => [ map { my $n = ($id - 10000) * 3 % 600 + $_; ($n, 1200 + $n, 2700 - $n) } 1 .. 3 ]
	};
}

sub begin
{
	my ($t) = @_;
	my @rows = @{ $t->{rows} };
	my $work =
	    "INSERT INTO t VALUES ($t->{id}, 'new'); "
	  . "UPDATE t SET v = 'first' WHERE id IN ($rows[0], $rows[1], $rows[2], $rows[3], $rows[4], $rows[5]); "
	  . "UPDATE t SET v = 'second' WHERE id IN ($rows[0], $rows[1], $rows[2]); "
	  . "DELETE FROM t WHERE id IN ($rows[6], $rows[7], $rows[8]); ";

	# More subtransactions than a server process shows to others.
	$work = "DO \$\$ BEGIN FOR i IN 1 .. 100 LOOP BEGIN "
	  . "INSERT INTO t VALUES ($t->{id} + 10000 * i, 'sub'); EXCEPTION WHEN unique_violation THEN NULL; END; "
	  . "END LOOP; BEGIN $work EXCEPTION WHEN unique_violation THEN NULL; END; END \$\$;"
	  if $t->{kind} eq 'many subtransactions';
	if ($t->{kind} eq 'prepared')
	{
		$primary->safe_psql('postgres', "BEGIN; $work PREPARE TRANSACTION 'p$t->{id}'");
		return;
	}
	$t->{session} = $primary->background_psql('postgres', on_error_die => 1);
	$t->{session}->query_safe("BEGIN; $work");
	return;
}

sub end
{
	my ($t) = @_;

	if ($t->{kind} eq 'prepared')
	{
		$primary->safe_psql('postgres', "$t->{outcome} PREPARED 'p$t->{id}'");
		return;
	}
	$t->{session}->query_safe($t->{outcome});
	$t->{session}->quit;
	return;
}

# Does at a station what is to be done there, and sees that the node has it.
sub station
{
	my ($node, $number, @transactions) = @_;

	end($_) for grep { $_->{end} == $number && $_->{begin} < $number } @transactions;
	begin($_) for grep { $_->{begin} == $number } @transactions;
	end($_) for grep { $_->{end} == $number && $_->{begin} == $number } @transactions;
	$primary->safe_psql('postgres', "UPDATE t SET v = 'station $number' WHERE id IN (1000, 2000)");
	$primary->safe_psql('postgres', "BEGIN; UPDATE t SET v = 'rolled back' WHERE id IN (1000, 1001); ROLLBACK");
	$primary->wait_for_catchup($node) if $node != $primary;
	return;
}

# One snapshot, begun by a function call, with these transactions around it.
sub pass_through
{
	my ($node, $where, $call, @transactions) = @_;
	my $idle = $primary->background_psql('postgres', on_error_die => 1);

	$idle->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t');
	station($node, 0, @transactions);

	$publisher->stop;
	$node->safe_psql('postgres', $call);
	wait_for_table($node, 't', 'snapshot');
	$node->safe_psql('postgres', "SELECT siphon_pause('t')");
	station($node, 1, @transactions);

	$publisher->start;
	wait_taken($node, 2);
	is($node->safe_psql('postgres', 'SELECT rows FROM siphon_snapshot_progress'), 0, "$where: no row is read yet");
	station($node, 2, @transactions);

	$node->safe_psql('postgres', "SELECT siphon_resume('t')");
	wait_for_table($node, 't');
	cmp_ok($primary->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"),
		'>', 1, "$where: the table streams, and nobody in a transaction was waited for");
	station($node, 3, @transactions);
	$idle->query_safe('COMMIT');
	$idle->quit;

	wait_confirmed($node, primary => $primary);

	my $events = replay($nats, table => 'public.t');
	my %shown = (0 => 'SNAPSHOT', 1 => 'SNAPSHOT', 2 => 'INSERT', 3 => 'INSERT');
	my %expected = map { ($_->{name} => $_->{outcome} eq 'COMMIT' ? $shown{ $_->{end} } : '') } @transactions;
	my %came = map { ($_->{name} => history($events, $_->{id})) } @transactions;

	is_deeply(\%came, \%expected, "$where: what ended before the snapshot is in its rows, what ended later follows");
	is_replica($events, $primary, 't', ['id'], "$where: the replay is the table");
	return;
}

sub all_kinds
{
	my ($node, $where) = @_;

	pass_through(
		$node, "$where, few",
		"SELECT siphon_add_table('t', workers => 2)",
		map {
			my $outcome = $_;
			map { transaction('plain', @$_, $outcome), transaction('prepared', @$_, $outcome) }
			  ([ 0, 1 ], [ 0, 2 ], [ 0, 3 ], [ 1, 1 ], [ 1, 2 ], [ 1, 3 ], [ 2, 2 ], [ 2, 3 ]);
		} 'COMMIT', 'ROLLBACK');
	# These make the server's list of transactions overflow, so they come by themselves.
	pass_through(
		$node,
		"$where, many",
		"SELECT siphon_resync_table('t')",
		map { transaction('many subtransactions', @$_) } ([ 0, 1, 'COMMIT' ],
			[ 0, 2, 'COMMIT' ], [ 0, 3, 'COMMIT' ], [ 1, 2, 'COMMIT' ], [ 1, 3, 'COMMIT' ], [ 0, 2, 'ROLLBACK' ],
			[ 1, 3, 'ROLLBACK' ]));
	return;
}

# ---- a commit that is decoded before its transaction is over ---------------------------------------------------------

# It is in the WAL, and decoded, but for others its transaction runs until a synchronous standby has it. It lies before
# the snapshot's held changes, so the snapshot must not be taken before it is over.
sub decoded_while_it_waits
{
	my ($what, $id, $sql, @release) = @_;
	my $session = $primary->background_psql('postgres', on_error_die => 1);
	my $waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";

	$session->query_until(qr/sent/, "SET synchronous_commit = on;\n\\echo sent\n$sql;\n");
	wait_until("$what waits", sub { $primary->safe_psql('postgres', $waits) == 1 });
	wait_confirmed($primary);
	is($primary->safe_psql('postgres', "SELECT count(*) FROM t WHERE id = $id"),
		0, "$what that waits is decoded, and not visible yet");
	$primary->safe_psql('postgres', "SELECT siphon_resync_table('t')");
	wait_for_table($primary, 't', 'snapshot');

	my $generation = $primary->safe_psql('postgres', "SELECT generation FROM siphon_tables WHERE table_name = 't'");

	wait_until('the snapshot is announced', sub { $publisher->log =~ /snapshot $generation of table public.t begins/ });
	# By when a leader that does not wait has long gone on:
	$primary->safe_psql('postgres', "UPDATE t SET v = 'meanwhile' WHERE id IN (1, 2000)");
	wait_confirmed($primary);
	is(phase($primary), 'preparing', "$what that waits is waited for");

	$primary->safe_psql('postgres', $_) for @release;
	wait_for_table($primary, 't');
	$session->quit;
	wait_confirmed($primary);

	my $events = replay($nats, table => 'public.t');

	is(history($events, $id), 'SNAPSHOT', "$what that waited is in the rows");
	is_replica($events, $primary, 't', ['id'], "$what that waited: the replay is the table");
	return;
}

# ---- transactions that are larger than a ring ------------------------------------------------------------------------

# A snapshot begins in the middle of one's decoding: its first rows went out as changes of the generation before, the
# snapshot has all. Another is committed, and held, when the snapshot is taken.
sub large_ones
{
	my $ring = "SELECT ring_used > ring_size / 2 FROM siphon_applications WHERE application = 'main'";

	$publisher->stop;
	$primary->safe_psql('postgres',
		q{UPDATE t SET v = 'large' || id, filler = repeat(md5(id::text), 12); UPDATE t SET v = v || '!' WHERE id < 1500});
	wait_until('the decoder waits for space', sub { $primary->safe_psql('postgres', $ring) eq 't' });
	$primary->safe_psql('postgres', "SELECT siphon_resync_table('t')");
	wait_for_table($primary, 't', 'snapshot');
	$primary->safe_psql('postgres', "SELECT siphon_pause('t')");
	$primary->safe_psql('postgres', "UPDATE t SET v = 'behind it' WHERE id < 10");
	$publisher->start;
	wait_taken($primary, 2);
	$primary->safe_psql('postgres', "UPDATE t SET v = 'held', filler = repeat('y', 400) WHERE id <= 2700");
	$primary->safe_psql('postgres', "SELECT siphon_resume('t')");
	wait_for_table($primary, 't');
	wait_confirmed($primary);

	my $events = replay($nats, table => 'public.t');

	is(history($events, 5), 'SNAPSHOT UPDATE', 'of large transactions, what came before the snapshot is in its rows');
	is_replica($events, $primary, 't', ['id'], 'large transactions: the replay is the table');
	return;
}

sub begin_with
{
	my ($node, $name, %options) = @_;

	$nats = siphon_nats(name => "nats_$name");
	$publisher = siphon_publisher($node, $nats, name => "publisher_$name");
	add_table($node, 'other', %options);
	return;
}

begin_with($primary, 'primary');
all_kinds($primary, 'primary');
decoded_while_it_waits(
	'a commit', 5001,
	"INSERT INTO t VALUES (5001, 'late')",
	"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
$primary->safe_psql('postgres', "BEGIN; INSERT INTO t VALUES (5002, 'late'); PREPARE TRANSACTION 'late'");
decoded_while_it_waits(
	'a COMMIT PREPARED', 5002,
	"COMMIT PREPARED 'late'",
	"ALTER SYSTEM SET synchronous_standby_names = ''", 'SELECT pg_reload_conf()');
large_ones();
$publisher->stop;
$primary->safe_psql('postgres', "SELECT siphon_drop_application('main')");

SKIP:
{
	skip 'logical decoding on a standby needs PostgreSQL 16', 1 unless standby_supported($primary);

	my $standby = siphon_standby($primary, 'standby', conf => $conf);

	begin_with($standby, 'standby', primary => $primary);
	all_kinds($standby, 'standby');
	$publisher->stop;
	$standby->stop;
}

done_testing();
