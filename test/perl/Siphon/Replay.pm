# The replay checker: builds copies of tables from an application's stream, by the rules that proto/siphon.proto gives
# to authors of consumers, and holds them against the tables, column by column. It is stricter than a consumer has to
# be, so that a message that was lost, doubled or swapped shows: whatever does not fit is a difference.
#
# It reads what siphon-tail prints, and takes its lines apart without decoding values, so that no number changes on
# its way through Perl: the server gets them as they were printed, and makes them values of the columns' types. Rows
# are in a file, in memory there is only where each key's row stands.
package Siphon::Replay;

use strict;
use warnings FATAL => 'all';

use File::Temp;
use JSON::PP;

# A string in JSON, a list with all that is in it, and any value of a column.
my $STRING = qr/"(?:[^"\\]++|\\.)*+"/;
my $LIST;
$LIST = qr/\[(?:[^\[\]"]++|$STRING|(??{ $LIST }))*+\]/;
my $VALUE = qr/(?:$STRING|$LIST|[^,}]++)/;
my $HEAD = qr/^\{"application":$STRING,"schema":($STRING),"table":($STRING),(?:"partition":(\d+),)?"operation":"([A-Z-]+)"(?:,"generation":(\d+))?/;
my $PLACE = qr/\G,"position":"([0-9A-F]{16})\/(\d+)","timestamp":$STRING,"xid":\d+/;
# One of a table's columns: name, number, whether it is part of the key, and what rows have that are older than it.
my $COLUMN = qr/\{"name":($STRING),"attnum":(\d+),"type":$STRING,"type_oid":\d+(?:,"base_type":$STRING)?(,"key":true)?(?:,"existing_rows":($VALUE))?\}/;

# A row's place in memory: where it stands in the file, and its partition.
my $PARTITIONS = 1024;
my $BATCH = 32 * 1024 * 1024;
my $SHOWN = 10;

# Options:
#   tables     names of the tables, as schema.table
#   former     names that they had before: { 'public.former' => 'public.present' }
#   connect    conninfo of a server that has them and that can be written to
#   key        names of the columns that name a row; by default its replica identity, or the primary key; without
#              any, all columns do, and there may be equal rows
#   counter    name of a column that each UPDATE is known to increment by one
#   directory  where a file may be put that holds all that was ever a row
sub new
{
	my ($class, %options) = @_;
	my $self = bless { %options, tables => {}, rows => {}, count => {}, differences => 0, shown => [] }, $class;

	$self->{file} = File::Temp->new(TEMPLATE => 'siphon-replay-XXXXXX', TMPDIR => 1,
		$options{directory} ? (DIR => $options{directory}) : ());
	open $self->{reader}, '<', $self->{file}->filename or die "$!";
	$self->{written} = $self->{flushed} = 0;
	$self->{find_counter} = in_object($options{counter}) if defined $options{counter};
	$self->add_table($_) for @{ $options{tables} };
	$self->{tables}{ name_of($_) } = $self->{tables}{ name_of($options{former}{$_}) } for keys %{ $options{former} // {} };
	return $self;
}

# What finds a name's value in an object. Quotes within strings are escaped, so it finds nothing else.
sub in_object
{
	my ($name) = @_;

	return after_name(json_string($name));
}

# The same, for a name that is JSON already.
sub after_name
{
	my ($json) = @_;
	my $quoted = quotemeta $json;

	return qr/[{,]$quoted:($VALUE)/;
}

sub json_string
{
	my ($text) = @_;

	return JSON::PP->new->utf8(0)->allow_nonref->encode($text);
}

# A table's name as it is found in a line.
sub name_of
{
	return join '', map { json_string($_) } $_[0] =~ /^([^.]+)\.(.+)$/;
}

sub add_table
{
	my ($self, $name) = @_;
	my $description = $self->describe($name);

	$self->{tables}{ name_of($name) } = { %$description, $self->nothing($name) };
	return;
}

# A table's copy, before anything came.
sub nothing
{
	my ($self, $name) = @_;

	return (title => $name, rows => {}, equal => {}, parts => {}, generation => 0, partitions => $PARTITIONS);
}

# What a table is now.
sub describe
{
	my ($self, $name) = @_;
	my ($schema, $table) = $name =~ /^([^.]+)\.(.+)$/ or die "not a table's name with its schema: $name\n";
	my ($schema_literal, $table_literal) = map { "'" . s/'/''/gr . "'" } $schema, $table;
	my $answer = $self->ask(qq{
		SET search_path = '';
		WITH t AS (
			SELECT c.oid, relkind FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace
			 WHERE nspname = $schema_literal AND relname = $table_literal)
		SELECT pg_catalog.json_build_object(
			-- Tables that inherit from it are tables of their own.
			'from', pg_catalog.format(CASE relkind WHEN 'p' THEN '%I.%I' ELSE 'ONLY %I.%I' END, $schema_literal, $table_literal),
			'columns', (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(attname, pg_catalog.quote_ident(attname),
							pg_catalog.format_type(atttypid, atttypmod),
							(SELECT typdelim FROM pg_catalog.pg_type e WHERE e.oid = coalesce(d.typelem, y.typelem)), attnum,
							(attmissingval::pg_catalog.text::pg_catalog.text[])[1]) ORDER BY attnum)
						  FROM pg_catalog.pg_attribute
						  JOIN pg_catalog.pg_type y ON y.oid = atttypid
						  LEFT JOIN pg_catalog.pg_type d ON d.oid = y.typbasetype
						 WHERE attrelid = t.oid AND attnum > 0 AND NOT attisdropped AND attgenerated <> 'v'),
			'key', (SELECT pg_catalog.json_agg(attname ORDER BY n)
					  FROM (SELECT * FROM pg_catalog.pg_index
							 WHERE indrelid = t.oid AND (indisreplident OR indisprimary)
							 ORDER BY indisreplident DESC LIMIT 1) i,
						   pg_catalog.unnest(indkey) WITH ORDINALITY k(attnum, n)
					  JOIN pg_catalog.pg_attribute a ON a.attnum = k.attnum AND a.attrelid = t.oid)) FROM t});
	my $description = JSON::PP->new->utf8(0)->decode($answer || die "there is no table $name\n");
	my $key = $self->{key} // $description->{key};

	$description->{key} = $key;
	$description->{keyless} = !$key;
	$description->{find} = [ map { in_object($_) } $key ? @$key : map { $_->[0] } @{ $description->{columns} } ];
	return $description;
}

# The copy of the table that has this name in the stream; nothing if nobody asked for it.
sub table
{
	my ($self, $name) = @_;

	return $self->{tables}{$name};
}

sub ask
{
	my ($self, $sql) = @_;

	open my $psql, '-|', 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $self->{connect}, '-c', $sql or die "psql: $!";
	my $answer = do { local $/; <$psql> };
	close $psql or die "psql failed\n";
	chomp $answer;
	return $answer;
}

# What does not fit in a partition.
sub doubt
{
	my ($self, $part, $what) = @_;

	$part->{doubts} ? push @{ $part->{doubts} }, $what : $self->differ($what);
	return;
}

sub differ
{
	my ($self, $what) = @_;

	push @{ $self->{shown} }, $what if @{ $self->{shown} } < $SHOWN;
	$self->{differences}++;
	return;
}

# How the programs are told where a stream is: at a URL of NATS, or in file:DIR.
sub stream_option
{
	my ($url) = @_;

	return ($url =~ /^file:/ ? '--stream' : '--nats-url', $url);
}

# Reads an application's stream from its start to its end. Options: nats_url, which may be file:DIR; application.
sub read_stream
{
	my ($self, %options) = @_;

	open my $tail, '-|', 'siphon-tail', '--from-start', '--stop-at-end', '--columns', stream_option($options{nats_url}),
	  '--application', $options{application} // 'main', $self->{watermarks} ? '--watermarks' : ()
	  or die "siphon-tail: $!";
	while (my $line = <$tail>)
	{
		$self->take($line);
	}
	close $tail or $self->differ("siphon-tail can't read the stream: exit code " . ($? >> 8));
	return;
}

# ---- what a consumer does with each line ----------------------------------------------------------------------------

sub take
{
	my ($self, $line) = @_;

	return $self->differ("a line that siphon-tail does not print: $line") unless $line =~ /$HEAD/g;
	my ($table, $name, $partition, $operation, $generation) =
	  ($self->table("$1$2") // return, "$1$2", $3 // 0, $4, $5 // 0);
	my $part = $table->{parts}{$partition} //= { generation => 0, lsn => '', ordinal => 0 };
	my $say = sub { $self->doubt($part, "$table->{title}.$partition: $_[0]" . (defined $_[1] ? " at $_[1]" : '')) };

	# Left over from a snapshot that failed, or from when the table had more partitions.
	return $self->{count}{old}++
	  if $generation < $part->{generation} || ($partition >= $table->{partitions} && $generation <= $table->{generation});
	$self->{count}{$operation}++ unless $operation eq 'COLUMNS';
	$part->{name} = $name if $generation > $part->{generation};
	return $self->begin($table, $partition, $part, $generation, $line, $say) if $operation eq 'SNAPSHOT-BEGIN';
	if ($generation > $part->{generation})
	{
		# The table was added without its rows. Or else this is the end of a snapshot that failed, of which the stream
		# has lost the beginning: what does not fit then counts for nothing as soon as another begins.
		$part->{doubts} //= [] if $part->{generation} == 0;
		$say->("$operation of generation $generation, which has not begun")
		  if $operation =~ /^SNAPSHOT/ || $line =~ /^[^\[]*,"generation_start":"SNAPSHOT"/;
		$part->{generation} = $generation;
		delete @$part{qw(counted columns find)};
		@$part{ 'lsn', 'ordinal' } = ('', 0);
		$self->empty($table, $partition);
		$table->{partitions} = $PARTITIONS if $generation > $table->{generation};
	}
	return end($part, $line, $say) if $operation eq 'SNAPSHOT-END';
	return $self->take_columns($table, $partition, $part, $line, $say) if $operation eq 'COLUMNS';

	return $say->("a line that siphon-tail does not print: $line") unless $line =~ /$PLACE/gc;
	my ($lsn, $ordinal, $at) = ($1, $2, "$1/$2");

	if ($operation eq 'SNAPSHOT')
	{
		return $say->('a row outside of a snapshot') unless defined $part->{counted};
		$part->{counted}++;
	}
	else
	{
		$say->("$operation in the middle of a snapshot", $at) if defined $part->{counted};
		if ($lsn lt $part->{lsn} || ($lsn eq $part->{lsn} && $ordinal <= $part->{ordinal}))
		{
			$say->("$operation is not beyond $part->{lsn}/$part->{ordinal}", $at);
		}
		@$part{ 'lsn', 'ordinal' } = ($lsn, $ordinal);
	}
	$part->{name} //= $name;
	$say->("$operation under a name that no RENAME told of", $at) if $name ne $part->{name};
	return $self->renamed($table, $part, $line, $say, $at) if $operation eq 'RENAME';
	# The rows that went with a partition are not known by it.
	return if $operation eq 'DETACH';
	return $self->empty($table, $partition) if $operation eq 'TRUNCATE' || $operation eq 'DROP';

	my ($columns, $old, $unchanged) = images(substr $line, pos $line);

	if ($operation eq 'SNAPSHOT' || $operation eq 'INSERT')
	{
		return $self->insert($table, $partition, $part, $columns, $say, $operation, $at);
	}

	my $gone = $self->take_away($table, $partition, $part, $old // $columns, $say, $operation, $at);

	if (defined $gone)
	{
		my $row;

		# The key alone is what the row was found by.
		$self->check_old($row //= $self->row($gone), $old, $say, $at)
		  if defined $old && fields($old) > 2 * @{ $part->{find} // $table->{find} };
		if ($operation eq 'UPDATE')
		{
			$self->check_counter($row //= $self->row($gone), $columns, $say, $at) if $self->{find_counter};
			$columns = with_unchanged($columns, $row // $self->row($gone), $unchanged) if defined $unchanged;
		}
	}
	$self->insert($table, $partition, $part, $columns, $say, $operation, $at) if $operation eq 'UPDATE';
	return;
}

# What a table's columns are from here on. The number tells which is which: rows keep the values of those that were there,
# whatever they were called, and of a column that is new have what it says of them. By the key that they have now, rows are
# found from here on.
sub take_columns
{
	my ($self, $table, $partition, $part, $line, $say) = @_;
	my @columns;

	while ($line =~ /[\[,]$COLUMN(?=[,\]])/g)
	{
		push @columns, { name => $1, number => $2, key => defined $3, existing => $4 // 'null' };
	}
	my @key = map { $_->{name} } grep { $_->{key} } @columns;

	# Without one, the columns that were given, by the names that they have in the end.
	if (!@key && $self->{key})
	{
		my %number = map { $_->[0] => $_->[4] } @{ $table->{columns} };
		my %name = map { $_->{number} => $_->{name} } @columns;

		@key = map { $name{ $number{$_} // 0 } // json_string($_) } @{ $self->{key} };
	}
	# And without a key, all columns name a row.
	$part->{keyless} = !@key;
	@key = map { $_->{name} } @columns unless @key;

	my $find = [ map { after_name($_) } @key ];
	my $before = $part->{columns};

	@$part{ 'columns', 'find' } = (\@columns, $find);
	return if !$before || same_columns($before, \@columns);
	$self->make_rows($table, $partition, $part, $before, $say);
	return;
}

sub same_columns
{
	my @lists = map { join ' ', map { "$_->{name} $_->{number} $_->{key}" } @$_ } @_;

	return $lists[0] eq $lists[1];
}

# Gives a partition's rows the columns and the key that it has, in place of those before.
sub make_rows
{
	my ($self, $table, $partition, $part, $before, $say) = @_;
	# An earlier decoder gave no numbers.
	my $mark = (grep { !$_->{number} } @$before, @{ $part->{columns} }) ? 'name' : 'number';
	my %name = map { $_->{$mark} => $_->{name} } @$before;
	my $rows = $table->{rows};
	my %place = map { $_ => $rows->{$_} } grep { $rows->{$_} % $PARTITIONS == $partition } keys %$rows;

	delete @$rows{ keys %place };
	$table->{equal} = {};
	for my $place (sort { $a <=> $b } values %place)
	{
		my %value = fields($self->row($place));
		my $row = join ',', map {
			my $old = $name{ $_->{$mark} };
			"$_->{name}:" . (defined $old ? $value{$old} // 'null' : $_->{existing})
		} @{ $part->{columns} };

		$self->insert($table, $partition, $part, "{$row}", $say, 'a new column or key');
	}
	return;
}

sub renamed
{
	my ($self, $table, $part, $line, $say, $at) = @_;
	my ($schema, $name) = $line =~ /,"new_schema":($STRING),"new_table":($STRING)\}$/
	  or return $say->("a line that siphon-tail does not print: $line");

	$part->{name} = "$schema$name";
	$say->("RENAME to $schema.$name, which is not its name", $at) unless ($self->{tables}{"$schema$name"} // 0) == $table;
	return;
}

# The end of a line is ,"columns":{...},"unchanged":[...],"old":{...}} and not all of them are there. What is looked
# for is nowhere else: in a string quotes would be escaped, and no column's value begins or ends with a brace.
sub images
{
	my ($rest) = @_;
	my %image = (columns => undef, unchanged => undef, old => undef);

	$rest =~ s/\}\n?\z//;
	for my $part ([ old => ',"old":{' ], [ unchanged => '},"unchanged":[' ], [ columns => ',"columns":{' ])
	{
		my ($name, $beginning) = @$part;
		my $at = index $rest, $beginning;

		next if $at < 0;
		$image{$name} = substr $rest, $at + length($beginning) - 1;
		$rest = substr $rest, 0, $at + ($name eq 'unchanged');
	}
	return @image{qw(columns old unchanged)};
}

sub begin
{
	my ($self, $table, $partition, $part, $generation, $line, $say) = @_;
	my ($partitions) = $line =~ /,"partitions":(\d+)/ or return $say->("a marker that siphon-tail does not print: $line");

	$say->("generation $generation begins twice") if $generation == $part->{generation};
	@$part{qw(generation lsn ordinal)} = ($generation, '', 0);
	$part->{counted} = 0;
	delete @$part{qw(doubts columns find)};
	$self->empty($table, $partition);
	if ($partitions < $table->{partitions})
	{
		$self->empty($table, $_) for grep { $_ >= $partitions } keys %{ $table->{parts} };
	}
	$table->{partitions} = $partitions;
	$table->{generation} = $generation;
	return;
}

sub end
{
	my ($part, $line, $say) = @_;
	my ($rows) = $line =~ /,"rows":(\d+)/ or return $say->("a marker that siphon-tail does not print: $line");

	return $say->("generation $part->{generation} ends, and is not under way") unless defined $part->{counted};
	$say->("$part->{counted} rows came, of $rows") if $part->{counted} != $rows;
	delete $part->{counted};
	return;
}

sub empty
{
	my ($self, $table, $partition) = @_;
	my $rows = $table->{rows};

	delete @$rows{ grep { $rows->{$_} % $PARTITIONS == $partition } keys %$rows };
	$table->{equal} = {};
	return;
}

sub key
{
	my ($table, $part, $object) = @_;
	my @key;

	for my $find (@{ $part->{find} // $table->{find} })
	{
		$object =~ $find or return;
		push @key, $1;
	}
	return join ',', @key;
}

sub insert
{
	my ($self, $table, $partition, $part, $columns, $say, $operation, $at) = @_;
	my $key = key($table, $part, $columns // '') // return $say->("$operation without a key", $at);

	# A table may have no columns.
	$columns //= '{}';
	# Equal rows are told apart by how many there are: a table without a key has one partition.
	$key .= ' #' . ++$table->{equal}{$key} if $part->{keyless} // $table->{keyless};

	my $there = $table->{rows}{$key};

	if (defined $there)
	{
		my $where = $there % $PARTITIONS;

		$say->($where == $partition ? "$operation makes row $key, which is there" : "row $key is in partition $where, too", $at);
	}
	$table->{rows}{$key} = $self->{written} * $PARTITIONS + $partition;
	print { $self->{file} } $columns, "\n" or die "$!";
	$self->{written} += length($columns) + 1;
	return;
}

# Returns its place.
sub take_away
{
	my ($self, $table, $partition, $part, $object, $say, $operation, $at) = @_;
	my $key = key($table, $part, $object // '') // return $say->("$operation without a key", $at);

	$key .= ' #' . ($table->{equal}{$key} ? $table->{equal}{$key}-- : 0)
	  if $part->{keyless} // $table->{keyless};

	my $place = delete $table->{rows}{$key};

	return $say->("$operation of row $key, which is not there", $at) unless defined $place;
	$say->("$operation of row $key, which is in partition " . $place % $PARTITIONS, $at)
	  if $place % $PARTITIONS != $partition;
	return $place;
}

# The row at a place.
sub row
{
	my ($self, $place) = @_;
	my $offset = int($place / $PARTITIONS);

	if ($offset >= $self->{flushed})
	{
		$self->{file}->flush;
		$self->{flushed} = $self->{written};
	}
	seek $self->{reader}, $offset, 0 or die "$!";
	chomp(my $row = readline $self->{reader});
	return $row;
}

# Names and values.
sub fields
{
	my ($object) = @_;

	return $object =~ /\G[{,]($STRING):($VALUE)/g;
}

sub check_old
{
	my ($self, $row, $old, $say, $at) = @_;
	my %row = fields($row);
	my %old = fields($old);

	for my $column (grep { exists $row{$_} && $row{$_} ne $old{$_} } sort keys %old)
	{
		$say->("the old row's $column is " . short($old{$column}) . " and was " . short($row{$column}), $at);
	}
	return;
}

sub check_counter
{
	my ($self, $row, $columns, $say, $at) = @_;
	my ($before) = $row =~ $self->{find_counter} or return;
	my ($after) = $columns =~ $self->{find_counter} or return;

	$say->("$self->{counter} is $after after $before", $at) if $after ne 'null' && $after != $before + 1;
	return;
}

sub short
{
	my ($text) = @_;

	return length $text > 60 ? substr($text, 0, 57) . '...' : $text;
}

# The row with the values that the row before it has for the columns that are named.
sub with_unchanged
{
	my ($columns, $row, $names) = @_;
	my %row = fields($row);
	my @kept = map { "$_:" . ($row{$_} // 'null') } $names =~ /($STRING)/g;

	$columns =~ s/\}\z//;
	return $columns . join('', map { ($columns eq '{' ? '' : ',') . $_ } @kept) . '}';
}

# ---- the comparison with the tables ---------------------------------------------------------------------------------

# Says what does not fit in what came, then compares. Returns true if nothing differs.
sub compare
{
	my ($self) = @_;

	for my $table (sort { $a->{title} cmp $b->{title} } values %{ $self->{tables} })
	{
		$self->check_end($table);
		$self->finish_columns($table);
		$self->compare_table($table);
	}
	return $self->{differences} == 0;
}

sub check_end
{
	my ($self, $table) = @_;
	my $parts = $table->{parts};

	for my $partition (sort { $a <=> $b } grep { $_ < $table->{partitions} } keys %$parts)
	{
		my $part = $parts->{$partition};

		$self->differ($_) for @{ $part->{doubts} // [] };
		$self->differ("$table->{title}.$partition: generation $part->{generation} does not end") if defined $part->{counted};
	}
	# Without a snapshot it is not known how many there should be.
	return if $table->{partitions} == $PARTITIONS;
	for my $partition (0 .. $table->{partitions} - 1)
	{
		$self->differ("$table->{title}.$partition: generation $table->{generation} does not begin")
		  if ($parts->{$partition}{generation} // 0) != $table->{generation};
	}
	return;
}

# What became of columns behind a partition's last package: nothing in the stream says so yet.
sub finish_columns
{
	my ($self, $table) = @_;
	my @columns = map { { name => json_string($_->[0]), number => $_->[4], key => '', existing => defined $_->[5] ? json_string($_->[5]) : 'null' } }
	  @{ $table->{columns} };

	for my $partition (grep { $table->{parts}{$_}{columns} } keys %{ $table->{parts} })
	{
		my $part = $table->{parts}{$partition};
		my $before = [ map { { %$_, key => '' } } @{ $part->{columns} } ];

		next if same_columns($before, \@columns) || (grep { !$_->{number} } @$before);
		$part->{columns} = \@columns;
		# Rows are not looked for any more, and all differ.
		$part->{find} = [qr/(.*)/s];
		$self->make_rows($table, $partition, $part, $before, sub { });
	}
	return;
}

# A row, whose lists are strings now as PostgreSQL writes arrays: its input function alone makes any type of them.
sub with_arrays
{
	my ($table, $row) = @_;
	my %delimiter = map { json_string($_->[0]) => $_->[3] } @{ $table->{columns} };

	return $row if index($row, ':[') < 0;
	$row =~ s/\G([{,])($STRING):($VALUE)/"$1$2:" . (substr($3, 0, 1) eq '[' ? json_string(array(my $list = $3, $delimiter{$2})) : $3)/ge;
	return $row;
}

# Takes a list off the text's beginning.
sub array
{
	my (undef, $delimiter) = @_;
	my ($bounds, @elements) = ('');

	$_[0] =~ s/^\[(?:\{"bounds":"([^"]*)"\},?)?// or die "not a list: $_[0]\n";
	$bounds = "$1=" if defined $1;
	until ($_[0] =~ s/^\]//)
	{
		if ($_[0] =~ s/^\{"list"://)
		{
			push @elements, quoted(array($_[0], $delimiter));
			$_[0] =~ s/^\}// or die "not a list: $_[0]\n";
		}
		elsif ($_[0] =~ /^\[/)
		{
			push @elements, array($_[0], $delimiter);
		}
		else
		{
			$_[0] =~ s/^($STRING|[^],]++)// or die "not a list: $_[0]\n";
			my $element = $1;
			my $is_null = $element eq 'null';

			$element = JSON::PP->new->utf8(0)->allow_nonref->decode($element) if $element =~ /^"/;
			push @elements, $is_null ? 'NULL' : quoted($element);
		}
		$_[0] =~ s/^,//;
	}
	return $bounds . '{' . join($delimiter, @elements) . '}';
}

sub quoted
{
	my ($text) = @_;

	return '"' . ($text =~ s/(["\\])/\\$1/gr) . '"';
}

# The server makes rows of the columns' types of what was printed, some at a time, and compares their texts with those
# of the table's rows: 1.0 is not 1.00. All keys came once, so that it is enough when all rows that came are there, and
# none is missing; without a key, each must be there as often.
sub compare_table
{
	my ($self, $table) = @_;
	my @columns = @{ $table->{columns} };
	my %quoted = map { $_->[0] => $_->[1] } @columns;
	my @key = map { $quoted{$_} } @{ $table->{key} // [] };
	my $columns = join ', ', map { $_->[1] } @columns;
	my $keys = join ', ', @key;
	my $texts = join ', ', map { "$_->[1] text" } @columns;
	my $values = join ', ', map { "x.$_->[1]::$_->[2]" } @columns;
	my $named = sub { "concat_ws(', ', " . join(', ', map { "$_[0].$_" } @key) . ')' };
	my $join = sub { join ' AND ', map { "$_[0].$_ = $_[1].$_" } @key };
	my $compared = join ', ', map {
		my ($is, $should) = map { "$_->[0].$_->[1]::text COLLATE \"C\"" } [ 'r', $_->[1] ], [ 't', $_->[1] ];
		my $name = $_->[1] =~ s/'/''/gr;
		qq{CASE WHEN $is IS DISTINCT FROM $should
		   THEN concat('$name is ', coalesce(left($is, 60), 'NULL'), ' and should be ', coalesce(left($should, 60), 'NULL')) END}
	} @columns;
	my $row_texts = join ', ', map { "$_->[1]::text COLLATE \"C\"" } @columns;
	my $unlike = sub {
		my ($here, $there, $what) = @_;

		return qq{INSERT INTO differences (what)
			SELECT 'row ' || left(r::text, 200) || ' $what'
			  FROM (SELECT $row_texts FROM $here EXCEPT ALL SELECT $row_texts FROM $there) r;};
	};
	my $output = File::Temp->new(TEMPLATE => 'siphon-compare-XXXXXX', TMPDIR => 1);
	my $pid = open(my $psql, '|-') // die "fork: $!";

	if ($pid == 0)
	{
		open STDOUT, '>', $output->filename or die "$!";
		open STDERR, '>&', \*STDOUT or die "$!";
		exec 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $self->{connect} or die "psql: $!";
	}
	local $SIG{PIPE} = 'IGNORE';
	print $psql qq{
		SET client_encoding = 'UTF8';
		SET client_min_messages = warning;
		BEGIN ISOLATION LEVEL REPEATABLE READ;
		SET LOCAL TimeZone = 'UTC';
		SET LOCAL lc_monetary = 'C';
		CREATE TEMP TABLE incoming (line json) ON COMMIT DROP;
		CREATE TEMP TABLE replica ON COMMIT DROP AS SELECT $columns FROM $table->{from} LIMIT 0;
		CREATE TEMP TABLE came ON COMMIT DROP AS SELECT $keys FROM $table->{from} LIMIT 0;
		CREATE TEMP TABLE differences (n serial, what text) ON COMMIT DROP;\n};
	$self->each_batch(
		$table,
		sub {
			print $psql "COPY incoming FROM STDIN;\n", (map { with_arrays($table, $_) =~ s/\\/\\\\/gr } @_), "\\.\n", qq{
				INSERT INTO replica SELECT $values FROM incoming, json_to_record(line) AS x ($texts);
				TRUNCATE incoming;\n}, @key ? qq{
				INSERT INTO came SELECT $keys FROM replica;
				-- Some rows among many are found by the index.
				SET LOCAL enable_hashjoin = off;
				SET LOCAL enable_mergejoin = off;
				INSERT INTO differences (what)
					SELECT 'row ' || key || CASE WHEN gone THEN ' should not be there' ELSE ': ' || array_to_string(wrong, '; ') END
					  FROM (SELECT @{[ $named->('r') ]} AS key, t.$key[0] IS NULL AS gone,
								   array_remove(ARRAY[$compared]::text[], NULL) AS wrong
							  FROM replica r LEFT JOIN $table->{from} t ON @{[ $join->('r', 't') ]}) d
					 WHERE gone OR wrong <> '{}';
				RESET enable_hashjoin;
				RESET enable_mergejoin;
				TRUNCATE replica;\n} : ();
		});
	print $psql @key
	  ? qq{
		INSERT INTO differences (what)
			SELECT 'row ' || @{[ $named->('t') ]} || ' is missing' FROM $table->{from} t
			 WHERE NOT EXISTS (SELECT FROM came WHERE @{[ $join->('came', 't') ]});}
	  : ($unlike->('replica', $table->{from}, 'should not be there'), $unlike->($table->{from}, 'replica', 'is missing')), qq{
		SELECT json_build_object('rows', (SELECT count(*) FROM $table->{from}), 'differences', (SELECT count(*) FROM differences),
								 'shown', ARRAY(SELECT what FROM differences ORDER BY n LIMIT $SHOWN));
		COMMIT;\n};
	close $psql;

	my $said = do { local $/; readline $output };

	if ($? != 0 || $said !~ /\A\{.*\}\n\z/)
	{
		$self->differ("$table->{title}: the comparison failed: $said");
		return;
	}
	my $result = JSON::PP->new->utf8(0)->decode($said);

	$self->{rows}{ $table->{title} } = $result->{rows};
	$self->differ("$table->{title}: $_") for @{ $result->{shown} };
	$self->{differences} += $result->{differences} - @{ $result->{shown} };
	return;
}

# Calls the function with some rows at a time, as lines.
sub each_batch
{
	my ($self, $table, $function) = @_;
	my ($size, @lines) = (0);

	$self->{file}->flush;
	for my $place (sort { $a <=> $b } values %{ $table->{rows} })
	{
		seek $self->{reader}, int($place / $PARTITIONS), 0 or die "$!";
		push @lines, scalar readline $self->{reader};
		$size += length $lines[-1];
		next if $size < $BATCH;
		$function->(@lines);
		($size, @lines) = (0);
	}
	$function->(@lines) if @lines;
	return;
}

# What differs, a line for each of the first differences, and how many events came; for people.
sub report
{
	my ($self) = @_;
	my $count = $self->{count};
	my @lines = @{ $self->{shown} };

	push @lines, "... and " . ($self->{differences} - @lines) . ' more' if $self->{differences} > @lines;
	push @lines, join ', ',
	  (map { "$_: " . ($self->{rows}{$_} // '?') . ' rows' } sort keys %{ $self->{rows} }),
	  map { "$count->{$_} x $_" } sort keys %$count;
	return @lines;
}

1;
