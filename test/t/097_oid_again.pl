# A table that gets the OID of one that was dropped is another table: it is not published for the other's place in the list.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (id int);
	ALTER TABLE t REPLICA IDENTITY FULL;
	CREATE TABLE other (id int PRIMARY KEY)});
add_table($node, $_) for qw(t other);
my $oid = $node->safe_psql('postgres', "SELECT 't'::regclass::oid");
$node->safe_psql('postgres', 'INSERT INTO t VALUES (1)');
$node->safe_psql('postgres', 'INSERT INTO t VALUES (2); DROP TABLE t');
wait_confirmed($node);

# It takes the counter of OIDs to come around. Here a table gets that of another by hand.
sub give_oid
{
	my ($table) = @_;

	$node->safe_psql(
		'postgres', qq{
		CREATE TABLE $table (id int);
		ALTER TABLE $table REPLICA IDENTITY FULL;
		BEGIN;
		UPDATE pg_attribute SET attrelid = $oid WHERE attrelid = '$table'::regclass;
		UPDATE pg_type SET typrelid = $oid WHERE typrelid = '$table'::regclass;
		UPDATE pg_depend SET objid = $oid WHERE objid = '$table'::regclass AND classid = 'pg_class'::regclass;
		UPDATE pg_depend SET refobjid = $oid WHERE refobjid = '$table'::regclass AND refclassid = 'pg_class'::regclass;
		UPDATE pg_class SET oid = $oid WHERE oid = '$table'::regclass;
		COMMIT});
	return;
}

give_oid('again');
$node->safe_psql('postgres', 'INSERT INTO again VALUES (3); INSERT INTO other VALUES (1)');
wait_confirmed($node);
is($node->safe_psql('postgres', "SELECT schema_name, table_name, state FROM siphon_tables WHERE relid = $oid"), 'public|t|dropped', 'the table that was dropped is listed as such');
is_deeply([ map { $_->{operation} } @{ replay($nats, table => 'public.t') } ], [qw(INSERT INSERT DROP)], 'it ends with its DROP');
is_deeply(replay($nats, table => 'public.again'), [], 'and nothing is published for it');

# Nor by a decoder, or a server, that did not see the table dropped.
$node->restart;
wait_for_state($node, 'streaming');
$node->safe_psql('postgres', 'INSERT INTO again VALUES (4); INSERT INTO other VALUES (2)');
wait_confirmed($node);
is_deeply(replay($nats, table => 'public.again'), [], 'nor after a restart');

fails_with(
	$node, "SELECT siphon_add_table('again')", 'adding the other table',
	error => 'application "main" still lists a table that was dropped and had the OID of table public.again',
	hint => "SELECT siphon_remove_table\\($oid, 'main'\\) takes that off the list");
$node->safe_psql('postgres', "SELECT siphon_remove_table($oid); SELECT siphon_add_table('again')");
wait_for_table($node, 'again');
$node->safe_psql('postgres', 'INSERT INTO again VALUES (5)');
wait_confirmed($node);
is_replayed($nats, $node, ['other'], 'the other table goes on');
is(join(' ', map { $_->{columns}{id} // () } @{ replay($nats, table => 'public.again') }), '3 4 5', 'and so does the one that was added then');

done_testing();
