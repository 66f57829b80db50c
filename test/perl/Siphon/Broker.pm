# What tests of faults around the broker share: waiting that ends when the publisher does, streams that stand where a test
# wants them, and streams made again of what a consumer has seen.
package Siphon::Broker;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use POSIX ();
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::NatsClient;
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(api stream_of outcome ends_and_advises stays_up is_confirmed is_held snapshot_ended since_last_message make_streams
  make_streams_apart is_replayed_from processor_time);

# How long is waited for what should happen at once. What fails is to fail soon.
my $SOON = 30;

# What JetStream's API answers; dies of an error.
sub api
{
	my ($nats, $subject, $request) = @_;
	my $answer =
	  $nats->can('ask') ? $nats->ask($subject, $request) : Siphon::NatsClient->new($nats->url)->api($subject, $request);

	die "$subject: $answer->{error}{description}" if $answer->{error};
	return $answer;
}

# What JetStream says of a stream.
sub stream_of
{
	my ($nats, $stream) = @_;

	return api($nats, "STREAM.INFO.$stream");
}

# Waits until the publisher ends, or until the condition is true. Returns the exit code, "goes on", or "neither".
sub outcome
{
	my ($publisher, $goes_on, $timeout) = @_;
	my $deadline = time + ($timeout // $SOON);

	while (time < $deadline)
	{
		return $publisher->{exit_code} unless $publisher->running;
		return 'goes on' if $goes_on->();
		sleep 0.05;
	}
	return 'neither';
}

# Tests: the publisher ends with 4 and says what to type, rather than that the condition comes true.
sub ends_and_advises
{
	my ($publisher, $goes_on, $name, $application) = @_;
	my $advice = "SELECT siphon_resync_application('" . ($application // 'main') . "')";
	my $outcome = outcome($publisher, $goes_on);

	is($outcome, 4, "$name: the publisher ends");
	like($publisher->log, qr/\Q$advice\E/, "$name: it says what to type");
	$publisher->kill9;
	return $outcome eq '4';
}

# Test: for so many seconds the publisher does not end.
sub stays_up
{
	my ($publisher, $seconds, $name) = @_;
	my $outcome = outcome($publisher, sub { 0 }, $seconds);

	is($outcome, 'neither', $name) or diag($publisher->log);
	return $outcome eq 'neither';
}

# Test: what is committed now is acknowledged, and the publisher does not end before that.
sub is_confirmed
{
	my ($node, $publisher, $name, $timeout) = @_;
	my $lsn = (split /\n/, $node->safe_psql('postgres',
			"SELECT pg_logical_emit_message(true, 'flush', ''); SELECT pg_current_wal_flush_lsn()"))[-1];
	my $outcome = outcome($publisher,
		sub { $node->safe_psql('postgres', "SELECT confirmed_lsn >= '$lsn' FROM siphon_applications WHERE application = '$publisher->{application}'") eq 't' },
		$timeout);

	is($outcome, 'goes on', $name) or diag($publisher->log);
	return $outcome eq 'goes on';
}

# Are changes of the table, or of any, held, or moved behind its snapshot? As of the last second.
sub is_held
{
	my ($publisher, $table) = @_;

	return scalar grep { $_->{state} ne 'streaming' && (!defined $table || $_->{table} eq $table) } @{ $publisher->status->{tables} };
}

# Has the end of a snapshot arrived at this client, which is subscribed to the table's events?
sub snapshot_ended
{
	my ($client) = @_;

	return scalar grep { Siphon::NatsClient::header($_, 'Siphon-Kind') eq 'snapshot-end' } $client->arrived;
}

# Seconds since the last message of a stream was stored, by the clock of this machine.
sub since_last_message
{
	my ($nats, $stream) = @_;
	my $last = stream_of($nats, $stream)->{state}{last_ts};
	my ($hours, $minutes, $seconds) = $last =~ /T(\d+):(\d+):([\d.]+)Z/ or die "no time: $last";
	my $now = time;
	my $midnight = $now - $now % 86400 - ($now - int $now);

	return 0 if $last =~ /^0001/;
	# Around midnight it may be yesterday's.
	return ($now - $midnight - ($hours * 3600 + $minutes * 60 + $seconds)) % 86400;
}

# Makes the streams of an application as the publisher makes them, but with other settings, before the publisher is there:
# log, held and bucket, each a hash of what is different in it. Takes an application for a moment to see how they are made.
sub make_streams
{
	my ($node, $nats, %different) = @_;
	my $publisher;
	my %role = (siphon_layout => 'log', siphon_layout_held => 'held', KV_siphon_layout => 'bucket');
	my $names = sub { grep { $role{$_} } @{ api($nats, 'STREAM.NAMES')->{streams} // [] } };

	$node->safe_psql('postgres', "SELECT siphon_create_application('layout')");
	$publisher = siphon_publisher($node, $nats, name => 'layout', application => 'layout');
	is_confirmed($node, $publisher, 'the publisher makes streams') or die 'no streams';
	$publisher->stop;
	$node->safe_psql('postgres', "SELECT siphon_drop_application('layout')");
	for my $name ($names->())
	{
		my $config = stream_of($nats, $name)->{config};
		my $role = $role{$name};

		api($nats, "STREAM.DELETE.$name");
		s/\bsiphon([._])layout\b/siphon$1main/, s/siphon_layout/siphon_main/ for $config->{name}, @{ $config->{subjects} };
		$config->{description} =~ s/layout/main/ if $config->{description};
		wait_until("$config->{name} is made",
			sub { api($nats, "STREAM.CREATE.$config->{name}", { %$config, %{ $different{$role} // {} } })->{config} });
	}
	return;
}

# Test: messages that a subscriber of core NATS has got, in this order, make the tables. A server that is there for nothing
# The same in a cluster of three, on one node each: the streams, and the bucket. Returns the node that leads the cluster, that of
# the streams, and that of the bucket.
sub make_streams_apart
{
	my ($node, $nats) = @_;
	my $leader = $nats->meta_leader;
	my ($streams, $bucket) = grep { $_ != $leader } $nats->nodes;

	make_streams(
		$node, $nats,
		log => { placement => { tags => [ $streams->{name} ] } },
		held => { placement => { tags => [ $streams->{name} ] } },
		bucket => { placement => { tags => [ $bucket->{name} ] } });
	return ($leader, $streams, $bucket);
}

# else gets them as the stream.
my $copies;

sub is_replayed_from
{
	my ($messages, $node, $tables, $name, %options) = @_;

	$copies //= siphon_nats(name => 'nats_copies');
	Siphon::NatsClient->new($copies->url)->make_stream('siphon_main', ['siphon.main.>'], @$messages);
	return is_replayed($copies, $node, $tables, $name, %options);
}

# Seconds of processor time that a process has taken.
sub processor_time
{
	my ($process) = @_;
	my @fields = split ' ', slurp_file("/proc/$process->{pid}/stat") =~ s/.*\)//r;

	return ($fields[11] + $fields[12]) / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}

1;
