# An application is made once all transactions are over that were open then. Who calls for it hears after a moment whose they
# are, prepared ones by their names, and what ends them; on a standby, which of the primary's.
use strict;
use warnings FATAL => 'all';

use Siphon;
use Test::More;

my $primary = siphon_node('primary');

$primary->safe_psql('postgres', 'CREATE TABLE t (id int PRIMARY KEY)');

# Nobody waits for a moment where nothing is open.
my ($code, $stdout, $stderr) = $primary->psql('postgres', "SELECT siphon_add_table('t', 'first', snapshot => false)");
is($code, 0, 'a table is added');
unlike($stderr, qr/waits for open transactions/, 'and nothing is waited for');

my $open = $primary->background_psql('postgres');
my $pid = $open->query('SELECT pg_backend_pid()');
$open->query('BEGIN; INSERT INTO t VALUES (1)');
$primary->safe_psql('postgres', q{BEGIN; INSERT INTO t VALUES (2); PREPARE TRANSACTION 'it''s prepared'});

# The call is seen waiting by what it says, before anything ends.
sub add_meanwhile
{
	my ($node, $application, $until, $end) = @_;
	my $call = $node->background_psql('postgres', on_error_stop => 0);

	$call->query_until(qr/called/, "\\echo called\nSELECT siphon_add_table('t', '$application', snapshot => false);\n");
	wait_until('it says what it waits for', sub { $call->{run}->pump_nb; $call->{stderr} =~ $until });
	my $said = $call->{stderr};
	$end->();
	wait_for_state($node, 'streaming', $application);
	# With \q, as an error of the session would be one of this test.
	$call->quit;
	return $said;
}

my $said = add_meanwhile($primary, 'main', qr/HINT:.*\n/, sub {
	$open->query('COMMIT');
	$primary->safe_psql('postgres', q{COMMIT PREPARED 'it''s prepared'});
});
like($said, qr/NOTICE:  creating replication slot "siphon_main" waits for open transactions: (that of process $pid, prepared transaction 'it''s prepared'|prepared transaction 'it''s prepared', that of process $pid)\n/, 'both are named');
like($said, qr/HINT:  .*pg_terminate_backend.*ROLLBACK PREPARED/, 'and what ends them');

if (standby_supported($primary))
{
	my $standby = siphon_standby($primary, 'standby');

	$open->query('BEGIN; INSERT INTO t VALUES (3)');
	my $xid = $open->query('SELECT pg_current_xact_id()');
	# With a commit, behind which all of it is sent.
	$primary->safe_psql('postgres', 'SELECT pg_log_standby_snapshot(); INSERT INTO t VALUES (4)');
	$primary->wait_for_replay_catchup($standby);
	$said = add_meanwhile($standby, 'copy', qr/HINT:  On the primary: SELECT pid.*\n/, sub {
		$open->query('COMMIT');
		wait_until('it is there', sub {
			$primary->safe_psql('postgres', 'SELECT pg_log_standby_snapshot()');
			return (application($standby, 'copy')->{state} // '') eq 'streaming';
		});
	});
	like($said, qr/NOTICE:  creating replication slot "siphon_copy" waits for open transactions of the primary: $xid\n/, 'a standby: it is named');
}
$open->quit;

done_testing();
