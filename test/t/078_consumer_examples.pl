# The examples for people who write consumers are at work: the Python one makes a copy that is the table, whatever came between
# two runs of it; the C++ one prints what siphon-tail does; the Go one, where there is a compiler, puts transactions together.
use strict;
use warnings FATAL => 'all';

use Cwd;
use File::Copy;
use IPC::Run ();
use JSON::PP;
use PostgreSQL::Test::Utils;
use Siphon;
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

# ---- Python: a copy --------------------------------------------------------------------------------------------------

sub run_copy
{
	my ($table, $file) = @_;
	my $said = '';

	wait_confirmed($node);
	IPC::Run::run([ 'python3', "$directory/copy_table.py", '--nats-url', $nats->url, '--table', $table, '--file', $file, '--stop-at-end' ],
		'<', \undef, '>&', \$said)
	  or return diag($said);
	is($said, '', "$table: the copy's program has nothing to say");
	return;
}

# The copy, as JSON, ordered by itself, is the table.
sub is_copied
{
	my ($table, $name, $columns) = @_;
	my $file = "$directory/$table.sqlite";
	my $json = JSON::PP->new->canonical->utf8->ascii;

	run_copy("public.$table", $file);
	my ($rows) = run_command(
		[ 'python3', '-c', "import sqlite3, sys; [print(r[0]) for r in sqlite3.connect(sys.argv[1]).execute('SELECT row FROM rows')]", $file ]);
	my @copied = sort map { $json->encode($json->decode($_)) } split /\n/, $rows;
	my @there = sort map { $json->encode($json->decode($_)) } split /\n/,
	  $node->safe_psql('postgres', "SELECT to_json(t) FROM (SELECT $columns FROM $table) t");

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

# ---- Go: transactions ------------------------------------------------------------------------------------------------

$node->safe_psql('postgres', q{BEGIN; INSERT INTO grows VALUES (100, 'first'); SELECT make(100, 'second'); DELETE FROM grows WHERE id = 100; COMMIT});
my $lsn = wait_confirmed($node);
# The watermark behind it.
$node->safe_psql('postgres', 'INSERT INTO grows VALUES (101)');
wait_until('the watermark has come',
	sub { grep { /"operation":"WATERMARK","position":"([0-9A-F]+)/ && $1 gt lsn_text($lsn) } tail('--watermarks') });

# What siphon-tail prints. A row in it is too large to be read as JSON by Perl.
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
		qr/^transaction \d+, commit [0-9A-F]{16}\n  INSERT public\.grows \{.*?100.*\n  INSERT public\.issues \{.*?100.*\n  DELETE public\.grows\n(?:transaction|\d+ rows of snapshots)/m,
		'Go: a transaction over two tables, whole and in order')
	  or diag($err);
}

# ---- C++: events -----------------------------------------------------------------------------------------------------

ok($cpp->finish, 'C++: it builds') or diag($log);
my ($out, $err) = run_command([ "$directory/print_events", $nats->url, 'main', '--stop-at-end' ]);
my @printed = map { /^([A-Z]+) public\.(\w+) ([0-9A-F]{16}\/\d+)/ ? "$1 $2 $3" : () } split /\n/, $out;
my @tailed = map { /"table":"(\w+)",.*?"operation":"([A-Z]+)".*?"position":"([0-9A-F]{16}\/\d+)"/ ? "$2 $1 $3" : () } tail();

is($err, '', 'C++: no complaint');
is_deeply(\@printed, \@tailed, 'C++: the events that siphon-tail prints');
cmp_ok(scalar @printed, '>', 100, 'C++: all of them');

done_testing();
