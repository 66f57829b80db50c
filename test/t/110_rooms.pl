# The sources' rooms know each other in one direction only, as test/rooms.txt lists it; modules (a header and its source)
# of the extension have no cycles; and PostgreSQL's, NATS' and protobuf's headers stay where they belong.
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

my @files = grep { !m{^test/} } glob('ring/*.{h,cpp} src/*.{h,cpp} src/*/*.{h,cpp} publisher/*.{h,cpp} publisher/*/*.{h,cpp} publisher/*/*/*.{h,cpp}');
my (%room_of, %text, %uses, @violations);

for my $file (@files)
{
	$room_of{$file} = dirname($file) =~ s{^publisher/.*}{publisher}r;
	$text{$file} = slurp_file($file);
}
cmp_ok(scalar @files, '>', 200, 'there are sources');
is_deeply([ sort grep { !$may{$_} } values %room_of ], [], 'every source is in a room of the list');
for my $room (@order)
{
	ok((any { $_ eq $room } values %room_of), "$room has sources");
	is_deeply([ grep { !$may{$_} } sort keys %{ $may{$room} } ], [], "$room uses rooms that are there");
}

# The file that a source includes: beside it, or in another room. Undefined: it is not ours.
sub included
{
	my ($file, $name) = @_;
	my @places = (dirname($file) . "/$name", $name, "src/$name", "publisher/$name");

	return (grep { exists $text{$_} } @places)[0];
}

for my $file (@files)
{
	for my $name ($text{$file} =~ /^#include "([^"]+)"/mg)
	{
		my $other = included($file, $name) // next;
		my ($from, $to) = ($room_of{$file}, $room_of{$other});

		push @violations, "$file includes $other" unless $from eq $to || $may{$from}{$to};
		$uses{ $file =~ s/\.\w+$//r }{ $other =~ s/\.\w+$//r } = 1 if $file =~ m{^(?:src|ring)/};
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
is_deeply([ grep { $text{$_} =~ /^#include [<"](?:google\/|siphon\.pb\.h|nats|microhttpd|spdlog)/m && $room_of{$_} !~ /^publisher/ } @files ],
	[], "protobuf's, NATS' and HTTP's are in the publisher alone");
is_deeply(
	[ grep { $text{$_} =~ /^#include <nats\//m && !m{^publisher/(?:stream/jetstream/|nats_|jetstream_|(?:command_line|metrics)\.cpp)} } @files ],
	[], "NATS' are where the publisher speaks to it, or tells its version");

done_testing();
