# Big things in full size: a transaction of ten million rows, rows of 200 MB through rings of 64 MB and of 64 kB, 5,000
# tables. `make big` runs it; it takes some minutes and 20 GB of disk. Prints times, and the peaks of memory.
#
#   make big BIG_ROWS=1000000 BIG_MEGABYTES=50 BIG_TABLES=1000     other sizes; 0 leaves one out
use strict;
use warnings FATAL => 'all';

use Siphon::Sizes;
use Test::More;

my $sizes = Siphon::Sizes->new;
my ($rows, $megabytes, $tables) = @ENV{qw(BIG_ROWS BIG_MEGABYTES BIG_TABLES)};

$sizes->transaction($rows) if $rows;
$sizes->rows($megabytes, $_) for $megabytes ? qw(64MB 64kB) : ();
$sizes->tables($tables) if $tables;
$sizes->too_large if $megabytes;
done_testing();
