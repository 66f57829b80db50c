# Alert rules and dashboard ask for what a publisher really exports, each alert has its paragraph in docs/alerts.md, and
# promtool's tests of the rules hold. Where Debian's prometheus is installed, one scrapes a publisher: nothing fires while
# all is well, and what is wrong fires.
use strict;
use warnings FATAL => 'all';

use HTTP::Tiny;
use IPC::Run ();
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Process;
use Test::More;

my $rules = slurp_file('deploy/prometheus/siphon.rules.yml');
my $tests = slurp_file('deploy/prometheus/siphon.rules.test.yml');
my $dashboard = decode_json(slurp_file('deploy/grafana/siphon.json'));
my $handbook = slurp_file('docs/alerts.md');

# ---- the rules and the handbook --------------------------------------------------------------------------------------

my @alerts = $rules =~ /- alert: (\w+)/g;
my @paragraphs = $handbook =~ /^### (Siphon\w+)$/mg;

cmp_ok(scalar @alerts, '>', 10, 'there are alerts');
is_deeply([ sort @paragraphs ], [ sort @alerts ], 'each alert has a paragraph, and each paragraph an alert');
for my $rule (split /(?=- alert: )/, $rules =~ s/\A.*?(?=- alert: )//sr)
{
	my ($alert) = $rule =~ /- alert: (\w+)/;

	like($rule, qr/ for: \d+[smh]\n/, "$alert: for how long");
	like($rule, qr/ severity: (?:critical|warning)\n/, "$alert: how grave");
	like($rule, qr/ summary: .*\n +description: .*\n/, "$alert: words");
	like($rule, qr{ runbook_url: docs/alerts\.md#\L$alert\E\n}, "$alert: where to read on");
	like($tests, qr/alertname="$alert"/, "$alert: it is made to fire");
}

SKIP:
{
	skip 'promtool is not installed', 2 unless installed('promtool');
	for my $check ([qw(check rules siphon.rules.yml)], [qw(test rules siphon.rules.test.yml)])
	{
		my $said = '';

		ok(IPC::Run::run([ 'promtool', @$check ], init => sub { chdir 'deploy/prometheus' or die $! }, '>&' => \$said), "promtool @$check")
		  or diag($said);
	}
}

# ---- what a publisher exports ----------------------------------------------------------------------------------------

# A limit to what the slot keeps, and a snapshot that takes its time.
my $node = siphon_node('primary', conf => "siphon.max_retained_wal = '1GB'\nsiphon.snapshot_rate = '64kB'");
my $nats = siphon_nats();
my $publisher = siphon_publisher($node, $nats);

$node->safe_psql('postgres', q{
	CREATE TABLE issues (id bigint PRIMARY KEY, title text);
	CREATE TABLE labels (id bigint PRIMARY KEY);
	CREATE TABLE old (id bigint PRIMARY KEY, title text);
	INSERT INTO old SELECT g, repeat('row ', 200) FROM generate_series(1, 10000) g});
add_table($node, $_) for qw(issues labels);
add_table($node, 'old', snapshot => 'true');
$node->safe_psql('postgres', q{INSERT INTO issues VALUES (1, 'one')});

my $metrics;

wait_until(
	'all metrics are there',
	sub {
		$metrics = $publisher->metrics;
		return $metrics->{'siphon_snapshot_blocks{schema="public",table="old"}'} && $metrics->{siphon_slot_headroom_bytes}
		  && defined $metrics->{siphon_slot_lag_seconds}
		  # It is asked every five seconds.
		  && $metrics->{'siphon_stream_messages{stream="events"}'}
		  && $metrics->{'siphon_events_total{schema="public",table="issues",operation="insert"}'};
	});

# The labels of each metric, with their values.
my %labels_of;

for my $metric (keys %$metrics)
{
	my ($name, $labels) = $metric =~ /^(\w+)(?:\{(.*)\})?$/;

	$labels_of{$name}{application}{main} = 1;
	$labels_of{$name}{$1}{$2} = 1 while ($labels // '') =~ /(\w+)="([^"]*)"/g;
}

# This stream has no limits and no further copies, so their metrics are not there; the unit test of the metrics shows them with these labels.
my %of_stream = (application => { main => 1 }, stream => { events => 1, held => 1 });
$labels_of{siphon_stream_limit_bytes} //= { %of_stream, discard => { old => 1, new => 1 } };
$labels_of{siphon_stream_max_age_seconds} //= {%of_stream};
$labels_of{siphon_stream_replica_lag} //= { %of_stream, replica => { n3 => 1 } };

# Of what is made by Prometheus, and is no publisher's metric: up, and the label job.
sub asks_for_what_there_is
{
	my ($name, $expression) = @_;
	my $metrics = qr/\b((?:siphon|process)_\w+)/;
	my @wrong = map { "no metric $_" } grep { !$labels_of{$_} } $expression =~ /$metrics/g;
	my %any = map { map { $_ => 1 } keys %{ $labels_of{$_} // {} } } $expression =~ /$metrics/g;

	while ($expression =~ /$metrics\{([^}]*)\}/g)
	{
		my ($metric, $selectors) = ($1, $2);

		while ($selectors =~ /(\w+)(=~?)"([^"]*)"/g)
		{
			my ($label, $operator, $value) = ($1, $2, $3);

			next if $label eq 'job';
			push @wrong, "$metric has no label $label" if !$labels_of{$metric}{$label};
			push @wrong, "$metric has no $label=\"$value\"" if $operator eq '=' && !$labels_of{$metric}{$label}{$value};
		}
	}
	while ($expression =~ /\bby \(([^)]*)\)/g)
	{
		push @wrong, map { "no label $_" } grep { !$any{$_} } split /, */, $1;
	}
	is_deeply(\@wrong, [], $name);
	return \%any;
}

while ($rules =~ /- alert: (\w+)\s+expr: '(.*?)'\n(.*?)(?=- alert|\z)/sg)
{
	my ($alert, $expression, $rest) = ($1, $2, $3);
	my $labels = asks_for_what_there_is("$alert: what it asks for is exported", $expression);

	is_deeply([ grep { $_ ne 'instance' && !$labels->{$_} } $rest =~ /\$labels\.(\w+)/g ], [], "$alert: its words have the labels that they name");
}

my @panels = grep { $_->{type} ne 'row' } @{ $dashboard->{panels} };

cmp_ok(scalar @panels, '>', 15, 'there are panels');
for my $panel (@panels)
{
	for my $target (@{ $panel->{targets} })
	{
		my $labels = asks_for_what_there_is("dashboard: $panel->{title}, $target->{refId}", $target->{expr});

		is_deeply([ grep { !$labels->{$_} } $target->{legendFormat} =~ /\{\{(\w+)\}\}/g ], [], "dashboard: $panel->{title}, its legend");
	}
}
my %shown = map { $_ => 1 } map { map { $_->{expr} =~ /\b(siphon_\w+?)(?:_bucket|_sum|_count)?\b/g } @{ $_->{targets} } } @panels;
is(scalar(grep { !$labels_of{$_} && !$labels_of{"${_}_bucket"} } keys %shown), 0, 'the dashboard shows no metric that is not there');
is_deeply([ sort grep { /^siphon_(?:stream|holding|catch_up|resuming)_/ && !$shown{$_} } keys %labels_of ], [], 'it shows all of streams and held changes');

# ---- a real Prometheus -----------------------------------------------------------------------------------------------

SKIP:
{
	skip 'prometheus is not installed', 6 unless installed('prometheus') && installed('promtool');
	my $directory = PostgreSQL::Test::Utils::tempdir();
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my ($target) = $publisher->url =~ m{//(.*)};

	# The rules as they are, but at once; scraped often.
	write_file("$directory/siphon.rules.yml", $rules =~ s/ for: \w+/ for: 0s/gr);
	write_file("$directory/prometheus.yml",
		slurp_file('deploy/prometheus/prometheus.yml') =~ s/127\.0\.0\.1:9711/$target/r =~ s/scrape_interval: \w+/scrape_interval: 1s\n  evaluation_interval: 1s/r);

	my $prometheus = Siphon::Prometheus->new('prometheus', directory => $directory, port => $port)->start;
	my $ask = sub {
		my $answer = HTTP::Tiny->new(timeout => 10)->get("http://127.0.0.1:$port/api/v1/$_[0]");

		return $answer->{success} ? decode_json($answer->{content})->{data} : undef;
	};
	# Those that look at a rise or a forecast have nothing to go by yet.
	my $firing = sub { return { map { $_->{labels}{alertname} => $_ } @{ $ask->('alerts')->{alerts} } } };

	wait_until('Prometheus has scraped', sub { my $data = $ask->('query?query=siphon_ready'); $data && @{ $data->{result} } });
	# An evaluation that knows of it.
	my $since = wait_until('the rules are evaluated', sub { my $at = ($ask->('rules')->{groups}[0] // {})->{lastEvaluation}; $at && $at !~ /^0001/ && $at });
	wait_until('and again', sub { $ask->('rules')->{groups}[0]{lastEvaluation} ne $since });
	wait_until('nothing fires that looks at states while all is well',
		sub { !grep { !/SnapshotLong|SnapshotStuck/ } keys %{ $firing->() } });
	pass('nothing fires while all is well');
	ok((!grep { $_->{health} ne 'ok' } @{ $ask->('rules')->{groups}[0]{rules} }), 'Prometheus can evaluate each rule');

	# A table that loses its key, then a broker that goes away, then the publisher itself.
	$node->safe_psql('postgres', q{ALTER TABLE issues REPLICA IDENTITY NOTHING; UPDATE issues SET title = 'nameless'});
	my $alert = wait_until('SiphonTableFailed fires', sub { $firing->()->{SiphonTableFailed} });
	like($alert->{annotations}{summary}, qr/^1 tables of main/, 'a failed table');
	$nats->kill9;
	$alert = wait_until('SiphonNotReady fires', sub { $firing->()->{SiphonNotReady} });
	is($alert->{labels}{severity}, 'critical', 'a broker that is gone');
	$publisher->kill9;
	$alert = wait_until('SiphonPublisherDown fires', sub { $firing->()->{SiphonPublisherDown} });
	is($alert->{labels}{instance}, $target, 'a publisher that is gone');
	is($prometheus->stop, 0, 'Prometheus stops');
}

sub installed
{
	my ($program) = @_;

	return grep { -x "$_/$program" } split /:/, $ENV{PATH};
}

done_testing();

# A Prometheus of one directory, which has its configuration.
package Siphon::Prometheus;

use parent -norequire, 'Siphon::Process';

sub command
{
	my ($self) = @_;

	return (
		'prometheus',
		"--config.file=$self->{directory}/prometheus.yml",
		"--storage.tsdb.path=$self->{directory}/data",
		"--web.listen-address=127.0.0.1:$self->{port}");
}
