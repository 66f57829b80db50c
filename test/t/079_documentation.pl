# What the documents say to type works. In front of each block of commands stands how it is tested:
#
#   <!-- tested: here -->            it is run by this test, on a server with a publisher, in the documents' order
#   <!-- tested: 003_standby.pl -->  that test does it (or another file, by its path)
#   <!-- not tested: reason -->
#
# Links lead somewhere, also those of sources and alerts; functions, settings and options that are named in the text are there;
# the diagrams have the states, and the transitions, that the sources have. Pages can be read: they say for whom they are,
# docs/README.md leads to each of them, lines are short, and their words are those of the glossary in CONTRIBUTING.md.
use strict;
use warnings FATAL => 'all';

use Encode qw(decode);
use File::Find ();
use IPC::Run ();
use List::Util qw(uniq);
use PostgreSQL::Test::Utils;
use Siphon;
use Test::More;

my @documents = ('README.md', 'CONTRIBUTING.md', sort glob 'docs/*.md');
my %text = map { $_ => slurp_file($_) } @documents;

# Each block: where it stands, how it is tested, its language, its text.
my @blocks;

for my $document (@documents)
{
	my ($line, $comment, $block) = (0, '', undef);

	for (split /\n/, $text{$document})
	{
		$line++;
		if ($block)
		{
			if (/^```$/)
			{
				push @blocks, $block;
				$block = undef;
			}
			else
			{
				$block->{text} .= "$_\n";
			}
		}
		elsif (/^```(\w*)$/)
		{
			$block = { where => "$document:$line", comment => $comment, language => $1, text => '' };
		}
		$comment = /^<!-- (.*) -->$/ ? $1 : '' if /\S/;
	}
	is($block, undef, "$document: each block ends");
}
@blocks = grep { $_->{language} =~ /^(?:sh|sql)$/ } @blocks;
cmp_ok(scalar @blocks, '>', 15, 'there are blocks of commands');

my @here;

for my $block (@blocks)
{
	if ($block->{comment} eq 'tested: here')
	{
		push @here, $block;
	}
	elsif ($block->{comment} =~ /^tested: (\S+)$/)
	{
		ok(-e $1 || -e "test/t/$1", "$block->{where}: what tests it is there");
	}
	else
	{
		like($block->{comment}, qr/^not tested: ./, "$block->{where}: says how it is tested");
	}
}

# ---- what is run here ------------------------------------------------------------------------------------------------

# As it is before somebody installs Siphon; its snapshots take their time, so that they can be looked at.
my $node = siphon_node('primary', extension => 0, conf => "siphon.snapshot_rate = '64kB'");
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);
my ($listen) = $publisher->url =~ m{//(.*)};
my $rings = ring_directory($node);
my $bin = PostgreSQL::Test::Utils::tempdir();

# Tests do without curl.
write_file("$bin/curl", <<'END');
#!/usr/bin/perl
use HTTP::Tiny;
print HTTP::Tiny->new->get($ARGV[-1])->{content};
END
chmod 0755, "$bin/curl" or die $!;
$node->safe_psql(
	'postgres', q{
	CREATE TABLE issues (id bigint PRIMARY KEY, title text);
	INSERT INTO issues SELECT g, repeat('title ', 100) FROM generate_series(1, 10000) g});

for my $block (@here)
{
	wait_until('ready', sub { $publisher->get('/readyz')->{status} == 200 }) if $block->{where} =~ /^docs/;
	finish_snapshot() if $block->{text} =~ /siphon_resync_table/;

	my $commands = $block->{text} =~ s{nats://127\.0\.0\.1:4222}{$nats->url}ger =~ s{127\.0\.0\.1:9711}{$listen}gr
	  =~ s{/dev/shm/siphon\b}{$rings}gr;
	my $said = '';

	$commands =~ s/^.*output_plugin_libraries.*$//mg unless has_setting('output_plugin_libraries');
	local @ENV{qw(PGHOST PGPORT PGDATABASE PATH)} = ($node->host, $node->port, 'postgres', "$bin:$ENV{PATH}");
	ok(
		IPC::Run::run(
			$block->{language} eq 'sql' ? [qw(psql -X -v ON_ERROR_STOP=1)] : [qw(bash -e -o pipefail)],
			'<', \$commands, '>&', \$said, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default)),
		"$block->{where}: it works")
	  or diag("$commands$said");
	note($said);
}

# One at a time.
sub finish_snapshot
{
	$node->safe_psql('postgres', 'ALTER SYSTEM SET siphon.snapshot_rate = 0');
	$node->reload;
	wait_for_table($node, 'issues');
	$node->safe_psql('postgres', 'ALTER SYSTEM RESET siphon.snapshot_rate');
	$node->reload;
	return;
}

# ---- links -----------------------------------------------------------------------------------------------------------

# A heading as the anchor that it gets.
sub anchors
{
	my ($file) = @_;

	return map { lc($_) =~ s/[^\w\- ]//gr =~ s/ /-/gr } without_code(slurp_file($file)) =~ /^#+ (.*)$/mg;
}

sub without_code
{
	my ($document) = @_;

	return $document =~ s/^```.*?^```$//msgr;
}

sub leads_somewhere
{
	my ($file, $anchor) = @_;

	return -e $file && (!defined $anchor || grep { $_ eq $anchor } anchors($file));
}

for my $document (@documents)
{
	my ($directory) = $document =~ m{^(.*/)?};
	my @broken;
	my %times;

	for my $link (grep { !/^https?:/ } $text{$document} =~ /\]\(([^)\s]+)\)/g)
	{
		my ($path, $anchor) = $link =~ /^([^#]*)(?:#(.*))?$/;

		push @broken, $link unless leads_somewhere($path eq '' ? $document : ($directory // '') . $path, $anchor);
	}
	is_deeply(\@broken, [], "$document: its links lead somewhere");

	$times{$_}++ for anchors($document);
	is_deeply([ grep { $times{$_} > 1 } sort keys %times ], [], "$document: no two headings have one anchor");
}

# Files and folders that are named in the text or in commands, and what commands make.
my $everything = join "\n", @text{@documents};
my %target = map { $_ => 1 } map { split } map { slurp_file($_) =~ /^([a-z][a-z -]*):/mg } 'Makefile', glob('publisher/*.mk test/*.mk test/*/*.mk');

is_deeply(
	[   grep { !grep { -e } glob }
		  uniq sort $everything =~ m{(?<![\w/.(-])((?:src|ring|program|reader|publisher|tools|test|sql|expected|deploy|debian|scripts|proto|examples|\.ci)/[\w./*@-]*\w(?:\.\*|[/*])?)}g
	],
	[],
	'files are there');
is_deeply([ grep { !$target{$_} } uniq sort map { $_->{text} =~ /(?:^|-- |&& )make (?:-j\d+ )?([a-z][a-z-]*)/mg } @blocks ], [], 'what is made can be made');

# What sources, tests, alerts and scripts say of documents.
my @dead;

File::Find::find(
	{   no_chdir => 1,
		wanted => sub {
			return if !-f || !-T;
			my $file = $_;
			my $content = slurp_file($file);

			while ($content =~ /\b(docs\/[\w-]+\.md|README\.md|CONTRIBUTING\.md)(?:#([\w-]+))?/g)
			{
				push @dead, "$file: $&" unless leads_somewhere($1, $2);
			}
		}
	},
	qw(src ring program reader publisher tools proto test deploy debian scripts examples sql Makefile));
is_deeply(\@dead, [], 'documents that are named elsewhere are there');

# ---- pages that can be read --------------------------------------------------------------------------------------------

my @pages = grep { m{^docs/} } @documents;
my %linked = map { $_ => 1 } ($text{'docs/README.md'} // '') =~ /\]\(([\w-]+\.md)/g;

is_deeply([ grep { !$linked{ s{^docs/}{}r } } grep { $_ ne 'docs/README.md' } @pages ], [], 'docs/README.md leads to each page');
ok($text{'README.md'} =~ m{\]\(docs/README\.md\)}, 'README.md leads to docs/README.md');
cmp_ok(scalar(my @lines = split /\n/, $text{'README.md'}), '<=', 150, 'README.md is short');

for my $document (@documents)
{
	my $prose = join "\n", map { /^\|/ ? '' : $_ } split /\n/, decode('UTF-8', without_code($text{$document}));

	is_deeply([ grep { length > 120 } split /\n/, $prose ], [], "$document: lines of prose have 120 columns at most");
}

# A title, and a sentence that says who reads on, and what for.
ok($text{$_} =~ /\A# \S.*\n\nFor [^\n]/, "$_: says for whom it is") for @pages;

# Words that had several meanings, or none that the field knows.
for my $document (@documents)
{
	my $words = without_code($text{$document}) =~ s/`[^`]*`//gr;

	is_deeply([ $words =~ /\b(?:anew|(?:bring|brings|bringing|brought)\s(?:\S+\s){0,3}?out|sign of life|lets? go of|for people)\b/gi ],
		[], "$document: its words are those of the glossary");
}

# ---- names -----------------------------------------------------------------------------------------------------------

my $all = join "\n", @text{@documents};
my %function = map { $_ => 1 } split /\n/, $node->safe_psql('postgres', q{SELECT DISTINCT proname FROM pg_proc WHERE proname LIKE 'siphon%'});
my %setting = map { $_ => 1 } split /\n/, $node->safe_psql('postgres', q{SELECT name FROM pg_settings WHERE name LIKE 'siphon.%'});
my $help = join '', map { (run_command([ @$_, '--help' ]))[0] } ['siphon-publisher'], ['siphon-tail'];
my %option = map { $_ => 1 } $help =~ /(--[a-z][a-z-]*[a-z])/g;

is_deeply([ grep { !$function{$_} } uniq sort $all =~ /`(?:SELECT )?(?:\* FROM )?(siphon_\w+)\(/g ], [], 'functions are there');
is_deeply([ grep { !$setting{$_} } uniq sort $all =~ /`(siphon\.[a-z]+_[a-z_]+)\b/g ], [], 'settings are there');
is_deeply([ grep { !$option{$_} } uniq sort map { /(?<![\w-])(--[a-z][a-z-]*[a-z])(?![\w-])/g } $all =~ /`((?:siphon-publisher |siphon-tail )?--[^`]*)`/g ],
	[], 'options are there');

# ---- states ----------------------------------------------------------------------------------------------------------

# How each kind of source has them.
my %states_of = (
	'src/server/shmem.cpp app_state_name' => sub { $_[0] =~ /^app_state_name\(.*?^\}/ms; return grep { $_ ne 'unknown' } $& =~ /return "([^"]+)"/g },
	'src/registry/table_phase.h kTablePhaseNames' => sub { $_[0] =~ /kTablePhaseNames\[\] = \{(.*?)\}/s; return $1 =~ /"(\w+)"/g },
	'src/snapshot/snapshot_phase.h SnapshotPhase' => sub { $_[0] =~ /enum class SnapshotPhase : int \{(.*?)\}/s; return $1 =~ /(\w+)/g },
	map { my $enum = $_->[1]; "$_->[0] $enum" => sub { $_[0] =~ /enum class $enum \{(.*?)\}/s; return map { /^\s*(\w+)/ ? $1 : () } split /\n/, $1 } }
	  ['publisher/table/table_state.h', 'HandOffPhase'], ['publisher/core/publisher_state.h', 'PublisherState']);
my %diagram = $text{'docs/architecture.md'} =~ /^<!-- states: (.*?) -->\n```mermaid\n(.*?)^```/msg;

is_deeply([ sort keys %diagram ], [ sort keys %states_of ], 'there are the diagrams');
for my $source (sort keys %diagram)
{
	my ($file) = split / /, $source;
	my %drawn = map { s/_/ /gr => 1 } map { /^  (\S+) --> (\S+)/ ? grep { $_ ne '[*]' } $1, $2 : () } split /\n/, $diagram{$source};

	is_deeply([ sort keys %drawn ], [ uniq sort $states_of{$source}->(slurp_file($file)) ], "the states of $source");
}

# Where the sources have a table of transitions, which they assert, the diagram has each of them, with its reason, and no other.
for my $source (grep { !/app_state_name/ } sort keys %states_of)
{
	my ($file, $names) = split / /, $source;
	my ($table) = slurp_file($file) =~ /k\w+Transitions\[\] = \{\n(.*?)^\};/ms;
	my %transition = map { s/\w+::(\w+)/$names eq 'kTablePhaseNames' ? lc $1 : $1/ger => 1 }
	  map { /^\{(\{\}|[\w:]+),\s+([\w:]+),\s+"([^"]*)"\}$/ ? ($1 eq '{}' ? '[*]' : $1) . " --> $2 : $3" : "not read: $_" }
	  $table =~ /(\{(?:\{\})?[^{}]*\})/g;
	my @drawn = grep { / : / } map { /^  (\S+ --> \S+.*)/ ? $1 : () } split /\n/, $diagram{$source};

	cmp_ok(scalar keys %transition, '>', 6, "$file has transitions");
	is_deeply([ sort @drawn ], [ sort keys %transition ], "the transitions of $file");
}

done_testing();
