# A program that runs beside the servers of a test, with its output in a log of its own. Subclasses say what to run.
package Siphon::Process;

use strict;
use warnings FATAL => 'all';

use POSIX qw(:sys_wait_h);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my @all;

sub new
{
	my ($class, $name, %fields) = @_;
	my $self = bless {
		name => $name,
		log => "$PostgreSQL::Test::Utils::log_path/"
		  . ($0 =~ s/.*\/|\.pl$//gr)
		  . "_$name.log",
		%fields
	}, $class;

	unlink $self->{log};
	push @all, $self;
	return $self;
}

sub start
{
	my ($self) = @_;
	my @command = $self->command;

	die "$self->{name} runs already" if $self->running;
	note("starting $self->{name}: @command");
	append_to_file($self->{log}, '');
	$self->{log_start} = -s $self->{log};
	# Until it is the program, the child must not take a signal for the test's, and stop the servers.
	my $signals = POSIX::SigSet->new(POSIX::SIGTERM, POSIX::SIGINT);
	POSIX::sigprocmask(POSIX::SIG_BLOCK, $signals);
	my $pid = fork() // die "fork: $!";
	@SIG{qw(TERM INT)} = ('DEFAULT') x 2 if $pid == 0;
	POSIX::sigprocmask(POSIX::SIG_UNBLOCK, $signals);
	if ($pid == 0)
	{
		open STDIN, '<', '/dev/null';
		open STDOUT, '>>', $self->{log};
		open STDERR, '>&', \*STDOUT;
		exec @command or POSIX::_exit(127);
	}
	$self->{pid} = $pid;
	delete $self->{exit_code};
	return $self;
}

sub running
{
	my ($self) = @_;

	return 0 unless $self->{pid};
	return 1 if waitpid($self->{pid}, WNOHANG) == 0;
	$self->{exit_code} = $? & 127 ? 'signal ' . ($? & 127) : $? >> 8;
	delete $self->{pid};
	return 0;
}

# Waits for the program to end by itself; returns its exit code, or "signal N".
sub wait_exit
{
	my ($self, $timeout) = @_;
	my $deadline = time + ($timeout // $PostgreSQL::Test::Utils::timeout_default);

	while ($self->running)
	{
		if (time > $deadline)
		{
			$self->kill9;
			die "$self->{name} did not end; its log:\n" . $self->log;
		}
		sleep 0.02;
	}
	return $self->{exit_code};
}

sub stop
{
	my ($self) = @_;

	return unless $self->running;
	kill 'TERM', $self->{pid};
	return $self->wait_exit;
}

# Stops the process where it is, as a machine does that hangs: its sockets stay open, and nothing is answered.
sub pause
{
	my ($self) = @_;

	die "$self->{name} does not run" unless $self->running;
	kill 'STOP', $self->{pid};
	return;
}

sub resume
{
	my ($self) = @_;

	kill 'CONT', $self->{pid};
	return;
}

sub kill9
{
	my ($self) = @_;

	return unless $self->running;
	kill 'KILL', $self->{pid};
	waitpid $self->{pid}, 0;
	delete $self->{pid};
	return;
}

# What the program has written since its last start.
sub log
{
	my ($self) = @_;

	return slurp_file($self->{log}, $self->{log_start});
}

END
{
	my $exit_code = $?;

	$_->kill9 for @all;
	$? = $exit_code;
}

1;
