# Torture: as many faults as asked for, TORTURE_FAULTS, from a seed, TORTURE_SEED, on one nats-server or on so many,
# TORTURE_REPLICAS. See test/perl/Siphon/Torture.pm; `make torture` runs it.
use strict;
use warnings FATAL => 'all';

use Siphon::Torture;
use Test::More;

my $torture = Siphon::Torture->new(seed => $ENV{TORTURE_SEED} || undef, replicas => $ENV{TORTURE_REPLICAS} || 1);

diag("SEED=$torture->{seed}");
$torture->run($ENV{TORTURE_FAULTS} || 200);
diag(join "\n", $torture->summary);
done_testing();
