# With --log-format json each line of the publisher's log is an object with the same fields, also of a
# publisher that can't go on; and it has nothing of rows.
use strict;
use warnings FATAL => 'all';

use JSON::PP;
use Siphon;
use Test::More;

my $node = siphon_node('primary');
my $nats = siphon_nats();
my @json = (arguments => [ '--log-format', 'json', '--log-level', 'debug' ]);
my $publisher = siphon_publisher($node, $nats, @json);

$node->safe_psql('postgres', 'CREATE TABLE issues (id bigint PRIMARY KEY, title text)');
add_table($node, 'issues');
$node->safe_psql('postgres', "INSERT INTO issues VALUES (1, 'a very private title')");
wait_confirmed($node);
$nats->kill9;
wait_until('the lost connection is logged', sub { $publisher->log =~ /disconnected from NATS/ });
$nats->start;
$node->safe_psql('postgres', "INSERT INTO issues VALUES (2, 'a very private title')");
wait_confirmed($node);

my $second = siphon_publisher($node, $nats, name => 'second', @json);

is($second->wait_exit, 3, 'a second publisher is refused');
is($publisher->stop, 0, 'the first one stops');

my @lines = map { decode_json($_) } split /\n/, $publisher->log . $second->log;

cmp_ok(@lines, '>', 5, 'there are lines');
is_deeply([ grep { join(' ', sort keys %$_) ne 'application level message time' } @lines ], [], 'all have the same fields');
is_deeply([ grep { $_->{application} ne 'main' || $_->{time} !~ /^20\d\d-\d\d-\d\dT[\d:]{8}\.\d{3}Z$/ } @lines ],
	[], 'whose it is, and when');
my %levels = map { $_->{level} => 1 } @lines;
is_deeply([ grep { !/^(?:debug|info|warning|error)$/ } keys %levels ], [], 'levels have the names of --log-level');
ok((grep { $_->{message} eq 'stopped; everything that was published is acknowledged' } @lines), 'messages are those for people');
unlike($publisher->log, qr/private/, 'nothing of rows, even with debug');

done_testing();
