# A siphon-publisher for one application of one server.
package Siphon::Publisher;

use strict;
use warnings FATAL => 'all';

use parent 'Siphon::Process';

# Options: application, ring_directory, nats_url, and arguments, a list of further ones.
sub new
{
	my ($class, %options) = @_;

	return $class->SUPER::new($options{name} // 'publisher', application => 'main', arguments => [], %options);
}

sub command
{
	my ($self) = @_;

	return (
		'siphon-publisher',
		'--application' => $self->{application},
		'--ring-directory' => $self->{ring_directory},
		'--nats-url' => $self->{nats_url},
		@{ $self->{arguments} });
}

1;
