# A client that doesn't read its errors keeps no lock on a registry, for which others can't be interrupted while they wait.
use strict;
use warnings FATAL => 'all';

use IO::Select;
use IO::Socket::UNIX;
use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

$node->safe_psql('postgres', 'CREATE TABLE listed (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY)');
add_table($node, 'listed');

my $packet = sub { my ($type, $body) = @_; return $type . pack('N', length($body) + 4) . $body };
my $query = $packet->('Q', "SELECT siphon_pause('other')\0");

sub session
{
	my ($column) = @_;

	return $node->safe_psql('postgres', "SELECT $column FROM pg_stat_activity WHERE application_name = 'unread'");
}

# Queries by the protocol, as many as the server takes before it stands still with an answer that nobody reads.
sub connect_unread
{
	my ($first) = @_;
	my $client = IO::Socket::UNIX->new(Peer => $node->host . '/.s.PGSQL.' . $node->port) or die "can't connect: $!";
	my $select = IO::Select->new($client);
	my $rest =
	  $packet->('', pack('N', 196608) . "user\0$ENV{USER}\0database\0postgres\0application_name\0unread\0\0") . $first;

	$client->blocking(0);
	wait_until(
		'the server waits for its client',
		sub {
			while ($select->can_write(0))
			{
				$rest = $query if $rest eq '';
				$rest = substr($rest, syswrite($client, $rest) // last);
			}
			return session('wait_event') eq 'ClientWrite';
		});
	return $client;
}

# It may stand still behind the error, too, where it says that it is ready for the next query: then with an answer more.
my $client = connect_unread('');

if (session('state') ne 'active')
{
	close($client);
	wait_until('the session has ended', sub { session('count(*)') == 0 });
	$client = connect_unread($packet->('Q', "SELECT 1\0"));
}
is(session('state'), 'active', 'the server stands still in an error');

# The decoder takes the registry's lock when it comes up.
my $before = application($node)->{decoder_pid};

kill 'TERM', $before;
wait_until('there is another decoder', sub { my $pid = application($node)->{decoder_pid}; $pid && $pid != $before });
wait_for_state($node, 'streaming');
$node->safe_psql('postgres', 'INSERT INTO listed VALUES (1)');
wait_confirmed($node);
pass('the decoder comes up and streams');
close($client);
wait_until('the session has ended', sub { session('count(*)') == 0 });

done_testing();
