# A server that does not preload the library: its functions say so and name the mending command, CREATE EXTENSION works
# all the same, because a primary needs it for its standby, and no process and no file of Siphon is there.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Test::More;

my $node = siphon_node('primary', preloaded => 0);
my $preload = "ALTER SYSTEM SET shared_preload_libraries = 'siphon', then restart the server";

$node->safe_psql('postgres', 'CREATE TABLE t (id int PRIMARY KEY)');
for my $call (
	q{SELECT siphon_add_table('t')}, q{SELECT siphon_create_application()},
	q{SELECT siphon_remove_table('t')}, q{SELECT siphon_drop_application('main')}, q{SELECT siphon_resync_application()},
	q{SELECT * FROM siphon_applications}, q{SELECT * FROM siphon_tables})
{
	fails_with($node, $call, $call, error => 'siphon is not preloaded on this server', hint => quotemeta $preload);
}

is_deeply([ siphon_processes($node) ], [], 'no process of Siphon runs');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_replication_slots"), '0', 'there is no slot');
ok(!-e $node->data_dir . '/siphon', 'there is no registry');
ok(!-e ring_directory($node), 'there is no ring directory');

# What others preload stays in the hint, and the hint works as it is written.
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'auto_explain'");
$node->restart;
my $error = fails_with(
	$node, "SELECT siphon_add_table('t')", 'with another library',
	error => 'siphon is not preloaded on this server',
	hint => 'ALTER SYSTEM SET shared_preload_libraries = .*auto_explain.*siphon');
my ($command) = $error =~ /HINT:  (ALTER SYSTEM .*), then restart the server/;

$node->safe_psql('postgres', $command);
$node->stop;
SKIP:
{
	ok($node->start(fail_ok => 1), "the server starts after: $command")
	  or skip 'no server', 1;
	wait_until('preloaded, the launcher runs', sub { "@{[ siphon_processes($node) ]}" eq 'siphon launcher' });
	add_table($node, 't');
	is($node->safe_psql('postgres', 'SELECT state FROM siphon_tables'), 'streaming', 'and tables are published');
}

done_testing();
