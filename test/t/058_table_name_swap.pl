# Names that go from one published table to another: swapped, taken from a table that is dropped or removed or whose rows
# are being brought out, given back, with rows written by the very transactions that do it, while decoder and publisher
# end. A consumer that knows a table by its generation, as the wire contract says, has each table in the end, whole and
# under its name.
use strict;
use warnings FATAL => 'all';

use JSON::PP;
use List::Util qw(shuffle);
use MIME::Base64;
use Siphon;
use Siphon::NatsClient;
use Test::More;

my $seed = $ENV{SIPHON_SEED} // int(rand(1 << 31));
diag("SIPHON_SEED=$seed");
srand $seed;

my $node = siphon_node('primary', conf => "siphon.flush_interval = 20ms\nsiphon.package_size = 16kB");
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);
my @free = qw(public.a public.b public.c public.d public.e other.a other.b);
my %tables; # by name: how many partitions, and whether existing rows are published too
my $id = 0;

$node->safe_psql('postgres', 'CREATE SCHEMA other');

# The statements that insert a few rows.
sub rows
{
	my ($table) = @_;

	return join ' ', map { "INSERT INTO $table VALUES (" . ++$id . ", repeat('x', " . int(rand 300) . '));' } 0 .. int rand 4;
}

sub rename_to
{
	my ($from, $to) = @_;
	my ($schema, $name) = split /\./, $from;
	my ($new_schema, $new_name) = split /\./, $to;
	my $sql = '';

	return "ALTER TABLE $from RENAME TO $new_name;" if $schema eq $new_schema;
	# By way of a name that nobody has.
	return "ALTER TABLE $from RENAME TO passing; ALTER TABLE $schema.passing SET SCHEMA $new_schema;"
	  . "ALTER TABLE $new_schema.passing RENAME TO $new_name;";
}

sub run_sql
{
	$node->safe_psql('postgres', $_[0]);
	return;
}

sub add
{
	my $name = (@free = shuffle(@free))[0] // return;
	my $snapshot = rand > 0.4;
	my $partitions = 1 + int rand 2;

	shift @free;
	$tables{$name} = { partitions => $partitions, snapshot => $snapshot };
	run_sql("CREATE TABLE $name (id int CONSTRAINT key_" . ++$id . " PRIMARY KEY, v text);" . ($snapshot ? rows($name) : ''));
	add_table($node, $name, partitions => $partitions, $snapshot ? (snapshot => 'true') : ());
	run_sql(rows($name));
	return;
}

sub some { return (shuffle(keys %tables))[ 0 .. $_[0] - 1 ] }

my %actions;
%actions = (
	rows => sub { run_sql(rows($_)) for some(1) },
	rename => sub {
		my ($table) = some(1);
		my $name = shift @free // return;

		run_sql('BEGIN;' . rows($table) . rename_to($table, $name) . rows($name) . 'COMMIT;' . rows($name));
		push @free, $table;
		$tables{$name} = delete $tables{$table};
	},
	swap => sub {
		my ($one, $other) = some(2);

		run_sql('BEGIN;' . rows($one) . rename_to($one, 'public.swapped') . rows('public.swapped') . rename_to($other, $one)
			  . rows($one) . rename_to('public.swapped', $other) . rows($other) . 'COMMIT;' . rows($one) . rows($other));
		@tables{ $one, $other } = @tables{ $other, $one };
	},
	replace => sub {
		my ($gone, $table) = some(2);

		run_sql('BEGIN;' . rows($gone) . "DROP TABLE $gone;" . rename_to($table, $gone) . rows($gone) . 'COMMIT;' . rows($gone));
		push @free, $table;
		$tables{$gone} = delete $tables{$table};
	},
	remove => sub {
		my ($gone, $table) = some(2);

		run_sql("SELECT siphon_remove_table('$gone');" . rename_to($gone, 'public.removed') . rename_to($table, $gone)
			  . rows($gone) . 'DROP TABLE removed');
		push @free, $table;
		$tables{$gone} = delete $tables{$table};
	},
	resync => sub {
		my ($table) = grep { $tables{$_}{snapshot} } some(scalar keys %tables);

		# One that is under way already will do.
		$node->psql('postgres', "SELECT siphon_resync_table('$table')") if $table;
		# A moment in which a name can change while rows come.
		$actions{swap}->() if keys %tables > 1 && rand > 0.5;
	},
	decoder => sub { run_sql("SELECT pg_terminate_backend(decoder_pid) FROM siphon_applications WHERE decoder_pid IS NOT NULL") },
	publisher => sub {
		$publisher->kill9;
		run_sql(rows($_)) for some(1);
		# Not without it: a scan waits for it, and whoever alters the table would wait for the scan.
		$publisher->start;
		$actions{swap}->() if rand > 0.5;
	});

add() for 1 .. 3;
for (1 .. 45)
{
	my @can = keys %tables > 2 ? keys %actions : keys %tables > 1 ? qw(rows rename swap) : ();
	my $action = (@can && rand > 0.15) ? (shuffle(sort @can))[0] : 'add';

	# The decoder is not always far behind.
	wait_for_state($node, 'streaming') if rand > 0.7;
	note("$action, with " . join ' ', sort keys %tables);
	$action eq 'add' ? add() : $actions{$action}->();
}

# ---- what a consumer has --------------------------------------------------------------------------------------------

wait_until(
	'all tables stream',
	sub {
		$node->safe_psql('postgres', q{SELECT count(*) FROM siphon_tables WHERE relid IN (SELECT oid FROM pg_class)
			AND state NOT IN ('streaming', 'resync needed')}) == 0;
	});
run_sql(rows($_)) for keys %tables;
wait_confirmed($node);

# By generation and partition.
my (%name, %rows, %incomplete, @wrong);

my $events = replay($nats);
for my $event (@$events)
{
	my ($generation, $partition, $operation) = ($event->{generation} // 0, $event->{partition} // 0, $event->{operation});
	my $table = "$event->{schema}.$event->{table}";

	$name{$generation}{$partition} //= $table;
	# Of a renaming that cut a snapshot short nothing is said: its rows come anew, as another generation. What becomes of
	# the table until that begins, is.
	next if $operation =~ /^(?:DROP|RENAME)$/ && $incomplete{$generation}{$partition};
	push @wrong, "$operation of generation $generation under $table, which is $name{$generation}{$partition}: $event->{line}"
	  if $name{$generation}{$partition} ne $table;
	if ($operation eq 'SNAPSHOT-BEGIN')
	{
		delete $rows{$generation}{$partition};
		$incomplete{$generation}{$partition} = 1;
		# What the name had goes.
		delete $name{$_}{$partition} for grep { $_ != $generation && ($name{$_}{$partition} // '') eq $table } keys %name;
	}
	elsif ($operation eq 'SNAPSHOT-END')
	{
		delete $incomplete{$generation}{$partition};
	}
	elsif ($operation eq 'RENAME')
	{
		$name{$generation}{$partition} = "$event->{new_schema}.$event->{new_table}";
	}
	elsif ($operation eq 'DROP')
	{
		delete $name{$generation}{$partition};
	}
	elsif ($operation =~ /^(?:INSERT|SNAPSHOT)$/)
	{
		push @wrong, "row $event->{columns}{id} comes twice" if $rows{$generation}{$partition}{ $event->{columns}{id} }++;
	}
}
is("@wrong", '', 'each generation has one name at a time, and each row comes once');

my ($watermark) = reverse grep { $_->{operation} eq 'WATERMARK' } @{ replay($nats, watermarks => 1) };
is_deeply($watermark->{held_tables} // [], [], 'nothing is held under any name');
positions_increase($events, 'positions strictly increase on each subject, whichever table has its name');
for my $table (sort keys %tables)
{
	my $generation = $node->safe_psql('postgres', "SELECT generation FROM siphon_tables WHERE relid = '$table'::regclass");
	my @ids = map { keys %$_ } values %{ $rows{$generation} // {} };

	is(join(' ', grep { $_ ne $table } values %{ $name{$generation} // {} }), '', "$table is called so");
	is(join(' ', sort { $a <=> $b } @ids),
		$node->safe_psql('postgres', "SELECT coalesce(string_agg(id::text, ' ' ORDER BY id), '') FROM $table"),
		"$table has its rows");
}
is($node->safe_psql('postgres', q{SELECT count(*) FROM siphon_tables t JOIN pg_class c ON c.oid = relid
	WHERE (schema_name, table_name) <> (relnamespace::regnamespace::text, relname)}), '0', 'siphon_tables has their names');

# Consumers that start find each table's schema under its name.
my $client = Siphon::NatsClient->new($nats->url);

for my $table (sort keys %tables)
{
	my $answer = $client->api('STREAM.MSG.GET.KV_siphon_main', { last_by_subj => "\$KV.siphon_main.$table.schema" });
	my $schema = decode_json(decode_base64($answer->{message}{data} // 'e30='));

	is($schema->{oid}, $node->safe_psql('postgres', "SELECT '$table'::regclass::oid"), "the schema of $table is its own");
}
is(application($node)->{state}, 'streaming', 'and the decoder works on');

done_testing();
