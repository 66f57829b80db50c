# Tables are added, removed and added again while changes stream and while the decoder is behind: a table's events begin
# with the first transaction that commits after the call returned, end with the removal, and no other table notices.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Test::More;

my $node = siphon_node('primary', conf => 'siphon.ring_size = 64kB');
my $nats = siphon_nats();

$node->safe_psql(
	'postgres', q{
	CREATE TABLE always (id bigserial PRIMARY KEY, v text);
	CREATE TABLE sometimes (id bigserial PRIMARY KEY, v text);
	CREATE TABLE never (id bigserial PRIMARY KEY, v text)});
add_table($node, 'always');

# The values of a table's events, in order.
sub values_of
{
	my ($table) = @_;

	return join ' ', map { $_->{columns}{v} } @{ replay($nats, table => "public.$table") };
}

# Behind: nobody takes what is in the ring, and it is full.
$node->safe_psql('postgres', "INSERT INTO always (v) SELECT md5(g::text) || repeat('x', 200) FROM generate_series(1, 3000) g");
wait_until('the ring is full', sub { my $row = application($node); $row->{ring_used} > $row->{ring_size} / 2 });
$node->safe_psql('postgres', "INSERT INTO sometimes (v) VALUES ('before')");
add_table($node, 'sometimes');
$node->safe_psql('postgres', "INSERT INTO sometimes (v) VALUES ('after')");
my $publisher = siphon_publisher($node, $nats);
wait_confirmed($node);
like(values_of('sometimes'), qr/after$/, 'a table that is added while the decoder is behind has its later changes');
unlike(values_of('sometimes'), qr/before/, 'and not its earlier ones');
is_replica(replay($nats), $node, 'always', ['id'], 'the other table is complete');

# A transaction that is open at the call and commits after it is published, whole.
my $open = $node->background_psql('postgres');
$open->query_safe("BEGIN; INSERT INTO never (v) VALUES ('open-before')");
add_table($node, 'never');
$open->query_safe("INSERT INTO never (v) VALUES ('open-after')");
$open->query_safe('COMMIT');
$open->quit;
wait_confirmed($node);
is(values_of('never'), 'open-before open-after', 'a transaction that commits after the call is published whole');
$node->safe_psql('postgres', "SELECT siphon_remove_table('never')");

# Removed, and added again.
$node->safe_psql('postgres', "INSERT INTO sometimes (v) VALUES ('last')");
wait_confirmed($node);
$node->safe_psql('postgres', "SELECT siphon_remove_table('sometimes')");
$node->safe_psql('postgres', "INSERT INTO sometimes (v) VALUES ('unseen')");
wait_confirmed($node);
add_table($node, 'sometimes', partitions => 2);
$node->safe_psql('postgres', "INSERT INTO sometimes (v) VALUES ('again')");
wait_confirmed($node);
is(values_of('sometimes'), 'after last again', 'removing ends a table\'s events, adding it again goes on');

# And a restart does not bring back what was left out.
$node->restart;
$node->safe_psql('postgres', "INSERT INTO sometimes (v) VALUES ('restarted')");
wait_confirmed($node);
my $values = join ' ', map { $_->{columns}{v} } @{ first_of_each(replay($nats, table => 'public.sometimes')) };
unlike($values, qr/before|unseen/, 'a restart does not bring back what was left out');
like($values, qr/restarted$/, 'and goes on');

# Added and removed again and again under load: the other table does not notice.
my $writers = start_pgbench($node,
	{ w => "INSERT INTO always (v) VALUES ('load');\nINSERT INTO sometimes (v) VALUES ('load');\n" },
	-c => 3, '--rate' => 200, -T => 4);
my $rounds = 0;
while (pgbench_runs($writers))
{
	$node->safe_psql('postgres', "SELECT siphon_remove_table('sometimes'); SELECT siphon_add_table('sometimes', snapshot => false)");
	$rounds++;
}
finish_pgbench($writers);
wait_confirmed($node);
cmp_ok($rounds, '>', 5, "the table came and went $rounds times under load");
my $events = first_of_each(replay($nats));
is_replica($events, $node, 'always', ['id'], 'the other table is complete');
is(application($node)->{restarts}, 0, 'and the decoder did not stop for it');

done_testing();
