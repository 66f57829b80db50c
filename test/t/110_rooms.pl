# The sources' rooms know each other in one direction only, as test/rooms.txt lists it, and each has a README.md; modules (a
# header and its source) have no cycles; and PostgreSQL's, NATS' and protobuf's headers stay where they belong.
use strict;
use warnings FATAL => 'all';

use File::Basename;
use List::Util qw(any);
use PostgreSQL::Test::Utils;
use Test::More;

my (%may, @order);

for my $line (grep { !/^#|^$/ } split /\n/, slurp_file('test/rooms.txt'))
{
	my ($room, $rooms) = $line =~ /^(\S+):\s*(.*)$/ or die "not a room: $line";

	push @order, $room;
	$may{$room} = { map { $_ => 1 } split ' ', $rooms };
}

my @files = map { glob("$_/*.{h,cpp} $_/*/*.{h,cpp} $_/*/*/*.{h,cpp}") } qw(ring src program reader publisher tools);
my (%room_of, %text, %uses, @violations);

for my $file (@files)
{
	$room_of{$file} = dirname($file);
	$text{$file} = slurp_file($file);
}
cmp_ok(scalar @files, '>', 200, 'there are sources');
is_deeply([ sort grep { !$may{$_} } values %room_of ], [], 'every source is in a room of the list');
for my $room (@order)
{
	ok((any { $_ eq $room } values %room_of), "$room has sources");
	ok(-s "$room/README.md", "$room says what it is for");
	is_deeply([ grep { !$may{$_} } sort keys %{ $may{$room} } ], [], "$room uses rooms that are there");
}

# The file that a source includes: beside it, or in another room. Undefined: it is not ours.
sub included
{
	my ($file, $name) = @_;
	my @places = (dirname($file) . "/$name", $name, "src/$name");

	return (grep { exists $text{$_} } @places)[0];
}

for my $file (@files)
{
	for my $name ($text{$file} =~ /^#include "([^"]+)"/mg)
	{
		my $other = included($file, $name) // next;
		my ($from, $to) = ($room_of{$file}, $room_of{$other});

		push @violations, "$file includes $other" unless $from eq $to || $may{$from}{$to};
		$uses{ $file =~ s/\.\w+$//r }{ $other =~ s/\.\w+$//r } = 1;
	}
}
is_deeply(\@violations, [], 'rooms include what the list allows');

# The list itself has one direction.
for my $i (0 .. $#order)
{
	my %below = map { $_ => 1 } @order[ $i + 1 .. $#order ];

	is_deeply([ grep { $below{$_} } sort keys %{ $may{ $order[$i] } } ], [], "$order[$i] uses no room that comes behind it");
}

# Those without uses are taken away, again and again: what is left has a way back to itself.
delete $uses{$_}{$_} foreach keys %uses;
my $left;
do
{
	$left = keys %uses;
	foreach my $module (keys %uses)
	{
		delete $uses{$module} unless grep { exists $uses{$_} } keys %{ $uses{$module} };
	}
} while (keys %uses < $left);
is_deeply([ sort keys %uses ], [], 'no module uses one that uses it');

# ---- headers of others ----------------------------------------------------------------------------------------------

my $postgres = qr/^#include "(?:postgres|access|catalog|commands|executor|nodes|replication|storage|utils)\b[^"]*"/m;

is_deeply([ grep { $text{$_} =~ /$postgres/ && $room_of{$_} !~ /^src/ } @files ], [], "PostgreSQL's headers are in the extension alone");
# Files that include a header of others, and are not in one of the rooms that may.
sub strangers
{
	my ($header, $rooms) = @_;

	return [ grep { $text{$_} =~ /^#include [<"]$header/m && $_ !~ /^$rooms/ } @files ];
}

is_deeply(strangers(qr/(?:google\/protobuf|siphon\.pb\.h)/, qr{(?:reader|publisher|tools)/}), [], "protobuf's are in what reads or writes packages");
is_deeply(
	strangers(qr/nats\//, qr{(?:reader/nats/|publisher/stream/jetstream/|reader/versions\.cpp|publisher/watch/metrics\.cpp)}),
	[], "NATS' are where it is spoken to, or its version is told");
is_deeply(strangers(qr/(?:microhttpd|curl)/, qr{program/http/}), [], "HTTP's are where it is spoken");
is_deeply(strangers(qr/(?:spdlog|yaml-cpp|CLI)\//, qr{(?:program|reader|publisher|tools)/}), [], "the programs' are in the programs");

done_testing();
