# siphon.ring_group: the rings are the group's, and never everybody's; a publisher attaches that is told so, and none that isn't
# where the owner is another. A group that can't be used keeps decoders from working, who say why, and not the server from
# starting. Members that make trouble with the files make it for the rings alone. See also test/unit/test_ring_file.cpp,
# which has a second user where it runs as root.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Test::More;

my $group = getgrgid($( + 0);
my $node = siphon_node('primary', conf => "siphon.ring_group = '$group'");
my $nats = siphon_nats();
my $directory = ring_directory($node);

sub mode
{
	my ($path) = @_;
	my @status = stat $path or die "$path: $!";

	return sprintf '%o of %s', $status[2] & 07777, (getgrgid($status[5]))[0];
}

sub all_files
{
	return glob "$directory/main/*";
}

$node->safe_psql('postgres', 'CREATE TABLE issues (id int PRIMARY KEY)');
add_table($node, 'issues', snapshot => 'true');
my $publisher = siphon_publisher($node, $nats, arguments => [ '--ring-group' => $group ]);

wait_for_tables($node);
$node->safe_psql('postgres', 'INSERT INTO issues VALUES (1)');
wait_confirmed($node);
is_replayed($nats, $node, ['issues'], 'a row arrives');

my %made = map { m{([^/]+)$} ? ($1 => mode($_)) : () } all_files();
is(mode($directory), "2770 of $group", 'the directory is the group\'s');
is(mode("$directory/main"), "2770 of $group", 'and the application\'s');
is_deeply(
	\%made,
	{ map { $_ => "660 of $group" } qw(decoder.ring decoder.bell decoder.lock publisher.bell publisher.lock) },
	'and all files in it');

# A member puts a link to another file of the server's where a bell was: it is not made the group's.
my $private = "$directory/private";
write_file($private, '');
chmod 0600, $private or die $!;
$publisher->stop;
unlink "$directory/main/decoder.lock" or die $!;
link $private, "$directory/main/decoder.lock" or die $!;
$node->restart;
wait_until('the decoder does not take it', sub { (application($node)->{reason} // '') =~ /must be owned by the server user/ });
like(application($node)->{hint}, qr/chgrp -R \Q$group\E/, 'and says what mends it');
is(mode($private), "600 of $group", 'the file stays private');
unlink "$directory/main/decoder.lock" or die $!;
$publisher->start;
$node->safe_psql('postgres', 'INSERT INTO issues VALUES (2)');
wait_confirmed($node);
is_replayed($nats, $node, ['issues'], 'it goes on');
$publisher->stop;

# A group that there is not, and one that the server's user is not in.
for my $case ([ 'nosuchgroup', qr/group "nosuchgroup" of siphon.ring_group does not exist/, qr/groupadd/ ],
	[ 'tty', qr/the server's user is no member of group "tty"/, qr/usermod --append --groups "tty"/ ])
{
	my ($name, $reason, $hint) = @$case;

	$node->adjust_conf('postgresql.conf', 'siphon.ring_group', "'$name'");
	$node->restart;
	wait_until("$name: the application has a reason", sub { (application($node)->{reason} // '') =~ $reason });
	like(application($node)->{hint}, $hint, "$name: and a hint");
}

# Back to nobody else: what the group could write is not trusted before it was taken away from it.
$node->adjust_conf('postgresql.conf', 'siphon.ring_group', "''");
$node->restart;
wait_until('the group\'s directory is not trusted', sub { (application($node)->{hint} // '') =~ /chmod 700/ });
chmod 0700, $directory, "$directory/main" or die $!;
wait_for_state($node, 'streaming');
is((stat "$directory/main/decoder.ring")[2] & 0777, 0600, 'a new ring is for the server\'s user alone');

# The publisher's option.
for my $case ([ 'nosuchgroup', qr/--ring-group: group nosuchgroup does not exist/ ], [ 'tty', qr/--ring-group: .* not a member of group tty/ ])
{
	my ($name, $pattern) = @$case;
	my (undef, $stderr) = PostgreSQL::Test::Utils::run_command(
		[ 'siphon-publisher', '--ring-directory' => $directory, '--nats-url' => $nats->url, '--ring-group' => $name ]);

	is($? >> 8, 2, "$name: exit code");
	like($stderr, $pattern, "$name: why");
}

done_testing();
