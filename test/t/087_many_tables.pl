# Two thousand tables cost what two thousand times one costs, and not its square: to follow them takes little memory, what
# is said of all of them is one change of the registry, and a change of one has no other looked at.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $tables = 2000;
my $node = siphon_node('primary', conf => 'max_locks_per_transaction = 256');
my $nats = siphon_nats();

$node->safe_psql(
	'postgres', qq{
	CREATE SCHEMA many; CREATE SCHEMA few;
	CREATE TABLE other (id int PRIMARY KEY, v text)});
for (my $first = 1; $first <= $tables; $first += 500)
{
	$node->safe_psql('postgres',
		"DO \$\$ BEGIN FOR i IN $first..@{[ $first + 499 ]} LOOP EXECUTE format('CREATE TABLE many.t_%s (id int PRIMARY KEY)', i); END LOOP; END \$\$");
}
$node->safe_psql('postgres', "DO \$\$ BEGIN FOR i IN 1..60 LOOP EXECUTE format('CREATE TABLE few.t_%s (id int PRIMARY KEY)', i); END LOOP; END \$\$");

# How often the registry was changed: it counts that itself. What was changed last is the last line of a long one.
sub changes
{
	my ($version) = slurp_file($node->data_dir . '/siphon/main.registry') =~ /.*"version": (\d+)/s;

	return $version;
}

# The most memory that the process ever had, in MB.
sub peak_of
{
	my ($pid) = @_;
	my ($kilobytes) = slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+) kB/m;

	return $kilobytes / 1024;
}

# ---- followed ----

$node->safe_psql('postgres', 'CREATE PUBLICATION p FOR TABLES IN SCHEMA many; SELECT siphon_follow_publication(\'p\')');
wait_until('all tables are listed', sub { $node->safe_psql('postgres', 'SELECT count(*) FROM siphon_tables') == $tables });
my $follower = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'siphon follower'");
cmp_ok(peak_of($follower), '<', 300, 'to follow thousands of tables takes little memory')
  unless grep { /^[AT]SAN_OPTIONS$/ } keys %ENV;
$node->safe_psql('postgres', q{SELECT siphon_drop_application('main')});

# ---- added by a pattern: the same, and beside others ----

is($node->safe_psql('postgres', q{SELECT count(*) FILTER (WHERE added) FROM siphon_add_tables('many', 't%', snapshot => false)}),
	$tables, 'all tables are added at once');
is($node->safe_psql('postgres', q{SELECT count(*) FILTER (WHERE NOT added) FROM siphon_add_tables('many', 't%', snapshot => false)}),
	$tables, 'and refused once they are listed');
add_table($node, 'other');
my $publisher = siphon_publisher($node, $nats);
wait_confirmed($node);

# ---- a schema is renamed ----

my $before = changes();
$node->safe_psql('postgres', "ALTER SCHEMA many RENAME TO multitude; INSERT INTO other VALUES (1, 'behind')");
wait_confirmed($node);
cmp_ok(changes() - $before, '<', 5, 'new names of all tables are one change of the registry');
my $renames = grep { $_->{operation} eq 'RENAME' } @{ replay($nats) };
is($renames, $tables, 'and consumers hear of each');
is(application($node)->{restarts}, 0, 'the decoder ran all the while');
$publisher->stop;
$node->safe_psql('postgres', q{SELECT siphon_drop_application('main')});

# ---- a change of the registry has no other tables' descriptions built ----

is($node->safe_psql('postgres', q{SELECT count(*) FROM siphon_add_tables('few', 't%', snapshot => false) WHERE added}), 60, 'tables are added');
$publisher->start;
my $insert = sub {
	my ($id, @numbers) = @_;

	$node->safe_psql('postgres', join ';', map { "INSERT INTO few.t_$_ VALUES ($id)" } @numbers);
	wait_confirmed($node);
	return;
};
$insert->(1, 1 .. 60);
$node->safe_psql('postgres', "ALTER SYSTEM SET log_min_messages = debug1; SELECT pg_reload_conf()");
$node->safe_psql('postgres', "ALTER TABLE few.t_1 ADD COLUMN v int");
wait_confirmed($node);
my $offset = -s $node->logfile;
$node->wait_for_log(qr/builds table "few\.t_1"/);
add_table($node, 'other');
$node->safe_psql('postgres', "INSERT INTO other VALUES (2, 'new')");
$insert->(2, 1 .. 60);
my $log = slurp_file($node->logfile, $offset);
is(join(' ', $log =~ /builds table "([^"]+)"/g), 'public.other', 'a table that is added is the only one that is described anew');
$node->safe_psql('postgres', "ALTER SYSTEM RESET log_min_messages; SELECT pg_reload_conf()");

# ---- removed ----

$publisher->stop;
$node->safe_psql('postgres', "SELECT siphon_remove_table(format('few.t_%s', i)::regclass) FROM generate_series(1, 60) i");
$before = changes();
$publisher->start;
wait_until('all removals are acknowledged', sub { slurp_file($node->data_dir . '/siphon/main.registry') =~ /"removed": \[\]/ });
cmp_ok(changes() - $before, '<', 20, 'what is acknowledged at once is removed at once');
$node->safe_psql('postgres', "INSERT INTO other VALUES (3, 'last')");
wait_confirmed($node);
is(application($node)->{restarts}, 0, 'the decoder ran all the while');

done_testing();
