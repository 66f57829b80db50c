# Torture: as many faults as asked for. See test/perl/Siphon/Torture.pm; `make torture` runs it.
use strict;
use warnings FATAL => 'all';

use Siphon::Torture;
use Test::More;

my $torture = Siphon::Torture->new(seed => $ENV{TORTURE_SEED} || undef);

diag("SEED=$torture->{seed}");
$torture->run($ENV{TORTURE_FAULTS} || 200);
diag(join "\n", $torture->summary);
done_testing();
