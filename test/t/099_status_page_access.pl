# The status page for those who use a keyboard, hear it, or have a narrow screen; and what it says of problems: what is wrong,
# what to do, and the command, each as text that stays where it is while it is read.
use strict;
use warnings FATAL => 'all';
use utf8;

use JSON::PP;
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Browser qw(has_browser ask_page);
use Test::More;

plan skip_all => 'chromium is not installed' unless has_browser();

# The page comes from a publisher, which needs no server for that; what it shows is made up.
my $directory = PostgreSQL::Test::Utils::tempdir();
my $publisher = Siphon::Publisher->new(ring_directory => "$directory/rings", nats_url => "file:$directory/files")->start;
my $answer = $publisher->get('/');
my $status = $publisher->status;
my $evil = q{<img src=x onerror="document.title='hacked'">};
my $long = 'a_name_of_sixty_three_bytes_is_what_postgresql_lets_a_table_have';

$status->{problems} = [
	{ code => 'first', what => "$evil for 5 s", hint => "Look at $evil.", command => "SELECT '$evil';", unready => \1 },
	{ code => 'second', what => 'a warning', hint => 'Wait.', command => undef, unready => \0 } ];
$status->{decoder} = {
	ended => \0, silence_seconds => 9, restarts => 0, tables => 60, tables_waiting => 0, tables_failed => 0, newest_lsn => 1000,
	decoder_lag_bytes => 0, retained_bytes => 4096, retained_limit_bytes => 512 * 1024**2, encode_seconds => { p50 => 1e-6 } };
$status->{rings} = [ { name => 'decoder', size => 1048576, used => 524288, unread => 0 } ];
$status->{queue}{stream} = {
	name => "siphon_$long", messages => 123456, bytes => 1e9, max_bytes => 2e9, discard => 'new', keeps_all => \1, max_age_seconds => undef,
	first_message_age_seconds => 86400, replicas => 3, leader => 'n1',
	followers => [ { name => $evil, current => \0, offline => \1, lag => 5 } ] };
$status->{other_applications} = [
	{ application => $evil, url => 'javascript:alert(1)' }, { application => 'elsewhere', url => 'http://10.0.0.7:9711/' } ];
$status->{tables} = [
	map {
		{
			schema => 'public', table => "${long}_$_", state => 'streaming', snapshot => undef, packages => 1, raw_bytes => 10,
			published_bytes => 5, last_commit => time - 100,
			events => { insert => 123456789, update => 0, delete => 0, truncate => 0, other => 0, snapshot => 0 } }
	} 1 .. 60 ];

my $script = <<'END';
const wait = milliseconds => new Promise(done => setTimeout(done, milliseconds));
for (let i = 0; i < 100 && !(document.querySelector('#tables tr') && document.querySelector('figure')); i++) await wait(20);
const problems = () => [...document.querySelectorAll('#problems .card')];
said.problems = problems().map(card => [...card.childNodes].map(node => node.textContent));
said.select = getComputedStyle(document.querySelector('#problems code')).userSelect;
said.heard = $('announcement').textContent;
said.images = document.querySelectorAll('img').length;
said.links = [...document.querySelectorAll('#applications a')].map(a => a.href);
said.states = [...document.querySelectorAll('#flow .big')].map(node => node.textContent);

// What is heard is said once, though seconds pass; and a command that is being selected stays.
const command = document.querySelector('#problems code'), fresh = latest.problems.map(p => ({...p, what: p.what.replace('5', '7')}));
let changes = 0;
new MutationObserver(list => changes += list.length).observe($('announcement'), {childList: true, characterData: true, subtree: true});
showProblems(fresh); announce($('state').textContent, fresh); await wait(20);
said.kept = command.isConnected;
said.passed = problems()[0].textContent.includes('for 7 s');
said.again = changes;
announce($('state').textContent, [fresh[1]]); await wait(20);
said.another = $('announcement').textContent;

// Everything that can be clicked can be reached by keyboard, has a name, and shows that it has the focus.
const controls = [...document.querySelectorAll('button, input, select, a[href]')];
said.controls = controls.length;
said.unreachable = controls.filter(control => { control.focus(); return document.activeElement !== control || control.tabIndex < 0; }).length;
said.nameless = controls.filter(control => !(control.labels && control.labels.length) && !control.textContent.trim()).length;
$('name').focus(); said.outline = getComputedStyle($('name')).outlineStyle;
$('next').focus(); $('next').click(); $('next').click();
said.focus = document.activeElement.id + ' ' + $('shown').textContent;

// Text is read on what is behind it.
const luminance = color => { const [r, g, b] = color.match(/[\d.]+/g).slice(0, 3).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  return .2126 * r + .7152 * g + .0722 * b; };
const behind = node => { const color = getComputedStyle(node).backgroundColor; return color !== 'rgba(0, 0, 0, 0)' ? color : behind(node.parentElement); };
said.pale = [...new Set([...document.querySelectorAll('main *')].filter(node => [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim()))
  .map(node => { const [a, b] = [luminance(getComputedStyle(node).color), luminance(behind(node))];
    return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), node.id || node.className || node.tagName]; })
  .filter(([ratio]) => ratio < 4.5).map(([ratio, name]) => `${name} ${ratio.toFixed(2)}`))];

// As on a screen of 320 pixels.
for (const rule of document.styleSheets[0].cssRules) if (rule instanceof CSSMediaRule && rule.media.mediaText.includes('max-width')) rule.media.mediaText = 'all';
document.body.style.width = '320px';
said.wide = [...new Set([...document.querySelectorAll('main *')].filter(node => node.getBoundingClientRect().right > 320.5 && !node.closest('svg'))
  .map(node => (node.id || node.className || node.tagName) + ' ' + node.getBoundingClientRect().right))];
said.sortable = [...document.querySelectorAll('#sort button')].filter(button => button.offsetWidth > 0).length;
said.background = getComputedStyle(document.body).backgroundColor;
END

my %back = (light => 'rgb(246, 247, 249)', dark => 'rgb(17, 22, 29)');
for my $theme (qw(light dark))
{
	my $said = ask_page(
		"status-access-$theme", $answer, { status => $status, history => decode_json($publisher->get('/history')->{content}) }, $script,
		arguments => $theme eq 'dark' ? ['--blink-settings=preferredColorScheme=0'] : []);

	is($said->{background}, $back{$theme}, "$theme: as the user wants it");
	is_deeply($said->{problems}, [ [ "$evil for 5 s", "Look at $evil.", "SELECT '$evil';" ], [ 'a warning', 'Wait.' ] ], "$theme: problems");
	is($said->{select}, 'all', "$theme: a command is selected as a whole");
	is($said->{images}, 0, "$theme: no name is HTML");
	is_deeply($said->{links}, ['http://10.0.0.7:9711/'], "$theme: a page is linked, a script is not");
	is($said->{states}[1], 'no heartbeat', "$theme: the decoder gives none");
	is($said->{heard}, "not ready. $evil for 5 s. a warning", "$theme: the state and the problems are heard");
	ok($said->{passed}, "$theme: time passes on the page");
	ok($said->{kept}, "$theme: and a command stays where it is");
	is($said->{again}, 0, "$theme: and nothing is said again");
	is($said->{another}, 'not ready. a warning', "$theme: what is new is said");
	cmp_ok($said->{controls}, '>=', 12, "$theme: there is something to click");
	is($said->{unreachable}, 0, "$theme: the keyboard reaches all of it");
	is($said->{nameless}, 0, "$theme: all of it has a name");
	isnt($said->{outline}, 'none', "$theme: the focus is seen");
	is($said->{focus}, 'next 51–60 of 60 tables', "$theme: the last page leaves the focus where it is");
	is_deeply($said->{pale}, [], "$theme: contrast") or diag(explain($said->{pale}));
	is_deeply($said->{wide}, [], "$theme: nothing is wider than a narrow screen") or diag(explain($said->{wide}));
	is($said->{sortable}, 8, "$theme: on which tables can be sorted, too");
}
is($publisher->stop, 0, 'the publisher stops');

done_testing();
