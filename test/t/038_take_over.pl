# Whoever creates or resynchronizes an application may wish that it takes its stream over from another database. The wish
# is durable, and told to the publisher by each decoder, until the publisher has acknowledged that the history begins; then
# it is gone, and does not hold for the next history either. The publisher is played by the test.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::RingFile;
use Test::More;

my $node = siphon_node('primary');
my $ring = Siphon::RingFile->new($node);

# What the next decoder says, from now on.
sub origin_after
{
	my ($what) = @_;
	my $old = $ring->look($ring->EPOCH);

	$what->();
	wait_until('there is another ring', sub { my $epoch = $ring->look($ring->EPOCH); $epoch && $epoch != $old });
	return wait_until('the decoder says what its events continue', sub { $ring->origin });
}

my $another_decoder = sub { $node->safe_psql('postgres', 'SELECT pg_terminate_backend(decoder_pid) FROM siphon_applications') };
my $call = sub { my ($sql) = @_; return sub { $node->safe_psql('postgres', "SELECT $sql") } };

sub wished
{
	return slurp_file($node->data_dir . '/siphon/main.registry') =~ /"take_over": 1/ ? 1 : 0;
}

# As a publisher that has taken it up.
sub acknowledge
{
	$ring->acknowledge($ring->look($ring->WRITTEN), 1 .. 6);
	wait_until('the registry knows', sub { slurp_file($node->data_dir . '/siphon/main.registry') =~ /"acknowledged": 1/ });
	return;
}

is(origin_after($call->('siphon_create_application()'))->{take_over}, 0, 'without a wish nothing is taken over');
is(wished(), 0, 'nor in the registry');
$call->(q{siphon_drop_application('main')})->();

is(origin_after($call->('siphon_create_application(take_over => true)'))->{take_over}, 1, 'an application is created that takes over');
is(origin_after($another_decoder)->{take_over}, 1, 'the next decoder says so, too');
is(origin_after(sub { $node->stop('immediate'); $node->start })->{take_over}, 1, 'and the next server');
acknowledge();
is(wished(), 0, 'once it is acknowledged, the wish is gone');
is(origin_after($another_decoder)->{take_over}, 0, 'and is told no more');

is(origin_after($call->(q{siphon_resync_application('main', take_over => true)}))->{take_over}, 1, 'an application begins anew, and takes over');
is(origin_after($call->(q{siphon_resync_application('main')}))->{take_over}, 0, 'the wish does not hold for the next history');
is(origin_after($call->(q{siphon_resync_application(take_over => true)}))->{take_over}, 1, 'but can be uttered again');
acknowledge();
is(wished(), 0, 'and fulfilled');

for my $function (qw(siphon_create_application siphon_resync_application))
{
	fails_with(
		$node, "SELECT $function(take_over => NULL)", $function,
		error => qr/argument \d of $function\(\) must not be null/,
		hint => qr/\\df $function/);
}

done_testing();
