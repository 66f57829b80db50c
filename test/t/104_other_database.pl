# An application's stream belongs to one database: another one with an application of the same name is refused before it changes
# anything, and takes the stream over by explicit wish alone.
# Covers: a database of another cluster, and another database of a copy of the cluster, refused with exit code 4 again and
# again while the owner goes on; take-over by the publisher's option and by SQL; the former owner's end and refusal.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Siphon::Broker;
use Siphon::NatsClient;
use Test::More;

my $production = siphon_node('production');
my $staging = do {
	# Clusters that are copied from the template have the same system identifier.
	delete local $ENV{INITDB_TEMPLATE};
	siphon_node('staging');
};
my $nats = siphon_nats();
my $client = Siphon::NatsClient->new($nats->url);
my $publisher = siphon_publisher($production, $nats);
my $identifier = sub { $_[0]->safe_psql('postgres', 'SELECT system_identifier FROM pg_control_system()') };

isnt($identifier->($staging), $identifier->($production), 'the clusters are two');
for my $server ($production, $staging)
{
	$server->safe_psql('postgres', "CREATE TABLE t (id bigserial PRIMARY KEY, v text); INSERT INTO t (v) SELECT '" . $server->name . "' FROM generate_series(1, 50)");
}
add_table($production, 't', snapshot => 'true');
wait_for_tables($production);
wait_confirmed($production);
add_table($staging, 't', snapshot => 'true');

# All that there is at the broker: each message of each stream, and each stream's settings.
sub broker
{
	my %broker;

	for my $stream (sort @{ $client->api('STREAM.NAMES')->{streams} })
	{
		my $info = $client->api("STREAM.INFO.$stream");

		$broker{$stream} = {
			config => $info->{config},
			last_seq => $info->{state}{last_seq},
			messages => [ $client->messages($stream) ]
		};
	}
	return \%broker;
}

sub publisher_of
{
	my ($server) = @_;

	return Siphon::Publisher->new(name => 'publisher_of_' . $server->name, ring_directory => ring_directory($server), nats_url => $nats->url);
}

# Test: this publisher of another database is refused, and production's goes on.
sub is_refused
{
	my ($newcomer, $name) = @_;
	my $pid = $publisher->{pid};

	# Nothing moves that the newcomer does not move.
	$publisher->pause;
	my $before = broker();

	for my $time ('', ', and again')
	{
		$newcomer->start;
		is(outcome($newcomer, sub { $nats->last_sequence > $before->{siphon_main}{last_seq} }), 4, "$name: its publisher ends$time");
		like($newcomer->log, qr/--take-over/, "$name: it says how to take over$time");
		$newcomer->kill9;
	}
	is_deeply(broker(), $before, "$name: it has changed nothing");
	$publisher->resume;
	$production->safe_psql('postgres', "INSERT INTO t (v) VALUES ('production')");
	is_confirmed($production, $publisher, "$name: the owner's publisher goes on");
	is($publisher->{pid}, $pid, "$name: it has not ended");
	return;
}

my $newcomer = publisher_of($staging);

is_refused($newcomer, 'another cluster');

# While the owner publishes.
my $load = start_pgbench($production, { w => "INSERT INTO t (v) VALUES ('production');\n" }, -c => 2, '--rate' => 100, -T => 60);
$newcomer->start;
is(outcome($newcomer, sub { 0 }, 10), 4, 'another cluster, under load: its publisher ends');
$newcomer->kill9;
stop_pgbench($load);
ok($publisher->running, q{another cluster, under load: the owner's publisher runs});
unless ($publisher->running)
{
	# What follows would say nothing new.
	done_testing();
	exit;
}
is_confirmed($production, $publisher, 'another cluster, under load: the owner goes on');
is_replayed($nats, $production, ['t'], q{the owner's stream makes its table});

# A copy of production's cluster, but another database.
my $copy = siphon_node('copy', extension => 0);

is($identifier->($copy), $identifier->($production), 'a copy has the same identifier') if $ENV{INITDB_TEMPLATE} && $copy->pg_version >= 16;
$copy->safe_psql('postgres', 'CREATE DATABASE other');
$copy->safe_psql('other', 'CREATE EXTENSION siphon; CREATE TABLE t (id bigserial PRIMARY KEY, v text)');
add_table($copy, 't', database => 'other');
is_refused(publisher_of($copy), 'another database');
$copy->stop;

# ---- take-over -----------------------------------------------------------------------------------------------------

# Test: the publisher of this one, which does not own the stream any more, ends and is refused.
sub has_lost
{
	my ($server, $former, $name) = @_;

	$server->safe_psql('postgres', "INSERT INTO t (v) VALUES ('nobody reads this')");
	is(outcome($former, sub { 0 }), 7, "$name: the former owner's publisher ends as replaced");
	$former->start;
	is(outcome($former, sub { 0 }), 4, "$name: started again it is refused");
	like($former->log, qr/--take-over/, "$name: it says how to take over");
	$former->kill9;
	return;
}

sub has_taken_over
{
	my ($server, $new, $name) = @_;

	wait_until("$name: its table streams", sub { die $new->log unless $new->running; $server->safe_psql('postgres', "SELECT count(*) FROM siphon_tables WHERE state = 'streaming'") });
	$server->safe_psql('postgres', "INSERT INTO t (v) VALUES ('new'); UPDATE t SET v = v || '.' WHERE id < 5");
	is_confirmed($server, $new, "$name: it publishes");
	is_replayed($nats, $server, ['t'], "$name: the stream makes its table");
	return;
}

$newcomer->{arguments} = ['--take-over'];
$newcomer->start;
has_taken_over($staging, $newcomer, 'by option');
has_lost($production, $publisher, 'by option');
# The wish is that of one start, and nobody takes it back.
$newcomer->stop;
$newcomer->{arguments} = [];
$newcomer->start;
has_taken_over($staging, $newcomer, 'by option, started again without it');

$production->safe_psql('postgres', "SELECT siphon_resync_application('main', take_over => true)");
$publisher->start;
has_taken_over($production, $publisher, 'by resync');
has_lost($staging, $newcomer, 'by resync');

$staging->safe_psql('postgres', "SELECT siphon_drop_application('main')");
$staging->safe_psql('postgres', "SELECT siphon_create_application('main', take_over => true)");
$newcomer->start;
add_table($staging, 't', snapshot => 'true');
has_taken_over($staging, $newcomer, 'by an application that is created for it');
has_lost($production, $publisher, 'by an application that is created for it');

done_testing();
