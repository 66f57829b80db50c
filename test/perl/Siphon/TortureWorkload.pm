# What Siphon::Torture's writers write, and what more is under way when a fault strikes.
package Siphon::TortureWorkload;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use Siphon::RandomizedTest qw(one_of);

our @EXPORT = qw(@TABLES @ANEW $ROWS %SCRIPTS @COMPANY);

# The first has gaps where something is lost, the third changes keys between partitions. The rows of these three are
# brought out once, so that all of their changes are in the stream at the end. Those of the others come anew: of one that
# comes and goes, and of one that changes its columns.
our @TABLES = (
	{ name => 'ledger', columns => 'writer int, n int, filler text, PRIMARY KEY (writer, n)', partitions => 1 },
	{ name => 'counters', columns => 'id int PRIMARY KEY, v int, filler text', partitions => 2, rows => q{g, 0, repeat('x', 100)} },
	{ name => 'moves', columns => 'id int PRIMARY KEY, v int, filler text', partitions => 4, rows => q{g, 0, repeat('y', 100)} },
	{ name => 'fresh', columns => 'id int PRIMARY KEY, v int, filler text', partitions => 2, rows => q{g, 0, repeat('f', 100)} },
	{ name => 'comes', columns => 'id bigserial PRIMARY KEY, v int, filler text', partitions => 3, rows => q{g + 1000000, 0, repeat('z', 100)} },
	{ name => 'shifting', columns => 'id int PRIMARY KEY, v int, a text', partitions => 1, rows => q{g, 0, md5(g::text)} });
our @ANEW = qw(fresh comes shifting);
our $ROWS = 1000;

# Each UPDATE increments v. Of a key and its negative only one is there.
our %SCRIPTS = (
	'ledger@10' => q{
		INSERT INTO ledger SELECT :client_id, coalesce(max(n), 0) + 1, md5(random()::text) FROM ledger
		 WHERE writer = :client_id ON CONFLICT DO NOTHING;
	},
	'several@5' => q{
		\set id random(1, 1000)
		\set fate random(0, 3)
		BEGIN;
		INSERT INTO ledger SELECT :client_id, coalesce(max(n), 0) + 1, 'a' FROM ledger WHERE writer = :client_id ON CONFLICT DO NOTHING;
		UPDATE counters SET v = v + 1 WHERE id = :id;
		SAVEPOINT s;
		INSERT INTO ledger SELECT :client_id, coalesce(max(n), 0) + 1, 'b' FROM ledger WHERE writer = :client_id ON CONFLICT DO NOTHING;
		\if :fate = 0
		ROLLBACK TO s;
		\endif
		INSERT INTO ledger SELECT :client_id, coalesce(max(n), 0) + 1, 'c' FROM ledger WHERE writer = :client_id ON CONFLICT DO NOTHING;
		COMMIT;
	},
	'counters@10' => q{
		\set id random(1, 1000)
		UPDATE counters SET v = v + 1 WHERE id = :id;
	},
	'many@1' => q{
		\set id random(1, 950)
		UPDATE counters SET v = v + 1 WHERE id BETWEEN :id AND :id + 50;
	},
	'moves@8' => q{
		\set id random(1, 1000)
		UPDATE moves SET v = v + 1, id = -id WHERE id IN (:id, -:id);
	},
	'deletes@3' => q{
		\set id random(1, 1000)
		BEGIN;
		DELETE FROM moves WHERE id = :id;
		INSERT INTO moves VALUES (:id + 10000, 0, 'new') ON CONFLICT DO NOTHING;
		DELETE FROM moves WHERE id = :id + 10500;
		INSERT INTO comes (v, filler) VALUES (0, 'new');
		COMMIT;
	},
	'comes@6' => q{
		\set id random(1, 1000)
		UPDATE comes SET v = v + 1 WHERE id = :id + 1000000;
	},
	'fresh@6' => q{
		\set id random(1, 1000)
		UPDATE fresh SET v = v + 1 WHERE id = :id;
	},
	'shifting@4' => q{
		\set id random(1, 1000)
		UPDATE shifting SET v = v + 1 WHERE id = :id;
	});


# What is begun a moment before a fault strikes.
our @COMPANY = (
	{
		name => 'a snapshot',
		begin => sub {
			my ($torture) = @_;
			my $table = $torture->table(one_of(@ANEW));

			$torture->on_table('resync_table', $table) if $torture->is_listed($table);
			return $table->{name};
		}
	},
	{
		# Larger than a ring may be, and than a message of NATS. It does not compress well.
		name => 'a large row',
		begin => sub {
			my ($torture) = @_;

			$torture->ask($torture->{primary}, q{
				INSERT INTO comes (v, filler)
				SELECT 0, string_agg(md5(random()::text), '') FROM generate_series(1, 1000 + (random() * 80000)::int)});
			return;
		}
	},
	{
		name => 'a large transaction',
		begin => sub {
			my ($torture) = @_;

			$torture->ask($torture->{primary}, q{
				BEGIN;
				INSERT INTO comes (v, filler) SELECT 0, 'bulk' FROM generate_series(1, 5000);
				UPDATE counters SET v = v + 1;
				DELETE FROM comes WHERE filler = 'bulk' AND id % 2 = 0;
				COMMIT});
			return;
		}
	});

1;
