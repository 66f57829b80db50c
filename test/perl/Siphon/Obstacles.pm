# What tests do to tables that can't be published any more as they should be, until that is mended.
package Siphon::Obstacles;

use strict;
use warnings FATAL => 'all';

use JSON::PP;
use PostgreSQL::Test::Utils;
use Siphon;
use Siphon::Replay;
use Siphon::Snapshot;
use Test::More;

# Options: server, which publishes, and primary, where statements are run, if they are not the same.
sub new
{
	my ($class, %options) = @_;

	return bless { primary => $options{server}, %options }, $class;
}

sub state
{
	my ($self, $table) = @_;

	return table_state($self->{server}, $table);
}

sub confirmed
{
	my ($self) = @_;

	wait_confirmed($self->{server}, primary => $self->{primary});
	return;
}

# Tests: with these statements the table comes to say this as its reason, and so does who asks for its rows. Options: told,
# what the table says, if that is something else.
sub begins
{
	my ($self, $table, $name, $sql, $reason, %options) = @_;
	my $generation = $self->state($table)->{generation};

	$self->{primary}->safe_psql('postgres', $sql);
	my $row = wait_for_table($self->{server}, $table, 'resync needed');
	like($row->{reason}, $options{told} // qr/^$reason \(.+\)$/, "$name: the table says so");
	is($row->{generation}, $generation, "$name: nothing was tried");
	fails_with($self->{server}, "SELECT siphon_resync_table('$table')", "$name: rows anew", error => $reason, hint => qr/./);
	return;
}

# Tests: with these statements the table's rows come anew, and nothing is the matter any more.
sub ends
{
	my ($self, $table, $name, $sql) = @_;
	my $generation = $self->state($table)->{generation};

	$self->{primary}->safe_psql('postgres', $sql);
	wait_for_table($self->{server}, $table, 'streaming', after => $generation);
	$self->confirmed;
	is_replayed($self->{nats}, $self->{primary}, [$table], "$name: the rows come anew");
	is($self->state($table)->{reason}, undef, "$name: nothing is the matter any more");
	return;
}

# The names of the key's columns, in the order of the table, for each list of columns that came.
sub keys_of
{
	my ($self, $table) = @_;
	my ($out) = run_command(
		[ 'siphon-tail', '--from-start', '--stop-at-end', '--columns', Siphon::Replay::stream_option($self->{nats}->url), '--table' => "public.$table" ]);
	my @lists = grep { $_->{operation} eq 'COLUMNS' } map { decode_json($_) } split /\n/, $out;

	return map { join ' ', map { $_->{name} } grep { $_->{key} } @{ $_->{columns} } } @lists;
}

1;
