# PostgreSQL's own regression suite runs while all tables that it makes are followed. Nothing may end, the slot must come to
# the end, each table that streams must be what its events make, and each other one must have a reason. `make check-postgres`
# runs it; with SLOW=1 statements wait for what they are about to stream; with ROOTS=1 partitions are published under their
# roots. Prints what there was.
#
# The suite's own output is another one than PostgreSQL expects wherever a table's replica identity or publications are
# shown; which tests differ otherwise is printed, and no failure.
use strict;
use warnings FATAL => 'all';

use IPC::Run ();
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::ReplayAll;
use Test::More;
use Time::HiRes qw(time);

my $suite = $ENV{POSTGRES_SUITE};
my $output = "$PostgreSQL::Test::Utils::tmp_check/postgres";
my $node = siphon_node('primary', conf => q{
max_connections = 60
max_worker_processes = 32
max_prepared_transactions = 10
max_wal_size = 4GB
synchronize_seqscans = off
autovacuum = on
log_statement = none
shared_buffers = 128MB
siphon.ring_size = 16MB
siphon.resync_detached = on
});
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

# As pg_regress makes it. Without a replica identity, a table in a publication takes no UPDATE.
$node->safe_psql('postgres', 'CREATE DATABASE regression TEMPLATE template0');
$node->safe_psql('postgres', "ALTER DATABASE regression SET $_") for
  "lc_messages TO 'C'", "lc_monetary TO 'C'", "lc_numeric TO 'C'", "lc_time TO 'C'", "bytea_output TO 'hex'",
  "timezone_abbreviations TO 'Default'";
my $roots = $ENV{ROOTS} ? 'true' : 'false';
$node->safe_psql('regression', q{
CREATE EXTENSION siphon;
CREATE SCHEMA followed;
CREATE FUNCTION followed.identify() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE
	made pg_catalog.regclass;
BEGIN
	FOR made IN
		SELECT c.oid FROM pg_catalog.pg_event_trigger_ddl_commands() d JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) d.objid
		 WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
		   AND relkind IN ('r', 'p') AND relpersistence OPERATOR(pg_catalog.=) 'p' AND relreplident OPERATOR(pg_catalog.=) 'd'
		   AND NOT EXISTS (SELECT FROM pg_catalog.pg_index WHERE indrelid OPERATOR(pg_catalog.=) c.oid AND indisprimary)
	LOOP
		BEGIN
			EXECUTE pg_catalog.format('ALTER TABLE %s REPLICA IDENTITY FULL', made);
		EXCEPTION WHEN object_in_use OR insufficient_privilege THEN
		END;
	END LOOP;
END $$;
CREATE EVENT TRIGGER followed ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE', 'CREATE SCHEMA')
	EXECUTE FUNCTION followed.identify();
} . qq{
CREATE PUBLICATION followed FOR ALL TABLES WITH (publish_generated_columns = stored, publish_via_partition_root = $roots);
SELECT siphon_follow_publication('followed')});

my $before = application($node);
my $start = time;

mkdir $output or die "$output: $!";
IPC::Run::run([
	$ENV{PG_REGRESS}, '--use-existing', '--dbname=regression', '--bindir=', '--host=' . $node->host, '--port=' . $node->port,
	"--dlpath=$suite", "--inputdir=$suite", "--schedule=$suite/parallel_schedule", '--max-concurrent-tests=20',
	"--outputdir=$output", $ENV{SLOW} ? ('--launcher=' . ($0 =~ s/[^\/]+$//r) . 'slowly') : ()
	], '<', \undef, '>', "$output/log", '2>&1');
my $seconds = time - $start;
my @tests = map { s/.*\/|\.out$//gr } sort glob("$output/results/*.out");
my @differ = grep {
	my $test = $_;
	!grep { is_alike($_, "$output/results/$test.out") } glob("$suite/expected/$test.out $suite/expected/${test}_?.out")
} @tests;

cmp_ok(scalar @tests, '>', 200, 'the suite ran');
diag(sprintf 'the suite took %.0f s; %d of %d tests have other output: %s', $seconds, scalar @differ, scalar @tests, join ' ', @differ);

# Two files, but for what following the tables shows.
sub is_alike
{
	my @texts = map {
		my $text = slurp_file($_);

		$text =~ s/^Replica Identity: FULL\n//mg;
		$text =~ s/^(?:Publications:\n(?=    "followed"\n))?    "followed"\n//mg;
		$text;
	} @_;

	return $texts[0] eq $texts[1];
}

# ---- nothing ended, and the slot is at the end ---------------------------------------------------------------------

# Members of the publication that have no state, or one that does not last. Siphon publishes no table of its own.
sub unsettled
{
	return $node->safe_psql('regression', q{
		SELECT concat_ws(' ', schema_name, table_name, state) FROM siphon_tables
		 WHERE state IN ('waiting for snapshot', 'snapshot', 'leaving', 'dropped')
		UNION ALL
		SELECT concat_ws(' ', schemaname, tablename, 'has no state') FROM pg_publication_tables p
		 WHERE pubname = 'followed' AND tablename <> 'siphon_registry'
		   AND NOT EXISTS (SELECT FROM siphon_tables s WHERE (schema_name, table_name) = (schemaname, tablename))
		UNION ALL
		SELECT concat_ws(' ', schema_name, table_name, 'is no member') FROM siphon_tables
		 WHERE NOT EXISTS (SELECT FROM pg_publication_tables WHERE pubname = 'followed' AND (schema_name, table_name) = (schemaname, tablename))});
}

eval { wait_until('each table has a state', sub { unsettled() eq '' }, 240) };
wait_confirmed($node);
is(unsettled(), '', 'each table of the publication streams, or has a reason');

my $after = application($node);

is($after->{restarts}, $before->{restarts}, 'the decoder was not started again');
is($after->{decoder_pid}, $before->{decoder_pid}, 'and is the same');
is($after->{state}, 'streaming', 'it streams');

my $log = slurp_file($node->logfile);
# A snapshot ends with its table.
my @bad = grep { /PANIC|TRAP:|was terminated by signal|"siphon (?!snapshot").*exited with exit code [^0]/ } split /\n/, $log;

is(join("\n", @bad), '', 'no process of the server has ended as it should not');

# ---- what streams is what its events make ---------------------------------------------------------------------------

my @tables = map { [ split /\t/, $_, 4 ] } split /\n/, $node->safe_psql('regression', q{
	SELECT concat_ws(E'\t', schema_name || '.' || table_name, state, columns, replace(reason, E'\n', ' '))
	  FROM siphon_tables t,
		   LATERAL (SELECT count(*) AS columns FROM pg_attribute
					 WHERE attrelid = relid AND attnum > 0 AND NOT attisdropped AND attgenerated <> 'v') a ORDER BY 1});
my %unnamed = map { $_ => 1 } split /\n/, $node->safe_psql('regression', q{
	SELECT relnamespace::regnamespace || '.' || relname FROM pg_class c
	 WHERE relreplident <> 'f'
	   AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indimmediate
						  AND CASE relreplident WHEN 'd' THEN indisprimary WHEN 'i' THEN indisreplident END)});
my @streaming = map { $_->[0] } grep { $_->[1] eq 'streaming' && $_->[2] > 0 } @tables;
my (%others, @untrue);

for my $table (grep { $_->[1] ne 'streaming' } @tables)
{
	my ($name, $state, undef, $reason) = @$table;
	my ($schema, $short) = split /\./, $name, 2;

	push @untrue, "$name: $state: " . ($reason // '')
	  unless $state eq 'left out' && $unnamed{$name} && $reason =~ /has no usable replica identity/;
	push @{ $others{ "$state: " . ($reason // '') =~ s/"?\b\Q$short\E\b"?/.../gr } }, $name;
}
diag(sprintf '%d tables: %d stream and are compared, %d stream and have no columns', scalar @tables, scalar @streaming,
	scalar(grep { $_->[1] eq 'streaming' && $_->[2] == 0 } @tables));
diag(sprintf '%d %s (%s)', scalar @{ $others{$_} }, $_, join ' ', @{ $others{$_} }[ 0 .. ($#{ $others{$_} } > 4 ? 4 : $#{ $others{$_} }) ])
  for sort keys %others;
is(join("\n", @untrue), '', 'those that do not stream have a reason that is true');

$start = time;
my $replay = Siphon::ReplayAll->new(connect => $node->connstr('regression'), directory => PostgreSQL::Test::Utils::tempdir());

$replay->read_stream(nats_url => $nats->url);
$replay->keep(@streaming);
ok($replay->compare, 'tables that stream are what their events make');

my ($rows, $count) = (0, $replay->{count});

$rows += $_ for values %{ $replay->{rows} };
diag(sprintf 'compared %d tables with %d rows in %.0f s; %s', scalar keys %{ $replay->{rows} }, $rows, time - $start,
	join ', ', map { "$count->{$_} x $_" } sort keys %$count);
diag("differs: $_") for @{ $replay->{shown} };
diag("$replay->{differences} differences") if $replay->{differences};
done_testing();
