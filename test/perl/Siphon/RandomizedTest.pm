# What long random trials share: a seed, chance, a diary, and servers that may be away when they are asked.
package Siphon::RandomizedTest;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use Siphon;
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT_OK = qw(one_of between);

sub one_of
{
	return $_[ int rand @_ ];
}

sub between
{
	my ($least, $most) = @_;

	return $least + int rand($most - $least + 1);
}

# Since the time in since.
sub say
{
	my ($self, $what) = @_;

	note(sprintf '    %5.2f s  %s', time - $self->{since}, $what);
	return;
}

# Runs a statement on a server, again and again if the connection was lost; returns its output, or undef on an error
# that is not about the connection.
sub ask
{
	my ($self, $node, $sql) = @_;
	my $deadline = time + 60;

	for (;;)
	{
		# Nothing takes longer. psql that is turned away does not read what it gets.
		my ($code, $out, $err) = eval { $node->psql('postgres', "SET statement_timeout = '60s'; $sql") };

		($code, $err) = (2, $@) if $@;
		return $out if $code == 0;
		if ($code == 2 || $err =~ /the database system is|terminating connection|connection .* (closed|lost)|conflict with recovery/)
		{
			die "server " . $node->name . " does not come back: $err" if time > $deadline;
			sleep 0.05;
			next;
		}
		$self->say($err =~ s/\n.*//sr);
		return;
	}
}

# Arguments: further ones of the function. On a standby the call waits for the primary's running transactions.
sub create_application
{
	my ($self, $arguments) = @_;
	my $create = "SELECT siphon_create_application('$self->{application}'" . ($arguments // '') . ')';

	if ($self->{node} == $self->{primary})
	{
		$self->ask($self->{node}, $create);
		return;
	}

	my $call = $self->{node}->background_psql('postgres', on_error_stop => 0);

	$call->query_until(qr/called/, "\\echo called\n$create;\n");
	wait_until(
		"application $self->{application} is there",
		sub {
			$self->ask($self->{primary}, 'SELECT pg_log_standby_snapshot()');
			return application($self->{node}, $self->{application})->{application};
		});
	$call->quit;
	return;
}

1;
