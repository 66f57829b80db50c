# The status page finds tables among thousands: by name and state, sorted, a page of them at a time, those with snapshots and
# held changes first. What is looked for is in the address, and names are never HTML.
use strict;
use warnings FATAL => 'all';
use utf8;

use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Browser qw(has_browser ask_page);
use Test::More;

plan skip_all => 'chromium is not installed' unless has_browser();

my $count = 2000;
my $evil = q{<img src=x onerror="document.title='hacked'">};

# The page comes from a publisher, which needs no server for that; the status is of more tables than a test makes.
my $directory = PostgreSQL::Test::Utils::tempdir();
my $publisher = Siphon::Publisher->new(ring_directory => "$directory/rings", nats_url => "file:$directory/files")->start;
my $answer = $publisher->get('/');
like($answer->{headers}{'content-security-policy'}, qr/^default-src 'none';/, 'the page has a policy');

# Of two other applications in the same ring directory one has a publisher, and one has none.
my $other = Siphon::Publisher->new(
	name => 'other', application => 'crm.eu', ring_directory => "$directory/rings", nats_url => "file:$directory/files")->start;
my $other_url = $other->url . '/';
mkdir "$directory/rings/$_", 0700 or die $! for '<b>', 'empty';
write_file("$directory/rings/<b>/decoder.ring", '');
is_deeply(
	$publisher->status->{other_applications},
	[ { application => '<b>', url => undef }, { application => 'crm.eu', url => $other_url } ],
	'/status names other applications');
# What is no address, and what would keep who reads it, is none.
write_file("$directory/rings/<b>/publisher.lock", 'javascript:alert(1)');
POSIX::mkfifo("$directory/rings/empty/publisher.lock", 0600) or die $!;
symlink "$directory/rings/main", "$directory/rings/link" or die $!;
is_deeply([ map { $_->{url} } @{ $publisher->status->{other_applications} } ], [ undef, $other_url ], 'and takes no other addresses');
is_deeply([ map { $_->{application} } @{ $other->status->{other_applications} } ], [ '<b>', 'main' ], 'the other publisher does so too');

my $status = $publisher->status;
$status->{ready} = JSON::PP::true;
$status->{problems} = [];
$status->{decoder} = {
	ended => JSON::PP::false, silence_seconds => 0.1, restarts => 0, tables => $count + 5, tables_waiting => 3, tables_failed => 2,
	newest_lsn => 1000, decoder_lag_bytes => 0, retained_bytes => 4096, retained_limit_bytes => undef, encode_seconds => { p50 => 1e-6 } };
$status->{rings} = [ { name => 'decoder', size => 1048576, used => 524288, unread => 0 } ];

sub table
{
	my ($schema, $name, %fields) = @_;

	return {
		schema => $schema, table => $name, state => 'streaming', snapshot => undef, packages => 1, raw_bytes => 10, published_bytes => 5,
		last_commit => time - 100, events => { insert => 1, update => 0, delete => 0, truncate => 0, other => 0, snapshot => 0 }, %fields };
}
my %big = (phase => 'scanning', blocks_done => 30, blocks_total => 100, rows => 3000, bytes => 9000, held_events => 2, workers => 1);
$status->{tables} = [
	(map { table('public', "t_$_", published_bytes => $_) } 1 .. $count - 4),
	table('public', $evil), table('Shop', 'zebra', state => 'snapshot', snapshot => \%big),
	table('shop', 'yak', state => 'moving held changes'), table('shop', 'Xerus', published_bytes => 1e9) ];
$status->{holding} = [
	{ schema => 'Shop', table => 'zebra', phase => 'snapshot', seconds => 30, backlog_messages => undef },
	{ schema => 'shop', table => 'yak', phase => 'catch-up', seconds => 90, backlog_messages => 1234 },
	# Of this one nothing was published since the publisher started.
	{ schema => 'shop', table => 'walrus', phase => 'catch-up', seconds => 95, backlog_messages => 7 } ];

# What a user does on the page, and what it then shows.
my $script = <<'END';
const wait = milliseconds => new Promise(done => setTimeout(done, milliseconds));
const rows = () => [...document.querySelectorAll('#tables tr')];
const names = () => rows().map(row => row.cells[0].textContent);
const seen = () => ({names: names(), shown: $('shown').textContent, hash: location.hash, first: rows().length ? rows()[0].innerText : '',
  sort: [...document.querySelectorAll('#sort th')].filter(th => th.ariaSort !== 'none').map(th => th.textContent + ' ' + th.ariaSort).join(),
  previous: $('previous').ariaDisabled === 'true', next: $('next').ariaDisabled === 'true'});
const header = name => [...document.querySelectorAll('#sort button')].find(button => button.textContent === name);
const filter = text => { $('name').value = text; $('name').dispatchEvent(new Event('input')); };
const choose = state => { $('state-filter').value = state; $('state-filter').dispatchEvent(new Event('change')); };
for (let i = 0; i < 100 && !rows().length; i++) await wait(20);
said.start = seen();
said.applications = $('applications').textContent;
said.links = [...document.querySelectorAll('#applications a')].map(a => a.href);
said.counts = $('counts').textContent;
said.states = [...$('state-filter').options].map(option => option.textContent);
$('next').click(); said.second = seen();
header('published').click(); said.published = seen();
header('published').click(); said.reversed = seen();
header('table').click(); said.byName = seen();
filter('SHOP.'); said.named = seen();
choose('catch-up'); said.chosen = seen();
choose(''); filter('<IMG'); said.evil = seen();
said.images = document.querySelectorAll('img').length;
filter('nothing'); said.none = seen();
location.hash = '#name=t_&sort=-published&page=3'; await wait(50); said.linked = seen();
said.field = $('name').value;
location.hash = '#sort=nonsense&page=-1&state=what'; await wait(50); said.wrong = seen();
location.hash = '#page=1000000'; await wait(50); said.beyond = seen();
// What does not change is not made again.
location.hash = '#name=xerus'; await wait(50);
$('name').focus();
const kept = [$('flow').lastChild, $('streams')];
await refresh();
said.kept = kept.every(node => node.isConnected) && document.activeElement === $('name');
said.title = document.title;
END

my $said = ask_page('status-tables', $answer, { status => $status, history => decode_json($publisher->get('/history')->{content}) }, $script);

is(scalar @{ $said->{start}{names} // [] }, 50, 'a page of tables');
is_deeply([ @{ $said->{start}{names} // [] }[0 .. 2] ], [ 'shop.walrus', 'shop.yak', 'Shop.zebra' ],
	'those whose changes are held come first, the longest first');
like($said->{start}{shown}, qr/^1–50 of 2001 tables$/, 'how many there are');
is($said->{start}{sort}, 'state ascending', 'the order is told');
ok($said->{start}{previous} && !$said->{start}{next}, 'the first page has a next one');
like($said->{start}{first}, qr/catch-up\s+changes held for 95 s, 7 messages to catch up/, 'one without events is there');
is($said->{applications}, 'Other applications of this server: <b> (no status page)crm.eu', 'other applications are named');
is_deeply($said->{links}, [$other_url], 'and their pages linked');
like($said->{counts}, qr/^Published: 2005, waiting for a snapshot or in one: 3, to be resynced: 2\. Listed are/, 'what the decoder knows');
is_deeply($said->{states}, [ 'any (2001)', 'catch-up (2)', 'snapshot (1)', 'streaming (1998)' ], 'how many are in which state');
like($said->{second}{shown}, qr/^51–100 of/, 'the second page');
is($said->{second}{hash}, '#page=2', 'is in the address');
is($said->{published}{names}[0], 'shop.Xerus', 'the largest first');
is($said->{published}{names}[1], 'public.t_1996', 'by number');
like($said->{published}{shown}, qr/^1–50/, 'another order begins at its first page');
is($said->{published}{sort}, 'published descending', 'and is told');
is($said->{reversed}{names}[0], 'shop.walrus', 'the smallest first');
is($said->{reversed}{sort}, 'published ascending', 'which is told');
is_deeply([ @{ $said->{byName}{names} // [] }[1 .. 3] ], [ 'public.t_1', 'public.t_2', 'public.t_3' ], 'numbers in names count as numbers');
is_deeply($said->{named}{names}, [ 'shop.walrus', 'shop.Xerus', 'shop.yak', 'Shop.zebra' ], 'found by a part of the name');
like($said->{named}{shown}, qr/^1–4 of 4, filtered from 2001 tables$/, 'of how many');
is_deeply($said->{chosen}{names}, [ 'shop.walrus', 'shop.yak' ], 'and by state');
is($said->{chosen}{hash}, '#name=SHOP.&state=catch-up&sort=table', 'all of it is in the address');
is_deeply($said->{evil}{names}, ["public.$evil"], 'a name that would be HTML');
is($said->{images}, 0, 'is none');
is($said->{title}, 'Siphon main', 'and no script');
is($said->{none}{shown}, 'none of 2001 tables', 'none is found');
ok($said->{none}{previous} && $said->{none}{next}, 'which has no pages');
is($said->{linked}{names}[0], 'public.t_1896', 'an address leads there');
is($said->{field}, 't_', 'and fills in the field');
is($said->{wrong}{sort}, 'state ascending', 'a wrong address is the default one');
like($said->{beyond}{shown}, qr/^2001–2001 of 2001/, 'there is a last page');
ok($said->{kept}, 'what is the same stays');
is($other->stop, 0, 'the other publisher stops');
wait_until('it has no page any more', sub { @{ $publisher->status->{other_applications} } == 1 });
is($publisher->stop, 0, 'the publisher stops');

done_testing();
