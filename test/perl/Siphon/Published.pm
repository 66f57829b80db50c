# What tests do with what was published: look at single events, and have the replay checker hold all of them against
# the tables.
package Siphon::Published;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use IPC::Run ();
use JSON::PP;
use PostgreSQL::Test::Utils;
use Siphon::Replay;
use Test::More;

our @EXPORT = qw(replay first_of_each positions_increase is_replica is_replayed);

# The application's whole stream, as siphon-tail reads it: a reference to an array of events, each with the line that it
# was. Options: application, table, watermarks, messages.
sub replay
{
	my ($nats, %options) = @_;
	my ($out, $err) = ('', '');
	my @command = (
		'siphon-tail', '--from-start', '--stop-at-end',
		Siphon::Replay::stream_option($nats->url),
		'--application' => $options{application} // 'main',
		$options{table} ? ('--table' => $options{table}) : (),
		$options{watermarks} ? '--watermarks' : (),
		$options{messages} ? '--messages' : ());

	IPC::Run::run(\@command, '<', \undef, '>', \$out, '2>', \$err)
	  or die "siphon-tail failed: $err";
	return [ map { { %{ decode_json($_) }, line => $_ } } split /\n/, $out ];
}

sub subject
{
	my ($event) = @_;

	return "$event->{schema}.$event->{table}." . ($event->{partition} // 0);
}

# A position as something that sorts as text.
sub position
{
	my ($event) = @_;
	my ($lsn, $ordinal) = split /\//, $event->{position};

	return sprintf '%s/%020d', $lsn, $ordinal;
}

# What a consumer sees that skips, on each subject, all that is not beyond the last position it has seen.
sub first_of_each
{
	my ($events) = @_;
	my %last;
	my @first;

	for my $event (@$events)
	{
		my $subject = subject($event);
		my $position = position($event);

		next if defined $last{$subject} && $position le $last{$subject};
		$last{$subject} = $position;
		push @first, $event;
	}
	return \@first;
}

# Test: positions strictly increase on each subject. A DELETE and the INSERT of one UPDATE stand on two.
sub positions_increase
{
	my ($events, $name) = @_;
	my %last;

	for my $event (grep { $_->{operation} !~ /^SNAPSHOT/ } @$events)
	{
		my $subject = subject($event);
		my $position = position($event);

		if (defined $last{$subject} && $position le $last{$subject})
		{
			fail($name);
			diag("on $subject, $position follows $last{$subject}");
			return 0;
		}
		$last{$subject} = $position;
	}
	pass($name);
	return 1;
}

# Test: events, in this order, make the table. The key names its rows. Returns true if so.
sub is_replica
{
	my ($events, $node, $table, $key, $name) = @_;
	my $replay = checker($node, [$table], key => $key);

	$replay->take($_->{line}) for @$events;
	return is_equal($replay, $name);
}

# Test: the application's stream makes the tables. Options are those of Siphon::Replay, and application. Returns the
# checker, which has counted the events.
sub is_replayed
{
	my ($nats, $node, $tables, $name, %options) = @_;
	my $replay = checker($node, $tables, %options);

	$replay->read_stream(nats_url => $nats->url, application => $options{application});
	is_equal($replay, $name);
	return $replay;
}

sub checker
{
	my ($node, $tables, %options) = @_;

	return Siphon::Replay->new(
		connect => $node->connstr('postgres'),
		tables => [ map { /\./ ? $_ : "public.$_" } @$tables ],
		directory => PostgreSQL::Test::Utils::tempdir(),
		%options);
}

sub is_equal
{
	my ($replay, $name) = @_;
	my $equal = ok($replay->compare, $name);
	my @report = $replay->report;

	$equal ? note(join "\n", @report) : diag(join "\n", @report);
	return $equal;
}

1;
