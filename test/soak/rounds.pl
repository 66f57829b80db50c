# The soak: as many random rounds as asked for. See test/perl/Siphon/Soak.pm; `make soak` runs it.
use strict;
use warnings FATAL => 'all';

use Siphon::Soak;
use Test::More;

my $soak = Siphon::Soak->new(seed => $ENV{SOAK_SEED} || undef);

$soak->round for 1 .. $ENV{SOAK_ROUNDS} || 100;
diag(join "\n", $soak->summary);
done_testing();
