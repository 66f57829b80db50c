# The registry's files: they survive a restart and a crash, and one that is damaged, of another format, or somebody
# else's is named in siphon_applications and in the log, never replaced, and does not hold up other applications.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $node = siphon_node('primary');
my $file = $node->data_dir . '/siphon/main.registry';

$node->safe_psql('postgres', "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE \"q\"\"uoted \\ name\" (id int PRIMARY KEY, \"a \"\"b\" int)");
add_table($node, 't', partitions => 3, exclude_columns => "'{v}'");
add_table($node, '"q""uoted \ name"', exclude_columns => q{ARRAY['a "b']});
add_table($node, 't', application => "'other'");
$node->safe_psql('postgres', qq{CREATE TABLE "odd\x01\n\t\x7f" (id int PRIMARY KEY)});
add_table($node, qq{"odd\x01\n\t\x7f"});

my $list = sub {
	$node->safe_psql('postgres',
		'SELECT application, table_name, partitions, exclude_columns, start_lsn FROM siphon_tables ORDER BY 1, 2');
};
my $before = $list->();
like($before, qr/^main\|odd\x01\n\t\x7f\|/m, 'characters that JSON escapes are kept');
like($before, qr/^main\|q"uoted \\ name\|1\|\{"a \\"b"\}\|/m, 'odd names are kept');
$node->restart;
is($list->(), $before, 'the registry survives a restart');
$node->stop('immediate');
$node->start;
is($list->(), $before, 'and a crash');
wait_for_state($node, 'streaming', $_) for qw(main other);

is((stat $file)[2] & 0777, 0600, 'the file is the server\'s alone');
my $good = slurp_file($file);
like($good, qr/\Asiphon-registry 2 [0-9a-f]{16}\n\{.*"application": "main"/, 'it has a header, and JSON that people can read');

my $flipped = $good;
substr($flipped, 100, 1) ^= "\x01";

for my $case (
	[ 'a flipped byte', $flipped, qr/registry file "siphon\/main.registry" is damaged/ ],
	[ 'a file that was cut off', substr($good, 0, length($good) / 2), qr/registry file "siphon\/main.registry" is damaged/ ],
	[ 'an empty file', '', qr/registry file "siphon\/main.registry" is damaged/ ],
	[ 'something else', "\0\1\2" x 1000, qr/registry file "siphon\/main.registry" is damaged/ ],
	[
		'another format', $good =~ s/^siphon-registry 2/siphon-registry 4/r,
		qr/registry file "siphon\/main.registry" has format version 4/
	],
	[ "another application's file", slurp_file($file =~ s/main/other/r), qr/registry file "siphon\/main.registry" is damaged/ ])
{
	my ($what, $content, $reason) = @$case;
	my $offset = -s $node->logfile;

	$node->stop;
	write_file($file, $content);
	$node->start;
	my $row = wait_for_state($node, 'failed');
	like($row->{reason}, $reason, "$what: siphon_applications names the file");
	wait_until("$what: there is a hint", sub { application($node)->{hint} });
	like(application($node)->{hint}, qr/Restore the file from a backup|Install the version of siphon that wrote it/,
		"$what: and says what to do");
	$node->wait_for_log(qr/siphon: application "main": registry file "siphon\/main.registry"/, $offset);
	is(application($node, 'other')->{state}, 'streaming', "$what: another application goes on");
	fails_with(
		$node, "SELECT siphon_add_table('t')", "$what: adding a table",
		error => $reason,
		hint => 'Restore the file from a backup|Install the version');
	ok(slurp_file($file) eq $content, "$what: the file is left alone");
	my $complaints = () = slurp_file($node->logfile, $offset) =~ /LOG:  siphon: application "main": registry file/g;
	is($complaints, 1, "$what: the log has it once");
}

# Mended while the server runs.
$node->append_conf('postgresql.conf', 'siphon.max_restart_delay = 1s');
write_file($file, $good);
wait_for_state($node, 'streaming');
is($list->(), $before, 'a file that was put back is taken up');

# Files of other names in the directory are nobody's business.
append_to_file($node->data_dir . "/siphon/$_", 'x') for ('main.registry.bak', 'Bad Name.registry', 'main.tmp');
$node->restart;
wait_for_state($node, 'streaming');
is($list->(), $before, 'other files in the directory do no harm');

done_testing();
