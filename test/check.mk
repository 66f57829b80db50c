# The whole suite, in the order of speed: what is wrong early should be seen early. Runs against the PostgreSQL of
# PG_CONFIG, into which it installs the extension first.
#
# One single TAP test:   make check-tap TESTS=test/t/001_stream.pl
# One regression test:   make check-regress REGRESS_TESTS=add_table
