# A row for which there is not enough memory stops its table, after a few attempts, and no other: the reason says how large it
# is. Where PostgreSQL itself lacks the memory to put a row together, the application says so, and no table is blamed.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $node = siphon_node('primary', conf => 'logical_decoding_work_mem = 1MB');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);
my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
my $MB = 1024 * 1024;

$node->safe_psql(
	'postgres', q{
	CREATE TABLE large (id int PRIMARY KEY, v text);
	ALTER TABLE large ALTER v SET STORAGE EXTERNAL;
	CREATE TABLE u (id int PRIMARY KEY)});
add_table($node, $_) for qw(large u);
$node->safe_psql('postgres', "INSERT INTO large VALUES (0, 'small'); INSERT INTO u VALUES (0)");
wait_confirmed($node);

my $decoder = application($node)->{decoder_pid};
my ($pages) = slurp_file("/proc/$decoder/statm") =~ /^(\d+)/;
my $size = $pages * 4096;
my $session = $node->background_psql('postgres');

# Gives the server's next processes, and the decoder, so much more memory than a decoder has that does nothing.
sub give
{
	my ($more) = @_;
	my $limit = defined $more ? int($size + $more * $MB) : 'unlimited';

	system_or_bail('prlimit', '--pid', $_, "--as=$limit:unlimited") for $postmaster, grep { kill 0, $_ } $decoder;
	return;
}

# Decoding takes a row's pieces, and the row of them: 80 MB.
give(60);
$session->query_safe("INSERT INTO large VALUES (1, repeat('0123456789', 4 * $MB))");
$session->query_safe('INSERT INTO u VALUES (1)');
my $row = wait_until('the application says so', sub { my $row = application($node); ($row->{reason} // '') =~ /memory/ ? $row : undef });
like($row->{reason}, qr{^out of memory to decode the transaction that ends at [0-9A-F]+/[0-9A-F]+: Failed on request of size \d+},
	'what PostgreSQL lacks memory for is told');
wait_until('it is tried again and again', sub { application($node)->{restarts} >= 4 });
is($node->safe_psql('postgres', "SELECT count(*) FROM siphon_tables WHERE state = 'failed'"), '0', 'and no table is blamed');

# To publish it takes as much again.
give(115);
$row = wait_for_table($node, 'large', 'failed');
like($row->{reason}, qr/^a row cannot be published: out of memory for a row of 40 MB$/, 'a row that there is not enough memory for stops the table');
wait_confirmed($node);
is_replayed($nats, $node, ['u'], 'the others go on');

give(undef);
$node->safe_psql('postgres', "UPDATE large SET v = 'small'; SELECT siphon_resync_table('large')");
wait_for_table($node, 'large');
wait_confirmed($node);
$session->quit;

done_testing();
