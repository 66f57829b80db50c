# From one version of the extension to the next. The library is the installed one throughout; the catalog has objects of
# its version, of an older one, as after the installation of a newer package, and of newer ones, as where the installed
# library is not in use before a restart, or on a standby whose primary was updated. Publishing goes on all the time.
# What can be called works, what can't says what to type; what users made of the objects survives an update.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Siphon::Installation;
use Test::More;

my $installation = Siphon::Installation->new;
my $script = $installation->script('siphon--1.0.sql');
my ($function, $columns) = $script =~ /(CREATE FUNCTION siphon_get_applications\((.*?)\)\nRETURNS.*?;)/s or die;
my ($view) = $script =~ /(CREATE VIEW siphon_applications AS.*?;)$/ms or die;

# A function's columns can't be changed, and nothing that depends on a view may see it go: so the view gets along without
# the function while that is made anew.
sub replace_function
{
	my ($new, $old_columns, $new_view) = @_;
	my $nothing = join ', ', map { /OUT (\w+) (\S+)/ ? "NULL::$2 AS $1" : die $_ } split /,/, $old_columns;

	return "CREATE OR REPLACE VIEW siphon_applications AS SELECT $nothing;\n"
	  . "DROP FUNCTION siphon_get_applications();\n$new\n"
	  . ($new_view =~ s/^CREATE VIEW/CREATE OR REPLACE VIEW/r) . "\n";
}

# 0.9 does not tell the publication, and 1.0 knows nothing of taking over; 1.2 has a new function; 1.3 tells more, and
# removes tables in another way.
my $old_columns = $columns =~ s/,\s*OUT publication text$//r;
my $old_function = $function =~ s/\Q$columns\E/$old_columns/r;
my $new_columns = "$columns,\n    OUT weather text";
my $new_function = $function =~ s/\Q$columns\E/$new_columns/r;
my $plain_view = 'CREATE VIEW siphon_applications AS SELECT * FROM siphon_get_applications();';

$installation->add_script('siphon--0.9.sql', $script =~ s/\Q$function\E/$old_function/r =~ s/\Q$view\E/$plain_view/r
	  =~ s/COMMENT ON COLUMN siphon_applications\.publication.*?;//r);
$installation->add_script('siphon--0.9--1.0.sql', replace_function($function, $old_columns, $view)
	  . "REVOKE ALL ON FUNCTION siphon_get_applications() FROM PUBLIC;");
$installation->add_script('siphon--1.1--1.2.sql', "CREATE FUNCTION siphon_motto() RETURNS text LANGUAGE sql RETURN 'in order';");
$installation->add_script('siphon--1.2--1.3.sql', replace_function($new_function, $columns, $plain_view) . q{
	DROP FUNCTION siphon_remove_table(regclass, text);
	CREATE FUNCTION siphon_remove_table(relation regclass, application text DEFAULT 'main', purge boolean DEFAULT false)
	RETURNS void LANGUAGE C AS 'MODULE_PATHNAME';});

my $node = siphon_node('primary', install_path => $installation->{path}, extension => 0);
my $nats = siphon_nats();

sub version_is
{
	my ($version) = @_;

	is($node->safe_psql('postgres', "SELECT extversion FROM pg_extension WHERE extname = 'siphon'"), $version, "the extension is $version");
	return;
}

# A row that is inserted now is published, by the decoder that there was from the start.
my $decoder;
my $rows = 0;

sub still_publishes
{
	my ($when) = @_;

	$rows++;
	$node->safe_psql('postgres', "INSERT INTO t VALUES ($rows)");
	wait_until("row $rows is published", sub { $nats->last_sequence && @{ replay($nats) } == $rows });

	my ($now) = siphon_pids($node, 'siphon decoder main');

	$decoder //= $now;
	is($now, $decoder, "$when: the decoder goes on");
	return;
}

# ---- a library that is newer than the catalog's objects -------------------------------------------------------------

$node->safe_psql('postgres', "CREATE EXTENSION siphon VERSION '0.9'");
version_is('0.9');
$node->safe_psql('postgres', 'CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE later (id int PRIMARY KEY)');
$node->safe_psql('postgres', 'CREATE VIEW mine AS SELECT application, state FROM siphon_applications');
$node->safe_psql('postgres', 'CREATE ROLE watcher; GRANT SELECT ON siphon_applications TO watcher');
$node->safe_psql('postgres', q{
	CREATE ROLE "an admin";
	CREATE ROLE other;
	GRANT EXECUTE ON FUNCTION siphon_create_application TO "an admin" WITH GRANT OPTION;
	GRANT EXECUTE ON FUNCTION siphon_resync_application TO "an admin"});
add_table($node, 't');
my $publisher = siphon_publisher($node, $nats);
still_publishes('before the update');

my %versions_differ = (error => 'extension siphon and the library of this server are of different versions');
my %update = (%versions_differ, hint => 'On the primary: ALTER EXTENSION siphon UPDATE\.');

fails_with($node, 'SELECT * FROM siphon_applications', 'an older view', %update,
	detail => 'Function siphon_get_applications\(\) has 21 columns, in the library it has 22\.');
is($node->safe_psql('postgres', 'SELECT table_name FROM siphon_tables'), 't', 'a view that is the same in both works');
fails_with($node, q{SELECT siphon_create_application('other')}, 'an older function', %update,
	detail => 'Function siphon_create_application\(\) has 2 arguments, in the library it has 3\.');
$node->safe_psql('postgres', 'ALTER EXTENSION siphon UPDATE');
version_is('1.1');
is(application($node)->{state}, 'streaming', 'after the hint was followed, the view works');
is($node->safe_psql('postgres', 'SELECT * FROM mine'), 'main|streaming', 'a view upon it was kept');
is($node->safe_psql('postgres', "SELECT has_table_privilege('watcher', 'siphon_applications', 'SELECT')"), 't', 'privileges, too');

# Functions that are others now, as they have other arguments, can be called by those who could call them before.
my $may = sub {
	my ($role, $function, $privilege) = @_;

	return $node->safe_psql('postgres', "SELECT has_function_privilege('$role', '$function', '$privilege')");
};
my %function = (create => 'siphon_create_application(text, boolean, boolean)', resync => 'siphon_resync_application(text, boolean)');
is($may->('an admin', $function{create}, 'EXECUTE WITH GRANT OPTION'), 't', 'also on a function that has another argument');
is($may->('an admin', $function{resync}, 'EXECUTE'), 't', 'and on another');
is($may->('an admin', $function{resync}, 'EXECUTE WITH GRANT OPTION'), 'f', 'no more than there was');
is($may->($_, $function{create}, 'EXECUTE'), 'f', "not for $_") for qw(other pg_monitor public);
$node->safe_psql('postgres', q{SELECT siphon_create_application('other'); SELECT siphon_drop_application('other')});
pass('and can be called');
still_publishes('after the update');

# ---- and one that is older ------------------------------------------------------------------------------------------

$node->safe_psql('postgres', "ALTER EXTENSION siphon UPDATE TO '1.2'");
version_is('1.2');
is($node->safe_psql('postgres', 'SELECT siphon_motto()'), 'in order', 'what the version adds is there');
add_table($node, 'later');
is(application($node)->{tables}, 2, 'functions and views that are as they were work');
still_publishes('with a newer extension');

$node->safe_psql('postgres', "ALTER EXTENSION siphon UPDATE TO '1.3'");
version_is('1.3');
my %restart = (%versions_differ, hint => "Install the package of the extension's version on this server, and restart it\\.");

fails_with($node, 'SELECT * FROM mine', 'a newer view', %restart,
	detail => 'Function siphon_get_applications\(\) has 23 columns, in the library it has 22\.');
fails_with($node, q{SELECT siphon_remove_table('t')}, 'a newer function', %restart,
	detail => 'Function siphon_remove_table\(\) has 3 arguments, in the library it has 2\.');
still_publishes('with an extension that the library does not fit');

# A database that begins with a newer version gets there over the older ones.
$node->safe_psql('postgres', 'CREATE DATABASE fresh');
$node->safe_psql('fresh', "CREATE EXTENSION siphon VERSION '1.2'");
is($node->safe_psql('fresh', 'SELECT siphon_motto(), count(*) FROM siphon_applications'), 'in order|1', 'a new database can begin with a newer version');

is($publisher->stop, 0, 'the publisher noticed nothing');

# ---- removal, as docs/upgrade.md has it ------------------------------------------------------------------------------

$node->safe_psql('postgres', q{SELECT siphon_drop_application('main')});
$node->safe_psql($_, 'DROP EXTENSION siphon CASCADE') for qw(fresh postgres);
$node->safe_psql('postgres', 'ALTER SYSTEM SET shared_preload_libraries = DEFAULT');
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_replication_slots'), 0, 'no slot keeps WAL');
is(join(' ', map { s/.*\///r } glob $node->data_dir . '/siphon/*'), '', 'no registry is left');
is(join(' ', map { s/.*\///r } glob ring_directory($node) . '/*'), '', 'and no ring');

done_testing();
