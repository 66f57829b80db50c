# Workers depend on no setting of the server, the database or the role: what they send has the same bytes, they follow a
# publication, bring out rows, mirror the registry and run on a standby, whatever settings say that sessions obey.
use strict;
use warnings FATAL => 'all';

use JSON::PP qw(decode_json);
use MIME::Base64 qw(decode_base64);
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Failover;
use Siphon::NatsClient;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();
my $client = Siphon::NatsClient->new($nats->url);
my $failover = $node->pg_version >= 17;
my $superuser = $node->safe_psql('postgres', 'SELECT rolname FROM pg_roles WHERE oid = 10');

# What they are to be, and what they are set to.
my %settings = (
	session_authorization => [ $superuser, 'nobody' ],
	role => [ 'none', 'nobody' ],
	# What is sent.
	extra_float_digits => [ 1, -3 ],
	DateStyle => [ 'ISO', 'SQL, DMY' ],
	IntervalStyle => [ 'postgres', 'sql_standard' ],
	bytea_output => [ 'hex', 'escape' ],
	xmlbinary => [ 'base64', 'hex' ],
	xmloption => [ 'content', 'document' ],
	TimeZone => [ 'UTC', 'Asia/Kolkata' ],
	search_path => [ 'public', 'elsewhere, public' ],
	quote_all_identifiers => [ 'off', 'on' ],
	standard_conforming_strings => [ 'on', 'off' ],
	backslash_quote => [ 'safe_encoding', 'on' ],
	array_nulls => [ 'on', 'off' ],
	transform_null_equals => [ 'off', 'on' ],
	client_encoding => [ 'UTF8', 'LATIN1' ],
	# What workers do.
	default_transaction_isolation => [ 'read\\ committed', 'serializable' ],
	default_transaction_read_only => [ 'off', 'on' ],
	default_transaction_deferrable => [ 'off', 'on' ],
	exit_on_error => [ 'off', 'on' ],
	row_security => [ 'on', 'off' ],
	synchronous_commit => [ 'on', 'remote_apply' ],
	session_replication_role => [ 'origin', 'replica' ],
	statement_timeout => [ 0, '1min' ],
	has_setting('debug_parallel_query') ? (debug_parallel_query => [ 'off', 'on' ]) : (force_parallel_mode => [ 'off', 'on' ]),
	has_setting('event_triggers') ? (event_triggers => [ 'on', 'off' ]) : (),
	# By which people find them.
	application_name => [ 'test', 'nobody' ]);

# The test's own sessions have the former.
$ENV{PGOPTIONS} = join ' ', map { "-c $_=$settings{$_}[0]" } sort keys %settings;

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


my @columns = map { "c$_" } 0 .. $#samples;
my $values = join ', ', map { $_->[1] } @samples;

$node->safe_psql('postgres', "CREATE ROLE nobody; CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE t (id int PRIMARY KEY);"
	  . 'CREATE TABLE texts (id int PRIMARY KEY, ' . join(', ', map { "c$_ $samples[$_][0]" } 0 .. $#samples) . ');'
	  . q{CREATE TABLE literals (v text DEFAULT 'a\b', id int, PRIMARY KEY (v, id)) PARTITION BY LIST (v);}
	  . join('', map { "CREATE TABLE literals_$_ PARTITION OF literals FOR VALUES IN ('a\\b$_');" } 0 .. 3)
	  . 'CREATE TABLE keyless (v text); CREATE PUBLICATION p FOR TABLE texts, literals, keyless WITH (publish_via_partition_root = true)');
$node->safe_psql('postgres', "SELECT siphon_create_application('main', failover => true)") if $failover;

# Where each application is.
my %node_of = (main => $node);
$node_of{second} = siphon_standby($node, 'standby') if standby_supported($node);

my @publishers;

for my $application (sort keys %node_of)
{
	my $here = $node_of{$application};

	push @publishers, siphon_publisher($here, $nats, application => $application, name => "publisher_$application");
	if ($here != $node)
	{
		add_table($here, 't', primary => $node, application => "'$application'");
		$node->wait_for_replay_catchup($here);
	}
	$here->safe_psql('postgres', "SELECT siphon_follow_publication('p', '$application')");
}

# The processes, but for the launcher.
sub workers
{
	my ($here) = @_;

	return $here->safe_psql('postgres',
		"SELECT string_agg(application_name || ' ' || pid, ', ' ORDER BY pid) FROM pg_stat_activity WHERE application_name ~ '^siphon (decoder|follower)'");
}

# Others take their places.
sub restart_workers
{
	my ($here) = @_;
	my %before = map { $_ => 1 } workers($here) =~ /\d+/g;

	$here->safe_psql('postgres', "SELECT pg_terminate_backend($_)") for keys %before;
	wait_until('the workers are others',
		sub { my @now = workers($here) =~ /\d+/g; @now >= 2 && !grep { $before{$_} } @now });
	return;
}

sub schema_of_literals
{
	my ($application) = @_;
	my $answer = $client->api("STREAM.MSG.GET.KV_siphon_$application", { last_by_subj => "\$KV.siphon_$application.public.literals.schema" });

	return decode_json(decode_base64($answer->{message}{data}));
}

# A row's text as it must arrive, as an event or a row of a snapshot.
sub is_as_pinned
{
	my ($application, $table, $id, $what) = @_;
	my ($row) = grep { $_->{columns} && $_->{columns}{id} == $id } @{ replay($nats, application => $application, table => "public.$table") };

	is_deeply([ @{ $row->{columns} }{@columns} ], [ map { $_->[2] } @samples ], "$what: all texts of a row ($row->{operation})");
	return;
}

# All that workers do, once. Only with $all what takes new processes.
sub as_pinned
{
	my ($id, $what, $all) = @_;
	my %workers = map { $_ => workers($node_of{$_}) } keys %node_of;

	$node->safe_psql('postgres', "INSERT INTO texts VALUES ($id, $values);"
		  . "CREATE TABLE late_$id (LIKE texts INCLUDING ALL); INSERT INTO late_$id VALUES ($id, $values);"
		  . "INSERT INTO literals VALUES ('a\\b0', $id)");
	$node->safe_psql('postgres', "ALTER TABLE literals DETACH PARTITION literals_$id; ALTER PUBLICATION p ADD TABLE late_$id") if $all;
	for my $application (sort keys %node_of)
	{
		my $here = $node_of{$application};
		my $name = "$what, $application";

		wait_for_table($here, "late_$id", 'streaming', application => $application) if $all;
		wait_confirmed($here, primary => $node, application => $application);
		is_as_pinned($application, 'texts', $id, $name);
		is(schema_of_literals($application)->{columns}[0]{default_expression}, "'a\\b'::text", "$name: a default");
		if ($all)
		{
			my ($detach) = grep { $_->{operation} eq 'DETACH' && $_->{detached} eq "public.literals_$id" }
			  @{ replay($nats, application => $application, table => 'public.literals') };

			is_as_pinned($application, "late_$id", $id, $name);
			is_deeply($detach->{detached_bounds}, ["FOR VALUES IN ('a\\b$id')"], "$name: a bound");
		}
		is(workers($here), $workers{$application}, "$name: no worker ended");
		# No standby synchronizes slots here, and that is told.
		is($here->safe_psql('postgres', "SELECT reason FROM siphon_applications WHERE application = '$application' AND reason NOT LIKE 'no standby has its slot ready%'"),
			'', "$name: nothing is amiss");
		is($here->safe_psql('postgres', "SELECT count(*) FROM siphon_tables WHERE state = 'left out' AND application = '$application'"), '1',
			"$name: one table is left out");
	}
	is_mirrored($node, 'main', "$what: the registry is mirrored") if $failover;
	return;
}

sub set_all
{
	my ($statement, @except) = @_;
	my %except = map { $_ => 1 } @except;

	# SET makes a list of names of what is not a list of literals.
	$node->safe_psql('postgres', join ';', map { "$statement $_ = " . join ', ', map { "'$_'" } split /, /, $settings{$_}[1] }
		  grep { !$except{$_} } sort keys %settings);
	$node->wait_for_replay_catchup($node_of{second}) if $node_of{second};
	return;
}

for my $application (keys %node_of)
{
	wait_for_table($node_of{$application}, $_, 'streaming', application => $application) for qw(texts literals);
}
as_pinned(1, 'defaults', 1);

set_all('ALTER DATABASE postgres SET');
restart_workers($_) for values %node_of;
as_pinned(2, 'settings of the database', 1);
$node->safe_psql('postgres', 'ALTER DATABASE postgres RESET ALL');

set_all(qq{ALTER ROLE "$superuser" IN DATABASE postgres SET});
restart_workers($_) for values %node_of;
as_pinned(3, 'settings of the role', 1);
$node->safe_psql('postgres', qq{ALTER ROLE "$superuser" IN DATABASE postgres RESET ALL});

# In the server's file some are not allowed; and a reload sets it anew in workers that run.
set_all('ALTER SYSTEM SET', 'role', 'session_authorization');
$node->reload;
as_pinned(4, 'settings of the server, reloaded');
restart_workers($node);
as_pinned(5, 'settings of the server');

# ---- why nothing is followed ----------------------------------------------------------------------------------------

# It can't write what it follows.
wait_until('a directory is in the way of the next registry', sub { mkdir $node->data_dir . '/siphon/main.tmp' });
$node->safe_psql('postgres', 'ALTER PUBLICATION p ADD TABLE t');
wait_until('the reason is there', sub { (application($node)->{reason} // '') =~ /^it does not follow its publication: could not create file "siphon\/main.tmp": Is a directory/ });
pass('what ends the follower is the reason of its application');
is(application($node)->{state}, 'streaming', 'which streams');
rmdir $node->data_dir . '/siphon/main.tmp' or die "$!";
wait_for_table($node, 't', 'streaming', application => 'main');
is(application($node)->{reason}, undef, 'until it follows again');

done_testing();
