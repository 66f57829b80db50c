# Logical messages: in order on their prefix's subject, in or outside of a transaction, large ones in parts, once, whatever
# is decoded a second time. And whole transactions, made of several tables' events and of messages, from the stream alone.
use strict;
use warnings FATAL => 'all';

use List::Util qw(shuffle);
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::NatsClient;
use Test::More;

my $seed = $ENV{SIPHON_SEED} // int(rand(1 << 31));
diag("SIPHON_SEED=$seed");
srand $seed;

my $node = siphon_node('primary');
my $nats = siphon_nats();

# As a publisher of old made it, for one application; a wide subject, as people make it, for another.
my $client = Siphon::NatsClient->new($nats->url);
$client->api('STREAM.CREATE.siphon_main',
	{ name => 'siphon_main', subjects => [ map { "siphon.main.$_" } 'events.>', 'watermark', 'held.>' ] });
$client->api('STREAM.CREATE.siphon_wide', { name => 'siphon_wide', subjects => ['siphon.wide.>'] });

my %publisher = map { $_ => siphon_publisher($node, $nats, application => $_, name => "publisher_$_") } qw(main wide);

$node->safe_psql(
	'postgres', q{
	CREATE TABLE a (id int PRIMARY KEY, v text);
	CREATE TABLE b (id int PRIMARY KEY, v text);
	CREATE TABLE unpublished (id int);
	CREATE TABLE content (n serial PRIMARY KEY, v text);
	SELECT siphon_create_application('wide')});
add_table($node, 'a');
add_table($node, 'b', partitions => 5);

sub messages
{
	my ($application) = @_;

	return [ grep { $_->{operation} eq 'MESSAGE' } @{ replay($nats, application => $application, messages => 1) } ];
}

# Test: positions strictly increase on each subject, those of messages among them.
sub messages_increase
{
	my ($name) = @_;
	my %last;
	my @wrong;

	for my $message (@{ messages() })
	{
		my ($lsn, $ordinal) = split /\//, $message->{position};
		my $position = sprintf '%s/%020d', $lsn, $ordinal;

		push @wrong, "$message->{prefix}: $position" if $position le ($last{ $message->{prefix} } // '');
		$last{ $message->{prefix} } = $position;
	}
	return is("@wrong", '', $name);
}

# ---- what comes, and where ------------------------------------------------------------------------------------------

my $log_offset = -s $node->logfile;
$node->safe_psql(
	'postgres', q{
	SELECT pg_logical_emit_message(true, 'siphon', 'one');
	BEGIN;
	INSERT INTO unpublished VALUES (1);
	INSERT INTO a VALUES (1, 'one');
	SELECT pg_logical_emit_message(true, 'other', 'not ours');
	SELECT pg_logical_emit_message(true, 'siphon.job', 'two');
	SAVEPOINT s;
	SELECT pg_logical_emit_message(true, 'siphon.job', 'rolled back');
	SELECT pg_logical_emit_message(false, 'siphon.job', 'at once');
	ROLLBACK TO s;
	INSERT INTO b VALUES (1, 'one');
	SELECT pg_logical_emit_message(true, 'siphon.job', 'three');
	COMMIT;
	BEGIN;
	SELECT pg_logical_emit_message(true, 'siphon', 'aborted');
	SELECT pg_logical_emit_message(false, 'siphon', 'of an aborted one');
	ROLLBACK;
	SELECT pg_logical_emit_message(true, 'siphons', 'not ours');
	SELECT pg_logical_emit_message(false, 'siphon', '\x00ff41'::bytea);
	SELECT pg_logical_emit_message(true, 'siphon', '');
	SELECT pg_logical_emit_message(true, E'siphon.\u00fc', 'not ASCII');
	SELECT pg_logical_emit_message(false, 'siphon.' || repeat('x', 255), 'too long');
	SELECT pg_logical_emit_message(false, 'siphon.a*b >', 'the last');
});
wait_confirmed($node);

my $all = replay($nats, messages => 1, watermarks => 1);
my @got = grep { $_->{operation} eq 'MESSAGE' } @$all;
is_deeply(
	[ map { [ $_->{prefix}, $_->{content} // $_->{bytes}, $_->{transactional} ? 1 : 0 ] } @got ],
	[
		[ 'siphon', 'one', 1 ],
		# In the order of the WAL: this one did not wait for the commit.
		[ 'siphon.job', 'at once', 0 ],
		[ 'siphon.job', 'two', 1 ],
		[ 'siphon.job', 'three', 1 ],
		[ 'siphon', 'of an aborted one', 0 ],
		[ 'siphon', '\x00ff41', 0 ],
		[ 'siphon', '', 1 ],
		[ 'siphon.a*b >', 'the last', 0 ]
	],
	'messages come in order, of a transaction if it commits, and those with other prefixes do not');
my ($two, $three) = grep { $_->{content} =~ /^(?:two|three)$/ } grep { defined $_->{content} } @got;
my ($in_a, $in_b) = grep { ($_->{table} // '') =~ /^[ab]$/ } @$all;
is_deeply(
	[ map { (split /\//, $_->{position})[1] } $in_a, $two, $in_b, $three ],
	[ 2, 3, 4, 5 ],
	'ordinals count events and messages, and no messages that are not for Siphon');
is(scalar(keys %{ { map { $_->{xid} . (split /\//, $_->{position})[0] => 1 } $in_a, $two, $in_b, $three } }),
	1, 'which share xid and commit LSN');
is((split /\//, $got[1]{position})[1], 0, 'one without a transaction has ordinal 0');
ok(!exists $got[1]{xid}, 'and no xid');
cmp_ok($all->[-1]{position}, 'ge', (split /\//, $got[-1]{position})[0], 'the watermark speaks for it');
is($all->[-1]{operation}, 'WATERMARK', 'behind it');
messages_increase('positions increase on each subject');
is(scalar(() = slurp_file($node->logfile, $log_offset) =~ /siphon: the message at \S+ is not published/g),
	4, 'prefixes that can not be published are named in the log, for each application');
is_deeply(
	$nats->stream->{config}{subjects},
	[ map { "siphon.main.$_" } 'events.>', 'watermark', 'messages.>', 'fence' ],
	'the stream that an older publisher made takes messages now, and held changes no more');
is($nats->subjects->{'siphon.main.messages.siphon%2Ea%2Ab%20%3E'}, 1, 'a prefix is encoded as names are');
is_deeply(
	$nats->stream('wide')->{config}{subjects},
	[ map { "siphon.wide.$_" } 'events.>', 'messages.>', 'watermark', 'fence' ],
	'one that takes all takes what is its own');
wait_confirmed($node, application => 'wide');
is_deeply(
	[ map { $_->{content} // '' } @{ messages('wide') } ],
	[ map { $_->{content} // '' } @got ],
	'an application without tables has them too');

my ($raw) = grep { $_->{subject} =~ /messages\.siphon$/ } $client->messages('siphon_main');
like($raw->{headers}, qr/^Siphon-Kind: *message\r$/m, 'their kind');
like($raw->{headers}, qr/^Siphon-First: *$got[0]{position}\r$/m, 'and their position are headers');

# ---- decoded again --------------------------------------------------------------------------------------------------

# A crash takes the slot back to what was written to disk last, which is before a transaction that is open since then.
# Who publishes is killed too.
$node->safe_psql(
	'postgres', q{
	BEGIN;
	INSERT INTO a VALUES (10, 'prepared');
	SELECT pg_logical_emit_message(true, 'siphon.again', '6');
	PREPARE TRANSACTION 'open';
	CHECKPOINT});
wait_confirmed($node);
$node->safe_psql('postgres', 'CHECKPOINT');
my $before = $node->safe_psql(
	'postgres', q{
	SELECT pg_logical_emit_message(false, 'siphon.again', '1');
	SELECT pg_logical_emit_message(true, 'siphon.again', '2');
	SELECT pg_logical_emit_message(false, 'siphon.again', '3');
	BEGIN;
	SELECT pg_logical_emit_message(true, 'siphon.again', '5');
	SELECT pg_logical_emit_message(false, 'siphon.again', '4');
	COMMIT});
$before =~ s/\n.*//s;
wait_confirmed($node);
$publisher{main}->kill9;
$log_offset = -s $node->logfile;
$node->stop('immediate');
$node->start;
wait_for_state($node, 'streaming');
my ($from) = slurp_file($node->logfile, $log_offset) =~ /application "main" is streaming from (\S+)/;
is($node->safe_psql('postgres', "SELECT '$from'::pg_lsn < '$before'::pg_lsn"),
	't', 'the server decodes a second time what was published');
$node->safe_psql(
	'postgres', q{
	COMMIT PREPARED 'open';
	SELECT pg_logical_emit_message(false, 'siphon.again', '7');
	SELECT pg_logical_emit_message(true, 'siphon.again', '8')});
$publisher{main}->start;
wait_confirmed($node);
my @again = grep { $_->{prefix} eq 'siphon.again' } @{ messages() };
is(join(' ', map { $_->{content} } @again), '1 2 3 4 5 6 7 8', 'each message comes once, in order');
# The commit record of 5 follows that of 4 at once, and a watermark for the one must not speak for the other.
my ($four, $five) = map { (split /\//, $_->{position})[0] } @again[ 3, 4 ];
cmp_ok($four, 'lt', $five, 'a message without a transaction has an LSN that no commit has');
messages_increase('positions still increase on each subject');

# Once more, in the middle of a flow of both kinds, with decoders that end.
my $writers = start_pgbench(
	$node,
	{
		w => q{
BEGIN;
SELECT pg_logical_emit_message(true, 'siphon.flow', 'in :client_id');
SELECT pg_logical_emit_message(false, 'siphon.flow', 'out :client_id');
INSERT INTO a VALUES (100 + :client_id, 'flow') ON CONFLICT (id) DO UPDATE SET v = 'again';
COMMIT;
}
	},
	-c => 3,
	-t => 60);
for (1 .. 2)
{
	my $pid = wait_for_state($node, 'streaming')->{decoder_pid};

	$publisher{main}->kill9;
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	$publisher{main}->start;
	wait_until('the decoder is another one', sub { my $now = application($node)->{decoder_pid}; $now && $now != $pid });
}
finish_pgbench($writers);
wait_confirmed($node);
my %flow;
$flow{ $_->{content} }++ for grep { $_->{prefix} eq 'siphon.flow' } @{ messages() };
is_deeply(\%flow, { map { ("in $_" => 60, "out $_" => 60) } 0 .. 2 }, 'of a flow of messages none is lost or doubled');
messages_increase('nor out of order');

# ---- whole transactions ---------------------------------------------------------------------------------------------

# Several at a time, which commit in another order than they began, and some not at all. What each did is in `did`.
my @sessions = map { $node->background_psql('postgres') } 1 .. 3;
my (%did, @committed);
my $id = 2000;
for my $round (1 .. 8)
{
	my @open = map { { session => $_, steps => 2 + int rand 5, did => [] } } @sessions;

	$_->{session}->query_safe('BEGIN') for @open;
	while (my ($transaction) = shuffle(grep { $_->{session} } @open))
	{
		my $session = $transaction->{session};

		if (@{ $transaction->{did} } < $transaction->{steps})
		{
			my $what = (qw(a b m))[ rand 3 ];
			my $step = $what . ++$id;

			$session->query_safe(
				$what eq 'm'
				? "SELECT pg_logical_emit_message(true, 'siphon.step.' || $id % 2, '$step')"
				: "INSERT INTO $what VALUES ($id, '$step')");
			push @{ $transaction->{did} }, $step;
			next;
		}
		if (rand > 0.2)
		{
			$session->query_safe('COMMIT');
			push @committed, join ' ', @{ $transaction->{did} };
		}
		else
		{
			$session->query_safe('ROLLBACK');
		}
		delete $transaction->{session};
	}
}
$_->quit for @sessions;
wait_confirmed($node);

# What a consumer does: collects by xid and commit LSN, and takes up what a watermark says is complete.
my (%collected, @rebuilt, @late);
my $mark = '';
for my $event (@{ replay($nats, messages => 1, watermarks => 1) })
{
	my ($lsn, $ordinal) = split /\//, $event->{position};

	if ($event->{operation} eq 'WATERMARK')
	{
		$mark = $lsn;
		for my $transaction (grep { (split / /)[0] le $mark } sort keys %collected)
		{
			my $steps = delete $collected{$transaction};

			push @rebuilt, join ' ', map { $steps->{$_} } sort { $a <=> $b } keys %$steps;
		}
		next;
	}
	push @late, $event->{position} if $lsn le $mark;
	my $step = $event->{content} // $event->{columns}{v} // '';
	$collected{"$lsn $event->{xid}"}{$ordinal} = $step if $step =~ /^[abm]\d{4}$/;
}
is("@late", '', 'behind a watermark comes nothing that it speaks for');
is(scalar(keys %collected), 0, 'and it speaks for all in the end');
is_deeply(\@rebuilt, \@committed, scalar(@committed) . ' transactions come out whole, in the order of their commits');

# ---- large ones -----------------------------------------------------------------------------------------------------

# Larger than the ring, and than a message of NATS may be.
$node->safe_psql(
	'postgres', q{
	INSERT INTO content (v) SELECT string_agg(sha512(g::text::bytea)::text, '') FROM generate_series(1, 12000) g;
	SELECT pg_logical_emit_message(false, 'siphon.large', v) FROM content;
	BEGIN;
	INSERT INTO a VALUES (5001, 'before');
	SELECT pg_logical_emit_message(true, 'siphon.large', reverse(v)) FROM content;
	INSERT INTO a VALUES (5002, 'after');
	COMMIT});
wait_confirmed($node);
my $large = $node->safe_psql('postgres', 'SELECT v FROM content');
my @large = grep { $_->{prefix} eq 'siphon.large' } @{ messages() };
is(scalar(@large), 2, 'large messages come');
ok($large[0]{content} eq $large, 'as they are, ' . length($large) . ' bytes');
ok($large[1]{content} eq reverse($large), 'in a transaction too');
cmp_ok($nats->subjects->{'siphon.main.messages.siphon%2Elarge'}, '>', 2, 'in parts');

# ---- of whom --------------------------------------------------------------------------------------------------------

# A role that may log in and nothing else; docs/security.md says how to close that.
sub emit
{
	my ($role) = @_;
	my ($code, $out, $err) = $node->psql('postgres', "SET ROLE $role; SELECT pg_logical_emit_message(true, 'siphon.role', '$role'), pg_logical_emit_message(true, 'siphon.role', ''::bytea)");

	return $err;
}

$node->safe_psql('postgres', 'CREATE ROLE stranger; CREATE ROLE sender');
is(emit('stranger'), '', 'anybody may send messages');
for my $change ('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', 'GRANT EXECUTE ON FUNCTION %s TO sender')
{
	$node->safe_psql('postgres', "SELECT format('$change', oid::regprocedure) FROM pg_proc WHERE proname = 'pg_logical_emit_message' \\gexec");
}
like(emit('stranger'), qr/permission denied for function pg_logical_emit_message/, 'unless it is taken from them');
is(emit('sender'), '', 'and given to others');
wait_confirmed($node);
is(join(' ', grep { $_ } map { $_->{content} } grep { $_->{prefix} eq 'siphon.role' } @{ messages('wide') }), 'stranger sender', 'so that they alone are heard');

done_testing();
