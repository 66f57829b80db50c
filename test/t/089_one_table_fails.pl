# What fails because of one table stops that table, with a reason, and no other: a type whose library is missing, damaged or
# older than the type where values are decoded.
use strict;
use warnings FATAL => 'all';

use File::Copy qw(copy);
use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $libraries = PostgreSQL::Test::Utils::tempdir();
my $node = siphon_node('primary', conf => "dynamic_library_path = '\$libdir:$libraries/server'");
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

# Puts a library of PostgreSQL's where the type's is expected.
sub install
{
	my ($library, $directory) = @_;
	my $file = "$libraries/" . ($directory // 'server') . '/theirs.so';

	unlink $file;
	copy($node->config_data('--pkglibdir') . "/$library.so", $file) or die "$file: $!";
	return;
}

# Sessions find the library of a type, and the server's own processes do not, as where another server decodes.
mkdir "$libraries/$_" or die "$_: $!" for qw(sessions server);
install('hstore', 'sessions');
$ENV{PGOPTIONS} = "-c dynamic_library_path=\$libdir:$libraries/sessions";
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION hstore;
	UPDATE pg_proc SET probin = 'theirs' WHERE probin = '$libdir/hstore'});

# Tests: the table fails of what was written last, with this reason, and others go on.
my $u = 0;

sub fails_alone
{
	my ($table, $reason) = @_;
	$u++;
	$node->safe_psql('postgres', "INSERT INTO u VALUES ($u)");
	my $row = wait_for_table($node, $table, 'failed');
	like($row->{reason}, $reason, "$table fails, with a reason");
	wait_confirmed($node);
	is_replayed($nats, $node, ['u'], "$table fails: the others go on");
	return;
}

$node->safe_psql(
	'postgres', q{
	CREATE DOMAIN named_hstore AS hstore;
	CREATE TYPE pair AS (n int, h hstore);
	CREATE TABLE u (id int PRIMARY KEY);
	CREATE TABLE plain (id int PRIMARY KEY, v hstore);
	CREATE TABLE listed (id int PRIMARY KEY, v hstore[]);
	CREATE TABLE named (id int PRIMARY KEY, v named_hstore);
	CREATE TABLE composed (id int PRIMARY KEY, v pair);
	CREATE TABLE defaults (id int PRIMARY KEY, v hstore DEFAULT 'b=>2');
	SELECT siphon_add_table('u')});
add_table($node, $_) for qw(plain listed named composed);

# Without a value of the type, nothing needs its library.
$node->safe_psql('postgres', "INSERT INTO $_ VALUES (0, NULL)") for qw(plain listed named composed);
wait_confirmed($node);
wait_for_tables($node);

my $missing = qr/could not access file "theirs": No such file or directory/;
my $install = qr/^a row cannot be published: the library of type public\.hstore must be installed on this server:/;

$node->safe_psql('postgres', q{INSERT INTO plain VALUES (1, 'a=>1')});
fails_alone('plain', qr/$install $missing$/);
$node->safe_psql('postgres', q{INSERT INTO composed VALUES (1, (1, 'a=>1'))});
fails_alone('composed', qr/^a row cannot be published: .*$missing/);

# A library that is none, and one of another version.
write_file("$libraries/server/theirs.so", 'this is no library');
$node->safe_psql('postgres', q{INSERT INTO listed VALUES (1, '{a=>1}')});
fails_alone('listed', qr/$install could not load library ".*theirs\.so"/);
install('cube');
$node->safe_psql('postgres', q{INSERT INTO named VALUES (1, 'a=>1')});
fails_alone('named', qr/$install could not find function "hstore_out" in file ".*theirs\.so"$/);

# A snapshot comes to the same; and in a table's description, too, are values.
$node->safe_psql('postgres', q{SELECT siphon_resync_table('plain'); SELECT siphon_add_table('defaults', snapshot => false)});
wait_for_table($node, 'plain', 'failed');
is($node->safe_psql('postgres', "SELECT reason LIKE 'its rows cannot be published: the library of type public.hstore must be installed on this server: could not find function%' FROM siphon_tables WHERE table_name = 'plain'"), 't',
	'a snapshot stops the table, with a reason');
$node->safe_psql('postgres', 'INSERT INTO defaults VALUES (1, NULL)');
fails_alone('defaults', qr/^a row cannot be published: .*could not find function/);

install('hstore');
$node->safe_psql('postgres', "SELECT siphon_resync_table('$_')") for qw(plain listed named composed defaults);
wait_for_tables($node);
wait_confirmed($node);
is_replayed($nats, $node, [qw(plain listed named composed u)], 'and what the reason says mends it');

done_testing();
