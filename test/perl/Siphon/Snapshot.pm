# What tests of snapshots share: holding a scan in its middle, looking at it, and at what it left in the stream.
package Siphon::Snapshot;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use JSON::PP;
use Siphon;
use Test::More;

our @EXPORT = qw(set_and_reload progress table_state snapshot_pids slow_scans fast_scans wait_for_scan wait_for_phase
  others_go_on generations is_clean);

sub set_and_reload
{
	my ($node, %settings) = @_;

	for my $setting (sort keys %settings)
	{
		$node->safe_psql('postgres', "ALTER SYSTEM SET $setting = '$settings{$setting}'");
	}

	my $before = $node->safe_psql('postgres', 'SELECT pg_conf_load_time()');

	# A process that begins before the postmaster has read them has what was before.
	$node->reload;
	wait_until('the settings are read', sub { $node->safe_psql('postgres', "SELECT pg_conf_load_time() > '$before'") eq 't' });
	return;
}

# A table's row of siphon_snapshot_progress, as a hash; empty if there is none.
sub progress
{
	my ($node, $table) = @_;
	my $json = $node->safe_psql('postgres',
		"SELECT to_json(p) FROM siphon_snapshot_progress p WHERE table_name = '$table'");

	return $json eq '' ? {} : decode_json($json);
}

# A table's row of siphon_tables.
sub table_state
{
	my ($node, $table) = @_;
	my $json = $node->safe_psql('postgres', "SELECT to_json(t) FROM siphon_tables t WHERE table_name = '$table'");

	return $json eq '' ? {} : decode_json($json);
}

# Process IDs of the running snapshot: the leader's first, then its workers'.
sub snapshot_pids
{
	my ($node) = @_;

	return split /\n/,
	  $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'siphon snapshot' ORDER BY backend_start");
}

# So slow that a scan of some megabytes stays in its middle for as long as a test needs.
sub slow_scans
{
	my ($node) = @_;

	return set_and_reload($node, 'siphon.snapshot_rate' => '64kB', 'siphon.package_size' => '8kB');
}

sub fast_scans
{
	my ($node) = @_;

	return set_and_reload($node, 'siphon.snapshot_rate' => 0);
}

sub wait_for_phase
{
	my ($node, $table, $phase) = @_;
	my $row;

	return wait_until("the snapshot of $table is $phase",
		sub { $row = progress($node, $table); ($row->{phase} // '') eq $phase ? $row : undef });
}

# Waits until rows come out, and all its processes are there.
sub wait_for_scan
{
	my ($node, $table, $processes) = @_;
	my $row;

	return wait_until(
		"$table is being scanned",
		sub {
			$row = progress($node, $table);
			return unless ($row->{phase} // '') eq 'scanning' && $row->{bytes} > 0;
			return scalar(snapshot_pids($node)) >= ($processes // 2) ? $row : undef;
		});
}

# Test: while the snapshot of table big is where it is, changes of table other arrive. Changes both.
my $changes = 0;

sub others_go_on
{
	my ($node, $nats, $what) = @_;

	$changes++;
	$node->safe_psql(
		'postgres', qq{
		UPDATE big SET v = v + 1 WHERE id % 100 = $changes;
		DELETE FROM big WHERE id = 3000 + $changes;
		INSERT INTO big VALUES (20000 + $changes, 0, 'new');
		INSERT INTO other (v) VALUES ('$what')});
	wait_confirmed($node);
	is(scalar(grep { ($_->{columns}{v} // '') eq $what } @{ replay($nats, table => 'public.other') }),
		1, "$what: changes of other tables arrive meanwhile");
	return;
}

# The generations of a table's messages.
sub generations
{
	my ($events, $table) = @_;
	my %generations = map { ($_->{generation} // 0) => 1 } grep { $_->{table} eq $table } @$events;

	return sort { $a <=> $b } keys %generations;
}

# Tests: the stream has the table's present generation and nothing of those that failed, none of its changes is held
# any more, and what it has is the table.
sub is_clean
{
	my ($nats, $node, $primary, $table, $key, $name) = @_;

	wait_confirmed($node, primary => $primary);

	my $events = replay($nats, table => "public.$table");

	is_deeply([ generations($events, $table) ], [ table_state($node, $table)->{generation} ],
		"$name: what failed snapshots sent is purged");
	ok(wait_until('nothing is held', sub { $nats->held <= 1 }), "$name: nothing is held any more");
	positions_increase($events, "$name: changes are in order");
	is_replica($events, $primary, $table, $key, "$name: what came is the table");
	return $events;
}

1;
