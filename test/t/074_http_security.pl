# The publisher's HTTP port: those who are slow, and those who hold many connections, keep nobody from an answer; what is no
# request is refused; with a password, all but probes is for those who know it; and it speaks TLS.
use strict;
use warnings FATAL => 'all';

use HTTP::Tiny;
use IO::Socket::INET;
use IPC::Run ();
use MIME::Base64;
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Credentials;
use Test::More;
use Time::HiRes qw(sleep);

my $secret = 'hush-4711';
my $node = siphon_node('primary', start => 0);
my $nats = siphon_nats();
my $directory = PostgreSQL::Test::Utils::tempdir();
my $publisher = siphon_publisher($node, $nats);
my ($port) = $publisher->url =~ /:(\d+)$/;

write_file("$directory/password", "$secret\n");
wait_until('connected', sub { $publisher->log =~ /connected to NATS/ });

sub dial
{
	return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) // die "port $port: $!";
}

# Has the other side ended, without waiting for it?
sub ended
{
	my ($socket) = @_;
	my $got = recv $socket, my $bytes, 1, MSG_DONTWAIT;

	return defined $got ? $bytes eq '' : !$!{EAGAIN};
}

# All that comes of these bytes.
sub says
{
	my ($bytes) = @_;
	my $socket = dial();

	print $socket $bytes;
	local $/;
	return readline($socket) // '';
}

# ---- slow ones and many ----------------------------------------------------------------------------------------------

my @idle = map { dial() } 1 .. 60;
is($publisher->get('/healthz')->{status}, 200, 'an answer beside 60 who say nothing');
wait_until('most of them were let go', sub { (grep { ended($_) } @idle) >= 40 });
pass('so many are not kept');
is($publisher->get('/healthz')->{status}, 200, 'and another one');

# Each byte is in time; all together are not, which would take half an hour.
my $slow = dial();
$slow->autoflush(1);
local $SIG{PIPE} = 'IGNORE';
print $slow "GET /healthz HTTP/1.1\r\nHost: x\r\nX: ";
wait_until('a request that never ends is given up', sub { print $slow 'x'; sleep 0.2; ended($slow) });
pass('a request has a time');

# So has the reading of an answer: one who asks and does not read.
my @lazy = map { dial() } 1 .. 30;
print $_ "GET / HTTP/1.1\r\nHost: x\r\n\r\n" for @lazy;
$_->flush for @lazy;
is($publisher->get('/readyz')->{status}, 503, 'an answer beside 30 who do not read theirs');
undef @lazy;

# ---- what is no request ----------------------------------------------------------------------------------------------

my $host = "Host: x\r\n";

like(says("GET /healthz HTTP/1.1\r\n$host\r\n"), qr/\AHTTP\/1.1 200 OK\r\n.*\r\n\r\nalive\n\z/s, 'a request');
like(says("HEAD /healthz HTTP/1.1\r\n$host\r\n"), qr/\AHTTP\/1.1 200 OK\r\n(.+\r\n)*Content-Length: 6\r\n(.+\r\n)*\r\n\z/, 'HEAD');
like(says("GET /healthz?x=y HTTP/1.0\r\n\r\n"), qr/\AHTTP\/1.[01] 200 /, 'a query changes nothing');
like(says("POST /status HTTP/1.1\r\n${host}Content-Length: 5\r\n\r\nhello"), qr/\AHTTP\/1.1 405 .*Allow: GET/s, 'POST');
like(says("GET /healthz HTTP/1.1\r\n${host}X: " . 'x' x 60_000 . "\r\n\r\n"), qr/\AHTTP\/1.1 4/, 'a head that is too large');
like(says("GET /../etc/passwd HTTP/1.1\r\n$host\r\n"), qr/\AHTTP\/1.1 404 /, 'no such page');
unlike(says($_), qr/200 OK|alive/, 'no request') for "rubbish\r\n\r\n", "GET /healthz\r\n\r\n", "\0\xff\r\n\r\n";
is($publisher->stop, 0, 'the publisher stops, whoever is connected');

# ---- a password ------------------------------------------------------------------------------------------------------

$publisher = siphon_publisher($node, $nats,
	arguments => [ '--http-user' => 'watcher', '--http-password-file' => "$directory/password" ]);

sub status_with
{
	my ($path, $login) = @_;
	my %headers = defined $login ? (Authorization => 'Basic ' . encode_base64($login, '')) : ();

	return HTTP::Tiny->new(timeout => 60)->get($publisher->url . $path, { headers => \%headers })->{status};
}

for my $path (qw(/ /status /metrics /history /nothing))
{
	is(status_with($path), 401, "$path: not without a password");
	is(status_with($path, 'watcher:wrong'), 401, "$path: not with a wrong one");
	is(status_with($path, "somebody:$secret"), 401, "$path: not as somebody else");
	is(status_with($path, "watcher:$secret"), $path eq '/nothing' ? 404 : 200, "$path: with the password");
}
is(status_with('/healthz'), 200, '/healthz is for everybody');
is(status_with('/readyz'), 503, '/readyz too');
is($publisher->stop, 0, 'the publisher stops');
unlike($publisher->log, qr/\Q$secret\E/, 'the password is not in the log');

# ---- TLS -------------------------------------------------------------------------------------------------------------

my $authority = make_authority('authority');
my $pair = make_certificate($authority, 'here', 'IP:127.0.0.1');

$publisher = siphon_publisher($node, $nats, arguments => [ '--http-cert' => $pair->{cert}, '--http-key' => $pair->{key} ]);
like($publisher->url, qr/^https:/, 'the log says that it is TLS');
($port) = $publisher->url =~ /:(\d+)$/;

sub over_tls
{
	my ($path, @options) = @_;
	my ($in, $out, $error) = ("GET $path HTTP/1.1\r\nHost: x\r\n\r\n", '', '');

	IPC::Run::run(
		[ qw(openssl s_client -quiet -verify_return_error), '-CAfile' => $authority->{cert}, '-connect', "127.0.0.1:$port", @options ],
		'<' => \$in, '>' => \$out, '2>' => \$error, IPC::Run::timeout(60));
	return $out;
}

my @deaf = map { dial() } 1 .. 30;
like(over_tls('/healthz'), qr/\AHTTP\/1.1 200 OK\r\n.*\r\n\r\nalive\n\z/s, 'an answer over TLS, beside 30 who shake no hands');
like(over_tls('/'), qr/<\/html>\s*\z/, 'a large one');
is(over_tls('/healthz', '-tls1_1'), '', 'not over TLS 1.1');
unlike(says("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"), qr/200 OK/, 'none without TLS');
is($publisher->stop, 0, 'the publisher stops');

# ---- options ---------------------------------------------------------------------------------------------------------

for my $wrong (
	[ qr/--http-cert: \/no\/such/, '--http-cert' => '/no/such', '--http-key' => $pair->{key} ],
	[ qr/--http-key: .* is not the key of/, '--http-cert' => $pair->{cert}, '--http-key' => $authority->{key} ],
	[ qr/--http-cert and --http-key/, '--http-cert' => $pair->{cert} ],
	[ qr/--http-user and its password/, '--http-user' => 'watcher' ],
	[ qr/--http-password-file: can't read/, '--http-user' => 'watcher', '--http-password-file' => '/no/such' ],
	[ qr/everybody on this machine can read/, '--http-user' => 'watcher', '--http-password' => $secret ])
{
	my ($pattern, @options) = @$wrong;
	my ($stdout, $stderr) = run_command(
		[ 'siphon-publisher', '--ring-directory' => "$directory/rings", '--nats-url' => $nats->url, '--http-listen' => '127.0.0.1:0', @options ]);

	is($? >> 8, 2, "@options[0, 1]: exit code");
	like($stderr, qr/\A[^\n]*$pattern[^\n]*\z/, "$options[0]: one line");
	unlike($stderr, qr/\Q$secret\E/, "$options[0]: without the password");
}

done_testing();
