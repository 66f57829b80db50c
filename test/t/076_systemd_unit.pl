# The systemd unit: its command is one that the program takes, a restart is tried after what a restart can mend and not after
# the rest; and where there is a systemd-analyze, it has nothing to say about the unit, and its figure is good.
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
my @final = grep { $meaning{$_} =~ /wrong option|stream is not as it must be/ } sort keys %meaning;
is($setting{Restart}, 'always', 'it is restarted');
is($setting{RestartPreventExitStatus}, "@final", 'but not where somebody has to act');

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
