# Modules of the extension (a source file and its header) use each other in one direction: none of them includes, by way of
# whatever others, a header of one that includes its own.
use strict;
use warnings FATAL => 'all';

use File::Basename;
use PostgreSQL::Test::Utils;
use Test::More;

my %uses;

foreach my $file (glob('src/*.cpp src/*.h'))
{
	my $module = basename($file) =~ s/\.\w+$//r;

	$uses{$module}{$_} = 1 foreach slurp_file($file) =~ /^#include "(\w+)\.h"/mg;
	$uses{$module} //= {};
	delete $uses{$module}{$module};
}
cmp_ok(scalar keys %uses, '>', 50, 'there are modules');

# Those without uses are taken away, again and again: what is left has a way back to itself.
my $left;
do
{
	$left = keys %uses;
	foreach my $module (keys %uses)
	{
		delete $uses{$module} unless grep { exists $uses{$_} } keys %{ $uses{$module} };
	}
} while (keys %uses < $left);

# And those that nothing of the rest uses.
do
{
	$left = keys %uses;
	my %used = map { $_ => 1 } map { keys %$_ } values %uses;

	delete $uses{$_} foreach grep { !$used{$_} } keys %uses;
} while (keys %uses < $left);

is_deeply([ sort keys %uses ], [], 'no module uses one that uses it');
done_testing();
