# A directory of files in place of a NATS server; tests use both alike.
package Siphon::Files;

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;

sub new
{
	my ($class) = @_;

	return bless { directory => PostgreSQL::Test::Utils::tempdir() . '/stream' }, $class;
}

sub url
{
	my ($self) = @_;

	return "file:$self->{directory}";
}

# A part of an application's stream: log, held, states.
sub part
{
	my ($self, $name, $application) = @_;

	return "$self->{directory}/" . ($application // 'main') . "/$name";
}

# The files of the log, in order.
sub segments
{
	my ($self, $name) = @_;

	return sort glob $self->part($name // 'log') . '/*.log';
}

1;
