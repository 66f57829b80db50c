# The file with an application's checkpoint, see src/registry/checkpoint_file.cpp: two entries, of which the one with the greater
# number counts, if both are of the registry's history.
package Siphon::CheckpointFile;

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;

# Where the entries are, and what is in them: magic, format, reserved, history, timeline, reserved, number, six words of
# checkpoint, checksum.
use constant { ROOM => 4096, ENTRY => 'Q L L Q L L Q Q6 Q', SIZE => 96 };

sub new
{
	my ($class, $node, $application) = @_;

	return bless { path => $node->data_dir . '/siphon/' . ($application // 'main') . '.checkpoint' }, $class;
}

sub entries
{
	my ($bytes) = @_;

	return map { [ unpack ENTRY, substr $bytes, $_ * ROOM, SIZE ] } 0, 1;
}

sub history
{
	my ($self) = @_;
	my ($digits) = slurp_file($self->{path} =~ s/checkpoint$/registry/r) =~ /"history": "(.{16})"/ or die 'no history';

	return unpack 'Q>', pack 'H16', $digits;
}

sub newest
{
	my ($self, $bytes) = @_;
	my $history = $self->history;
	my @numbers = map { $_->[3] == $history ? $_->[6] : -1 } entries($bytes);

	return $numbers[1] > $numbers[0] ? 1 : 0;
}

# The six words.
sub checkpoint
{
	my ($self) = @_;
	my $bytes = slurp_file($self->{path});

	return [ @{ (entries($bytes))[ $self->newest($bytes) ] }[ 7 .. 12 ] ];
}

# These bytes of a file, with the newest entry half written.
sub torn
{
	my ($self, $bytes) = @_;

	substr($bytes, $self->newest($bytes) * ROOM + 40, 24) = "\0" x 24;
	return $bytes;
}

1;
