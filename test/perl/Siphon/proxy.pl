# The process of a Siphon::Proxy, which says what it is for. Arguments: the descriptor of the socket on which it takes
# commands, a line each, its port, and the server's address. It ends when the other side of that socket is closed.
use strict;
use warnings FATAL => 'all';

use Errno qw(EAGAIN EINTR);
use IO::Select;
use IO::Socket::INET;
use JSON::PP;
use List::Util qw(min);
use Socket qw(IPPROTO_TCP TCP_NODELAY);
use Time::HiRes qw(time);

my $CHUNK = 64 * 1024;
# No more is held back for one connection and direction.
my $BUFFER = 4 * 1024 * 1024;

my ($fd, $port, $to) = @ARGV;
# Connections by a number: each has two flows, which hold what is to be written as pairs of time and bytes.
my ($listener, %connections, %stalled);
# What a client must send so that nothing that it sends goes on from there, and the connection that did.
my ($awaited, $holding);
my $delay = 0;
# While answers are lost: after how many bytes that ends, 0 for never, and how many were lost since it began.
my ($losing, $lost);
my %count = (accepted => 0, up => 0, down => 0, lost => 0);

open my $control, '+<&=', $fd or die "control: $!";
$control->autoflush;
$SIG{PIPE} = 'IGNORE';

for (;;)
{
	my ($reads, $writes) = (IO::Select->new($control), IO::Select->new);
	my $now = time;
	my @due;

	$reads->add($listener) if $listener;
	for my $flow (flows())
	{
		next if $stalled{ $flow->{direction} };
		$reads->add($flow->{from}) if !$flow->{ended} && $flow->{size} < $BUFFER;

		next if defined $holding && $flow->{connection} == $holding && $flow->{direction} eq 'up';
		my $next = $flow->{queue}[0] or next;

		$next->[0] <= $now ? $writes->add($flow->{into}) : push @due, $next->[0] - $now;
	}

	my ($readable, $writable) = IO::Select->select($reads, $writes, undef, min @due);
	my %ready = map { fileno $_ => 1 } @{ $readable // [] };
	my %takes = map { fileno $_ => 1 } @{ $writable // [] };

	for my $flow (flows())
	{
		fill($flow) if $connections{ $flow->{connection} } && $ready{ fileno $flow->{from} };
		drain($flow) if $connections{ $flow->{connection} } && $takes{ fileno $flow->{into} };
	}
	take_connection() if $listener && $ready{ fileno $listener };
	if ($ready{ fileno $control })
	{
		my $command = readline($control) // exit;

		chomp $command;
		print $control obey(split / /, $command, 2), "\n";
	}
}

sub flows
{
	return map { @{ $_->{flows} } } values %connections;
}

sub take_connection
{
	my $client = $listener->accept or return;
	my $server = IO::Socket::INET->new(PeerAddr => $to, Blocking => 0) or return;
	my $number = ++$count{accepted};

	for my $socket ($client, $server)
	{
		$socket->blocking(0);
		setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1;
	}
	$connections{$number} = {
		lost => 0,
		flows => [
			{ connection => $number, direction => 'up', from => $client, into => $server, queue => [], size => 0 },
			{ connection => $number, direction => 'down', from => $server, into => $client, queue => [], size => 0 }
		]
	};
	return;
}

sub fill
{
	my ($flow) = @_;
	my $size = sysread($flow->{from}, my $bytes, $CHUNK);

	return if !defined $size && ($! == EAGAIN || $! == EINTR);
	if (!$size)
	{
		$flow->{ended} = 1;
		hang_up($flow->{connection}) unless $flow->{size};
		return;
	}
	if (defined $losing && $flow->{direction} eq 'down')
	{
		$_ += $size for $connections{ $flow->{connection} }{lost}, $count{lost}, $lost;
		lose_no_more() if $losing && $lost >= $losing;
		return;
	}
	if (defined $awaited && $flow->{direction} eq 'up' && index($bytes, $awaited) >= 0)
	{
		undef $awaited;
		$holding = $flow->{connection};
	}
	push @{ $flow->{queue} }, [ time + $delay, $bytes ];
	$flow->{size} += $size;
	return;
}

sub drain
{
	my ($flow) = @_;
	my $next = $flow->{queue}[0];
	my $size = syswrite $flow->{into}, $next->[1];

	if (!defined $size)
	{
		hang_up($flow->{connection}) unless $! == EAGAIN || $! == EINTR;
		return;
	}
	substr($next->[1], 0, $size) = '';
	shift @{ $flow->{queue} } if $next->[1] eq '';
	$flow->{size} -= $size;
	$count{ $flow->{direction} } += $size;
	hang_up($flow->{connection}) if $flow->{ended} && !$flow->{size};
	return;
}

sub hang_up
{
	close $_->{from} for map { @{ $_->{flows} } } delete @connections{@_};
	return;
}

# A connection with a gap can't go on.
sub lose_no_more
{
	undef $losing;
	hang_up(grep { $connections{$_}{lost} } keys %connections);
	return;
}

sub obey
{
	my ($command, $argument) = @_;

	return encode_json(
		{
			%count,
			connections => scalar keys %connections,
			losing => defined $losing ? 1 : 0,
			holding => defined $holding ? 1 : 0
		})
	  if $command eq 'status';

	lose_no_more();
	%stalled = ();
	undef $awaited;
	undef $holding;
	$delay = 0;
	hang_up(keys %connections) if $command eq 'cut' || $command eq 'reset';
	if ($command eq 'cut')
	{
		close $listener if $listener;
		undef $listener;
		return 'done';
	}
	$listener //= IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 64, ReuseAddr => 1, Blocking => 0)
	  or die "port $port: $!";
	%stalled = $argument eq 'both' ? (up => 1, down => 1) : ($argument => 1) if $command eq 'stall';
	$delay = $argument if $command eq 'delay';
	$awaited = $argument if $command eq 'hold';
	($losing, $lost) = ($argument, 0) if $command eq 'lose';
	return 'done';
}
