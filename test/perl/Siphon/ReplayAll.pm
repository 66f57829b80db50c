# A replay checker that copies every table of the stream, also those that are gone in the end, by the names that they have
# while it reads. What is compared is said afterwards.
package Siphon::ReplayAll;

use strict;
use warnings FATAL => 'all';

use parent 'Siphon::Replay';

# Until its columns are told; of a table that has none they never are.
sub table
{
	my ($self, $name) = @_;

	return $self->{tables}{$name} //= { $self->nothing($name), keyless => 1, find => [] };
}

sub renamed
{
	my ($self, $table, $part, $line, $say, $at) = @_;
	my ($schema, $name) = $line =~ /,"new_schema":("(?:[^"\\]++|\\.)*+"),"new_table":("(?:[^"\\]++|\\.)*+")\}$/
	  or return $say->("a line that siphon-tail does not print: $line");

	# Its former name may be another's already.
	delete $self->{tables}{ $part->{name} } if ($self->{tables}{ $part->{name} } // 0) == $table;
	$part->{name} = "$schema$name";
	$self->{tables}{"$schema$name"} = $table;
	return;
}

# Only these tables, as schema.table, are of interest from here on. What did not fit in the stream is counted in any case.
sub keep
{
	my ($self, @names) = @_;

	$self->{tables} = {
		map {
			my $key = Siphon::Replay::name_of($_);
			($key => { $self->nothing($_), %{ $self->{tables}{$key} // {} }, title => $_, %{ $self->describe($_) } })
		} @names
	};
	return;
}

1;
