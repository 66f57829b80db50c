# The whole test suite, in the order of speed: what is wrong early should be seen early. Runs against the
# PostgreSQL of PG_CONFIG, into which it installs the extension first. Included by the top-level Makefile.
#
#   make check-here                                      everything, stopping at the first failure
#   make check-here CHECK_STEPS="regress tap"            some of it
#   make check-tap TESTS=test/t/003_standby.pl           one TAP test
#   make check-regress REGRESS_TESTS="schema refusals"   one regression test; schema creates the extension
#   make check-pgtap PGTAP_TESTS=test/pgtap/schema.sql   one pgTAP test
#
# Servers, logs and differences are kept under $(BUILDDIR)/check. PROVE_FLAGS are prove's: -v shows each test.

CHECK_STEPS ?= unit tsan asan stress fuzz regress pgtap tap
REGRESS_TESTS ?= settings schema tables refusals hints privileges databases
PGTAP_TESTS ?= $(sort $(wildcard test/pgtap/*.sql))
TESTS ?= $(sort $(wildcard test/t/*.pl))
# Tests mostly wait.
PROVE_JOBS ?= $(shell expr $$(nproc) + 1)

check_dir = $(abspath $(BUILDDIR))/check
check_pgxs = $(abspath $(dir $(PGXS))/../..)
check_version = $(shell $(PG_CONFIG) --version)
check_jobs = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))
check_path = PATH="$(bindir):$(PREFIX)/bin:$$PATH"

check_program_unit = unit-tests bench-programs
check_program_tsan = unit-tests-tsan
check_program_asan = unit-tests-asan
check_program_stress = ring-stress
check_program_fuzz = fuzzers

check_title_unit = unit tests
check_title_tsan = unit tests under ThreadSanitizer
check_title_asan = unit tests under AddressSanitizer and UndefinedBehaviorSanitizer
check_title_stress = ring stress: two processes, the reader killed at random
check_title_fuzz = fuzzing: the ring under scribbling, what is read back from the stream, configuration
check_title_regress = SQL surface and refusals (pg_regress)
check_title_pgtap = SQL surface (pgTAP)
check_title_tap = servers, standbys, faults (TAP)

# ROUNDS and SEED of the soak, and BIG=1 for the one with a large table.
SOAK = test/soak/$(if $(BIG),big,rounds).pl

.PHONY: big-here soak-here torture-here check-postgres-here check-here check-install check-server-conf check-regress check-pgtap check-tap check-tap-here

check-here: check-install
	@echo "check: building the unit tests (log: $(BUILDDIR)/check/build.log)"
	@$(MAKE) --no-print-directory $(check_jobs) $(foreach step,$(CHECK_STEPS),$(check_program_$(step))) \
		>$(check_dir)/build.log 2>&1 || \
		{ tail -n 40 $(check_dir)/build.log; echo "check: failed: see $(BUILDDIR)/check/build.log"; exit 1; }
	@$(foreach step,$(CHECK_STEPS), \
		echo "check: $(check_title_$(step))"; \
		$(MAKE) --no-print-directory CHECK_INSTALLED=yes check-$(step) || \
			{ echo "check: failed: $(check_title_$(step)); logs are under $(BUILDDIR)/check"; exit 1; };)
	@echo "check: all passed, with $(check_version)"

# For those who ask for one step; in check-here it is done once.
check-install:
ifndef CHECK_INSTALLED
	@mkdir -p $(check_dir)
	@echo "check: building and installing for $(check_version) (log: $(BUILDDIR)/install.log)"
	@{ $(MAKE) --no-print-directory $(check_jobs) all && $(MAKE) --no-print-directory install; } \
		>$(BUILDDIR)/install.log 2>&1 || \
		{ tail -n 40 $(BUILDDIR)/install.log; echo "check: failed: see $(BUILDDIR)/install.log"; exit 1; }
else
	@:
endif

# Settings of the server for pg_regress and pgTAP. A server does not start with a core setting that it doesn't know,
# so it is asked.
check-server-conf: | check-install
	@rm -rf $(check_dir)/rings
	@{ cat test/regress.conf; \
	   echo "siphon.ring_directory = '$(check_dir)/rings'"; \
	   if $(bindir)/postgres -D $(check_dir) -c config_file=/dev/null -C output_plugin_libraries >/dev/null 2>&1; \
	   then echo "output_plugin_libraries = 'siphon'"; fi; } >$(check_dir)/server.conf

check-regress: check-server-conf
	@$(check_pgxs)/src/test/regress/pg_regress --bindir='$(bindir)' --inputdir=. --outputdir=$(check_dir)/regress \
		--temp-instance=$(check_dir)/regress/server --temp-config=$(check_dir)/server.conf --no-locale \
		--encoding=UTF8 --dbname=regression $(REGRESS_TESTS) || \
		{ cat $(check_dir)/regress/regression.diffs; exit 1; }

check-pgtap: check-server-conf
	@$(check_path) test/pgtap/run $(check_dir)/pgtap $(check_dir)/server.conf $(PGTAP_TESTS)

check-tap check-tap-here: check-install
	@rm -rf $(check_dir)/tap
	@mkdir -p $(check_dir)/tap/log $(check_dir)/tap/ports
	@$(bindir)/initdb -D $(check_dir)/tap/template -A trust -N -U "$$(id -un)" >$(check_dir)/tap/log/initdb.log 2>&1 || \
		{ cat $(check_dir)/tap/log/initdb.log; exit 1; }
	@$(check_path) TESTDIR=$(check_dir)/tap TESTLOGDIR=$(check_dir)/tap/log TESTDATADIR=$(check_dir)/tap \
		PG_TEST_PORT_DIR=$(check_dir)/tap/ports INITDB_TEMPLATE=$(check_dir)/tap/template \
		PG_REGRESS=$(check_pgxs)/src/test/regress/pg_regress \
		prove --timer -I $(check_pgxs)/src/test/perl -I test/perl -j$(PROVE_JOBS) $(PROVE_FLAGS) $(TESTS)

# Of what size big things are, and which of them: see test/soak/sizes.pl.
BIG_ROWS ?= 10000000
BIG_MEGABYTES ?= 200
BIG_TABLES ?= 5000
BIG_CROWD ?= 10000
BIG_LEAVES ?= 20000
BIG_SNAPSHOTS ?= 1
BIG_PARTS ?=

big-here: $(BUILDDIR)/message-delay
	@BIG_ROWS=$(BIG_ROWS) BIG_MEGABYTES=$(BIG_MEGABYTES) BIG_TABLES=$(BIG_TABLES) BIG_CROWD=$(BIG_CROWD) BIG_PARTS="$(BIG_PARTS)" BIG_SNAPSHOTS=$(BIG_SNAPSHOTS) BIG_LEAVES=$(BIG_LEAVES) \
		BIG_PROGRAMS=$(abspath $(BUILDDIR)) PG_TEST_TIMEOUT_DEFAULT=1800 \
		$(MAKE) --no-print-directory check-tap-here PROVE_JOBS=1 TESTS=test/soak/sizes.pl PROVE_FLAGS='--verbose $(PROVE_FLAGS)'

soak-here:
	@SOAK_ROUNDS=$(ROUNDS) SOAK_SEED=$(SEED) \
		$(MAKE) --no-print-directory check-tap-here PROVE_JOBS=1 TESTS=$(SOAK) PROVE_FLAGS='--verbose $(PROVE_FLAGS)'

torture-here:
	@TORTURE_FAULTS=$(FAULTS) TORTURE_SEED=$(SEED) TORTURE_REPLICAS=$(REPLICAS) \
		$(MAKE) --no-print-directory check-tap-here PROVE_JOBS=1 TESTS=test/torture/run.pl PROVE_FLAGS='--verbose $(PROVE_FLAGS)'

# PostgreSQL's own regression suite, as scripts/postgresql.sh keeps it beside the PostgreSQL that it makes.
check-postgres-here:
	@POSTGRES_SUITE=$(bindir)/../regress SLOW=$(SLOW) ROOTS=$(ROOTS) PG_TEST_TIMEOUT_DEFAULT=600 \
		$(MAKE) --no-print-directory check-tap-here PROVE_JOBS=1 TESTS=test/postgres/run.pl PROVE_FLAGS='--verbose $(PROVE_FLAGS)'
