# An installation of PostgreSQL that is a test's own, with extension scripts that nobody else sees: programs find their
# other files relative to where they are themselves. All but the programs that look is links.
package Siphon::Installation;

use strict;
use warnings FATAL => 'all';

use File::Basename qw(basename dirname);
use File::Copy qw(copy);
use File::Path qw(make_path);
use PostgreSQL::Test::Utils;

# Returns the object; path is what PostgreSQL::Test::Cluster takes as install_path.
sub new
{
	my ($class) = @_;
	my $root = PostgreSQL::Test::Utils::tempdir();
	my %real = map { $_ => config($_) } qw(bindir pkglibdir sharedir);
	my $self = bless { path => dirname("$root$real{bindir}"), extensions => "$root$real{sharedir}/extension" }, $class;

	make_path($self->{path}, "$root$real{bindir}", $self->{extensions}, dirname("$root$real{pkglibdir}"));
	symlink $real{pkglibdir}, "$root$real{pkglibdir}" or die "$real{pkglibdir}: $!";
	link_all($real{sharedir}, "$root$real{sharedir}");
	link_all("$real{sharedir}/extension", $self->{extensions});
	for my $program (qw(initdb pg_ctl postgres))
	{
		copy("$real{bindir}/$program", "$root$real{bindir}/$program") or die "$program: $!";
		chmod 0755, "$root$real{bindir}/$program";
	}
	link_all($real{bindir}, "$root$real{bindir}");
	return $self;
}

sub config
{
	my ($what) = @_;
	my ($out) = run_command([ 'pg_config', "--$what" ]);

	return $out;
}

# Links to all that is not there yet.
sub link_all
{
	my ($from, $to) = @_;

	for my $entry (glob "$from/*")
	{
		my $link = "$to/" . basename($entry);

		-e $link || symlink $entry, $link or die "$link: $!";
	}
	return;
}

# The text of a script of the extension, as siphon--1.0.sql.
sub script
{
	my ($self, $name) = @_;

	return slurp_file("$self->{extensions}/$name");
}

sub add_script
{
	my ($self, $name, $text) = @_;

	append_to_file("$self->{extensions}/$name", $text);
	return;
}

1;
