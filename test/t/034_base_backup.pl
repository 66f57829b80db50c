# A base backup of a server that publishes has its registry, but no slot. Started elsewhere, it does not publish as the
# same application: its state says so, and what to type, whether the original still runs or the copy replaces it.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $node = siphon_node('original');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats, name => 'original_publisher');

$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (id bigserial PRIMARY KEY, v text);
	CREATE TABLE scanned (id int PRIMARY KEY);
	INSERT INTO t (v) SELECT 'there' FROM generate_series(1, 100);
	INSERT INTO scanned SELECT generate_series(1, 100)});
$node->safe_psql('postgres', "SELECT siphon_add_table('t')");

# The backup is taken in the middle of a snapshot, which would begin again on the copy.
wait_for_tables($node);
$publisher->stop;
$node->safe_psql('postgres', "SELECT siphon_add_table('scanned')");
wait_for_table($node, 'scanned', 'snapshot');
$node->backup('in_snapshot');
$publisher->start;
wait_for_tables($node);
$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('after the backup')");
wait_confirmed($node);

sub copy
{
	my ($name) = @_;
	my $copy = PostgreSQL::Test::Cluster->new($name);

	$copy->init_from_backup($node, 'in_snapshot');
	$copy->append_conf('postgresql.conf', Siphon::siphon_conf($copy));
	$copy->start;
	return ($copy, siphon_publisher($copy, $nats, name => "${name}_publisher"));
}

my @before = map { $_->{line} } @{ replay($nats) };
my ($copy, $copys_publisher) = copy('copy');
my $row = wait_for_state($copy, 'failed');

like($row->{reason}, qr/replication slot "siphon_main" cannot be used: it does not exist any more/, 'copy: the reason');
like($row->{hint}, qr/^Run SELECT siphon_resync_application\('main'\) to create a new slot/, 'copy: the hint for one that replaces the original');
like($row->{hint}, qr/a copy of another one that still publishes them, .*: SELECT siphon_drop_application\('main'\)\.$/,
	'copy: and for one beside it');
like(
	slurp_file($copy->logfile),
	qr/siphon: application "main" stopped: replication slot "siphon_main" cannot be used: it does not exist any more/,
	'copy: the log says so, too');

# It has changes, and time, to publish what it may not.
$copy->safe_psql('postgres', "INSERT INTO t (v) VALUES ('of the copy'); UPDATE t SET v = 'of the copy' WHERE id = 1");
wait_until('its publisher looks for a ring', sub { $copys_publisher->log =~ /waiting/ });
is_deeply([ map { $_->{line} } @{ replay($nats) } ], \@before, 'copy: its publisher has published nothing');
$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('of the original'); INSERT INTO scanned VALUES (101)");
wait_confirmed($node);
is(application($copy)->{state}, 'failed', 'copy: it stays so');
is($copy->safe_psql('postgres', 'SELECT count(*) FROM siphon_get_snapshots()'), '0', 'copy: no snapshot runs');
is(application($node)->{state}, 'streaming', 'the original goes on');
is(application($node)->{restarts}, 0, 'undisturbed');
ok($publisher->running, 'and so does its publisher');
$copy->safe_psql('postgres', "SELECT siphon_drop_application('main')");
is($copy->safe_psql('postgres', 'SELECT count(*) FROM siphon_applications'), '0', 'copy: dropped, as the hint says');
$node->safe_psql('postgres', "UPDATE t SET v = 'changed' WHERE id = 2");
wait_confirmed($node);
is_replayed($nats, $node, [qw(t scanned)], 'the stream makes the tables of the original');
is(scalar(grep { ($_->{columns}{v} // '') eq 'of the copy' } @{ replay($nats) }), 0, 'and holds nothing of the copy');
$copys_publisher->stop;
$copy->stop;

# The original is gone, with changes that the backup does not have. Another copy takes its place, from an earlier place
# in the WAL.
$node->safe_psql('postgres', "INSERT INTO t (v) SELECT 'lost with the original' FROM generate_series(1, 1000)");
wait_confirmed($node);
my $lsn = $node->safe_psql('postgres', 'SELECT pg_current_wal_lsn()');
$publisher->stop;
$node->stop('immediate');

my ($heir, $heirs_publisher) = copy('heir');

wait_for_state($heir, 'failed');
is($heir->safe_psql('postgres', "SELECT pg_current_wal_lsn() < '$lsn'"), 't', 'the heir is behind what was published');
$heir->safe_psql('postgres', "SELECT siphon_resync_application('main')");
wait_for_tables($heir);
$heir->safe_psql('postgres', "INSERT INTO t (v) VALUES ('of the heir'); UPDATE t SET v = 'of the heir' WHERE id = 3; DELETE FROM scanned WHERE id = 4");
wait_confirmed($heir);
is_replayed($nats, $heir, [qw(t scanned)], 'resynchronized, the stream makes the tables of the heir');

done_testing();
