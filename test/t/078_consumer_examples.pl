# The examples for people who write consumers are at work: the Python one makes a copy that is the table, whatever came between
# two runs of it; the C++ one prints what siphon-tail does; the Go one, where there is a compiler, puts transactions together.
# Covers: messages that are read again; columns and keys that become others; a schema called "held"; streams that have lost
# their beginning, or hold what a later publisher may write; TLS; a NATS server that is silent for a while.
use strict;
use warnings FATAL => 'all';

use Cwd;
use File::Copy;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Credentials;
use Siphon::NatsClient;
use Test::More;

my $directory = PostgreSQL::Test::Utils::tempdir();
my $build = getcwd() . "/$ENV{BUILDDIR}";
my $log = '';

# ---- building them, while servers start ------------------------------------------------------------------------------

my $cpp = IPC::Run::start([ 'make', '-C', 'examples/cpp', "OUT=$directory" ], '>&', \$log);
my $go = (grep { -x "$_/protoc-gen-go" } split /:/, $ENV{PATH}) ? start_go() : undef;

# With Debian's packages of the libraries, and no network.
sub start_go
{
	my $place = "$directory/go/src/siphon.example/transactions";

	system_or_bail('mkdir', '-p', $place);
	copy('examples/go/main.go', $place) or die $!;
	system_or_bail('protoc', '--proto_path=proto', "--go_out=$place", '--go_opt=Msiphon.proto=siphon.example/transactions/wire',
		'--go_opt=module=siphon.example/transactions', 'siphon.proto');
	local @ENV{qw(GO111MODULE GOPATH GOCACHE)} = ('off', "$directory/go:/usr/share/gocode", "$build/go-cache");
	return IPC::Run::start([ 'go', 'build', '-o', "$directory/transactions", 'siphon.example/transactions' ], '>&', \$log);
}

system_or_bail('cp', 'examples/python/nats_pull.py', 'examples/python/copy_table.py', $directory);
system_or_bail('protoc', '--proto_path=proto', "--python_out=$directory", 'siphon.proto');

my $node = siphon_node('primary');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

# ---- messages that are made by hand ----------------------------------------------------------------------------------

# Of the server at which streams of them are made.
my $client;

# Protobuf, as far as it takes.
sub varint
{
	my ($n) = @_;

	return $n < 0x80 ? chr $n : chr($n & 0x7f | 0x80) . varint($n >> 7);
}

sub number
{
	my ($field, $n) = @_;

	return varint($field << 3) . varint($n);
}

sub content
{
	my ($field, $bytes) = @_;

	return varint($field << 3 | 2) . varint(length $bytes) . $bytes;
}

my %START = (none => 0, snapshot => 1, changes => 2);
my $next = 1;

# A message of kind changes of table held.t with one event. Options: operation, its number; value, a Value; start, how its
# generation begins; headers.
sub changes
{
	my (%options) = @_;
	my $lsn = $next++;
	my %headers = (
		'Siphon-Kind' => 'changes',
		'Siphon-First' => sprintf('%016X/1', $lsn),
		'Siphon-Last' => sprintf('%016X/1', $lsn),
		'Siphon-Events' => 1,
		'Siphon-Generation' => 5,
		'Siphon-Encoding' => 'none',
		%{ $options{headers} // {} });
	my $column = content(1, 'id') . number(2, 23) . content(3, 'integer') . number(4, 1) . number(11, 1);
	my $event = number(1, $options{operation} // 1) . varint(2 << 3 | 1) . pack('Q<', $lsn) . number(3, 1)
	  . content(6, $options{value} // number(2, 2 * $lsn));

	return {
		subject => $options{subject} // 'siphon.main.events.held.t.0',
		headers => join('', "NATS/1.0\r\n", map({ "$_: $headers{$_}\r\n" } sort keys %headers), "\r\n"),
		body => content(1, 'main') . content(2, 'held') . content(3, 't') . number(5, 5) . content(7, $column)
		  . number(14, $START{ $options{start} // 'changes' }) . content(8, $event)
	};
}

sub make_stream
{
	$client->make_stream('siphon_main', ['siphon.main.>'], @_);
	return;
}

sub store
{
	for my $message (@_)
	{
		$client->say("HPUB $message->{subject} " . length($message->{headers}) . ' ' . (length($message->{headers}) + length($message->{body})));
		$client->say($message->{headers} . $message->{body});
	}
	# So that it goes out.
	return $client->api('STREAM.INFO.siphon_main');
}

# ---- Python: a copy --------------------------------------------------------------------------------------------------

# Its exit code, and what it says.
sub run_copy
{
	my ($server, $table, $file, @arguments) = @_;
	my $said = '';

	IPC::Run::run(
		[ 'python3', "$directory/copy_table.py", '--nats-url', $server->url, '--table', $table, '--file', $file, '--stop-at-end', @arguments ],
		'<', \undef, '>&', \$said);
	return ($? >> 8, $said);
}

# Runs a statement in a copy's file; returns the first column.
sub sqlite
{
	my ($file, $sql) = @_;
	my ($rows) = run_command(
		[ 'python3', '-c', 'import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); [print(r[0]) for r in d.execute(sys.argv[2])]; d.commit()', $file, $sql ]);

	return split /\n/, $rows;
}

# Lines of JSON, each written in one way, in order. A row in it is too large to be read as JSON by Perl.
sub canonical
{
	my ($lines) = @_;
	my $out = '';

	IPC::Run::run([ 'python3', '-c', 'import json, sys; [print(json.dumps(json.loads(l), sort_keys=True)) for l in sys.stdin]' ],
		'<', \$lines, '>', \$out) or die;
	return sort split /\n/, $out;
}

# The copy, as JSON, is the table. Options: says, what its program says.
sub is_copied
{
	my ($table, $name, $columns, %options) = @_;
	my $file = "$directory/$table.sqlite";

	wait_confirmed($node);
	my ($code, $said) = run_copy($nats, "public.$table", $file);
	is($code, 0, "$name: exit code") or diag($said);
	like($said, $options{says} // qr/\A\z/, "$name: what it says");
	my @copied = canonical(join "\n", sqlite($file, 'SELECT row FROM rows'));
	my @there = canonical($node->safe_psql('postgres', "SELECT to_json(t) FROM (SELECT $columns FROM $table) t"));

	cmp_ok(scalar @there, '>', 0, "$name: there are rows");
	is_deeply(\@copied, \@there, $name);
	return;
}

my $columns = q{id, title, amount::text, done, at, on_day, tags, meta, big};

$node->safe_psql(
	'postgres', q{
	CREATE TABLE issues (id bigint PRIMARY KEY, title text, amount numeric, done boolean, at timestamptz, on_day date, tags int[], meta jsonb, big text);
	ALTER TABLE issues ALTER big SET STORAGE EXTERNAL;
	CREATE FUNCTION make(bigint, text) RETURNS void BEGIN ATOMIC
		INSERT INTO issues VALUES ($1, $2, 1.50, $1 % 2 = 0, '2024-02-29 12:00:00.123456+00', 'infinity', '{{1,2},{3,NULL}}', '{"a": [1, null]}', CASE WHEN $1 % 20 = 0 THEN repeat('big', 2000) END);
	END;
	SELECT make(g, 'old ''" \ ' || chr(8364)) FROM generate_series(1, 500) g});
add_table($node, 'issues', snapshot => 'true', partitions => 3);
wait_for_table($node, 'issues');
is_copied('issues', 'Python: rows of a snapshot', $columns);

# Changes, keys that change within and across partitions, large values that stay, a row larger than a message.
$node->safe_psql(
	'postgres', q{
	ALTER TABLE issues REPLICA IDENTITY FULL;
	UPDATE issues SET title = 'new' WHERE id <= 50;
	UPDATE issues SET id = id + 10000 WHERE id BETWEEN 100 AND 150;
	DELETE FROM issues WHERE id BETWEEN 200 AND 220;
	ALTER TABLE issues REPLICA IDENTITY DEFAULT;
	UPDATE issues SET title = 'newer' WHERE id <= 60;
	DELETE FROM issues WHERE id = 221;
	INSERT INTO issues SELECT 20000, NULL, big FROM (SELECT NULL::numeric AS big) n;
	UPDATE issues SET big = (SELECT string_agg(md5(g::text), '') FROM generate_series(1, 36000) g) WHERE id = 20000});
is_copied('issues', 'Python: changes', $columns);

# A column that comes with a default, rows that come anew, and none.
$node->safe_psql('postgres', q{ALTER TABLE issues ADD COLUMN extra int DEFAULT 7; UPDATE issues SET title = 'with extra' WHERE id = 1});
$node->safe_psql('postgres', "UPDATE issues SET extra = 8 WHERE id = $_") for 1 .. 30;
wait_confirmed($node);
$node->safe_psql('postgres', q{SELECT siphon_resync_table('issues')});
wait_for_table($node, 'issues');
$node->safe_psql('postgres', q{DELETE FROM issues WHERE id < 20});
is_copied('issues', 'Python: rows that came anew', "$columns, extra");
$node->safe_psql('postgres', q{TRUNCATE issues; SELECT make(1, 'after')});
is_copied('issues', 'Python: after TRUNCATE', "$columns, extra");

# The default's rows are there without a package of their own.
$node->safe_psql('postgres', q{CREATE TABLE grows (id int PRIMARY KEY, v int); INSERT INTO grows SELECT g, g FROM generate_series(1, 9) g});
add_table($node, 'grows', snapshot => 'true');
wait_for_table($node, 'grows');
is_copied('grows', 'Python: before a column', '*');
$node->safe_psql('postgres', q{ALTER TABLE grows ADD COLUMN late text DEFAULT 'was there'; UPDATE grows SET v = 0 WHERE id = 1});
is_copied('grows', 'Python: a column with a default', '*');
$node->safe_psql('postgres', q{ALTER TABLE grows DROP COLUMN v; UPDATE grows SET late = 'now' WHERE id = 2});
is_copied('grows', 'Python: a column that was dropped', '*');

# Columns are told by their numbers, rows are named by the key that they have now.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE turns (id int PRIMARY KEY, other int NOT NULL UNIQUE, v text, w text);
	INSERT INTO turns SELECT g, g + 100, 'v' || g, 'w' || g FROM generate_series(1, 9) g});
add_table($node, 'turns', snapshot => 'true');
wait_for_table($node, 'turns');
for my $step (
	[ 'a column and a key column that are renamed' => 'ALTER TABLE turns RENAME v TO vv; ALTER TABLE turns RENAME id TO ident' ],
	[ 'two that exchange their names' => 'ALTER TABLE turns RENAME vv TO x; ALTER TABLE turns RENAME w TO vv; ALTER TABLE turns RENAME x TO w' ],
	[ 'one that is dropped and made again' => q{ALTER TABLE turns DROP COLUMN w; ALTER TABLE turns ADD COLUMN w text} ],
	[ 'a default that is filled later' => q{ALTER TABLE turns ADD COLUMN late int DEFAULT 7; UPDATE turns SET late = 8; ALTER TABLE turns RENAME late TO later} ],
	[ 'another key' => 'ALTER TABLE turns REPLICA IDENTITY USING INDEX turns_other_key; DELETE FROM turns WHERE other = 103; UPDATE turns SET ident = ident + 50' ],
	[ 'whole rows' => 'ALTER TABLE turns REPLICA IDENTITY FULL; DELETE FROM turns WHERE other = 104; UPDATE turns SET ident = ident + 50' ],
	[ 'no key' => 'ALTER TABLE turns DROP CONSTRAINT turns_pkey; DELETE FROM turns WHERE other = 105; UPDATE turns SET ident = ident + 50' ])
{
	$node->safe_psql('postgres', "$step->[1]; UPDATE turns SET vv = 'changed' WHERE other = 109");
	is_copied('turns', "Python: $step->[0]", '*');
}

# Without a key there are equal rows. Without an identity an event names no row: that is said, until rows come anew.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE equals (a int, b text);
	ALTER TABLE equals REPLICA IDENTITY FULL;
	INSERT INTO equals SELECT 1, 'x' FROM generate_series(1, 4)});
add_table($node, 'equals', snapshot => 'true');
wait_for_table($node, 'equals');
is_copied('equals', 'Python: equal rows', '*');
$node->safe_psql('postgres', q{INSERT INTO equals VALUES (1, 'x'), (2, NULL), (2, NULL); DELETE FROM equals WHERE ctid = '(0,1)'; UPDATE equals SET b = 'y' WHERE ctid = '(0,2)'});
is_copied('equals', 'Python: equal rows, one deleted and one changed', '*');
$node->safe_psql('postgres', q{ALTER TABLE equals REPLICA IDENTITY NOTHING; UPDATE equals SET a = 3 WHERE ctid = '(0,3)'; DELETE FROM equals WHERE a = 3; ALTER TABLE equals REPLICA IDENTITY FULL});
wait_confirmed($node);
my ($code, $said) = run_copy($nats, 'public.equals', "$directory/equals.sqlite");
is($code, 0, 'Python: rows that nothing names are no end');
like($said, qr/\A(?:a row was changed that nothing names, .* SELECT siphon_resync_table\('public\.equals'\)\n){2}\z/, 'Python: but are told of');
$node->safe_psql('postgres', "SELECT siphon_resync_table('equals')");
wait_for_table($node, 'equals');
is_copied('equals', 'Python: until rows came anew', '*');

# All that is read again was applied before.
for my $table (qw(issues turns equals))
{
	sqlite("$directory/$table.sqlite", 'UPDATE stream SET sequence = 0');
	is_copied($table, "Python: $table, all of it read again", $table eq 'issues' ? "$columns, extra" : '*');
}

# A table that is renamed goes on in the same file.
$node->safe_psql('postgres', q{INSERT INTO grows VALUES (50, 'before'); ALTER TABLE grows RENAME TO grown; INSERT INTO grown VALUES (51, 'behind')});
wait_confirmed($node);
my @renamed = run_copy($nats, 'public.grows', "$directory/grows.sqlite");
is($renamed[0], 1, 'Python: a table that was renamed');
like($renamed[1], qr/^message \d+: the table is called public.grown now: start this again with --table public.grown and the same file$/,
	'Python: is told where it goes on');
system_or_bail('cp', "$directory/grows.sqlite", "$directory/grown.sqlite");
is_copied('grown', 'Python: and goes on there', '*');
@renamed = run_copy($nats, 'public.grown', "$directory/new.sqlite");
like("@renamed", qr/^1 message \d+: the stream does not have the beginning of generation \d+, and so not all rows: SELECT siphon_resync_table\('public.grown'\)$/,
	'Python: not with a new file, as its rows are under the former name');
$node->safe_psql('postgres', 'ALTER TABLE grown RENAME TO grows');

# A table that was added without its rows has no beginning to lack.
$node->safe_psql('postgres', 'CREATE SCHEMA held; CREATE TABLE held.t (id int PRIMARY KEY); INSERT INTO held.t VALUES (1)');
add_table($node, 'held.t');
$node->safe_psql('postgres', 'INSERT INTO held.t VALUES (2)');
wait_confirmed($node);
is_deeply([ run_copy($nats, 'held.t', "$directory/held.sqlite") ], [ 0, '' ], 'Python: a table without its rows, in a schema that is called "held"');
is_deeply([ sqlite("$directory/held.sqlite", 'SELECT row FROM rows') ], ['{"id": 2}'], 'Python: has its changes');

ok($cpp->finish, 'C++: it builds') or diag($log);

# It reads from a server that falls silent, while other things are tested.
my $silent = siphon_nats(name => 'silent');
my ($printed, $complaint) = ('', '');

$client = Siphon::NatsClient->new($silent->url);
make_stream(changes());
my $waiting = IPC::Run::start([ "$directory/print_events", $silent->url, 'main' ], '<', \undef, '>', \$printed, '2>', \$complaint);
wait_until('it has printed an event', sub { $waiting->pump_nb; $printed =~ /\n/ });
kill 'STOP', $silent->{pid};
my $silent_since = time;

# ---- Go: transactions ------------------------------------------------------------------------------------------------

$node->safe_psql('postgres', q{BEGIN; INSERT INTO grows VALUES (100, 'first'); SELECT make(100, 'second'); INSERT INTO held.t VALUES (100); DELETE FROM grows WHERE id = 100; COMMIT});
my $lsn = wait_confirmed($node);
# The watermark behind it.
$node->safe_psql('postgres', 'INSERT INTO grows VALUES (101)');
wait_until('the watermark has come',
	sub { grep { /"operation":"WATERMARK","position":"([0-9A-F]+)/ && $1 gt lsn_text($lsn) } tail('--watermarks') });

# What siphon-tail prints.
sub tail
{
	my ($out) = run_command([ 'siphon-tail', '--from-start', '--stop-at-end', '--nats-url' => $nats->url, @_ ]);

	return split /\n/, $out;
}

sub lsn_text
{
	my ($high, $low) = split /\//, $_[0];

	return sprintf '%08X%08X', hex $high, hex $low;
}

SKIP:
{
	skip 'there is no compiler of Go, or not its libraries', 2 unless $go;
	ok($go->finish, 'Go: it builds') or diag($log);
	my ($out, $err) = run_command([ "$directory/transactions", $nats->url, 'main', '--stop-at-end' ]);

	like($out,
		qr/^transaction \d+, commit [0-9A-F]{16}\n  INSERT public\.grows \{.*?100.*\n  INSERT public\.issues \{.*?100.*\n  INSERT held\.t \{.*?100.*\n  DELETE public\.grows\n(?:transaction|\d+ rows of snapshots)/m,
		'Go: a transaction over two tables, whole and in order')
	  or diag($err);
}

# ---- C++: events -----------------------------------------------------------------------------------------------------

my ($out, $err) = run_command([ "$directory/print_events", $nats->url, 'main', '--stop-at-end' ]);
my @printed = map { /^([A-Z]+) (\w+\.\w+) ([0-9A-F]{16}\/\d+)/ ? "$1 $2 $3" : () } split /\n/, $out;
my @tailed = map { /"schema":"(\w+)","table":"(\w+)",.*?"operation":"([A-Z]+)".*?"position":"([0-9A-F]{16}\/\d+)"/ ? "$3 $1.$2 $4" : () } tail();

is($err, '', 'C++: no complaint');
is_deeply(\@printed, \@tailed, 'C++: the events that siphon-tail prints');
cmp_ok(scalar @printed, '>', 100, 'C++: all of them');

# ---- streams that are made by hand ------------------------------------------------------------------------------------

my $by_hand = siphon_nats(name => 'by_hand');

$client = Siphon::NatsClient->new($by_hand->url);

sub run_printer
{
	my ($program) = @_;
	my $said = '';

	IPC::Run::run([ "$directory/$program", $by_hand->url, 'main', '--stop-at-end' ], '<', \undef, '>', '/dev/null', '2>', \$said);
	return ($? >> 8, $said);
}

# Kinds that are not known are skipped, wherever they stand; all else that is not known stops, and nothing of the message is
# applied.
$next = 1;
my @known = (
	changes(),
	changes(headers => { 'Siphon-Kind' => 'later' }, value => 'what it is'),
	changes(headers => { 'Siphon-Kind' => 'fence' }, subject => 'siphon.main.fence'),
	changes());
my $file = "$directory/by_hand.sqlite";
my @programs = ('print_events', $go ? 'transactions' : ());

make_stream(@known);
is_deeply([ run_copy($by_hand, 'held.t', $file) ], [ 0, '' ], 'Python: kinds that are not known are skipped');
is_deeply([ run_printer($_) ], [ 0, '' ], "$_: likewise") for @programs;
for my $unknown (
	[ 'an operation' => qr/operation 99 is not known/, operation => 99 ],
	[ 'no operation' => qr/operation (?:0|OPERATION_UNSPECIFIED) is not known/, operation => 0 ],
	[ 'a kind of value' => qr/a value is of a kind that/, value => number(50, 1) ],
	[ 'an encoding' => qr/.*lz9/, headers => { 'Siphon-Encoding' => 'lz9' } ])
{
	my ($what, $line, %options) = @$unknown;

	make_stream(@known, changes(%options), changes());
	for my $again ('', ', and again')
	{
		my @said = run_copy($by_hand, 'held.t', $file);

		like("@said", qr/\A1 message 5: $line.*\n\z/, "Python: $what that is not known$again");
		is(join(' ', sort { $a <=> $b } map { /(\d+)/ } sqlite($file, 'SELECT row FROM rows')), '1 4', "Python: and nothing of it is applied$again");
	}
	for my $program (@programs)
	{
		my @said = run_printer($program);

		like("@said", qr/\A1 .*message 5: $line.*\n\z/, "$program: $what that is not known");
	}
}

# A beginning that the stream has lost.
my @turns = grep { $_->{subject} eq 'siphon.main.events.public.turns.0' } Siphon::NatsClient->new($nats->url)->messages('siphon_main');
my @of_kind = map { Siphon::NatsClient::header($_, 'Siphon-Kind') } @turns;

is(join(' ', @of_kind[ 0 .. 3 ]), 'snapshot-begin snapshot snapshot-end changes', 'a table begins with its rows');
for my $first (0 .. 3)
{
	make_stream(@turns[ $first .. $#turns ]);
	my @said = run_copy($by_hand, 'public.turns', "$directory/from_$first.sqlite");

	like("@said", $first == 0 ? qr/\A0 \z/ : qr/\A1 message 1: the stream does not have the beginning .* SELECT siphon_resync_table\('public.turns'\)\n\z/,
		"Python: the stream's first message is $of_kind[$first]");
	is(scalar(sqlite("$directory/from_$first.sqlite", 'SELECT row FROM rows')) > 0 ? 'rows' : 'none', $first == 0 ? 'rows' : 'none', 'Python: so there are rows, or none');
}
make_stream(changes(start => 'none'));
is_deeply([ run_copy($by_hand, 'held.t', "$directory/earlier.sqlite") ], [ 0, '' ], 'Python: an earlier decoder did not say, and is believed');

# A table that rests has lost nothing when the stream forgets what was read.
my $other = 'siphon.main.events.public.other.0';

make_stream(changes(), map { changes(subject => $other) } 1 .. 9);
$file = "$directory/rests.sqlite";
is_deeply([ run_copy($by_hand, 'held.t', $file) ], [ 0, '' ], 'Python: a table that rests');
$client->api('STREAM.PURGE.siphon_main', { seq => 8 });
is_deeply([ run_copy($by_hand, 'held.t', $file) ], [ 0, '' ], 'Python: does not lack what it has read');
store(map { changes(subject => $other) } 1 .. 5);
wait_until('the stream goes on', sub { $client->api('STREAM.INFO.siphon_main')->{state}{last_seq} == 15 });
$client->api('STREAM.PURGE.siphon_main', { seq => 14 });
my @lacks = run_copy($by_hand, 'held.t', $file);
like("@lacks", qr/\A1 the stream has forgotten what came behind message 10: /, 'Python: but what it has not read');

# A durable consumer gives newer messages first, and then one that was not acknowledged: to skip that by its position is to lose
# it. It does not where but one message may be unacknowledged, as docs/consumers.md says.
write_file("$directory/durable.py", <<'END');
import sys
from nats_pull import Connection
url, policy, limit = sys.argv[1:]
name = policy + limit
connection = Connection(url)
connection.api(f"CONSUMER.DURABLE.CREATE.siphon_main.{name}", {"stream_name": "siphon_main", "config": {
    "durable_name": name, "ack_policy": policy, "ack_wait": 500_000_000, "max_ack_pending": int(limit)}})
def pull():
    request = {"batch": 1, "expires": 10_000_000_000}
    connection.publish(f"$JS.API.CONSUMER.MSG.NEXT.siphon_main.{name}", request, "_INBOX.siphon-example.pull")
    return connection.receive()
pull()  # by one who dies before it acknowledges it
print(pull().sequence, pull().sequence)
END
make_stream(map { changes() } 1 .. 3);
for my $case ([qw(explicit 1 1)], [qw(explicit 2 2)], [qw(all 1 1)], [qw(all 1000 2)])
{
	my ($policy, $limit, $first) = @$case;
	my ($sequences) = run_command([ 'python3', "$directory/durable.py", $by_hand->url, $policy, $limit ]);

	like($sequences, qr/^$first /, "durable consumer, ack_policy $policy, max_ack_pending $limit: behind message 1, which nobody acknowledged, comes $first");
}

# TLS, which the server asks for.
my $authority = make_authority('ours');
my $pair = make_certificate($authority, 'server', 'IP:127.0.0.1');
my $tls = siphon_nats(name => 'tls', conf => '');

$client = Siphon::NatsClient->new($tls->url);
make_stream(changes());
$tls->reload("tls { cert_file: '$pair->{cert}', key_file: '$pair->{key}' }");
wait_until('the server asks for TLS', sub { (readline IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $tls->{port})) =~ /"tls_required":true/ });
my @with_tls = run_copy($tls, 'held.t', "$directory/tls.sqlite", '--ca' => $authority->{cert});
is("@with_tls", '0 ', 'Python: with TLS');
my @unknown = run_copy($tls, 'held.t', "$directory/tls.sqlite");
like("@unknown", qr/\A1 .*CERTIFICATE_VERIFY_FAILED/s, 'Python: not with a server that nobody vouches for');

# A server that is silent for longer than its heartbeats may be.
wait_until('it was silent for long', sub { time - $silent_since > 12 || !$waiting->pumpable });
ok($waiting->pumpable, 'C++: it waits while the server is silent');
kill 'CONT', $silent->{pid};
$client = Siphon::NatsClient->new($silent->url);
store(changes());
wait_until('C++: and goes on', sub { eval { $waiting->pump_nb }; ($printed =~ tr/\n//) == 2 || !$waiting->pumpable });
is($printed =~ tr/\n//, 2, 'C++: and goes on when it is back') or diag($printed);
$waiting->kill_kill;

done_testing();
