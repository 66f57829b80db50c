# What a Siphon::Torture says of what it strikes, counts and measures.
package Siphon::TortureFigures;

use strict;
use warnings FATAL => 'all';

use List::Util qw(max);
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time);

# The largest that each kind of process has been, in kB: as a whole, and what it has for itself.
sub measure
{
	my ($self) = @_;
	my $postmaster = eval { slurp_file($self->{node}->data_dir . '/postmaster.pid') =~ /^(\d+)/ ? $1 : undef };
	my ($processes) = $postmaster ? run_command([ 'ps', '-o', 'pid=,args=', '--ppid', $postmaster ]) : '';

	$self->peak('publisher', $self->{publisher}{pid}) if $self->{publisher} && $self->{publisher}{pid};
	for my $process (split /\n/, $processes)
	{
		$process =~ /^ *(\d+) .*: siphon (launcher|decoder|snapshot)(?:.* worker (\d+))?/ or next;
		$self->peak($2 ne 'snapshot' ? $2 : $3 ? 'snapshot worker' : 'snapshot leader', $1);
	}
	return;
}

sub peak
{
	my ($self, $name, $pid) = @_;

	open my $status, '<', "/proc/$pid/status" or return;
	while (my $line = <$status>)
	{
		$line =~ /^(VmHWM|RssAnon):\s+(\d+) kB/ or next;
		$self->{peak}{$name}{$1} = max($2, $self->{peak}{$name}{$1} // 0);
	}
	return;
}

# How often each kind of fault struck, and how long it took to recover from it.
sub summary
{
	my ($self) = @_;
	my @lines = sprintf '%-40s%8s%12s%12s%12s', 'fault', 'times', 'alone', 'median, s', 'longest, s';

	for my $name (sort keys %{ $self->{struck} })
	{
		push @lines, figures($name, $self->{struck}{$name}, $self->{recovery}{$name});
	}
	push @lines, figures('two at once', scalar @{ $self->{recovery}{'two at once'} // [] }, $self->{recovery}{'two at once'});
	push @lines, figures('all', $self->{faults}, [ map { @$_ } values %{ $self->{recovery} } ]);
	for my $name (sort keys %{ $self->{peak} })
	{
		push @lines, sprintf '%-40s largest %d kB, %d kB for itself', $name, @{ $self->{peak}{$name} }{qw(VmHWM RssAnon)};
	}
	push @lines, join ', ', map { "$self->{count}{$_} x $_" } sort keys %{ $self->{count} };
	push @lines, sprintf '%d faults in %d legs, %.0f s: events lost %d, doubled %d', @$self{qw(faults legs)}, time - $self->{started}, @$self{qw(lost doubled)};
	push @lines, "copies of streams that are not equal: $self->{unequal}" if $self->{replicas} > 1;
	return @lines;
}

sub figures
{
	my ($name, $times, $recovery) = @_;
	my @sorted = sort { $a <=> $b } @{ $recovery // [] };

	return sprintf '%-40s%8d%12d', $name, $times, 0 unless @sorted;
	return sprintf '%-40s%8d%12d%12.2f%12.2f', $name, $times, scalar @sorted, $sorted[ $#sorted / 2 ], $sorted[-1];
}

# What is known of the application, for whom it does not go on.
sub whereabouts
{
	my ($self) = @_;

	return join "\n",
	  "the application is on " . $self->{node}->name . ': ' . ($self->ask($self->{node}, 'SELECT to_json(a) FROM siphon_applications a') // ''),
	  'tables: ' . ($self->ask($self->{node}, 'SELECT to_json(t) FROM siphon_tables t') // ''),
	  'snapshots: ' . ($self->ask($self->{node}, 'SELECT to_json(s) FROM siphon_snapshot_progress s') // ''),
	  'slots: ' . ($self->ask($self->{node}, 'SELECT to_json(s) FROM pg_replication_slots s') // ''),
	  $self->{publisher} ? 'publisher: ' . $self->{publisher}->log : ();
}

1;
