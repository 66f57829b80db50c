# A short torture: a dozen faults, one after the other, under load. `make torture` does hundreds.
use strict;
use warnings FATAL => 'all';

use Siphon::Torture;
use Test::More;

my $torture = Siphon::Torture->new(seed => $ENV{SIPHON_SEED});

diag("SIPHON_SEED=$torture->{seed}");
$torture->run(12);
note(join "\n", $torture->summary);
done_testing();
