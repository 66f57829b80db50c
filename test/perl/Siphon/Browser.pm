# Debian's Chromium: what a page has become after some seconds, and pictures of it. And a server for pages of a test's own.
package Siphon::Browser;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use File::Path ();
use IO::Socket::INET;
use JSON::PP;
use IPC::Run ();
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT_OK = qw(has_browser browse ask_page);

my ($chromium) = grep { -x } map { "$_/chromium" } split /:/, $ENV{PATH};
my @servers;

sub has_browser { return defined $chromium }

# What the page at the URL has become. Options: size, dump (false: only a picture), picture (false: none), arguments, a list.
sub browse
{
	my ($name, $url, %options) = @_;
	my $home = PostgreSQL::Test::Utils::tempdir();
	my ($dom, $log) = ('', '');
	my $shots = "$PostgreSQL::Test::Utils::log_path/../screenshots";
	my @what = ($options{picture} // 1 ? "--screenshot=$shots/$name.png" : (), $options{dump} // 1 ? '--dump-dom' : ());

	File::Path::make_path($shots);
	unlink "$shots/$name.png";
	local $ENV{HOME} = $home;
	for my $what (@what)
	{
		my $run = IPC::Run::start(
			[
				$chromium, qw(--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars
				  --disable-background-networking --no-first-run --virtual-time-budget=7000 --enable-logging=stderr),
				"--user-data-dir=$home/profile", '--window-size=' . ($options{size} // '1280,1150'),
				@{ $options{arguments} // [] }, $what, $url
			],
			'<', \undef, '>', \$dom, '2>', \$log,
			IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
		ok($run->finish, "$name: chromium ends well ($what)") or diag($log);
	}
	cmp_ok(-s "$shots/$name.png" // 0, '>', 10000, "$name: a screenshot") if $options{picture} // 1;
	# But for what the browser says of pages of its own.
	my @said = grep { /CONSOLE|Refused|Uncaught/ && !m{source: chrome://} } split /\n/, $log;
	is_deeply(\@said, [], "$name: the browser's console is empty");
	return $dom;
}

# Shows a page, as HTTP::Tiny got it, which asks for these paths, each with what is its answer in JSON, and runs a script in it. That
# is the body of an asynchronous function which fills the object `said`; returns that. Options of browse() come in a hash.
sub ask_page
{
	my ($name, $page, $answers, $script, %options) = @_;
	my $probe = "<script>(async () => { const said = {}; try { $script } catch (error) { said.error = error.stack } "
	  . "document.body.append(Object.assign(document.createElement('pre'), {id: 'said', textContent: JSON.stringify(said)})) })()</script>";
	my $policy = $page->{headers}{'content-security-policy'} // die 'the page has no policy';
	my $url = serve_pages(
		'/' => [ "Content-Type: text/html; charset=utf-8\r\nContent-Security-Policy: $policy\r\n", $page->{content} =~ s{</body>}{$probe</body>}r ],
		map { ("/$_" => [ "Content-Type: application/json\r\n", encode_json($answers->{$_}) ]) } keys %$answers);
	my ($said) = browse($name, "$url/", picture => 0, %options) =~ m{<pre id="said">(.*?)</pre>}s;

	stop_serving();
	$said = decode_json(($said // '{"error":"it did not end"}') =~ s/&lt;/</gr =~ s/&gt;/>/gr =~ s/&amp;/&/gr);
	is($said->{error}, undef, "$name: the script ends") or die "$name: " . $said->{error};
	return $said;
}

# Serves pages, by their paths: [headers, content]. Returns the URL in front of the paths.
sub serve_pages
{
	my (%page_of) = @_;
	my $socket = IO::Socket::INET->new(Listen => 10, LocalAddr => '127.0.0.1', ReuseAddr => 1) // die "listen: $!";
	my $pid = fork // die "fork: $!";

	if ($pid == 0)
	{
		# Browsers open connections on which they ask nothing.
		local $SIG{CHLD} = 'IGNORE';
		while (my $client = $socket->accept)
		{
			next if fork;
			my ($path) = (<$client> // '') =~ /^GET ([^ ?]+)/ or POSIX::_exit(0);
			while ((<$client> // '') =~ /\S/) { }
			my ($headers, $content) = @{ $page_of{$path} // [ "Content-Type: text/plain\r\n", 'not found' ] };
			print $client 'HTTP/1.1 ' . ($page_of{$path} ? '200 OK' : '404 Not Found') . "\r\n${headers}Content-Length: "
			  . length($content) . "\r\nConnection: close\r\n\r\n$content";
			close $client;
			POSIX::_exit(0);
		}
		POSIX::_exit(1);
	}
	push @servers, $pid;
	return 'http://127.0.0.1:' . $socket->sockport;
}

sub stop_serving
{
	my $status = $?;

	for my $pid (splice @servers) { kill 'KILL', $pid; waitpid $pid, 0 }
	$? = $status;
	return;
}

END { stop_serving() }

1;
