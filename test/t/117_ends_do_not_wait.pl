# Tables, and names, that end wait for the key-value bucket, and others do not wait for them: thousands may end at once. What ended
# ends all the same if the publisher dies meanwhile.
# Covers: a bucket whose server hangs while a schema is renamed, tables are dropped and removed, and a name is taken again; the slot,
# which stays in front of all that; a publisher that is killed then.
use strict;
use warnings FATAL => 'all';

use JSON::PP;
use MIME::Base64;
use Siphon;
use Siphon::Broker;
use Siphon::NatsClient;
use Siphon::NatsCluster;
use Test::More;

my $node = siphon_node('primary', conf => 'siphon.flush_interval = 1ms');
my $nats = Siphon::NatsCluster->new->start;
my ($leader, $streams, $buckets) = make_streams_apart($node, $nats);

my $publisher = siphon_publisher($node, $nats, nats_url => $leader->url);
my $client = Siphon::NatsClient->new($leader->url);
my @tables = qw(s.a s.b s.c dropped1 dropped2 removed);

$node->safe_psql('postgres', 'CREATE SCHEMA s; CREATE TABLE other (id serial PRIMARY KEY)');
add_table($node, 'other');
for my $table (@tables)
{
	$node->safe_psql('postgres', "CREATE TABLE $table (id int PRIMARY KEY)");
	# Some have had a snapshot, and so a state in the bucket.
	add_table($node, $table, $table =~ /b|dropped/ ? (snapshot => 'true') : ());
}
wait_for_tables($node);
$node->safe_psql('postgres', join ';', 'INSERT INTO other DEFAULT VALUES', map { "INSERT INTO $_ VALUES (1)" } @tables);
wait_confirmed($node);

# The last message on a subject, decoded, or undef.
sub last_message
{
	my ($stream, $subject) = @_;

	return $client->api("STREAM.MSG.GET.$stream", { last_by_subj => $subject })->{message};
}

# What the bucket has under a key; undef if it was erased.
sub entry
{
	my ($key) = @_;
	my $message = last_message('KV_siphon_main', "\$KV.siphon_main.$key") or return;

	return decode_base64($message->{hdrs} // '') =~ /KV-Operation/ ? undef : decode_json(decode_base64($message->{data}));
}

# Test: a change of another table is in the stream soon.
sub others_pass
{
	my ($name) = @_;
	my $sequence = sub { return (last_message('siphon_main', 'siphon.main.events.public.other.0') // { seq => 0 })->{seq} };
	my $before = $sequence->();

	$node->safe_psql('postgres', 'INSERT INTO other DEFAULT VALUES');
	is(outcome($publisher, sub { $sequence->() > $before }, 20), 'goes on', "$name: a change of another table is in the stream");
	return;
}

$buckets->pause;
$node->safe_psql('postgres', 'ALTER SCHEMA s RENAME TO renamed');
my $renamed = $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
others_pass('a schema is renamed');
$node->safe_psql('postgres', 'DROP TABLE dropped1, dropped2');
others_pass('tables are dropped');
$node->safe_psql('postgres', "SELECT siphon_remove_table('removed')");
others_pass('a table is removed');
ok(last_message('siphon_main', "siphon.main.events.$_.0"), "the end of $_ is there") for qw(s.a s.b s.c public.dropped1);
is($node->safe_psql('postgres', "SELECT confirmed_lsn >= '$renamed' FROM siphon_applications"), 'f', 'the slot is in front of it all');

# Another table takes a name that has not ended, and waits.
$node->safe_psql('postgres', 'CREATE SCHEMA s; CREATE TABLE s.a (id int PRIMARY KEY, v text)');
add_table($node, 's.a');
$node->safe_psql('postgres', "INSERT INTO s.a VALUES (2, 'new'); INSERT INTO renamed.a VALUES (2)");

$publisher->kill9;
$buckets->resume;
$nats->leader_of;
$publisher->start;
is_confirmed($node, $publisher, 'the next publisher goes on', 60);

my $events = replay($leader);
my %of;

push @{ $of{"$_->{schema}.$_->{table}"} }, $_->{operation} for grep { $_->{operation} !~ /^SNAPSHOT/ } @$events;
delete $of{'public.other'};
is_deeply(
	\%of,
	{
		's.a' => [qw(INSERT RENAME INSERT)],
		's.b' => [qw(INSERT RENAME)],
		's.c' => [qw(INSERT RENAME)],
		'renamed.a' => ['INSERT'],
		'public.dropped1' => [qw(INSERT DROP)],
		'public.dropped2' => [qw(INSERT DROP)],
		'public.removed' => ['INSERT']
	},
	'each event is there once, and in order');
positions_increase($events, 'positions strictly increase on each subject');

my $oid = $node->safe_psql('postgres', "SELECT 's.a'::regclass::oid");

wait_until('the last has ended', sub { !entry('public.removed.schema') });
is(entry($_)->{phase}, 'removed', "$_ has ended") for qw(s.b s.c public.dropped1 public.dropped2);
is(entry("$_.schema"), undef, "$_ has no schema any more") for qw(s.b s.c public.dropped1 public.dropped2);
is(entry('s.a')->{oid}, $oid, 'a name is that of the table that took it');
is(entry('s.a.schema')->{oid}, $oid, 'and so is its schema');
ok(entry('renamed.a.schema'), 'a renamed table has its schema under the other name');

done_testing();
