# How much processor time the publisher takes for a message, beside how many tables there are of which the bucket has a state.
package Siphon::ManyStates;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use JSON::PP;
use MIME::Base64;
use Siphon;
use Siphon::Broker;
use Siphon::NatsClient;
use Time::HiRes qw(time);

our @EXPORT = qw(states_node write_states messages_cost);

# Each row of a commit is in a message of its own.
my $PARTITIONS = 1000;

# A server with a table whose rows make messages, and one of which the bucket has a state, like many others will.
sub states_node
{
	my $node = siphon_node('primary', conf => "siphon.flush_interval = 1ms\nsiphon.ring_size = 32MB");

	$node->safe_psql('postgres', q{
		CREATE TABLE model (id int PRIMARY KEY);
		INSERT INTO model VALUES (1);
		CREATE TABLE p (id bigserial PRIMARY KEY, filler text)});
	return $node;
}

# Gives the bucket of an application states of so many more tables, as they are when a table has had its snapshot and streams.
sub write_states
{
	my ($nats, $count, $application) = @_;
	my $bucket = 'siphon_' . ($application // 'main');
	my $client = Siphon::NatsClient->new($nats->url);
	my $entry = $client->api("STREAM.MSG.GET.KV_$bucket", { last_by_subj => "\$KV.$bucket.public.model" })->{message}
	  or die 'the bucket has no state of the table';
	my $state = decode_json(decode_base64($entry->{data}));

	for my $number (1 .. $count)
	{
		my $body = encode_json({ %$state, table => "model$number", oid => 1_000_000 + $number });

		$client->say("PUB \$KV.$bucket.public.model$number " . length $body);
		$client->say($body);
	}
	wait_until('the bucket has all states', sub { $client->api("STREAM.INFO.KV_$bucket")->{state}{num_subjects} > $count });
	return;
}

# Publishes some messages. Returns how many, the publisher's processor time for each in microseconds, and messages a second.
sub messages_cost
{
	my ($node, $nats, $publisher, $commits, $application) = @_;
	my $sequence = $nats->last_sequence($application);
	my $before = processor_time($publisher);
	my $since = time;

	$node->safe_psql('postgres',
		"DO 'BEGIN FOR i IN 1 .. $commits LOOP INSERT INTO p (filler) SELECT repeat(md5(g::text), 8) FROM generate_series(1, $PARTITIONS) g; COMMIT; PERFORM pg_sleep(0.003); END LOOP; END'");
	wait_confirmed($node, application => $application);

	my $messages = $nats->last_sequence($application) - $sequence;

	return ($messages, (processor_time($publisher) - $before) * 1e6 / $messages, $messages / (time - $since));
}

1;
