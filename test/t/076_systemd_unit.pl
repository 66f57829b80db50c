# The systemd unit: its command is one that the program takes, a restart is tried after every end, but a minute later where
# what mends it has to come from elsewhere; and where there is a systemd-analyze, it has nothing to say about the unit, and its figure is good.
use strict;
use warnings FATAL => 'all';

use File::Temp;
use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my $unit = 'deploy/systemd/siphon-publisher@.service';
my $directory = File::Temp::tempdir(CLEANUP => 1);
my ($program) = grep { -x } map { "$_/siphon-publisher" } split /:/, $ENV{PATH};

my $content = slurp_file($unit);
my %setting = $content =~ /^(\w+)=(.*)$/mg;

# The command, as the unit has it.
write_file("$directory/main.yaml", "log_level: debug\n");
my $command = $setting{ExecStart} =~ s{/etc/siphon/%i}{$directory/main}r =~ s/%i/prd.cell1.main/r =~ s{^\S+}{$program}r;
my $shown = qx($command --print-config);
is($?, 0, 'the program takes the command');
like($shown, qr/^application: "prd.cell1.main"$/m, 'the instance is the application');
like($shown, qr/^log_level: "debug"$/m, 'and its file is read');

# Exit codes, as --help lists them.
my %meaning = qx($program --help) =~ /^ +(\d)  (\S.*)$/mg;
my @later = grep { $meaning{$_} =~ /wrong option|stream is not as it must be|replaced/ } sort keys %meaning;
is("@later", '2 4 7', 'what mends by itself no sooner than in a minute');
is($setting{Restart}, 'always', 'it is restarted');
ok(!exists $setting{RestartPreventExitStatus}, 'whatever ended it');

# How long a start waits, in seconds, behind an end with this exit status; undef where there was none.
sub pause_behind
{
	my ($status) = @_;
	my $run = File::Temp::tempdir(CLEANUP => 1);
	# What systemd makes of the words: $$ is a dollar.
	my ($before, $behind) = map { $setting{$_} =~ s/\$\$/\$/gr } qw(ExecStartPre ExecStopPost);
	local $ENV{RUNTIME_DIRECTORY} = $run;

	mkdir "$run/bin" or die $!;
	write_file("$run/bin/sleep", "#!/bin/sh\necho \"\$1\"\n");
	chmod 0755, "$run/bin/sleep";
	local $ENV{PATH} = "$run/bin:$ENV{PATH}";
	if (defined $status)
	{
		local $ENV{EXIT_STATUS} = $status;

		is(system($behind), 0, "the end with '$status' is noted");
	}
	my $waited = qx($before);
	is($?, 0, 'and a start follows');
	return $waited || 0;
}

is(pause_behind(undef), 0, 'the first start does not wait');
for my $status (0 .. 7, 'TERM', 'KILL', '')
{
	my $late = grep { $_ eq $status } @later;

	cmp_ok(pause_behind($status) + $setting{RestartSec} =~ s/s$//r, '==', $late ? 60 : 2, "restarted after '$status'");
}
like($setting{TimeoutStartSec}, qr/^[2-9]min$/, 'with time for the pause');
is($setting{RuntimeDirectoryPreserve}, 'restart', 'what ended it outlives a restart');

SKIP:
{
	my ($analyze) = grep { -x } map { "$_/systemd-analyze" } split /:/, $ENV{PATH};

	skip 'there is no systemd-analyze', 2 unless $analyze;
	# Where this program is, and not the one that is installed.
	write_file("$directory/siphon-publisher\@main.service", $content =~ s/^(ExecStart)=\S+/$1=$program/mr);
	my $said = qx($analyze verify $directory/siphon-publisher\@main.service 2>&1);
	is($said, '', 'systemd-analyze has nothing to say');
	my $figures = qx($analyze security --no-pager --offline=true --threshold=20 $directory/siphon-publisher\@main.service 2>&1);
	is($?, 0, 'exposure is at most 2.0') or diag($figures);
	note($figures =~ /(Overall exposure.*)/);
}

done_testing();
