# What the decoder knows of a partition goes with it: a database that makes and drops partitions for years takes no more memory.
use strict;
use warnings FATAL => 'all';

use List::Util qw(sum0);
use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

$node->safe_psql(
	'postgres', q{
	CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
	CREATE TABLE kept PARTITION OF root FOR VALUES FROM (0) TO (10)});
add_table($node, 'root');

# Bytes of what is known of leaves.
sub bytes
{
	my $offset = -s $node->logfile;

	$node->safe_psql('postgres', 'SELECT pg_log_backend_memory_contexts(decoder_pid) FROM siphon_applications');
	$node->wait_for_log(qr/Grand total/, $offset);
	return sum0(slurp_file($node->logfile, $offset) =~ /siphon leaves: (\d+) total/g);
}

sub come_and_go
{
	my ($from, $to) = @_;

	$node->safe_psql(
		'postgres', qq{
		DO \$\$
		BEGIN
			FOR i IN $from .. $to LOOP
				EXECUTE format('CREATE TABLE leaf_%s PARTITION OF root FOR VALUES FROM (%s) TO (%s)', i, i * 10, i * 10 + 10);
				EXECUTE format('INSERT INTO leaf_%s VALUES (%s)', i, i * 10);
				COMMIT;
				EXECUTE format('DROP TABLE leaf_%s', i);
				COMMIT;
			END LOOP;
		END \$\$});
	wait_confirmed($node);
	return;
}

come_and_go(1, 10);
my $before = bytes();
cmp_ok($before, '>', 0, 'what is known of partitions takes memory');
come_and_go(11, 400);
cmp_ok(bytes(), '<=', $before, "no more than $before bytes for 400 partitions, one after the other");
$node->safe_psql('postgres', 'INSERT INTO root VALUES (1), (2); DELETE FROM root WHERE id = 1');
wait_confirmed($node);
is(scalar(grep { $_->{operation} eq 'DELETE' } @{ replay($nats, table => 'public.root') }), 1, 'and one that is there is published');

done_testing();
