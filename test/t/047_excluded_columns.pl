# What an excluded column holds is nowhere: not in the rings, not in what NATS stores, not in what the server and the
# programs log - in rows, changed and deleted ones, keys or not, TOASTed or not, in a snapshot, in defaults and
# comments, and whatever the column was renamed to, or made anew.
use strict;
use warnings FATAL => 'all';

use File::Find;
use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

# The server logs all that it has of itself, but no statements.
my $node = siphon_node('primary', conf => "log_statement = none\nlog_min_messages = debug1\nlog_error_verbosity = verbose\n");
my $nats = siphon_nats();
# Uncompressed, so that what is there is found.
my $publisher = siphon_publisher($node, $nats, arguments => [ '--compression-level', '0', '--log-level', 'debug' ]);

my $secret = 'swordfish-hunter2';
my $canary = 'canary-in-the-coal-mine';
my @tables = qw(keyed keyless other_key toasted root);

# What a row's secret is: short, or so long that it stands outside of the row.
sub hidden
{
	my ($table) = @_;

	return $table eq 'toasted' ? "repeat('$secret', 2000)" : "'$secret'";
}

$node->safe_psql(
	'postgres', qq{
	CREATE TABLE keyed (id int PRIMARY KEY, v text, secret text DEFAULT '$secret');
	CREATE TABLE keyless (id int, v text, secret text);
	ALTER TABLE keyless REPLICA IDENTITY FULL;
	CREATE TABLE other_key (id int NOT NULL UNIQUE, v text, secret text PRIMARY KEY);
	ALTER TABLE other_key REPLICA IDENTITY USING INDEX other_key_id_key;
	CREATE TABLE toasted (id int PRIMARY KEY, v text, secret text);
	ALTER TABLE toasted ALTER secret SET STORAGE EXTERNAL;
	ALTER TABLE toasted REPLICA IDENTITY FULL;
	CREATE TABLE root (id int PRIMARY KEY, v text, secret text) PARTITION BY RANGE (id);
	CREATE TABLE leaf (secret text, id int NOT NULL, gone int, v text);
	ALTER TABLE leaf DROP gone;
	ALTER TABLE root ATTACH PARTITION leaf FOR VALUES FROM (0) TO (1000000);
	ALTER TABLE leaf REPLICA IDENTITY FULL;
	COMMENT ON COLUMN keyed.secret IS '$secret'});

my $next = 0;

# Rows that stay, change, change their key and go. other_key's secrets are unique.
sub write_rows
{
	my ($column, $sql) = @_;

	for my $table (@tables)
	{
		my $hidden = hidden($table);

		$node->safe_psql(
			'postgres', qq{
			INSERT INTO $table (id, v, $column) SELECT g, '$canary', $hidden || g FROM generate_series($next, $next + 5) g;
			UPDATE $table SET v = v || '-2' WHERE id = $next;
			UPDATE $table SET $column = $column || 'x' WHERE id = $next + 1;
			UPDATE $table SET id = id + 100000 WHERE id = $next + 2;
			DELETE FROM $table WHERE id = $next + 3});
	}
	$next += 10;
	return;
}

# Files under the directories, and single ones, that hold this.
sub files_with
{
	my ($text, @places) = @_;
	my @found;

	find({ no_chdir => 1, wanted => sub { push @found, $File::Find::name if -f && index(slurp_file($_), $text) >= 0 } }, @places);
	return @found;
}

sub is_hidden
{
	my ($when) = @_;
	my @logs = ($node->logfile, $publisher->{log}, $nats->{log});

	wait_confirmed($node);
	is_deeply([ files_with($secret, ring_directory($node), $nats->{store}, @logs) ], [], "$when: no secret is anywhere");
	isnt(scalar(files_with("$canary", $nats->{store})), 0, "$when: and it would be found");
	return;
}

# ---- rows, then changes ---------------------------------------------------------------------------------------------

write_rows('secret');
$node->safe_psql('postgres', "SELECT siphon_add_table('$_', exclude_columns => '{secret}')") for @tables;
wait_for_tables($node);
is_hidden('rows');
write_rows('secret');
is_hidden('changes');
isnt(scalar(files_with($canary, ring_directory($node))), 0, 'and would be in the ring');

# ---- the column changes ---------------------------------------------------------------------------------------------

$node->safe_psql('postgres', "ALTER TABLE $_ RENAME secret TO renamed") for @tables;
write_rows('renamed');
is_hidden('renamed');
$node->safe_psql('postgres', "SELECT siphon_resync_table('$_')") for @tables;
wait_for_tables($node);
is_hidden('renamed, rows again');

# Under the name it is excluded again; and a new column of the name counts as well.
$node->safe_psql('postgres', "ALTER TABLE $_ DROP renamed, ADD secret text DEFAULT '$secret'") for @tables;
write_rows('secret');
is_hidden('dropped and made anew');
$node->restart;
write_rows('secret');
is_hidden('after a restart');

# ---- hidden later ---------------------------------------------------------------------------------------------------

# What was published goes with the rows of before.
$node->safe_psql('postgres', "CREATE TABLE late (id int PRIMARY KEY, v text, later text); ALTER TABLE late REPLICA IDENTITY FULL");
$node->safe_psql('postgres', "SELECT siphon_add_table('late', exclude_columns => '{v}')");
wait_for_tables($node);
$node->safe_psql('postgres', "INSERT INTO late VALUES (1, '$secret', '$canary')");
$node->safe_psql('postgres', "SELECT siphon_alter_table('late', exclude_columns => '{v,later}')");
$node->safe_psql('postgres', "INSERT INTO late VALUES (2, '$secret', '$secret'); UPDATE late SET later = '$secret-2'; DELETE FROM late WHERE id = 2");
wait_for_tables($node);
is_hidden('excluded by siphon_alter_table()');

# Errors are about columns, not about what is in them.
my ($code, $stdout, $stderr) = $node->psql('postgres', "SELECT siphon_alter_table('other_key', exclude_columns => '{id}')");
like($stderr, qr/column "id" of table "other_key" cannot be excluded/, 'a refusal');
is_hidden('after a refusal');

# ---- nothing of it in what consumers read ---------------------------------------------------------------------------

my $events = replay($nats);
is(scalar(grep { $_->{line} =~ /secret|renamed|\Q$secret\E/ } @$events), 0, 'no event names the column');
is(scalar(grep { $_->{table} eq 'late' && exists $_->{columns}{later} } @$events), 0, 'nor one that was excluded later');
cmp_ok(scalar(grep { $_->{operation} eq 'DELETE' && $_->{table} eq 'keyless' } @$events), '>', 0, 'rows without a key were deleted');

done_testing();
