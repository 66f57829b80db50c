# Timeouts of the server, the database and the role, which are meant for queries, do not reach the decoder: it is not ended
# by them, however long it waits in one transaction.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Test::More;

my $node = siphon_node('primary', conf => 'siphon.ring_size = 64kB');
my $nats = siphon_nats();

my %timeouts = (
	statement_timeout => '600ms',
	lock_timeout => '100ms',
	idle_in_transaction_session_timeout => '300ms',
	idle_session_timeout => '300ms',
	has_setting('transaction_timeout') ? (transaction_timeout => '900ms') : ());

# The test's own sessions have none.
$ENV{PGOPTIONS} = join ' ', map { "-c $_=0" } keys %timeouts;

sub with_timeouts
{
	my ($statement) = @_;

	$node->safe_psql('postgres', join ';', map { "$statement $_ = '$timeouts{$_}'" } sort keys %timeouts);
	return;
}

# A session of anybody else has them: waits until one was ended by them three times.
sub timeouts_pass
{
	local $ENV{PGOPTIONS} = '';
	my @codes = map { ($node->psql('postgres', 'SELECT pg_sleep(30)'))[0] } 1 .. 3;

	is(scalar(grep { $_ == 0 } @codes), 0, 'other sessions are ended by the timeouts');
	return;
}

# One transaction, larger than the ring, that nobody takes.
sub fill_ring
{
	$node->safe_psql('postgres', "INSERT INTO t (v) SELECT md5(g::text) || repeat('x', 300) FROM generate_series(1, 3000) g");
	wait_until('the ring is full', sub { my $row = application($node); $row->{ring_used} > $row->{ring_size} / 2 });
	return;
}

$node->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v text)');

# There before the decoder starts, and set anew by a reload while it waits.
with_timeouts('ALTER DATABASE postgres SET');
add_table($node, 't');
my $pid = application($node)->{decoder_pid};
fill_ring();
timeouts_pass();
is(application($node)->{decoder_pid}, $pid, 'timeouts of the database do not end the decoder');
with_timeouts('ALTER SYSTEM SET');
$node->reload;
timeouts_pass();
is(application($node)->{decoder_pid}, $pid, 'nor do those of the server, after a reload');
is(application($node)->{restarts}, 0, 'it was not restarted');

my $publisher = siphon_publisher($node, $nats);
wait_confirmed($node);
is_replica(replay($nats), $node, 't', ['id'], 'and when somebody takes it, the transaction arrives');

# The server's alone, from the decoder's start.
$publisher->stop;
$node->safe_psql('postgres', "ALTER DATABASE postgres RESET ALL");
$node->restart;
$pid = wait_for_state($node, 'streaming')->{decoder_pid};
fill_ring();
timeouts_pass();
is(application($node)->{decoder_pid}, $pid, 'timeouts of the server do not end a decoder that starts with them');
is(application($node)->{restarts}, 0, 'and it is not restarted');
$publisher->start;
wait_confirmed($node);
is_replica(first_of_each(replay($nats)), $node, 't', ['id'], 'the transaction arrives');

done_testing();
