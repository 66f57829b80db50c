# What docs/nats.md says to do with NATS works, with three nodes: a rolling upgrade loses and repeats nothing; streams that
# were restored from a backup are refused at every start until the application is resynced; a node that is lost for good is
# replaced, and the new one gets a copy. siphon-publisher check sees each copy, whatever the leader says of it.
use strict;
use warnings FATAL => 'all';

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Broker;
use Siphon::NatsCluster;
use Test::More;

my $node = siphon_node('primary');
my $nats = Siphon::NatsCluster->new->start;
my $publisher = siphon_publisher($node, $nats, arguments => [ '--stream-replicas' => 3 ]);
my @routes = map { $_->{arguments}[5] } $nats->nodes;

$node->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v int)');
add_table($node, 't', snapshot => 'true');
wait_for_table($node, 't');

sub insert
{
	my ($count) = @_;

	$node->safe_psql('postgres', "INSERT INTO t (v) SELECT g FROM generate_series(1, $count) g");
	return;
}

# Exit code and text of the check, which asks these nodes.
sub check
{
	my (@nodes) = @_;
	my $out = '';

	IPC::Run::run(
		[
			'siphon-publisher', 'check', '--ring-directory' => ring_directory($node), '--nats-url' => $nats->url,
			'--nats-monitor-url' => join(',', map { "http://127.0.0.1:$_->{monitor}" } @nodes)
		],
		'<', \undef, '>', \$out, '2>&1', IPC::Run::timeout(120));
	return ($? >> 8, $out);
}

# Waits until the check finds nothing wrong with the nodes' copies, and has looked at each.
sub copies_are_well
{
	my ($name, @nodes) = @_;
	my ($code, $out) = (-1, '');
	my $copies = 0;

	eval {
		wait_until(
			"$name: all is well",
			sub {
				($code, $out) = check(@nodes);
				$copies = () = $out =~ /^ok     the node at \S+ has 2 copies, which end as the leader's do/mg;
				# Who has just come to lead all may not know of a stream yet.
				return $code == 0 && $copies == @nodes;
			});
		1;
	} or diag($out);
	is($code, 0, "$name: the check finds nothing wrong");
	is($copies, scalar @nodes, "$name: each copy is looked at");
	return;
}

insert(100);
is_confirmed($node, $publisher, 'the publisher publishes');
copies_are_well('at first', $nats->nodes);

# ---- a rolling upgrade -----------------------------------------------------------------------------------------------

for my $server ($nats->nodes)
{
	# Its way to hand over what it leads; it would end by itself, after minutes.
	kill 'USR2', $server->{pid};
	insert(50);
	wait_until("$server->{name} leads no more", sub { ($nats->stream->{cluster}{leader} // $server->{name}) ne $server->{name} });
	$server->stop;
	insert(50);
	is_confirmed($node, $publisher, "$server->{name} is away");
	my ($code, $out) = check($nats->nodes);
	is($code, 1, "$server->{name} is away: the check says so");
	like($out, qr/^wrong  copies of stream siphon_main are not up to date: .*\Q$server->{name}\E|^wrong  the node at \S+:$server->{monitor} does not say/m,
		'and which it is');
	$server->start;
	insert(50);
	copies_are_well("$server->{name} is back", $nats->nodes);
}
is_confirmed($node, $publisher, 'after the upgrade');
is_replayed($nats, $node, ['t'], 'nothing is lost, and nothing comes twice');

# ---- a node that is lost for good ------------------------------------------------------------------------------------

my ($lost) = grep { $_ != $nats->leader_of } $nats->nodes;
my $new = Siphon::Nats->new(
	name => 'nats4',
	monitor => 1,
	conf => 'server_tags: ["nats4"]',
	arguments => [
		'--server_name', 'nats4', '--cluster_name', 'test', '--cluster', 'nats://127.0.0.1:' . PostgreSQL::Test::Cluster::get_free_port(),
		'--routes', join(',', @routes), '--no_advertise'
	]);

$lost->kill9;
insert(50);
is_confirmed($node, $publisher, 'two of three go on');
$new->start;
delete $nats->{nodes}{ $lost->{name} };
$nats->{nodes}{nats4} = $new;
$nats->wait_joined($new);
for my $stream ($nats->streams)
{
	my $asked;

	# Once, as by hand: who is asked again while it is under way gives the copies another place again.
	wait_until(
		"$stream leaves $lost->{name} for $new->{name}",
		sub {
			$asked ||= $nats->ask("STREAM.PEER.REMOVE.$stream", { peer => $lost->{name} })->{success};

			my $cluster = $nats->ask("STREAM.INFO.$stream")->{cluster} // {};
			my %member = map { $_ => 1 } grep { defined } $cluster->{leader}, map { $_->{name} } @{ $cluster->{replicas} // [] };

			return $member{ $new->{name} } && !$member{ $lost->{name} } && keys %member == 3;
		});
}
copies_are_well('another node', $nats->nodes);
insert(50);
is_confirmed($node, $publisher, 'and publishing goes on');
is_replayed($nats, $node, ['t'], 'with all that there was');

# A copy that refuses what comes is current for its leader. Here is one that another server, which nobody knows, has.
my $broken = siphon_nats(name => 'broken', monitor => 1);
Siphon::NatsClient->new($broken->url)->api('STREAM.CREATE.siphon_main', { name => 'siphon_main', subjects => ['elsewhere'] });
my ($code, $out) = check($nats->nodes, $broken);
is($code, 1, 'a copy that is behind: exit code');
like($out, qr/^wrong  the copy at http:\S+:$broken->{monitor} has not what was acknowledged: siphon_main ends at 0.*\n.*peer-remove/m,
	'and what mends it');
$broken->stop;

# ---- a backup that is restored ---------------------------------------------------------------------------------------

is($publisher->stop, 0, 'the publisher stops');
$_->stop for $nats->nodes;
my %backup = map { $_->{name} => $_->back_up } $nats->nodes;
$_->start for $nats->nodes;
$publisher->start;
insert(50);
is_confirmed($node, $publisher, 'messages that the backup has not');
is($publisher->stop, 0, 'the publisher stops');
$_->stop for $nats->nodes;
$_->put_back($backup{ $_->{name} }) for $nats->nodes;
$_->start for $nats->nodes;
$nats->wait_healthy;
insert(1);
($code, $out) = check($nats->nodes);
like($out, qr/^wrong  stream siphon_main has lost its end: message \d+ was acknowledged, and \d+ is the last one\n.*siphon_resync_application/m,
	'the check sees it');
for my $time ('once', 'and again')
{
	$publisher->start;
	is($publisher->wait_exit, 4, "a restored stream is refused, $time");
	like($publisher->log, qr/siphon_resync_application\('main'\)/, 'and what mends it');
}
$node->safe_psql('postgres', q{SELECT siphon_resync_application('main')});
$publisher->start;
wait_for_table($node, 't');
insert(50);
is_confirmed($node, $publisher, 'the application begins anew');
is_replayed($nats, $node, ['t'], 'with all rows');
copies_are_well('after the restore', $nats->nodes);
is($publisher->stop, 0, 'the publisher stops');

done_testing();
