# Big things in full size: a transaction of ten million rows, rows of 200 MB through rings of 64 MB and of 64 kB, 5,000
# tables; and figures of what thousands of tables take, beside their targets. `make big` runs it; it takes an hour and
# 20 GB of disk. Prints times, and the peaks of memory.
#
#   make big BIG_ROWS=1000000 BIG_MEGABYTES=50 BIG_TABLES=1000 BIG_CROWD=2000 BIG_LEAVES=4000     other sizes
#   make big BIG_PARTS="snapshots rename"     these parts alone, see below
#   make big BIG_PARTS=snapshots BIG_SNAPSHOTS=4     with siphon.max_snapshots
use strict;
use warnings FATAL => 'all';

use Siphon::Scale;
use Siphon::Sizes;
use Test::More;

my ($rows, $megabytes, $tables, $crowd) = @ENV{qw(BIG_ROWS BIG_MEGABYTES BIG_TABLES BIG_CROWD)};
my ($sizes, $scale);
my %parts = (
	transaction => sub { $sizes->transaction($rows) },
	rows => sub { $sizes->rows($megabytes, $_) for qw(64MB 64kB) },
	tables => sub { $sizes->tables($tables) },
	too_large => sub { $sizes->too_large });
my @parts = split ' ', $ENV{BIG_PARTS} || join ' ', qw(transaction rows tables too_large), @Siphon::Scale::order;

for my $part (@parts)
{
	die "no part \"$part\"" unless $parts{$part} || $Siphon::Scale::parts{$part};
	if ($parts{$part})
	{
		$sizes //= Siphon::Sizes->new;
		$parts{$part}->();
	}
	else
	{
		$scale //= Siphon::Scale->new($crowd);
		$scale->run($part);
	}
}
done_testing();
