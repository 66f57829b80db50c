# Settings of the server, the database and the role do not reach the decoder: timeouts that are meant for queries do not
# end it, however long it waits in one transaction, and what is published as text is the same whatever they say.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Test::More;

my $node = siphon_node('primary', conf => 'siphon.ring_size = 64kB');
my $nats = siphon_nats();

# ---- timeouts -------------------------------------------------------------------------------------------------------

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

# ---- text -----------------------------------------------------------------------------------------------------------

# Type, literal, and what must arrive.
my @samples = (
	[ 'float8[]', "'{0.1,1e-7,123456789.123456789}'" => [ 0.1, 1e-7, 123456789.12345679 ] ],
	[ 'float4[]', "'{0.1,16777216}'" => [ 0.1, 16777216 ] ],
	[ 'point', "'(0.3333333333333333,0.1)'" => '(0.3333333333333333,0.1)' ],
	[ 'date[]', "'{2024-02-29,1999-12-31}'" => [ '2024-02-29', '1999-12-31' ] ],
	[ 'timestamp[]', "'{2024-02-29 13:14:15}'" => ['2024-02-29T13:14:15'] ],
	[ 'timestamptz[]', "'{2024-02-29 13:14:15+02}'" => ['2024-02-29T11:14:15Z'] ],
	[ 'tstzrange', "'[2024-02-29 13:14:15+02,)'" => '["2024-02-29 11:14:15+00",)' ],
	[ 'bytea[]', q('{"\\\\x00ff10"}') => ['\\x00ff10'] ],
	[ 'interval', "make_interval(1, 2, 0, 3, 4, 5, 6)" => '1 year 2 mons 3 days 04:05:06' ],
	[ 'interval[]', "ARRAY[make_interval(days => -1, hours => 2)]" => ['-1 days +02:00:00'] ],
	[ 'regclass[]', "'{public.t}'" => ['public.t'] ],
	[ 'regtype', "'public.mood'::regtype" => 'public.mood' ],
	[ 'text', "E'\\u00fc'" => "\x{fc}" ]);

my @unusual = (
	[ extra_float_digits => '-3' ],
	[ DateStyle => "'SQL, DMY'" ],
	[ IntervalStyle => "'sql_standard'" ],
	[ bytea_output => "'escape'" ],
	[ TimeZone => "'Asia/Kolkata'" ],
	[ search_path => 'elsewhere, public' ],
	[ quote_all_identifiers => 'on' ],
	[ client_encoding => "'LATIN1'" ]);

$node->safe_psql('postgres', 'ALTER SYSTEM RESET ALL');
$node->safe_psql('postgres', "CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE texts (id int PRIMARY KEY, "
	  . join(', ', map { "c$_ $samples[$_][0]" } 0 .. $#samples) . ')');
$node->reload;
add_table($node, 'texts');

sub as_pinned
{
	my ($id, $what) = @_;

	# Literals are read by a session with the settings that this file was written for.
	{
		local $ENV{PGOPTIONS} = '-c DateStyle=ISO -c IntervalStyle=postgres -c client_encoding=UTF8';
		$node->safe_psql('postgres',
			"INSERT INTO public.texts VALUES ($id, " . join(', ', map { $_->[1] } @samples) . ')');
	}
	wait_confirmed($node);
	my ($row) = grep { $_->{columns}{id} == $id } @{ replay($nats, table => 'public.texts') };
	is_deeply($row->{columns}{"c$_"}, $samples[$_][2], "$what: $samples[$_][0]") for 0 .. $#samples;
	return;
}

sub restart_decoder
{
	my $before = application($node)->{decoder_pid};

	$node->safe_psql('postgres', "SELECT pg_terminate_backend($before)");
	wait_until('the decoder is another one',
		sub { my $row = application($node); $row->{state} eq 'streaming' && $row->{decoder_pid} != $before });
	return;
}

as_pinned(1, 'defaults');
$node->safe_psql('postgres', join ';', map { "ALTER DATABASE postgres SET $_->[0] = $_->[1]" } @unusual);
restart_decoder();
as_pinned(2, 'settings of the database');
$node->safe_psql('postgres', 'ALTER DATABASE postgres RESET ALL');
my $superuser = $node->safe_psql('postgres', 'SELECT quote_ident(rolname) FROM pg_roles WHERE oid = 10');
$node->safe_psql('postgres', join ';', map { "ALTER ROLE $superuser SET $_->[0] = $_->[1]" } @unusual);
restart_decoder();
as_pinned(3, 'settings of the role');
$node->safe_psql('postgres', "ALTER ROLE $superuser RESET ALL");
$node->safe_psql('postgres', join ';', map { "ALTER SYSTEM SET $_->[0] = $_->[1]" } @unusual);
$node->reload;
as_pinned(4, 'settings of the server, reloaded');
restart_decoder();
as_pinned(5, 'settings of the server');

done_testing();
