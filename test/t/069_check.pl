# siphon-publisher check: what is well and what isn't, with what mends it, and an exit code for scripts; it changes nothing
# under a publisher that runs. --print-config shows what is in force, but no secrets.
use strict;
use warnings FATAL => 'all';

use IPC::Run ();
use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();
my @options = ('--ring-directory' => ring_directory($node), '--nats-url' => $nats->url);

sub check
{
	my ($name, $expected, @patterns) = @_;
	my ($stdout, $stderr) = ('', '');

	IPC::Run::run([ 'siphon-publisher', 'check', @options ], '<', \undef, '>', \$stdout, '2>', \$stderr);
	is($? >> 8, $expected, "$name: exit code") or diag($stdout);
	is($stderr, '', "$name: nothing on stderr");
	like($stdout, $_, "$name: $_") for @patterns;
	return $stdout;
}

check('no application', 1, qr/^wrong  there is no decoder of application "main".*\n  .*siphon_applications/m, qr/^ok     NATS at/m,
	qr/^note   there is no stream siphon_main yet/m);

$node->safe_psql('postgres', 'CREATE TABLE issues (id bigint PRIMARY KEY)');
$node->safe_psql('postgres', 'SELECT siphon_create_application()');
wait_until('the decoder has given its figures',
	sub { check('no table', 1) =~ /^wrong  no table is published\n.*siphon_add_table/m });
add_table($node, 'issues');

my $publisher = siphon_publisher($node, $nats);

$node->safe_psql('postgres', 'INSERT INTO issues VALUES (1)');
wait_confirmed($node);
# Servers before 2.10 don't say what time it is.
my ($minor) = (run_command([ 'nats-server', '--version' ]))[0] =~ /v2\.(\d+)/;
wait_until('ready', sub { $publisher->get('/readyz')->{status} == 200 });
my $out = check(
	'all well', 0,
	qr/^ok     \S+decoder.ring is a ring of 1 MB and version \d+/m,
	qr/^ok     a publisher is attached to it, with process ID $publisher->{pid}\n/m,
	qr/^ok     the decoder is at work, for 1 tables; its slot keeps \d+ MB/m,
	qr/^note   nothing limits the WAL that the slot keeps/m,
	qr/^ok     NATS takes messages of 1048576 bytes/m,
	qr/^ok     stream siphon_main has \d+ messages/m,
	$minor >= 10 ? qr/^ok     the clock here and that of NATS agree/m : ());
unlike($out, qr/^wrong/m, 'all well: nothing is wrong');

# Nobody has noticed.
$node->safe_psql('postgres', 'INSERT INTO issues VALUES (2)');
wait_confirmed($node);
is(scalar(@{ replay($nats) }), 2, 'publishing goes on');

my $config = $nats->stream->{config};
Siphon::NatsClient->new($nats->url)
  ->api('STREAM.UPDATE.siphon_main', { %$config, max_bytes => $nats->stream->{state}{bytes} + 100, discard => 'new' });
check('a stream that is nearly full', 1, qr/^wrong  stream siphon_main has .* that it may\n.*--stream-max-bytes/m);
is($publisher->stop, 0, 'the publisher stops');
$nats->kill9;
$node->stop('fast');
check('nobody there', 1, qr/^wrong  the decoder has ended/m, qr/^wrong  NATS at \S+: .*\n.*--nats-url/m);

# What is in force.
write_file("$PostgreSQL::Test::Utils::tmp_check/siphon.yaml", "application: shop.eu\nmax_in_flight: 7\n");
local $ENV{SIPHON_NATS_URL} = 'nats://user:hush@127.0.0.1:4222';
my ($shown) = run_command(
	[
		'siphon-publisher', '--print-config', '--config', "$PostgreSQL::Test::Utils::tmp_check/siphon.yaml",
		'--max-in-flight', '9'
	]);
like($shown, qr/^application: "shop.eu"$/m, 'from the file');
like($shown, qr/^max_in_flight: "9"$/m, 'a flag overrides it');
like($shown, qr/^log_level: "info"$/m, 'defaults');
like($shown, qr/^nats_url: "127.0.0.1:4222"$/m, 'where NATS is');
unlike($shown, qr/hush/, 'without the password');
write_file("$PostgreSQL::Test::Utils::tmp_check/again.yaml", $shown);
my ($again) = run_command([ 'siphon-publisher', '--print-config', '--config', "$PostgreSQL::Test::Utils::tmp_check/again.yaml" ]);
is($again, $shown, 'it can be read back');

done_testing();
