# Transactions that a replication brought, as one of a subscription: their events have the name of their origin and the time
# when they committed there, which may be years ago. Lag, latency and the last event are by the clock of this database.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Test::More;

my $primary = siphon_node('primary');
my $nats = siphon_nats();

$primary->safe_psql('postgres', 'CREATE TABLE t (id int PRIMARY KEY)');
add_table($primary, 't');
my $publisher = siphon_publisher($primary, $nats);

sub lag
{
	return $primary->safe_psql('postgres', 'SELECT coalesce(extract(epoch FROM lag), -1) FROM siphon_stats');
}

$primary->safe_psql(
	'postgres', q{
	SELECT pg_replication_origin_create('elsewhere');
	SELECT pg_replication_origin_session_setup('elsewhere');
	BEGIN;
	SELECT pg_replication_origin_xact_setup('0/1', '2001-02-03 04:05:06+00');
	INSERT INTO t VALUES (1);
	COMMIT;
	SELECT pg_replication_origin_session_reset();
	INSERT INTO t VALUES (2)});
wait_confirmed($primary);
my ($far, $near) = @{ replay($nats) };
is($far->{origin}, 'elsewhere', 'an event says whence its transaction came');
like($far->{timestamp}, qr/^2001-02-03T04:05:06/, 'and when it committed there');
ok(!exists $near->{origin}, 'one that was made here does not');
cmp_ok($primary->safe_psql('postgres', "SELECT extract(epoch FROM now() - last_event) FROM siphon_applications"), '<', 3600, 'the last event is of now');
my $metrics = wait_until('the figures', sub {
	my $now = $publisher->metrics;
	return exists $now->{'siphon_last_commit_timestamp_seconds{schema="public",table="t"}'} ? $now : undef;
});
cmp_ok($metrics->{siphon_commit_to_ack_seconds_sum}, '<', 3600, 'so is what the latency is reckoned from');
cmp_ok(time - $metrics->{'siphon_last_commit_timestamp_seconds{schema="public",table="t"}'}, '<', 3600, 'and the last commit');
cmp_ok($metrics->{siphon_slot_lag_seconds}, '<', 3600, 'and the lag');
$primary->safe_psql(
	'postgres', q{
	BEGIN;
	SELECT pg_replication_origin_create('of_its_own');
	SELECT pg_replication_origin_session_setup('of_its_own');
	INSERT INTO t VALUES (4);
	COMMIT});
wait_confirmed($primary);
like(replay($nats)->[-1]{origin}, qr/^#\d+$/, 'one whose name is not known yet has its number');
$publisher->stop;
$primary->safe_psql(
	'postgres', q{
	SELECT pg_replication_origin_session_setup('elsewhere');
	BEGIN;
	SELECT pg_replication_origin_xact_setup('0/2', '2001-02-03 04:05:06+00');
	INSERT INTO t VALUES (3);
	COMMIT});
wait_until('the lag of what is not acknowledged', sub { lag() > 1 });
cmp_ok(lag(), '<', 3600, 'is counted from here, too');

done_testing();
