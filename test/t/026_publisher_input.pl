# What the publisher refuses: each time one line on stderr that says what is wrong, and the exit code that --help lists.
# What it waits for it says too.
use strict;
use warnings FATAL => 'all';

use IO::Socket::INET;
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Publisher;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();
my $directory = ring_directory($node);
my $number = 0;

$node->safe_psql('postgres', 'CREATE TABLE t (id bigserial PRIMARY KEY, v text)');
add_table($node, 't');

# Runs a publisher that must end by itself.
sub refused
{
	my ($what, $code, $line, %options) = @_;
	my $publisher = Siphon::Publisher->new(
		name => 'refused' . ++$number,
		ring_directory => $directory,
		nats_url => $nats->url,
		%options)->start;

	is($publisher->wait_exit(30), $code, "$what: exit code $code");
	my @complaints = grep { !/ info: / } split /\n/, $publisher->log;
	is(scalar(@complaints), 1, "$what: one line") or diag($publisher->log);
	like($complaints[0] // '', $line, "$what: it says what is wrong");
	return;
}

refused('no URL at all', 2, qr/--nats-url: .*"not a url" is not a host/, nats_url => 'not a url');
refused('another scheme', 2, qr/--nats-url: .*must start with nats:\/\/ or tls:\/\//, nats_url => 'http://127.0.0.1:4222');
refused('a port out of range', 2, qr/--nats-url: .*no valid port/, nats_url => 'nats://127.0.0.1:99999');
refused('an unknown option', 2, qr/--no-such-option/, arguments => ['--no-such-option']);
refused('an invalid value', 2, qr/--max-in-flight: "0" is not a number/, arguments => [ '--max-in-flight', '0' ]);
refused('an invalid application', 2, qr/--application: "a\/b" is not an application's name/, application => 'a/b');
refused('a configuration file that is not there', 2, qr/can't read configuration file \/nonexistent/,
	arguments => [ '--config', '/nonexistent' ]);

my $config = PostgreSQL::Test::Utils::tempdir() . '/siphon.yaml';
append_to_file($config, "no_such_key: 1\n");
refused('an unknown key', 2, qr/unknown key "no_such_key"/, arguments => [ '--config', $config ]);

append_to_file("$directory-file", 'x');
refused('a ring directory that is a file', 2, qr/ring directory \Q$directory\E-file: Not a directory/,
	ring_directory => "$directory-file");
unlink "$directory-file";
mkdir "$directory-open" or die;
chmod 0777, "$directory-open" or die;
refused('a ring directory that all may write to', 2, qr/ring directory \Q$directory\E-open: .*only that user may write to it/,
	ring_directory => "$directory-open");
rmdir "$directory-open";
refused('no ring', 6, qr/no ring at \Q$directory\E\/absent\/decoder.ring within the attach timeout/,
	application => 'absent', arguments => [ '--attach-timeout', '1s' ]);

# A second publisher, while the first goes on.
my $publisher = siphon_publisher($node, $nats);
wait_until('the publisher is attached', sub { application($node)->{publisher_attached} });
refused('a second publisher', 3, qr/another publisher runs for application main/);
ok($publisher->running, 'the first one goes on');
$publisher->kill9;
$publisher->start;
wait_until('the publisher has its ring', sub { $publisher->log =~ /publishing ring/ });
pass('the death of a publisher releases its lock');
$publisher->stop;

# Rings that are none. The decoder is stopped, so that it does not mind.
my $ring = "$directory/main/decoder.ring";
my $good = slurp_file($ring);

$node->stop;

# What a server of a neighbouring version would have made.
sub ring_of_version
{
	my ($version) = @_;
	my $other = $good;

	substr($other, 8, 4, pack 'L', $version);
	write_file("$ring.other", $other);
	rename "$ring.other", $ring or die "$ring: $!";
	return qr/decoder\.ring has ring version $version, and this publisher reads version \d+: install the publisher that came with the extension/;
}

my ($current) = unpack 'x8 L', $good;

refused('a ring of the next version', 5, ring_of_version($current + 1));
refused('a ring of the version before', 5, ring_of_version($current - 1));
ring_of_version($current);
$publisher->start;
wait_until('the publisher has its ring', sub { $publisher->log =~ /publishing ring/ });
my $refusal = ring_of_version($current + 1);
is($publisher->wait_exit(30), 5, 'a server that comes back with a newer version, while the publisher runs: exit code 5');
like($publisher->log, $refusal, 'and it says so');
my $sizes = $good;
substr($sizes, 32, 8, pack 'Q', 12345);
write_file($ring, $sizes);
$publisher->start;
wait_until('the ring is refused', sub { $publisher->log =~ /decoder.ring is corrupt: its header has invalid values; a new ring was requested from its worker/ });
is($publisher->stop, 0, 'a ring with impossible sizes: another is asked for');
write_file($ring, 'short');
refused('a ring that is too short', 5, qr/decoder.ring is too short to be a ring/);
$node->start;
wait_for_state($node, 'streaming');


# A stream that exists with other settings is reported, and changed when asked.
$publisher->start;
$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('first')");
wait_confirmed($node);
$publisher->stop;
$publisher->{arguments} = [ '--stream-max-age', '36h' ];
$publisher->start;
wait_until('the difference is reported', sub { $publisher->log =~ /warning: stream siphon_main has max_age 0 .*configured is 36h; --update-stream changes it/ });
pass('a stream with other settings is reported');
$publisher->stop;
$publisher->{arguments} = [ '--stream-max-age', '36h', '--update-stream' ];
$publisher->start;
wait_until('the stream is changed', sub { $publisher->log =~ /changed stream siphon_main: max_age 0 .* -> 36h/ });
pass('and changed when asked');

# Somebody else who writes to the stream is found out, under whatever the publisher does: the second writer is not it.
my $intruder = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $nats->{port}) or die "nats: $!";
print $intruder "CONNECT {\"verbose\":false}\r\nPUB siphon.main.events.public.t.0 5\r\nhello\r\nPING\r\n";
wait_until('the message is there', sub { (<$intruder> // '') =~ /PONG/ });
$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('second')");
is($publisher->wait_exit, 4, 'somebody else who writes to the stream: exit code 4');
like($publisher->log, qr/somebody else writes to stream siphon_main/, 'and says so');
command_exit_is([ 'siphon-tail', '--nats-url', $nats->url, '--stop-at-end' ], 4, 'siphon-tail: what is not Siphon\'s is in the stream');

# From here on with another broker, and a stream that is whole.
$nats->stop;
$nats = siphon_nats(name => 'nats2');
@$publisher{qw(nats_url arguments)} = ($nats->url, []);

# A broker that is not there is waited for, with a line that says so.
my $waiting = Siphon::Publisher->new(
	name => 'waiting',
	ring_directory => $directory,
	nats_url => 'nats://127.0.0.1:1')->start;
wait_until('it says what it waits for', sub { $waiting->log =~ /waiting for NATS.*127\.0\.0\.1:1/ });
is($waiting->stop, 0, 'a broker that is not there is waited for');
is(scalar(() = $waiting->log =~ /waiting for/g), 1, 'and that is said once');

# A server that is not there yet, too.
$node->safe_psql('postgres', "SELECT siphon_drop_application('main')");
$publisher->start;
wait_until('it says what it waits for', sub { $publisher->log =~ /waiting for the decoder of application main/ });
add_table($node, 't');
$node->safe_psql('postgres', "INSERT INTO t (v) VALUES ('at last')");
wait_confirmed($node);
is_deeply([ map { $_->{columns}{v} } @{ replay($nats) } ], ['at last'], 'a decoder that is not there is waited for');

# The same in words: --help lists the exit codes, --version the ring's version.
my ($help) = run_command([ 'siphon-publisher', '--help' ]);
like($help, qr/Exit codes:\s+0  stopped.*\s1  .*\s2  .*\s3  .*\s4  .*\s5  .*\s6  /s, '--help lists the exit codes');
my ($shown) = run_command([ 'siphon-publisher', '--version' ]);
like($shown, qr/^siphon-publisher \S+ \(ring version \d+,/, '--version tells the ring version');

# siphon-tail has its own.
command_exit_is([ 'siphon-tail', '--nats-url', 'http://x' ], 2, 'siphon-tail: wrong option');
command_exit_is([ 'siphon-tail', '--nats-url', $nats->url, '--application', 'absent', '--stop-at-end' ],
	4, 'siphon-tail: no such stream');
command_exit_is([ 'siphon-tail', '--nats-url', 'nats://127.0.0.1:1', '--stop-at-end' ], 1, 'siphon-tail: no connection');

done_testing();
