# A siphon-publisher for one application of one server.
package Siphon::Publisher;

use strict;
use warnings FATAL => 'all';

use parent 'Siphon::Process';

use HTTP::Tiny;
use JSON::PP;
use Siphon::Replay;
use Time::HiRes qw(sleep time);

# Options: application, ring_directory, nats_url, which may be file:DIR, http_listen, and arguments, a list of further ones.
sub new
{
	my ($class, %options) = @_;

	return $class->SUPER::new($options{name} // 'publisher', application => 'main', http_listen => '127.0.0.1:0', arguments => [], %options);
}

sub command
{
	my ($self) = @_;

	return (
		'siphon-publisher',
		'--application' => $self->{application},
		'--ring-directory' => $self->{ring_directory},
		Siphon::Replay::stream_option($self->{nats_url}),
		'--http-listen' => $self->{http_listen},
		@{ $self->{arguments} });
}

# Where it answers questions; waits until it does.
sub url
{
	my ($self) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;

	for (;;)
	{
		return $1 if $self->log =~ /metrics and status are at (\S+)\//;
		die "$self->{name} does not listen:\n" . $self->log if time > $deadline || !$self->running;
		sleep 0.02;
	}
}

# Its answer, as HTTP::Tiny has it.
sub get
{
	my ($self, $path) = @_;

	return HTTP::Tiny->new(timeout => 10)->get($self->url . $path);
}

sub status
{
	my ($self) = @_;

	return decode_json($self->get('/status')->{content});
}

# What /metrics has, as a hash: the name with its labels, but for the application's, which all have => value.
sub metrics
{
	my ($self) = @_;
	my %value_of;

	for my $line (split /\n/, $self->get('/metrics')->{content})
	{
		next if $line =~ /^#/;
		my ($name, $labels, $value) = $line =~ /^(\w+)\{application="\Q$self->{application}\E",?(.*)\} (\S+)$/
		  or die "not a metric: $line";

		die "twice: $line" if exists $value_of{ $labels eq '' ? $name : "$name\{$labels}" };
		$value_of{ $labels eq '' ? $name : "$name\{$labels}" } = $value;
	}
	return \%value_of;
}

1;
