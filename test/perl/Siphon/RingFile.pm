# A ring's file as the publisher sees it, for tests that look into it, write over it, or acknowledge what is in it with a
# checkpoint of their own. Offsets are those of ring/ring.h and ring/history.h.
package Siphon::RingFile;

use strict;
use warnings FATAL => 'all';

use Siphon;

use constant {
	EPOCH => 16,
	WRITTEN => 128,
	READ => 4096,
	ACKNOWLEDGEMENTS => 4160, # two: number, acked, six words of checkpoint, check word
	ACKNOWLEDGEMENT_SIZE => 72,
	FLAGS => 4352, # the publisher's, from publisher_asleep on
	DATA => 8192,
	FRAME_HEADER => 112 };

# Of the application's decoder, or what `ring` names.
sub new
{
	my ($class, $node, $application, $ring) = @_;

	return bless { path => join '/', ring_directory($node), $application // 'main', ($ring // 'decoder') . '.ring' }, $class;
}

# What is done to a ring that is just being replaced is done to none.
sub scribble
{
	my ($self, $offset, $bytes) = @_;

	open my $file, '+<:raw', $self->{path} or return;
	seek $file, $offset, 0;
	print $file $bytes;
	close $file or die "$self->{path}: $!";
	return;
}

sub bytes
{
	my ($self, $offset, $length) = @_;

	open my $file, '<:raw', $self->{path} or return '';
	seek $file, $offset, 0;
	read $file, my ($bytes), $length;
	return $bytes // '';
}

# A word of 64 bits; 0 if there is none.
sub look
{
	my ($self, $offset) = @_;
	my $bytes = $self->bytes($offset, 8);

	return length $bytes == 8 ? unpack 'Q', $bytes : 0;
}

# Of the acknowledgement that was written last: its number among the two, and what it says.
sub newest
{
	my ($self) = @_;
	my @numbers = map { $self->look(ACKNOWLEDGEMENTS + $_ * ACKNOWLEDGEMENT_SIZE) } 0, 1;
	my $newest = $numbers[1] > $numbers[0] ? 1 : 0;

	return ($newest, $numbers[$newest], $self->look($self->offset_of_acked($newest)));
}

sub offset_of_acked
{
	my ($self, $which) = @_;

	return ACKNOWLEDGEMENTS + $which * ACKNOWLEDGEMENT_SIZE + 8;
}

sub offset_of_check
{
	my ($self, $which) = @_;

	return $self->offset_of_acked($which) + 56;
}

sub acked
{
	my ($self) = @_;

	return ($self->newest)[2];
}

# As compute_check_word() in ring/ring.h.
sub check_of
{
	my ($epoch, @words) = @_;
	use integer;
	my $check = $epoch ^ -7046029254386353131;

	for my $word (@words)
	{
		$check = ($check ^ $word) * -49064778989728563;
		$check ^= ($check >> 32) & 0xffffffff;
	}
	return $check;
}

# An acknowledgement as the publisher writes it: up to this position, with these six words.
sub acknowledge
{
	my ($self, $acked, @checkpoint) = @_;
	my ($newest, $number) = $self->newest;
	my @words = ($number + 1, $acked, @checkpoint ? @checkpoint : (0) x 6);
	my $check = check_of(unpack('q', $self->bytes(EPOCH, 8)), @words);

	$self->scribble(ACKNOWLEDGEMENTS + (1 - $newest) * ACKNOWLEDGEMENT_SIZE, pack 'Q8q', @words, $check);
	return;
}

# The origin record that a ring begins with, or nothing if it is not there yet, as a hash.
sub origin
{
	my ($self) = @_;
	my $frame = $self->bytes(DATA, FRAME_HEADER + 96);
	my %origin;

	return unless length $frame == FRAME_HEADER + 96 && unpack('x20 S', $frame) == 8;
	@origin{qw(system_identifier database take_over)} = unpack 'QLL', substr $frame, FRAME_HEADER, 16;
	$origin{checkpoint} = [ unpack 'Q6', substr $frame, FRAME_HEADER + 16, 48 ];
	@origin{qw(confirmed history acknowledged)} = unpack 'QQL', substr $frame, FRAME_HEADER + 64, 20;
	return \%origin;
}

1;
