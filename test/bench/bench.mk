# The benchmarks, and the programs that they take. Included by the top-level Makefile.

$(BUILDDIR)/ring-drain: test/bench/ring_drain.cpp $(call libraries,ring)
	$(Q)$(CXX) -std=c++20 -O2 -g -Wall -Wextra -Werror -I. -o $@ $^

# Found by dynamic_library_path, so that nothing is installed for it.
$(BUILDDIR)/null_plugin$(DLSUFFIX): test/bench/null_plugin.c
	$(Q)$(CC) $(CFLAGS) -fPIC -shared $(CPPFLAGS) -I$(shell $(PG_CONFIG) --includedir-server) -o $@ $<

bench_libraries = $(call libraries,reader program ring)

$(BUILDDIR)/message-delay: test/bench/message_delay.cpp test/bench/nats_session.h $(bench_libraries) | $(SIPHON_PB)
	$(Q)$(CXX) -std=c++20 -O2 -g -Wall -Wextra -Werror $(PUBLISHER_CPPFLAGS) -o $@ $(filter %.cpp %.a,$^) $(PUBLISHER_LIBS)

$(BUILDDIR)/publish-chain: test/bench/publish_chain.cpp test/bench/nats_session.h $(bench_libraries) | $(SIPHON_PB)
	$(Q)$(CXX) -std=c++20 -O2 -g -Wall -Wextra -Werror $(PUBLISHER_CPPFLAGS) -o $@ $(filter %.cpp %.a,$^) $(PUBLISHER_LIBS)

# That they can be built is looked at by make check.
.PHONY: bench-programs
bench-programs: $(addprefix $(BUILDDIR)/,ring-drain message-delay publish-chain null_plugin$(DLSUFFIX))

.PHONY: bench-here bench-instructions-here bench-snapshot-here bench-chain-here bench-start-here bench-states-here
bench-here:
	$(call build-quietly,all $(BUILDDIR)/ring-drain $(BUILDDIR)/message-delay $(BUILDDIR)/null_plugin$(DLSUFFIX))
	@test/bench/bench --build $(BUILDDIR) $(if $(QUICK),--quick) $(if $(PARTS),--parts $(PARTS)) $(if $(DOCUMENT),--document $(DOCUMENT)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(SCALE),--scale $(SCALE)) $(if $(WORKLOADS),--workloads $(WORKLOADS)) $(if $(CONTESTANTS),--contestants $(CONTESTANTS))

bench-instructions-here:
	$(call build-quietly,all $(BUILDDIR)/ring-drain $(BUILDDIR)/null_plugin$(DLSUFFIX))
	@test/bench/instructions --build $(BUILDDIR) $(if $(RECORD),--record) $(if $(WORKLOADS),--workloads $(WORKLOADS))

bench-snapshot-here:
	$(call build-quietly,all $(BUILDDIR)/ring-drain $(BUILDDIR)/message-delay)
	@test/bench/snapshot

bench-chain-here:
	$(call build-quietly,all $(BUILDDIR)/publish-chain)
	@test/bench/chain

STATES ?= 10000

bench-states-here:
	@STATES=$(STATES) ROUNDS=$(or $(ROUNDS),9) $(MAKE) --no-print-directory check-tap-here PROVE_JOBS=1 \
		TESTS=test/bench/many_states.pl PROVE_FLAGS='--verbose $(PROVE_FLAGS)'

bench-start-here:
	@STATES=$(STATES) MEGABYTES=$(or $(MEGABYTES),2000) ROUNDS=$(or $(ROUNDS),5) $(MAKE) --no-print-directory check-tap-here PROVE_JOBS=1 \
		TESTS=test/bench/large_start.pl PROVE_FLAGS='--verbose $(PROVE_FLAGS)'
