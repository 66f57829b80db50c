# Builds and installs everything: the extension with PGXS, and the publisher and siphon-tail beside it.
#
#   make                 build for the PostgreSQL whose pg_config is first in PATH (or PG_CONFIG=...)
#   make install         extension where pg_config says, programs under PREFIX (/usr/local)
#   make demo            see it work: primary, standby, nats-server and publisher, thrown away at the end
#   make check           the whole test suite
#   make check-sanitized servers and programs under sanitizers
#   make check-cassert   regress, pgTAP and TAP tests on servers with assertions: a PostgreSQL 18 that is made once, from source
#   make check-postgres  PostgreSQL's own regression suite on such a server, while all its tables are followed; SLOW=1: so that
#                        rows come as events; ROOTS=1: partitions under their roots
#   make bench           Siphon's speed beside pgoutput's, on the same WAL (QUICK=1: small); bench-snapshot: beside COPY's;
#                        bench-chain: of exactly-once publishing beside that of plain publishing; bench-instructions:
#                        how many instructions an event takes; bench-states: a message beside 10,000 tables;
#                        bench-start: a publisher's start on a large stream
#   make soak            snapshots under load and with kills: ROUNDS=100 random ones from SEED; BIG=1: a large table
#   make big             big transactions, rows and numbers of tables: whole, and with how much memory
#   make deb             Debian packages of extension and publisher, in build/SUITE/deb
#   make check-packages  installs them where nothing else is, and runs the demo from there
#   make torture         whatever dies, nothing is lost and nothing comes twice: FAULTS=200 random ones from SEED;
#                        REPLICAS=3: with three nats-servers, whose copies must be equal in the end
#   make format          clang-format over the sources
#
# demo and check bring their own PostgreSQL, nats-server and libraries in a root filesystem of Debian where this
# machine lacks them; SUITE=bookworm, trixie or forky chooses one (PostgreSQL 15, 17, 18). What they run
# inside is demo-here and check-here, which use what is installed.

PG_CONFIG ?= pg_config
BUILDDIR ?= build/native
PREFIX ?= /usr/local
SUITE ?= auto

.DEFAULT_GOAL := all

# One line per file built; V=1 shows whole commands.
Q = $(if $(V),,@)
say = @echo "  "

ifneq ($(filter demo check check-sanitized check-cassert check-postgres check-packages deb big bench bench-instructions bench-snapshot bench-chain bench-start bench-states soak torture,$(MAKECMDGOALS)),)

# Outside: no PostgreSQL is needed, so PGXS is not even looked at.
.PHONY: demo check check-sanitized check-cassert check-postgres check-packages deb big bench bench-instructions bench-snapshot bench-chain bench-start bench-states soak torture
demo:
	@scripts/suite $(SUITE) -- $(MAKE) --no-print-directory demo-here
check:
	@scripts/suite $(SUITE) -- $(MAKE) --no-print-directory check-here
check-sanitized big bench bench-instructions bench-snapshot bench-chain bench-start bench-states soak torture:
	@scripts/suite $(SUITE) -- $(MAKE) --no-print-directory $@-here
check-cassert:
	@scripts/suite cassert -- $(MAKE) --no-print-directory check-here CHECK_STEPS="regress pgtap tap"
check-postgres:
	@scripts/suite cassert -- $(MAKE) --no-print-directory $@-here
# Packages are for a release of Debian, whatever this machine is.
deb:
	@scripts/suite $(SUITE:auto=trixie) -- $(MAKE) --no-print-directory deb-here \
		SOURCE_DATE_EPOCH=$(shell git log -1 --format=%ct 2>/dev/null || stat -c %Y siphon.control)
check-packages: deb
	@scripts/check-packages $(SUITE:auto=trixie)

else

EXTENSION = siphon
DATA = $(wildcard sql/siphon--*.sql)
MODULES = $(BUILDDIR)/siphon
EXTRA_CLEAN = $(BUILDDIR)

# JIT bitcode of a C++ extension would be of no use.
override with_llvm = no
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

extension_objs = $(patsubst %.cpp,$(BUILDDIR)/extension/%.o,$(wildcard src/*.cpp src/*/*.cpp ring/*.cpp))
EXTENSION_CXXFLAGS = -std=c++20 -fPIC -Wall -Wextra -Werror -Wno-unused-parameter \
	-Wno-missing-field-initializers $(SANITIZE_EXTENSION)

all: $(MODULES)$(DLSUFFIX) publisher

$(BUILDDIR)/extension/%.o: %.cpp
	@mkdir -p $(@D)
	$(say) "CXX  $<"
	$(Q)$(CXX) $(CXXFLAGS) $(EXTENSION_CXXFLAGS) -I. -Isrc -I$(shell $(PG_CONFIG) --includedir-server) -MMD -MP -c -o $@ $<

$(MODULES)$(DLSUFFIX): $(extension_objs)
	$(say) "LINK $@"
	$(Q)$(CXX) $(CXXFLAGS) $(EXTENSION_CXXFLAGS) -shared -o $@ $^ $(LDFLAGS)

-include $(extension_objs:.o=.d)

-include publisher/publisher.mk
include test/unit.mk
include test/check.mk
include test/sanitized.mk
include test/bench/bench.mk

install: install-publisher

.PHONY: format demo-here deb-here
format:
	git ls-files src ring program reader publisher tools test | grep "\.\(cpp\|h\)$$" | xargs clang-format -i

# Builds and installs, quietly if all goes well.
build-quietly = @mkdir -p $(BUILDDIR); echo "building (a minute or two the first time; log: $(BUILDDIR)/build.log)"; \
	$(MAKE) --no-print-directory -j$(shell nproc) $(1) >$(BUILDDIR)/build.log 2>&1 && \
	$(MAKE) --no-print-directory install >>$(BUILDDIR)/build.log 2>&1 || { tail -n 40 $(BUILDDIR)/build.log; exit 1; }

demo-here:
	$(call build-quietly,all)
	@scripts/demo

deb-here: all
	@PG_CONFIG=$(PG_CONFIG) BUILDDIR=$(BUILDDIR) SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) scripts/build-deb

endif
