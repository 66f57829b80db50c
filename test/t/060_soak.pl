# A few rounds of the soak: tables are added, brought out anew, removed and added again under load, on primary and
# standby, while publisher, snapshot processes and server are killed. `make soak` runs many.
use strict;
use warnings FATAL => 'all';

use Siphon::Soak;
use Test::More;

my $soak = Siphon::Soak->new(seed => $ENV{SIPHON_SEED});

diag("SIPHON_SEED=$soak->{seed}");
$soak->round for 1 .. 3;
note(join "\n", $soak->summary);
done_testing();
