# The manifests of deploy/kubernetes: what they refer to is there; and a server, a nats-server and a publisher started with
# the arguments, settings and configuration that stand in them work, and answer the probes. Only paths are others here.
use strict;
use warnings FATAL => 'all';

use HTTP::Tiny;
use IPC::Run ();
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Publisher;
use Test::More;

my @manifests = map { documents(slurp_file($_)) } glob 'deploy/kubernetes/*.yaml';
my %object_of = map { ("$_->{kind}/$_->{metadata}{name}" => $_) } @manifests;
my @workloads = grep { $_->{spec}{template} } @manifests;

is(scalar(keys %object_of), scalar(@manifests), 'each object has a name of its own');
is_deeply([ sort map { "$_->{kind}/$_->{metadata}{name}" } @workloads ], [ 'StatefulSet/nats', 'StatefulSet/siphon' ], 'there are two workloads');

sub documents
{
	my ($yaml) = @_;
	my $json = '';

	IPC::Run::run(
		[ 'python3', '-c', 'import json, sys, yaml; json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)' ],
		'<', \$yaml, '>', \$json) or die "not YAML: $yaml";
	return @{ decode_json($json) };
}

# ---- what manifests refer to ----------------------------------------------------------------------------------------

# Of a list of strings, those that a set doesn't have.
sub missing_is
{
	my ($what, $have, @wanted) = @_;
	my %have = map { $_ => 1 } @$have;

	is(join(' ', grep { !$have{$_} } @wanted), '', "$what: all that is referred to is there");
	return;
}

sub config_keys
{
	my ($reference) = @_;
	my $object = $object_of{$reference} or return [];

	return [ map { "$reference/$_" } keys %{ $object->{data} // {} }, keys %{ $object->{stringData} // {} } ];
}

for my $workload (@workloads)
{
	my $name = $workload->{metadata}{name};
	my $pod = $workload->{spec}{template}{spec};
	my %labels = %{ $workload->{spec}{template}{metadata}{labels} };
	my @containers = @{ $pod->{containers} };
	my @volumes = ((map { $_->{name} } @{ $pod->{volumes} }), map { $_->{metadata}{name} } @{ $workload->{spec}{volumeClaimTemplates} });
	my @mounts = map { $_->{name} } map { @{ $_->{volumeMounts} } } @containers;
	my $service = $object_of{"Service/$workload->{spec}{serviceName}"};
	my %port_of = map { ($_->{name} => $_->{containerPort}) } map { @{ $_->{ports} } } @containers;

	is_deeply($workload->{spec}{selector}{matchLabels}, \%labels, "$name: it selects its own pods");
	is_deeply($service->{spec}{selector}, \%labels, "$name: so does its service");
	is($port_of{ $_->{name} }, $_->{port}, "$name: port $_->{name} of the service is a container's") for @{ $service->{spec}{ports} };
	missing_is("$name: volumes", \@volumes, @mounts);
	missing_is("$name: mounts", \@mounts, @volumes);
	missing_is("$name: configuration", [ map { s/\/.*//r eq 'ConfigMap' ? $_ : () } keys %object_of ],
		map { $_->{configMap} ? "ConfigMap/$_->{configMap}{name}" : () } @{ $pod->{volumes} });
	missing_is("$name: environment", [ keys %object_of ], map { "Secret/$_->{secretRef}{name}" } map { @{ $_->{envFrom} // [] } } @containers);
	for my $secret (map { $_->{valueFrom} ? $_->{valueFrom}{secretKeyRef} : () } map { @{ $_->{env} // [] } } @containers)
	{
		missing_is("$name: secrets", config_keys("Secret/$secret->{name}"), "Secret/$secret->{name}/$secret->{key}");
	}
	ok($pod->{securityContext}{runAsNonRoot}, "$name: nobody is root");
	for my $container (@containers)
	{
		my @probes = grep { $_ } @$container{qw(startupProbe livenessProbe readinessProbe)};

		missing_is("$name: probes of $container->{name}", [ map { $_->{name} } @{ $container->{ports} } ], map { $_->{httpGet} ? $_->{httpGet}{port} : () } @probes);
		ok($container->{readinessProbe} && @probes > 1, "$name: $container->{name} has probes");
		ok($container->{resources}{requests}{cpu} && $container->{resources}{limits}{memory}, "$name: $container->{name} has resources");
		is_deeply($container->{securityContext}{capabilities}, { drop => ['ALL'] }, "$name: $container->{name} has no capabilities");
		ok(!$container->{securityContext}{allowPrivilegeEscalation}, "$name: $container->{name} can't get any");
	}
}

# ---- the pod, here --------------------------------------------------------------------------------------------------

my %container = map { ($_->{name} => $_) } map { @{ $_->{spec}{template}{spec}{containers} } } @workloads;
my $configuration = $object_of{'ConfigMap/siphon-publisher'}{data}{'publisher.yaml'};
my ($parsed) = documents($configuration);
my ($http) = $parsed->{http_listen} =~ /^0\.0\.0\.0:(\d+)$/;
my %environment = %{ $object_of{'Secret/siphon-publisher'}{stringData} };
my ($host, $port) = $environment{SIPHON_NATS_URL} =~ /^nats:\/\/([^:@]+):(\d+)$/;

is($container{publisher}{ports}[0]{containerPort}, $http, 'the publisher listens at the port of the pod');
is($object_of{"Service/$host"}{spec}{ports}[0]{port}, $port, 'it finds NATS where there is a service');

# The volume of the rings is as the kubelet makes it: of the pod's group, and not the server's own.
my $volume = PostgreSQL::Test::Utils::tempdir_short();
my $etc = PostgreSQL::Test::Utils::tempdir();
my ($mount) = map { $_->{name} eq 'rings' ? $_->{mountPath} : () } @{ $container{postgresql}{volumeMounts} };
my ($its_mount) = map { $_->{name} eq 'rings' ? $_->{mountPath} : () } @{ $container{publisher}{volumeMounts} };
my ($etc_mount) = map { $_->{name} eq 'config' ? $_->{mountPath} : () } @{ $container{publisher}{volumeMounts} };

chmod 02777, $volume or die "$volume: $!";
is($its_mount, $mount, 'server and publisher have the rings at the same place');
like($parsed->{ring_directory}, qr/^\Q$mount\E\/./, 'which the configuration names');

my %setting = map { /^(\S+)=(.*)$/ ? ($1 => $2) : () } @{ $container{postgresql}{args} };

is(scalar(grep { $_ ne '-c' } @{ $container{postgresql}{args} }), scalar(keys %setting), 'the server is given settings');
is($setting{'siphon.ring_directory'}, $parsed->{ring_directory}, 'the publisher looks where the server writes');
delete $setting{output_plugin_libraries} unless has_setting('output_plugin_libraries');
s/^\Q$mount\E/$volume/ for values %setting;

my $node = siphon_node('primary', conf => join "\n", map { "$_ = '$setting{$_}'" } sort keys %setting);

is($node->safe_psql('postgres', "SHOW $_"), $setting{$_}, "the server has $_") for sort keys %setting;
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_settings WHERE pending_restart OR name LIKE 'siphon.%' AND category <> 'Customized Options'"),
	0, 'and all of them are in force');

SKIP:
{
	my ($minor) = (run_command([ 'nats-server', '--version' ]))[0] =~ /v2\.(\d+)/;

	skip 'NATS before 2.10 has no sync_interval: always', 1 if $minor < 10;
	command_ok([ 'nats-server', '-t', '-c', write_to('nats.conf', $object_of{'ConfigMap/nats'}{data}{'nats.conf'}) ], 'nats-server takes its configuration');
}
my $monitor = PostgreSQL::Test::Cluster::get_free_port();
my $nats = siphon_nats(arguments => [ '--http_port', $monitor ]);

is(HTTP::Tiny->new->get("http://127.0.0.1:$monitor$container{nats}{$_}{httpGet}{path}")->{status}, 200, "NATS answers its $_")
  for qw(livenessProbe readinessProbe);

sub write_to
{
	my ($name, $text) = @_;

	write_file("$etc/$name", $text);
	return "$etc/$name";
}

package Sidecar
{
	use parent -norequire, 'Siphon::Publisher';

	sub command { return ('siphon-publisher', @{ $_[0]->{arguments} }) }
}

write_to('publisher.yaml', $configuration =~ s/\Q$mount\E/$volume/r =~ s/0\.0\.0\.0:\d+/127.0.0.1:0/r);
my @arguments = map { s/^\Q$etc_mount\E/$etc/r } @{ $container{publisher}{args} };
my ($help) = run_command([ 'siphon-publisher', '--help' ]);

missing_is('environment of the publisher', [ $help =~ /Env:(\w+)/g ], keys %environment);
@ENV{ keys %environment } = values %environment;
$ENV{SIPHON_NATS_URL} = $nats->url;
my $publisher = Sidecar->new(arguments => \@arguments)->start;

sub probe
{
	my ($probe) = @_;

	return $publisher->get($container{publisher}{$probe}{httpGet}{path})->{status};
}

is(probe('livenessProbe'), 200, 'the publisher is alive');
is(probe('readinessProbe'), 503, 'and not ready, with no table');
$node->safe_psql('postgres', 'CREATE TABLE t (id int PRIMARY KEY)');
add_table($node, 't');
wait_until('the publisher is ready', sub { probe('readinessProbe') == 200 });
$node->safe_psql('postgres', 'INSERT INTO t VALUES (1)');
wait_confirmed($node);
is(scalar(@{ replay($nats) }), 1, 'a change is published');
is($publisher->stop, 0, 'the publisher stops when asked');

done_testing();
