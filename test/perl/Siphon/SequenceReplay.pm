# The replay checker, for a stream with a table in which each writer counts: columns writer and n, of which n grows by
# one from row to row. So it is known of each row how many are lost before it, or that it is one too many. Watermarks are
# read too: what they speak for must be behind them.
package Siphon::SequenceReplay;

use strict;
use warnings FATAL => 'all';

use parent 'Siphon::Replay';

# Options: as the replay checker's, and gapless, the table's name.
sub new
{
	my ($class, %options) = @_;
	my $self = $class->SUPER::new(%options, watermarks => 1, last => {}, mark => {}, lost => 0, doubled => 0);

	return $self;
}

sub take
{
	my ($self, $line) = @_;

	return $self->take_watermark($1, $2) if $line =~ /"operation":"WATERMARK","position":"([0-9A-F]+)\/0",[^\[]*(.*)/;
	if ($line =~ /"schema":"(\w+)","table":"(\w+)".*?"operation":"(?:INSERT|UPDATE|DELETE|TRUNCATE)".*?"position":"([0-9A-F]+)\//)
	{
		my $mark = $self->{mark}{"$1.$2"} // '';

		$self->differ("$1.$2: a change at $3 comes behind the watermark $mark") if $3 le $mark;
	}
	return $self->SUPER::take($line);
}

sub take_watermark
{
	my ($self, $lsn, $held) = @_;
	my $marks = $self->{mark};

	$self->{count}{WATERMARK}++;
	for my $table (grep { index($held, "\"$_\"") < 0 } map { $_->{title} } values %{ $self->{tables} })
	{
		$marks->{$table} = $lsn if $lsn gt ($marks->{$table} // '');
	}
	return;
}

# Of what comes again, this is not called.
sub insert
{
	my ($self, $table, $partition, $part, $columns, $say, $operation, $at) = @_;

	$self->SUPER::insert($table, $partition, $part, $columns, $say, $operation, $at);
	return if $table->{title} ne $self->{gapless};

	my ($writer) = $columns =~ /"writer":(\d+)/ or return;
	my ($n) = $columns =~ /"n":(\d+)/ or return;
	my $last = $self->{last}{$writer} // 0;

	# Rows of a snapshot come in any order.
	if ($operation eq 'INSERT' && $n > $last + 1)
	{
		$self->{lost} += $n - $last - 1;
		$say->("writer $writer: $last is followed by $n", $at);
	}
	elsif ($operation eq 'INSERT' && $n <= $last)
	{
		$self->{doubled}++;
		$say->("writer $writer: $n comes after $last", $at);
	}
	$self->{last}{$writer} = $n if $n > $last;
	return;
}

1;
