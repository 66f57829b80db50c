# Each way to log in to NATS, against a nats-server that is configured so: rows arrive, and are read back. Each wrong or missing
# credential ends the publisher at once, with exit code 2 and one line that names the option. What is lost later, by a
# reload of the server's configuration or a .creds file that has expired, is waited for. Secrets are never shown.
use strict;
use warnings FATAL => 'all';

use IPC::Run ();
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Credentials;
use Test::More;

my $secret = 'hush-7391';
my $directory = PostgreSQL::Test::Utils::tempdir();
my $node = siphon_node('primary');
my $rings = ring_directory($node);

sub file
{
	my ($name, $content) = @_;

	my $before = umask 0077;

	write_file("$directory/$name", $content);
	umask $before;
	return "$directory/$name";
}

my $ours = make_authority('ours');
my $theirs = make_authority('theirs');
my $server = make_certificate($ours, 'server', 'IP:127.0.0.1');
my $elsewhere = make_certificate($ours, 'elsewhere', 'DNS:elsewhere.example');
my $client = make_certificate($ours, 'client', 'DNS:client');
my $stranger = make_certificate($theirs, 'stranger', 'DNS:client');
my ($nkey, $other_nkey) = (make_nkey('user'), make_nkey('user'));
my $account = make_nkey('account');
my $creds = "$directory/good.creds";
make_creds($creds, $account);
make_creds("$directory/expired.creds", $account, time - 60);
make_creds("$directory/alien.creds", make_nkey('account'));

my @password = ('--nats-password-file' => file('password', "$secret\n"));
my @wrong_password = ('--nats-password-file' => file('wrong_password', "$secret-not\n"));
my @token = ('--nats-token-file' => file('token', $secret));
my @ca = ('--nats-ca' => $ours->{cert});
my $tls = "cert_file: '$server->{cert}', key_file: '$server->{key}'";
my $anonymous = qr/give --nats-creds, --nats-nkey-seed, --nats-user or --nats-token-file/;

sub pair
{
	my ($pair) = @_;

	return ('--nats-cert' => $pair->{cert}, '--nats-key' => $pair->{key});
}

# What nats-server.conf has; what lets one in; and what doesn't, with what is said then.
my @ways = (
	{
		# With no more rights than docs/security.md names.
		name => 'password',
		conf => "authorization { users: [ { user: siphon, password: '$secret', permissions: {
			publish: ['siphon.password.>', '\$KV.siphon_password.>', '\$JS.API.>'], subscribe: '_INBOX.>' } } ] }",
		right => [ '--nats-user' => 'siphon', @password ],
		wrong => [
			[ $anonymous ],
			[ qr/check --nats-user \(siphon\) and --nats-password-file/, '--nats-user' => 'siphon', @wrong_password ],
			[ qr/check --nats-user \(somebody\)/, '--nats-user' => 'somebody', @password ],
			[ qr/check --nats-token-file/, @token ] ]
	},
	{
		name => 'token',
		conf => "authorization { token: '$secret' }",
		right => \@token,
		wrong => [ [$anonymous], [ qr/check --nats-token-file/, '--nats-token-file' => $wrong_password[1] ] ]
	},
	{
		name => 'nkey',
		conf => "authorization { users: [ { nkey: $nkey->{public} } ] }",
		right => [ '--nats-nkey-seed' => $nkey->{seed_file} ],
		wrong => [ [$anonymous], [ qr/check --nats-nkey-seed/, '--nats-nkey-seed' => $other_nkey->{seed_file} ] ]
	},
	{
		name => 'creds',
		conf => operator_conf($account),
		right => [ '--nats-creds' => $creds ],
		wrong => [
			[$anonymous],
			[ qr/check --nats-creds \(.*expired/, '--nats-creds' => "$directory/expired.creds" ],
			[ qr/check --nats-creds \(.*alien/, '--nats-creds' => "$directory/alien.creds" ] ]
	},
	{
		name => 'tls',
		conf => "tls { $tls }",
		right => \@ca,
		wrong => [ [qr/give the authority.*--nats-ca/], [ qr/check --nats-ca/, '--nats-ca' => $theirs->{cert} ] ]
	},
	{
		name => 'mutual',
		conf => "tls { $tls, ca_file: '$ours->{cert}', verify: true }",
		right => [ @ca, pair($client) ],
		wrong => [ [ qr/give --nats-cert and --nats-key/, @ca ], [ qr/check --nats-cert/, @ca, pair($stranger) ] ]
	},
	{
		name => 'elsewhere',
		conf => "tls { cert_file: '$elsewhere->{cert}', key_file: '$elsewhere->{key}' }",
		wrong => [ [ qr/for another host: check --nats-url/, @ca ] ]
	},
	{
		name => 'plain',
		conf => '',
		wrong => [ [ qr/offers no TLS, which --nats-ca/, @ca, '--nats-user' => 'siphon', @password ] ]
	});

# Exit code, stdout and stderr of a program.
sub run_program
{
	my (@command) = @_;
	my ($stdout, $stderr) = ('', '');

	IPC::Run::run(\@command, '<', \undef, '>', \$stdout, '2>', \$stderr, IPC::Run::timeout(60));
	return ($? >> 8, $stdout, $stderr);
}

sub refused
{
	my ($name, $nats, $pattern, @options) = @_;
	my @at = ('--nats-url' => $nats->url, @options);
	my @publisher = ('--application' => 'wrong', '--ring-directory' => $rings);
	my ($code, $stdout, $stderr) = run_program('siphon-publisher', @publisher, '--http-listen' => 'off', @at);

	is($code, 2, "$name: exit code");
	like($stderr, qr/\A[^\n]* error: NATS at [^\n]* refuses us \([^\n]*$pattern[^\n]*\n\z/, "$name: one line");
	unlike($stderr, qr/\Q$secret\E/, "$name: without the secret");
	($code, $stdout, $stderr) = run_program('siphon-tail', '--stop-at-end', @at);
	is($code, 2, "$name: siphon-tail's exit code");
	like($stderr, qr/\A[^\n]*$pattern[^\n]*\n\z/, "$name: siphon-tail's line");
	($code, $stdout) = run_program('siphon-publisher', 'check', @publisher, @at);
	is($code, 1, "$name: the check's exit code");
	like($stdout, qr/^wrong  NATS at .*\n +.*$pattern/m, "$name: what the check says");
	return;
}

my $titles = 0;

# A row goes all the way, and is read back by one who logs in alike.
sub arrives
{
	my ($name, $application, $nats, @options) = @_;
	my $title = 'title' . ++$titles;

	$node->safe_psql('postgres', "INSERT INTO $application VALUES ($titles, '$title')");
	# Its snapshot may not have begun; then the row comes with that.
	wait_for_tables($node, application => $application);
	wait_confirmed($node, application => $application);
	my ($code, $stdout) =
	  run_program('siphon-tail', '--application' => $application, '--nats-url' => $nats->url, '--stop-at-end', @options);
	is($code, 0, "$name: siphon-tail reads");
	like($stdout, qr/"$title"/, "$name: a row arrives");
	return;
}

sub publisher_for
{
	my ($way, $nats) = @_;

	$node->safe_psql('postgres', "CREATE TABLE $way->{name} (id int PRIMARY KEY, title text)");
	$node->safe_psql('postgres', "INSERT INTO $way->{name} VALUES (0, 'there before')");
	add_table($node, $way->{name}, application => "'$way->{name}'", snapshot => 'true');
	return siphon_publisher($node, $nats, name => "publisher-$way->{name}", application => $way->{name}, arguments => $way->{right});
}

sub shows_no_secret
{
	my ($name, $publisher, $pattern) = @_;
	my $arguments = slurp_file("/proc/$publisher->{pid}/cmdline");

	unlike($publisher->get($_)->{content}, $pattern, "$name: no secret in $_") for qw(/status /metrics /readyz /history);
	unlike($publisher->log, $pattern, "$name: no secret in the log");
	unlike($arguments, $pattern, "$name: no secret in the arguments");
	return;
}

my %running;

for my $way (@ways)
{
	my $nats = siphon_nats(name => "nats-$way->{name}", conf => $way->{conf});
	my $count = 0;

	refused("$way->{name} " . ++$count, $nats, @$_) for @{ $way->{wrong} };
	if (!$way->{right})
	{
		$nats->kill9;
		next;
	}
	my $publisher = publisher_for($way, $nats);
	arrives($way->{name}, $way->{name}, $nats, @{ $way->{right} });
	shows_no_secret($way->{name}, $publisher, qr/\Q$secret\E|$nkey->{seed}/);
	$running{ $way->{name} } = { nats => $nats, publisher => $publisher, %$way };
}

# ---- lost later -----------------------------------------------------------------------------------------------------

sub locked_out
{
	my ($name, $publisher, $pattern) = @_;

	wait_until("$name: the publisher is locked out", sub { $publisher->log =~ /refuses us.*trying again until it lets us in/ });
	like($publisher->log, qr/refuses us \(.*\): $pattern.*; trying again until/, "$name: the line names the option");
	wait_until("$name: not ready", sub { $publisher->get('/readyz')->{status} == 503 });
	is($publisher->get('/healthz')->{status}, 200, "$name: alive");
	ok($publisher->running, "$name: the publisher goes on");
	return;
}

# The server's administrator changes the password, and changes it back.
my $way = $running{password};
$way->{nats}->reload($way->{conf} =~ s/\Q$secret\E/other/r);
locked_out('reload', $way->{publisher}, qr/check --nats-user \(siphon\)/);
$node->safe_psql('postgres', "INSERT INTO password VALUES (-1, 'meanwhile')");
$way->{nats}->reload($way->{conf});
arrives('reload', 'password', $way->{nats}, @{ $way->{right} });
wait_until('ready again', sub { $way->{publisher}->get('/readyz')->{status} == 200 });

# The password is changed, there and in its file.
$way->{nats}->reload($way->{conf} =~ s/\Q$secret\E/renewed/r);
wait_until('locked out by a new password', sub { $way->{publisher}->get('/readyz')->{status} == 503 });
file('password', "renewed\n");
$node->safe_psql('postgres', "INSERT INTO password VALUES (-2, 'renewed')");
arrives('renewed', 'password', $way->{nats}, @{ $way->{right} });
$way->{nats}->reload($way->{conf});
file('password', "$secret\n");
wait_until('and once more', sub { (() = $way->{publisher}->log =~ /trying again until/g) >= 2 });
arrives('renewed once more', 'password', $way->{nats}, @{ $way->{right} });
# Nobody else can read the file, but what is said of passwords that go without TLS is not for the loopback.
unlike($way->{publisher}->log, qr/ warning: .*(?:everybody on this machine|insists on TLS)/, 'no warning');

# The file expires, and is renewed.
$way = $running{creds};
make_creds($creds, $account, time - 60);
$way->{nats}->kill9;
$way->{nats}->start;
locked_out('expired', $way->{publisher}, qr/check --nats-creds/);
make_creds($creds, $account);
arrives('expired', 'creds', $way->{nats}, @{ $way->{right} });

# Who waits for that can be stopped.
make_creds($creds, $account, time - 60);
$way->{nats}->kill9;
$way->{nats}->start;
wait_until('locked out once more', sub { (() = $way->{publisher}->log =~ /trying again until/g) == 2 });
is($way->{publisher}->stop, 0, 'a publisher that is locked out stops');
make_creds($creds, $account);

for my $each (grep { $_->{name} ne 'creds' } values %running)
{
	is($each->{publisher}->stop, 0, "$each->{name}: the publisher stops");
	unlike($each->{publisher}->log, qr/\Q$secret\E/, "$each->{name}: the secret is not in the log");
	unlike($each->{publisher}->log, qr/permission/i, "$each->{name}: nothing was denied");
}

# ---- where secrets come from -----------------------------------------------------------------------------------------

$way = $running{password};
for my $source ([ 'environment', { SIPHON_NATS_PASSWORD => $secret }, '' ], [ 'file', {}, "nats_password: $secret\n" ],
	[ 'URL', { SIPHON_NATS_URL => "nats://siphon:$secret\@127.0.0.1:$way->{nats}{port}" }, undef ])
{
	my ($name, $environment, $yaml) = @$source;
	my $config = file("$name.yaml", defined $yaml ? 'nats_url: ' . $way->{nats}->url . "\nnats_user: siphon\n$yaml" : '');
	my @options = ('--config' => $config);
	local %ENV = (%ENV, %$environment);
	my ($code, $stdout) = run_program('siphon-publisher', 'check', '--ring-directory' => $rings, @options);

	like($stdout, qr/^ok     NATS at .* lets us in/m, "the secret from the $name");
	unlike($stdout, qr/\Q$secret\E/, "and it is not shown");
	($code, $stdout) = run_program('siphon-publisher', '--print-config', @options);
	is($code, 0, 'the configuration can be printed');
	unlike($stdout, qr/\Q$secret\E/, "without the secret from the $name");
}
for my $arguments ([ '--nats-password', $secret ], ["--nats-token=$secret"], [ '--nats-url', "nats://siphon:$secret\@127.0.0.1" ])
{
	my ($code, $stdout, $stderr) = run_program('siphon-publisher', @$arguments);

	is($code, 2, "$arguments->[0]: refused as an argument") or diag($stderr);
	like($stderr, qr/everybody on this machine can read/, 'and why');
	unlike($stderr, qr/\Q$secret\E/, 'and it is not repeated');
}

done_testing();
