# Whoever orders by version alone gets the table, in whatever order messages are read: (generation, 0, 0) of a snapshot's row,
# (generation, commit_lsn, ordinal) of a change. A row's own position is no version: a transaction that was committed before the
# snapshot's LSN, and was not visible to it yet, follows with a smaller one.
use strict;
use warnings FATAL => 'all';

use List::Util qw(max shuffle);
use Siphon;
use Test::More;

my $seed = $ENV{SIPHON_SEED} // int(rand(1 << 31));
srand($seed);
diag("SIPHON_SEED=$seed");

# Transactions stay long between their commit record and their end.
my $node = siphon_node('primary', conf => "fsync = on\ncommit_delay = 20000\ncommit_siblings = 0");
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

$node->safe_psql('postgres', 'CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 200) g; CREATE SEQUENCE ids START 1000');
add_table($node, 't', snapshot => 'true');
wait_for_table($node, 't');

my $load = start_pgbench(
	$node,
	{
		change => q{
\set a random(1, 100)
\set b random(101, 200)
UPDATE t SET v = v + 1 WHERE id = :a;
INSERT INTO t VALUES (nextval('ids'), 0);
DELETE FROM t WHERE id = :b;
INSERT INTO t VALUES (:b, 0) ON CONFLICT DO NOTHING;
UPDATE t SET id = nextval('ids') WHERE id = (SELECT max(id) FROM t WHERE id % 7 = 0 AND id > 1000);
}
	},
	'--random-seed' => $seed,
	-c => 8,
	-T => 300);

# The positions of changes of rows that stand behind rows of their generation, and before these by their position.
sub early
{
	my ($events) = @_;
	my ($generation, $lsn) = (0, '');
	my @early;

	for my $event (@$events)
	{
		($generation, $lsn) = @$event{ 'generation', 'snapshot_lsn' } if $event->{operation} eq 'SNAPSHOT-END';
		push @early, $event->{position}
		  if $event->{operation} =~ /^(?:UPDATE|DELETE)$/ && $event->{generation} == $generation && substr($event->{position}, 0, 16) lt $lsn;
	}
	return @early;
}

my @early;

for my $round (1 .. 20)
{
	my $generation = $node->safe_psql('postgres', "SELECT generation FROM siphon_tables");

	$node->safe_psql('postgres', "SELECT siphon_resync_table('t')");
	wait_for_table($node, 't', 'streaming', after => $generation);
	wait_confirmed($node);
	@early = early(replay($nats, table => 'public.t'));
	last if @early;
}
stop_pgbench($load);
cmp_ok(scalar @early, '>', 0, 'changes follow whose position is smaller than that of the rows');

# What is left when of each key the newest version counts. A TRUNCATE, and a generation that begins, is one of all rows.
sub newest
{
	my ($events, $version) = @_;
	my (%newest, @ends);

	for my $event (@$events)
	{
		my $at = $version->($event);

		push @ends, $at if $event->{operation} =~ /^(?:TRUNCATE|SNAPSHOT-BEGIN)$/;
		for my $image (grep { $_ } @$event{qw(old columns)})
		{
			my $found = $newest{ $image->{id} };

			$newest{ $image->{id} } = [ $at, $image == ($event->{columns} // 0) ? $image->{v} : undef ] if !$found || $at gt $found->[0];
		}
	}

	my ($end) = sort { $b cmp $a } @ends;

	return { map { $_ => $newest{$_}[1] } grep { defined $newest{$_}[1] && $newest{$_}[0] ge $end } keys %newest };
}

sub by_version
{
	my ($event) = @_;
	my ($lsn, $ordinal) = split /\//, $event->{position} // '';

	($lsn, $ordinal) = ('0' x 16, 0) if $event->{operation} =~ /^SNAPSHOT/;
	return sprintf '%010d/%s/%020d', $event->{generation}, $lsn, $ordinal;
}

sub by_position
{
	my ($event) = @_;
	my ($lsn, $ordinal) = split /\//, $event->{position} // '0000000000000000/0';

	return sprintf '%010d/%s/%020d', $event->{generation}, $lsn, $ordinal;
}

sub table
{
	return { map { split /\|/ } split /\n/, $node->safe_psql('postgres', 'TABLE t') };
}

wait_confirmed($node);
my $events = replay($nats, table => 'public.t');
is_deeply(newest([ shuffle @$events ], \&by_version), table(), 'the newest versions of all keys are the table, in any order');
my $last = max map { $_->{generation} } @$events;
my @of_last = grep { $_->{generation} == $last && $_->{operation} ne 'SNAPSHOT-END' } @$events;

# Only what nothing changed later shows the difference, so as it was just behind those changes.
my ($index) = grep { ($of_last[$_]{position} // '') eq $early[-1] } 0 .. $#of_last;
my @till = @of_last[ 0 .. $index ];
my ($right, $wrong) = map { newest(\@till, $_) } \&by_version, \&by_position;
isnt(join(' ', map { "$_:$right->{$_}" } sort keys %$right), join(' ', map { "$_:$wrong->{$_}" } sort keys %$wrong), 'with the positions of rows they are not');

$node->safe_psql('postgres', 'TRUNCATE t; INSERT INTO t VALUES (1, 1), (2, 2); UPDATE t SET id = 3 WHERE id = 2');
wait_confirmed($node);
is_deeply(newest([ shuffle @{ replay($nats, table => 'public.t') } ], \&by_version), table(), 'nor is there anything of before a TRUNCATE');

done_testing();
