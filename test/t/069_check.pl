# siphon-publisher check: what is well and what isn't, with what mends it, and an exit code for scripts; it finds settings of the
# streams that would stop a publisher later, another owner, and an end that was lost; it changes nothing
# under a publisher that runs. --print-config shows what is in force, but no secrets.
use strict;
use warnings FATAL => 'all';

use IPC::Run ();
use JSON::PP;
use MIME::Base64;
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
my $client = Siphon::NatsClient->new($nats->url);

sub change
{
	my ($stream, %changes) = @_;
	my $answer = $client->api("STREAM.UPDATE.$stream", { %{ $client->api("STREAM.INFO.$stream")->{config} }, %changes });

	die "$stream: $answer->{error}{description}" if $answer->{error};
	return;
}

change('siphon_main', max_bytes => $nats->stream->{state}{bytes} + 100, discard => 'new');
check('a stream that is nearly full', 1, qr/^wrong  stream siphon_main has .* that it may\n.*--stream-max-bytes/m);
is($publisher->stop, 0, 'the publisher stops');

# What somebody changes by hand.
change('siphon_main', max_bytes => 1_000_000_000, discard => 'old');
check('a stream that drops messages', 0, qr/^note   stream siphon_main drops old messages.*siphon_tables/m);
change('siphon_main', max_bytes => -1, max_msgs_per_subject => 5);
check('a stream that keeps some of each subject', 1, qr/^wrong  stream siphon_main keeps 5 messages of each subject.*\n.*nats stream edit siphon_main --max-msgs-per-subject=-1/m);
change('siphon_main', max_msgs_per_subject => -1, max_msg_size => 100_000);
check('a stream that takes small messages', 0, qr/^note   stream siphon_main takes messages of 100000 bytes/m);
change('siphon_main', max_msg_size => -1, duplicate_window => 3600 * 1_000_000_000);
check('a stream with a long memory', 0, qr/^note   stream siphon_main remembers ids for 3600 s/m);
change('siphon_main', duplicate_window => 120 * 1_000_000_000);
change('siphon_main_held', max_age => 3600 * 1_000_000_000);
check('held changes with a limit', 1, qr/^wrong  stream siphon_main_held has max_age 1h/m);
change('siphon_main_held', max_age => 0);
change('KV_siphon_main', max_age => 3600 * 1_000_000_000);
check('a bucket that forgets', 1, qr/^wrong  key-value bucket siphon_main forgets entries/m);
change('KV_siphon_main', max_age => 0);
change('siphon_main_held', deny_purge => JSON::PP::true);
check('nothing can be purged', 1, qr/^wrong  stream siphon_main_held has deny_purge/m);

# Whose stream it is, and what it has lost.
my %entry = map { $_ => decode_json(decode_base64($client->api('STREAM.MSG.GET.KV_siphon_main', { last_by_subj => "\$KV.siphon_main.$_" })->{message}{data})) }
  qw(origin publisher);
check('our own stream', 1, qr/^ok     stream siphon_main is this application's/m);
$client->publish('$KV.siphon_main.origin', encode_json({ %{ $entry{origin} }, history => '00000000DEADBEEF', system_identifier => '7001', database => 5 }));
check('a stream that somebody here published to', 1, qr/^note   what stream siphon_main has is not of this ring's history: it is of database 5 of the server with system identifier 7001/m);
$client->publish('$KV.siphon_main.publisher', encode_json({ %{ $entry{publisher} }, host => 'elsewhere' }));
check('a stream of somebody else', 1, qr/^wrong  what stream siphon_main has .* published from elsewhere\n.*--take-over/m);
$client->api('STREAM.DELETE.siphon_main');
check('a stream that is gone', 1, qr/^wrong  stream siphon_main is gone, and with it what was acknowledged\n.*siphon_resync_application/m);
$client->api('STREAM.CREATE.siphon_main', { map { $_ => $config->{$_} } qw(name subjects) });
check('another stream', 1, qr/^wrong  stream siphon_main is another one than that to which messages were acknowledged/m);
$nats->kill9;
$node->stop('fast');
check('nobody there', 1, qr/^wrong  the decoder has stopped/m, qr/^wrong  NATS at \S+: .*\n.*--nats-url/m);

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
