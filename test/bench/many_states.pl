# The publisher's processor time for a message with 10,000 tables of which the bucket has a state is at most 1.1 times that with
# none. `make bench-states` runs it: medians of ROUNDS rounds, with STATES tables, each round with none and with all in turn, so
# that both see the same machine.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Siphon::Broker;
use Siphon::ManyStates;
use Test::More;

my ($states, $rounds) = ($ENV{STATES} // 10_000, $ENV{ROUNDS} // 9);
my $commits = 20;
my $node = states_node();
# Tables are known of the second broker alone.
my %nats = map { $_ => siphon_nats(name => $_) } qw(none many);
my (%cost, %speed);

sub median
{
	my @sorted = sort { $a <=> $b } @_;

	return $sorted[ $#sorted / 2 ];
}

for my $application (qw(none many))
{
	add_table($node, $_, application => "'$application'", $_ eq 'model' ? (snapshot => 'true') : (partitions => 1000)) for qw(model p);
}

my %publisher = map { $_ => siphon_publisher($node, $nats{$_}, name => "publisher_$_", application => $_) } qw(none many);

wait_for_tables($node);
wait_confirmed($node, application => $_) for qw(none many);
write_states($nats{many}, $states, 'many');
$publisher{many}->stop;
$publisher{many}->start;
for my $round (0 .. $rounds)
{
	# Both publish the same commits. The one that is not looked at stands still meanwhile.
	for my $application (qw(none many))
	{
		my ($other) = grep { $_ ne $application } qw(none many);

		$publisher{$other}->stop;
		my ($messages, $cost, $speed) = messages_cost($node, $nats{$application}, $publisher{$application}, $commits, $application);

		$publisher{$other}->start;
		wait_confirmed($node, application => $other);
		# The first one warms up.
		next unless $round;
		push @{ $cost{$application} }, $cost;
		push @{ $speed{$application} }, $speed;
		diag(sprintf 'round %d, %s: %d messages, %.1f us each, %.0f a second', $round, $application, $messages, $cost, $speed);
	}
}
my $ratio = median(@{ $cost{many} }) / median(@{ $cost{none} });

diag(sprintf '%-8s%14s%14s', 'states', 'us/message', 'messages/s');
diag(sprintf '%-8d%14.1f%14.0f', $_ eq 'none' ? 0 : $states, median(@{ $cost{$_} }), median(@{ $speed{$_} })) for qw(none many);
diag(sprintf 'ratio %.2f', $ratio);
cmp_ok($ratio, '<=', 1.1, "a message with $states states costs what it costs with none");

done_testing();
