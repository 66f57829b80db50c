# Big things arrive whole, and memory stays bounded: a transaction that is larger than memory for decoding and than the
# ring, rows that are larger than the ring and than a message of NATS, many tables. `make big` has the sizes of the real
# world.
use strict;
use warnings FATAL => 'all';

use Siphon::Sizes;
use Test::More;

my $sizes = Siphon::Sizes->new;

$sizes->transaction(400_000);
$sizes->rows(8, '64kB');
$sizes->rows(8, '64MB');
$sizes->tables(300);
done_testing();
