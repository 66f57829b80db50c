# A long registry is not written anew for each change: what changed is appended, and counts once its line is whole. Whatever
# moment a crash or a copy of the file catches, the registry is the one before a change or the one behind it.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $node = siphon_node('primary', conf => "fsync = on\nmax_locks_per_transaction = 256");
my $nats = siphon_nats();
my $file = $node->data_dir . '/siphon/main.registry';
my $list = sub {
	return $node->safe_psql('postgres',
		'SELECT table_name, partitions, state, start_lsn FROM siphon_tables ORDER BY 1');
};
# Bytes of the document, and the lines behind it.
my $read = sub {
	my $content = slurp_file($file);
	my ($length) = $content =~ /\Asiphon-registry 3 [0-9a-f]{16} (\d+)\n/ or return;
	my $document = index($content, "\n") + 1 + $length;

	return ($document, split /^/m, substr $content, $document);
};

$node->safe_psql('postgres', "SELECT format('CREATE TABLE t_%s (id int PRIMARY KEY, v text)', i) FROM generate_series(1, 300) i \\gexec");
$node->safe_psql('postgres', "SELECT count(*) FROM siphon_add_tables('public', 't%', snapshot => false)");
my ($document, @lines) = $read->();
cmp_ok($document // 0, '>', 65536, 'a long registry says how long its document is');

# ---- changes are appended ----

my $size = -s $file;
my $before = $list->();
$node->safe_psql('postgres', "SELECT siphon_remove_table('t_7')");
my $removed = $list->();
$node->safe_psql('postgres', "SELECT siphon_add_table('t_7', partitions => 2, snapshot => false)");
my $added = $list->();
my ($same, @appended) = $read->();
is($same, $document, 'the document stays as it was');
cmp_ok(@appended, '>=', 2, 'each change is a line');
cmp_ok(-s $file, '<', $size + 10_000, 'which is as long as the change');
unlike($removed, qr/^t_7\|/m, 'a table is removed');
like($added, qr/^t_7\|2\|/m, 'and added again');
$node->restart;
wait_for_state($node, 'streaming');
is($list->(), $added, 'the registry survives a restart');
$node->safe_psql('postgres', "SELECT siphon_remove_table('t_8')");
my $last = $list->();
$node->stop('immediate');
$node->start;
wait_for_state($node, 'streaming');
is($list->(), $last, 'and a crash');
$node->stop;

# ---- it is cut off somewhere ----

my $whole = slurp_file($file);
($document, @lines) = $read->();
my $tail = length($lines[-1]);
# And blocks that a crash kept from the disk are zeros.
for my $rest ((map { substr $whole, -$tail, $_ } 1, 2, 17, $tail - 1), "\0" x ($tail + 1000))
{
	write_file($file, substr($whole, 0, -$tail) . $rest);
	$node->start;
	my $row = wait_for_state($node, 'streaming');
	isnt($row->{tables}, undef, sprintf("the last line, of %d bytes, has %d%s: the registry is read", $tail, length $rest, $rest =~ /^\0/ ? ' zeros' : ''));
	$node->safe_psql('postgres', "SELECT siphon_add_table('t_8', snapshot => false)") if $list->() !~ /^t_8\|/m;
	is($list->() =~ s/^t_8\|.*\n?//mr, $last =~ s/^t_8\|.*\n?//mr, 'and has all that was whole');
	unlike(slurp_file($file), qr/\0|[0-9a-f]{16} \{[^\n]*[0-9a-f]{16} \{/, 'what is written next is not appended to the rest of a line');
	$node->stop;
}

# ---- it is damaged ----

for my $case (
	[ 'a change that is not the last', sub { substr($_[0], length($whole) - $tail - 20, 1) ^= "\x01" } ],
	[ 'the document', sub { substr($_[0], $document - 100, 1) ^= "\x01" } ],
	[ 'a document that was cut off', sub { substr($_[0], $document - 100) = '' } ])
{
	my ($what, $damage) = @$case;
	my $content = $whole;

	$damage->($content);
	write_file($file, $content);
	$node->start;
	like(wait_for_state($node, 'failed')->{reason}, qr/registry file "siphon\/main.registry" is damaged/, "$what is damaged: the application says so");
	ok(slurp_file($file) eq $content, 'the file is left alone');
	$node->stop;
}
write_file($file, $whole);
$node->start;
wait_for_state($node, 'streaming');

# ---- snapshots, side by side with other changes ----

my $publisher = siphon_publisher($node, $nats);
$node->safe_psql('postgres', "INSERT INTO t_$_ VALUES (1, 'x')") for 20 .. 60;
$node->safe_psql('postgres', "SELECT siphon_remove_table('t_$_'); SELECT siphon_add_table('t_$_')") for 20 .. 60;
$node->safe_psql('postgres', "SELECT siphon_remove_table('t_$_')") for 100 .. 110;
wait_for_tables($node);
wait_confirmed($node);
is($node->safe_psql('postgres', 'SELECT count(*) FROM siphon_tables'), 288, 'what others changed meanwhile stays');
is_replayed($nats, $node, [ map { "t_$_" } 20 .. 60 ], 'the stream makes the tables');

# ---- it does not grow without an end ----

for my $round (1 .. 40)
{
	$node->safe_psql('postgres', "SELECT siphon_alter_table(format('t_%s', i)::regclass, workers => 1 + $round % 2) FROM generate_series(120, 129) i");
}
($document, @lines) = $read->();
cmp_ok(-s $file, '<', 2 * $document + 1000, 'the file is replaced when its changes are as long as the document');
is($node->safe_psql('postgres', "SELECT count(*) FROM siphon_tables"), 288, 'with all tables');
is(application($node)->{restarts}, 0, 'the decoder ran all the while');

done_testing();
