# What tests of failover share: a standby that synchronizes slots, and knowing when it is fit to take over.
package Siphon::Failover;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

our @EXPORT = qw(failover_standby failover_conf wait_synchronized mirror_of is_mirrored);

# A standby, whose physical slot has its name, with what it takes to synchronize slots. Options: sync, false to go without.
sub failover_standby
{
	my ($node, $name, %options) = @_;

	return siphon_standby($node, $name, conf => failover_conf($node, $name, %options));
}

# When it is promoted it waits for no standby, until told.
sub failover_conf
{
	my ($node, $name, %options) = @_;

	return 'sync_replication_slots = '
	  . ($options{sync} // 1 ? 'on' : 'off')
	  . "\nsynchronized_standby_slots = ''\n"
	  . "primary_conninfo = '"
	  . $node->connstr
	  . " dbname=postgres application_name=$name'";
}

# Waits until the slot is on the standby, and fit to go on from. What `meanwhile` does may be needed for that.
sub wait_synchronized
{
	my ($node, $standby, $slot, $meanwhile) = @_;

	wait_until(
		"slot $slot is synchronized",
		sub {
			# The slot's positions move with these.
			$node->safe_psql('postgres', 'SELECT pg_log_standby_snapshot()');
			$meanwhile->() if $meanwhile;
			return $standby->safe_psql('postgres',
				"SELECT synced AND NOT temporary AND invalidation_reason IS NULL FROM pg_replication_slots WHERE slot_name = '$slot'") eq 't';
		});
	return;
}

# What the mirror has of the application.
sub mirror_of
{
	my ($node, $application) = @_;

	return $node->safe_psql('postgres', "SELECT content FROM siphon_registry WHERE application = '$application'") =~ s/\s+\z//r;
}

# Test: it becomes what the file has, whose first line is for the file alone.
sub is_mirrored
{
	my ($node, $application, $name) = @_;
	my $file = $node->data_dir . "/siphon/$application.registry";

	wait_until($name, sub { mirror_of($node, $application) eq slurp_file($file) =~ s/\A.*\n//r =~ s/\s+\z//r });
	pass($name);
	return;
}

1;
