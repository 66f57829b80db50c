# /readyz says yes while changes are replicated, and else why not and what to type: each cause in its turn. /healthz says
# that the process is well, whatever is the matter around it; /status says both, and has no secrets.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();

# Before there is a broker; with a secret for it.
my $password = "$PostgreSQL::Test::Utils::tmp_check/password";
write_file($password, 'hush');
$nats->kill9;
my $publisher =
  siphon_publisher($node, $nats, arguments => [ '--nats-user' => 'user', '--nats-password-file' => $password ]);

sub ready
{
	my ($name) = @_;

	wait_until("ready: $name", sub { $publisher->get('/readyz')->{status} == 200 });
	is($publisher->get('/readyz')->{content}, "ready\n", "$name: ready");
	is($publisher->get('/healthz')->{status}, 200, "$name: alive");
	ok($publisher->status->{ready}, "$name: /status says so, too");
	return;
}

sub not_ready
{
	my ($name, $code, $what, $hint) = @_;
	my $answer;

	wait_until(
		"not ready: $name",
		sub {
			$answer = $publisher->get('/readyz');
			return $answer->{status} == 503 && $answer->{content} =~ $what;
		});
	like($answer->{content}, qr/^not ready: .*$what/m, "$name: why");
	like($answer->{content}, $hint, "$name: what to type");
	like($answer->{content}, qr/\A(?:(?:not ready|warning): .*\n  [A-Z].*\.\n  \S.*\n)+\z/, "$name: a sentence and a command, a line each");
	is($publisher->get('/healthz')->{status}, 200, "$name: alive all the same");
	my $status = $publisher->status;
	ok(!$status->{ready}, "$name: /status says so, too");
	ok((grep { $_->{code} eq $code && $_->{unready} } @{ $status->{problems} }), "$name: with code $code");
	unlike($publisher->get('/status')->{content}, qr/hush/, "$name: and without the password");
	return;
}

not_ready('no broker', 'starting', qr/has not connected to NATS yet: NATS at 127/, qr/nats-server/);
$nats->start;
not_ready('no application', 'no_ring', qr/no decoder of application "main"/, qr/FROM siphon_applications/);
$node->safe_psql('postgres', 'SELECT siphon_create_application()');
not_ready('no table', 'no_table', qr/no table is published/, qr/SELECT siphon_add_table/);
$node->safe_psql('postgres', 'CREATE TABLE issues (id bigint PRIMARY KEY, title text)');
add_table($node, 'issues');
ready('a table');

# The broker goes away, and comes back.
$nats->kill9;
not_ready('a broker that went away', 'nats_disconnected', qr/no connection to NATS/, qr/nats-server/);
$nats->start;
ready('a broker that is back');

# It takes no more messages.
my $limit = $nats->stream->{state}{bytes} + 1;
my $client = Siphon::NatsClient->new($nats->url);
my $config = $nats->stream->{config};
$client->api('STREAM.UPDATE.siphon_main', { %$config, max_bytes => $limit, discard => 'new' });
$node->safe_psql('postgres', "INSERT INTO issues VALUES (1, 'one')");
not_ready('a stream that is full', 'refused', qr/rejected a message/, qr/--stream-max-bytes/);
$client->api('STREAM.UPDATE.siphon_main', { %$config, max_bytes => -1 });
ready('a stream with room');

# The one table has changes that name no row.
$node->safe_psql('postgres', "ALTER TABLE issues REPLICA IDENTITY NOTHING; UPDATE issues SET title = 'nameless'");
not_ready('no table as it should be', 'tables_failed', qr/1 of 1 tables need a resync/, qr/FROM siphon_tables/);
$node->safe_psql('postgres', 'ALTER TABLE issues REPLICA IDENTITY DEFAULT; SELECT siphon_resync_table(\'issues\')');
ready('a table that was brought out anew');

# The server goes away, and comes back.
$node->stop('fast');
not_ready('a server that was stopped', 'decoder_ended', qr/the decoder has stopped/, qr/FROM siphon_applications/);
$node->start;
ready('a server that is back');

# It dies without a word.
$node->stop('immediate');
not_ready('a server that died', 'decoder_silent', qr/no heartbeat from the decoder for \d+ s/, qr/Check that the server runs/);

# And when it is back, its slot is not.
PostgreSQL::Test::Utils::system_or_bail('rm', '-rf', $node->data_dir . '/pg_replslot/siphon_main');
$node->start;
wait_for_state($node, 'failed');
not_ready('a slot that is lost', 'decoder_silent', qr/no heartbeat/, qr/SELECT state, reason, hint FROM/);
$node->safe_psql('postgres', 'SELECT siphon_resync_application()');
ready('an application that began anew');

# What is not there, and what nobody may do.
is($publisher->get('/nothing')->{status}, 404, 'no such page');
is(HTTP::Tiny->new->post($publisher->url . '/status', { content => 'x' })->{status}, 405, 'nothing can be posted');
is($publisher->stop, 0, 'the publisher stops');

done_testing();
