# A slot that stands still keeps WAL for ever. It moves in an idle database, with other databases' traffic and with that
# of tables that are not published; with a publisher and without one.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();

$node->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v text); CREATE TABLE unlisted (v text)');
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE TABLE t (v text)');
add_table($node, 't');

# Does the slot itself, and not just the view, come to where WAL ends now?
sub moves
{
	my ($what) = @_;
	my $lsn = $node->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');

	ok( $node->poll_query_until('postgres',
			"SELECT confirmed_flush_lsn >= '$lsn' FROM pg_replication_slots WHERE slot_name = 'siphon_main'"),
		$what);
	return;
}

my $other = sub { $node->safe_psql('other', "INSERT INTO t SELECT repeat('x', 100) FROM generate_series(1, 1000)") };
my $unlisted = sub { $node->safe_psql('postgres', "INSERT INTO unlisted SELECT repeat('x', 100) FROM generate_series(1, 1000)") };

moves('the slot stands where WAL ends');
$other->();
moves('without a publisher: traffic of another database moves the slot');
$unlisted->();
moves('without a publisher: traffic of unlisted tables moves the slot');
is(application($node)->{events}, 0, 'there was no event');

# WAL is given back, not only said to be: the oldest that is needed moves too.
my $restart = $node->safe_psql('postgres', 'SELECT restart_lsn FROM pg_replication_slots');
$node->safe_psql('postgres', 'CHECKPOINT');
$unlisted->();
moves('after a checkpoint');
$node->safe_psql('postgres', 'CHECKPOINT');
ok($node->poll_query_until('postgres', "SELECT restart_lsn > '$restart' FROM pg_replication_slots"),
	'restart_lsn moves, so that WAL can be removed');

my $publisher = siphon_publisher($node, $nats);
$other->();
moves('with a publisher: traffic of another database moves the slot');
$unlisted->();
moves('with a publisher: traffic of unlisted tables moves the slot');
$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('event')");
moves('with a publisher: an event moves it when it is acknowledged');

# An event that is not acknowledged holds the slot, whatever else goes on.
$publisher->stop;
my $before = $node->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('held')");
my $after = $node->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
$other->();
wait_until('the decoder is past the event',
	sub { $node->safe_psql('postgres', "SELECT decoded_lsn >= '$after' FROM siphon_applications") eq 't' });
is( $node->safe_psql('postgres',
		"SELECT confirmed_flush_lsn <= '$after' FROM pg_replication_slots WHERE slot_name = 'siphon_main'"),
	't', 'an event that is not acknowledged holds the slot');
cmp_ok(application($node)->{lag_bytes}, '>', 0, 'siphon_applications shows the lag');

# A transaction that stays open holds WAL, but not the stream.
$publisher->start;
my $open = $node->background_psql('postgres');
$open->query_safe("BEGIN; INSERT INTO t (v) VALUES ('open')");
$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('meanwhile')");
moves('an open transaction does not hold the others up');
is(scalar(grep { $_->{columns}{v} eq 'open' } @{ replay($nats) }), 0, 'and is not published before its commit');
$open->query_safe('COMMIT');
$open->quit;
moves('after its commit');
is(scalar(grep { $_->{columns}{v} eq 'open' } @{ replay($nats) }), 1, 'it is');

done_testing();
