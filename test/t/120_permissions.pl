# With no more rights in NATS than docs/security.md lists, and an inbox of its own, the publisher makes its streams, takes
# snapshots, restarts and is checked, and siphon-tail reads; nobody is denied anything. A reader can't write to the stream or
# to the publisher's inbox, nor see what is on its way there. Likewise behind a leaf node, with JetStream in another domain.
use strict;
use warnings FATAL => 'all';

use IO::Socket::INET;
use IPC::Run ();
use JSON::PP;
use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my %password = (PUBLISHER => 'hush-publisher', READER => 'hush-reader', OPERATOR => 'hush-operator');
my ($conf) = slurp_file('docs/security.md') =~ /^<!-- tested: 120_permissions\.pl -->\n```\n(.*?)^```$/sm;

like($conf, qr/user: publisher/, 'the document has a configuration');
$conf =~ s/"\$([A-Z]+)"/"$password{$1}"/g;

my $node = siphon_node('primary');
my $directory = PostgreSQL::Test::Utils::tempdir();

write_file("$directory/$_", $password{ uc $_ }) for qw(publisher reader);
chmod 0600, map { "$directory/$_" } qw(publisher reader);

sub as
{
	my ($user) = @_;

	return ('--nats-user' => $user, '--nats-password-file' => "$directory/$user", '--nats-inbox-prefix' => "_INBOX_$user");
}

sub run_program
{
	my (@command) = @_;
	my ($stdout, $stderr) = ('', '');

	IPC::Run::run(\@command, '<', \undef, '>', \$stdout, '2>', \$stderr, IPC::Run::timeout(120));
	return ($? >> 8, $stdout, $stderr);
}

# How many rows of a table a reader gets, by operation.
sub tail
{
	my ($nats, $table, @options) = @_;
	my ($code, $stdout, $stderr) =
	  run_program('siphon-tail', '--nats-url' => $nats->url, as('reader'), @options, '--table' => "public.$table", '--stop-at-end');
	my %count;

	is($code, 0, "siphon-tail reads $table") or diag($stderr);
	$count{ $_->{operation} // 'marker' }++ for map { decode_json($_) } split /\n/, $stdout;
	return \%count;
}

my $nats = siphon_nats(conf => $conf);
my $publisher = siphon_publisher($node, $nats, arguments => [ as('publisher') ]);

$node->safe_psql('postgres', q{CREATE TABLE issues (id bigint PRIMARY KEY, title text);
	INSERT INTO issues SELECT g, 'old' FROM generate_series(1, 1000) g});
add_table($node, 'issues', snapshot => 'true');
$node->safe_psql('postgres', q{UPDATE issues SET title = 'new' WHERE id <= 10});
wait_until('the table streams',
	sub { $node->safe_psql('postgres', 'SELECT state FROM siphon_tables') eq 'streaming' });
wait_confirmed($node);
is_deeply(tail($nats, 'issues')->{SNAPSHOT}, 1000, 'the rows are there');

# Another generation; a table that is dropped, whose messages are taken away; a restart; a broker that restarts.
$node->safe_psql('postgres', q{SELECT siphon_resync_table('issues'); CREATE TABLE gone (id bigint PRIMARY KEY)});
add_table($node, 'gone', snapshot => 'true');
wait_until('both tables stream',
	sub { $node->safe_psql('postgres', q{SELECT count(*) FROM siphon_tables WHERE state = 'streaming'}) == 2 });
$node->safe_psql('postgres', q{SELECT siphon_remove_table('gone')});
is($publisher->stop, 0, 'the publisher stops');
$node->safe_psql('postgres', q{UPDATE issues SET title = 'newer' WHERE id <= 10});
$publisher->start;
wait_confirmed($node);
$nats->kill9;
$nats->start;
$node->safe_psql('postgres', q{UPDATE issues SET title = 'newest' WHERE id <= 10});
wait_confirmed($node);
# Those in front of the last generation went with their rows.
is(tail($nats, 'issues')->{UPDATE}, 20, 'and the changes');

wait_until('ready', sub { $publisher->get('/readyz')->{status} == 200 });
my ($code, $checked) = run_program('siphon-publisher', 'check', '--ring-directory' => ring_directory($node),
	'--nats-url' => $nats->url, as('publisher'));
is($code, 0, 'the check finds nothing wrong') or diag($checked);
unlike($checked, qr/not looked at|iolation/, 'and looks at all') or diag($checked);
unlike($publisher->log, qr/violation/i, 'the publisher was denied nothing');
unlike($nats->log, qr/Violation/, 'nor was anybody else');

# ---- what a reader may not -------------------------------------------------------------------------------------------

# What NATS says to a user who does that.
sub answer_to
{
	my ($user, $command) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $nats->{port}) or die $!;
	my $password = $password{ uc $user };

	print $socket qq(CONNECT {"user":"$user","pass":"$password","verbose":false}\r\n$command\r\nPING\r\n);
	$socket->flush;
	while (defined(my $line = readline $socket))
	{
		return $line if $line =~ /^(?:-ERR|PONG)/;
	}
	return '';
}

my $denied = qr/^-ERR 'Permissions Violation/;
like(answer_to('reader', "PUB $_ 2\r\nno"), $denied, "a reader can't publish to $_")
  for qw(siphon.main.events.public.issues.0 siphon.main.fence $KV.siphon_main.publisher _INBOX_publisher.x _INBOX.x
  $JS.API.STREAM.PURGE.siphon_main $JS.API.STREAM.DELETE.siphon_main $JS.API.STREAM.INFO.siphon_main_held);
like(answer_to('reader', "SUB $_ 1"), $denied, "a reader can't subscribe to $_")
  for qw(siphon.main.> > _INBOX_publisher.> _INBOX.> $KV.>);
like(answer_to('operator', "PUB siphon.main.fence 2\r\nno"), $denied, 'nor can an operator publish to the stream');
like(answer_to('publisher', "SUB $_ 1"), $denied, "the publisher does not see $_") for qw(> _INBOX.> siphon.>);

is($publisher->stop, 0, 'the publisher stops');
$nats->kill9;

# ---- JetStream in another domain, behind a leaf node ------------------------------------------------------------------

my $leaf_port = PostgreSQL::Test::Cluster::get_free_port();
my $hub = siphon_nats(name => 'hub', domain => 'hub', conf => "server_name: hub\nleafnodes { listen: '127.0.0.1:$leaf_port' }");
my $leaf = siphon_nats(name => 'leaf', domain => 'leaf',
	conf => "server_name: leaf\nleafnodes { remotes: [ { url: 'nats-leaf://127.0.0.1:$leaf_port' } ] }");
my @domain = ('--jetstream-domain' => 'hub');

$node->safe_psql('postgres', q{CREATE TABLE far (id bigint PRIMARY KEY)});
add_table($node, 'far', application => "'far'", snapshot => 'true');
my $distant = siphon_publisher($node, $leaf, name => 'distant', application => 'far', arguments => \@domain);
$node->safe_psql('postgres', 'INSERT INTO far SELECT generate_series(1, 10)');
wait_confirmed($node, application => 'far');
cmp_ok($hub->stream('far')->{state}{messages} // 0, '>', 0, 'the hub has the stream');
is($leaf->stream('far')->{state}, undef, 'and the leaf has none');
($code, my $lines) = run_program('siphon-tail', '--application' => 'far', '--nats-url' => $leaf->url, @domain, '--stop-at-end');
is($code, 0, 'siphon-tail reads from the leaf');
cmp_ok(scalar(() = $lines =~ /"INSERT"/g), '<=', 10, 'what the hub has');
like($lines, qr/"far"/, 'of the table');
$distant->stop;
$distant->start;
$node->safe_psql('postgres', 'INSERT INTO far VALUES (11)');
wait_confirmed($node, application => 'far');
is($distant->stop, 0, 'the publisher stops');

done_testing();
