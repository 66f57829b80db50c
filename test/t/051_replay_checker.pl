# The replay checker can fail: a real stream with snapshots and changes is copied message by message, and a copy with
# one message removed, doubled, or swapped with the next on its subject does not pass, whatever kind it is of.
use strict;
use warnings FATAL => 'all';

use List::Util qw(first shuffle);
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::SequenceReplay;
use Siphon::NatsClient;
use Test::More;

my $seed = $ENV{SIPHON_SEED} // int(rand(1 << 31));
srand($seed);
diag("SIPHON_SEED=$seed");

my $node = siphon_node('primary', conf => "siphon.package_size = 8kB");
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);
my @tables = qw(public.single public.divided public.whole);

# Rows of 1 to 1000 are updated, those to 2000 deleted, those to 3000 get another key once: so no change hides
# another.
$node->safe_psql('postgres', <<'SQL');
CREATE SEQUENCE ids START 10001;
CREATE TABLE single (id bigint PRIMARY KEY, v int, n numeric, d float8, b bytea, j json, t timestamptz, filler text);
CREATE TABLE divided (id bigint, kind text, v int, PRIMARY KEY (kind, id));
CREATE TABLE whole (id int PRIMARY KEY, v int, filler text);
ALTER TABLE whole REPLICA IDENTITY FULL;
INSERT INTO single SELECT g, 0, g / 3.0, 1 / g::float8, decode(md5(g::text), 'hex'), format('{"a": "%s\"\\" }', g)::json,
						  clock_timestamp(), CASE WHEN g % 50 > 0 THEN repeat('x', g % 50)
							  ELSE (SELECT string_agg(md5((g * i)::text), '') FROM generate_series(1, 100) i) END FROM generate_series(1, 3000) g;
INSERT INTO divided SELECT g, E'k"\\,}|' || g % 3, 0 FROM generate_series(1, 3000) g;
INSERT INTO whole SELECT g, 0, E'\t\u00e4' || g FROM generate_series(1, 3000) g;
-- Larger than a message may be.
INSERT INTO single (id, v, filler) SELECT 0, 0, string_agg(md5(g::text), '') FROM generate_series(1, 80000) g;
SQL

my $change = q{
\set a random(1, 1000)
\set b random(1001, 2000)
\set c random(2001, 3000)
BEGIN;
INSERT INTO single (id, v) VALUES (nextval('ids'), 0);
INSERT INTO divided VALUES (nextval('ids'), 'new', 0);
INSERT INTO whole VALUES (nextval('ids'), 0);
UPDATE single SET v = v + 1 WHERE id = :a;
UPDATE divided SET v = v + 1 WHERE id = :a;
UPDATE whole SET v = v + 1 WHERE id = :a;
DELETE FROM single WHERE id = :b;
DELETE FROM divided WHERE id = :b;
DELETE FROM whole WHERE id = :b;
UPDATE single SET v = v + 1, id = nextval('ids') WHERE id = :c;
UPDATE divided SET v = v + 1, id = nextval('ids') WHERE id = :c;
UPDATE whole SET v = v + 1, id = nextval('ids') WHERE id = :c;
COMMIT;
};

$node->safe_psql('postgres', "SELECT siphon_add_table('$_', partitions => " . ($_ =~ /divided/ ? 4 : 1) . ')') for @tables;
wait_for_tables($node);
finish_pgbench(start_pgbench($node, { change => $change }, '--random-seed' => $seed, -c => 2, -t => 300));
wait_confirmed($node);
$publisher->stop;

# What the tool says of a stream: its exit code, and its output.
sub checked
{
	my ($server) = @_;
	my $output = '';

	IPC::Run::run(
		[
			'test/replay-check',
			'--nats-url' => $server->url,
			'--connect' => $node->connstr('postgres'),
			'--counter' => 'v', @tables
		],
		'>' => \$output, '2>&1');
	return ($? >> 8, $output);
}

my ($code, $output) = checked($nats);

is($code, 0, 'the stream makes the tables');
like($output, qr/^public.divided: \d+ rows, public.single: \d+ rows, public.whole: \d+ rows, \d+ x DELETE, .*9001 x SNAPSHOT,/m, 'and it says what came')
  or diag($output);

my @messages = Siphon::NatsClient->new($nats->url)->messages('siphon_main');
my $copy = siphon_nats(name => 'copy');
my $client = Siphon::NatsClient->new($copy->url);

sub checked_copy
{
	$client->make_stream('siphon_main', ['siphon.main.events.>'], @_);
	return checked($copy);
}

@messages = grep { $_->{subject} =~ /^siphon\.main\.events\./ } @messages;
($code, $output) = checked_copy(@messages);
is($code, 0, 'a copy of its ' . @messages . ' messages does, too') or diag($output);

sub kind
{
	my ($message) = @_;

	return 'part' if Siphon::NatsClient::header($message, 'Siphon-Part') ne '';
	return Siphon::NatsClient::header($message, 'Siphon-Kind');
}

sub next_on_subject
{
	my ($number) = @_;

	return first { $messages[$_]{subject} eq $messages[$number]{subject} } $number + 1 .. $#messages;
}

sub swapped
{
	my ($one, $other) = @_;
	my @swapped = @messages;

	@swapped[ $one, $other ] = @swapped[ $other, $one ];
	return @swapped;
}

sub fails
{
	my ($number, $what, @copy) = @_;
	my ($code, $output) = checked_copy(@copy);
	my ($reason) = $output =~ /^(.*)/;

	is($code, 1, "message $number, " . kind($messages[$number]) . " of $messages[$number]{subject}, $what: $reason")
	  or diag($output);
	return;
}

my %of_kind;

push @{ $of_kind{ kind($messages[$_]) } }, $_ for 0 .. $#messages;
is(join(' ', sort keys %of_kind), 'changes part snapshot snapshot-begin snapshot-end', 'it has messages of every kind');

for my $kind (sort keys %of_kind)
{
	my @numbers = shuffle @{ $of_kind{$kind} };

	for my $number (grep { defined } @numbers[ 0 .. 1 ])
	{
		fails($number, 'removed', @messages[ grep { $_ != $number } 0 .. $#messages ]);
		# A record whose first part comes again has begun anew: that is one that was broken off, and no harm.
		fails($number, 'doubled', @messages[ 0 .. $number, $number .. $#messages ]) unless $kind eq 'part';
	}

	# Rows of a snapshot have no order among themselves; all else has.
	my $number = first { defined next_on_subject($_) && !($kind eq 'snapshot' && kind($messages[ next_on_subject($_) ]) eq 'snapshot') } @numbers;

	fails($number, 'swapped with the next', swapped($number, next_on_subject($number)));
}

# The tables are looked at column by column, and to the last digit.
$node->safe_psql('postgres', <<'SQL');
UPDATE single SET d = d * (1 + 2.3e-16), n = (n || '0')::numeric, j = '{}' WHERE id = 7;
UPDATE whole SET filler = filler || ' ' WHERE id = 7;
UPDATE divided SET v = NULL WHERE id = 8;
DELETE FROM divided WHERE id = 7;
INSERT INTO divided VALUES (-1, 'x', 0);
SQL
($code, $output) = checked($nats);
is($code, 1, 'with tables that were changed behind its back it does not pass');
like($output, $_, 'and says so')
  for qr/public.single: row 7: n is 2.3+ and should be 2.3+0; d is 0.1428\d+ and should be 0.1428\d+; j is \{"a": "7\\"\\\\" \} and should be \{\}$/m,
  qr/public.whole: row 7: filler is \t\x{c3}\x{a4}7 and should be \t\x{c3}\x{a4}7 $/m,
  qr/public.divided: row k"\\,\}\|2, 8: v is \d+ and should be NULL$/m,
  qr/public.divided: row k"\\,\}\|1, 7 should not be there$/m,
  qr/public.divided: row x, -1 is missing$/m;

# Where nothing names rows, it counts those that are equal.
sub keyless
{
	my ($name, $differences, @rows) = @_;
	my $replay = Siphon::Replay->new(connect => $node->connstr('postgres'), tables => ['public.equal']);
	my $at = 0;

	for (@rows)
	{
		my ($operation, $row) = /^([+-])(.*)/;

		$replay->take(sprintf '{"application":"main","schema":"public","table":"equal","operation":"%s","position":"%016X/1","timestamp":"2026-01-01","xid":1,"%s":{%s}}' . "\n",
			$operation eq '+' ? ('INSERT', ++$at, 'columns') : ('DELETE', ++$at, 'old'), $row);
	}
	$replay->compare;
	is($replay->{differences}, $differences, "equal rows: $name") or diag($replay->report);
	return;
}

my ($one, $two) = ('"a":1,"b":null', '"a":2,"b":"x"');

$node->safe_psql('postgres', q{CREATE TABLE equal (a int, b text); INSERT INTO equal VALUES (1, NULL), (1, NULL), (2, 'x')});
keyless('as many', 0, "+$one", "+$two", "+$two", "+$one", "-$two");
keyless('one too few', 1, "+$one", "+$two");
keyless('one too many', 1, "+$one", "+$one", "+$one", "+$two");
keyless('one that goes twice', 2, "+$one", "+$one", "+$two", "-$two", "-$two");
keyless('none of them', 3);

# Where writers count, it knows what is missing; and it holds watermarks to their word.
sub change
{
	my ($lsn, $writer, $n) = @_;

	return sprintf '{"application":"main","schema":"public","table":"ledger","operation":"INSERT","position":"%016X/1",'
	  . '"timestamp":"2026-01-01","xid":1,"columns":{"writer":%d,"n":%d}}' . "\n", $lsn, $writer, $n;
}

sub watermark
{
	my ($lsn, @held) = @_;

	return sprintf '{"application":"main","operation":"WATERMARK","position":"%016X/0","timestamp":"2026-01-01"%s}' . "\n",
	  $lsn, @held ? ',"held_tables":[' . join(',', map { "\"$_\"" } @held) . ']' : '';
}

sub gapless
{
	my ($name, $lost, $doubled, $differences, @lines) = @_;
	my $replay = Siphon::SequenceReplay->new(connect => $node->connstr('postgres'), tables => ['public.ledger'], gapless => 'public.ledger');

	$replay->take($_) for @lines;
	is("$replay->{lost} $replay->{doubled} $replay->{differences}", "$lost $doubled $differences", "$name: lost, doubled, differences")
	  or diag($replay->report);
	return;
}

$node->safe_psql('postgres', 'CREATE TABLE ledger (writer int, n int, PRIMARY KEY (writer, n))');
gapless('two writers', 0, 0, 0, change(1, 1, 1), change(2, 2, 1), watermark(2), change(3, 1, 2), change(4, 2, 2), watermark(4));
gapless('a gap', 2, 0, 1, change(1, 1, 1), change(2, 1, 4), change(3, 1, 5));
gapless('an event too many', 0, 1, 2, change(1, 1, 1), change(2, 1, 2), change(3, 1, 2), change(4, 1, 3));
gapless('a watermark too early', 0, 0, 1, change(1, 1, 1), watermark(2), change(2, 1, 2));
gapless('a watermark that does not speak for the table', 0, 0, 0, change(1, 1, 1), watermark(2, 'public.other', 'public.ledger'), change(2, 1, 2));

done_testing();
