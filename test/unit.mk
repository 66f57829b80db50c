# Tests of what is built without PostgreSQL: unit tests (plain, under ThreadSanitizer, under Address- and
# UndefinedBehaviorSanitizer), the ring's stress test, and fuzzers of the ring, of what is read back from the stream,
# and of the configuration, each of which runs for FUZZ_SECONDS.
#
# Included by the top-level Makefile behind publisher/publisher.mk, which has the sources and the libraries of everything
# but the ring. Alone it has the ring's tests, which need none of that:
#
#   make -f test/unit.mk check-unit
#
# Without a sanitizer, tests link the libraries that the programs are made of. With one, the rooms that are tested are
# compiled once more, and what they need of other rooms comes from those libraries.

BUILDDIR ?= build
UNIT_CXX ?= $(CXX)
FUZZ_CXX ?= clang++
UNIT_CXXFLAGS ?= -std=c++20 -Wall -Wextra -Werror -Wshadow -O2 -g
STRESS_SECONDS ?= 15
FUZZ_SECONDS ?= 8

unit_flags = -Isrc -I. $(UNIT_CXXFLAGS) -pthread
unit_ring_srcs = $(wildcard ring/*.cpp)
unit_test_srcs = $(sort $(wildcard test/unit/test_$(if $(LIBRARIES),,ring)*.cpp))
# Rooms that speak to NATS or over HTTP are not among those: tests with real servers have them under sanitizers, see
# sanitized.mk.
unsanitized_rooms = reader/nats publisher/stream/jetstream program/http publisher/http
unit_srcs = $(unit_ring_srcs) $(unit_test_srcs) $(filter-out $(addsuffix /%,$(unsanitized_rooms)), \
	$(library_srcs_program) $(library_srcs_reader) $(library_srcs_publisher) $(TOOLS_SRCS))
unit_libraries = $(call libraries,$(LIBRARIES))

# g++ says that ThreadSanitizer does not model fences. The ring's fences only order flags, which are atomic;
# its data is handed over by release and acquire.
unit_flags_tsan = -O1 -fsanitize=thread $(if $(findstring clang,$(UNIT_CXX)),,-Wno-tsan)
unit_flags_asan = -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
fuzz_flags = -O1 -fsanitize=fuzzer,address,undefined,float-cast-overflow -fno-sanitize-recover=all -fno-omit-frame-pointer
fuzz_targets = ring $(if $(LIBRARIES),stream config)

unit_objs = $(addprefix $(BUILDDIR)/unit/,$(unit_test_srcs:.cpp=.o) $(if $(LIBRARIES),,$(unit_ring_srcs:.cpp=.o)))
unit_objs_tsan = $(addprefix $(BUILDDIR)/unit-tsan/,$(unit_srcs:.cpp=.o))
unit_objs_asan = $(addprefix $(BUILDDIR)/unit-asan/,$(unit_srcs:.cpp=.o))
stress_objs = $(addprefix $(BUILDDIR)/unit/,$(unit_ring_srcs:.cpp=.o) test/stress/ring_stress.o)
# The rooms in which input of the fuzzers arrives.
fuzz_rooms_ring = ring
fuzz_rooms_stream = reader publisher/stream publisher/stream/memory publisher/messages publisher/table tools
fuzz_rooms_config = program reader publisher/config tools
fuzz_srcs = $(filter-out tools/tail.cpp,$(wildcard $(addsuffix /*.cpp,$(fuzz_rooms_$(1)))))
fuzz_objs = $(patsubst %.cpp,$(BUILDDIR)/fuzz/%.o,$(call fuzz_srcs,$(1)) test/fuzz/fuzz_$(1).cpp)
all_fuzz_objs = $(sort $(foreach target,$(fuzz_targets),$(call fuzz_objs,$(target))))

.PHONY: unit-tests unit-tests-tsan unit-tests-asan ring-stress fuzzers
.PHONY: check-unit check-tsan check-asan check-stress check-fuzz

unit-tests: $(BUILDDIR)/unit-tests
unit-tests-tsan: $(BUILDDIR)/unit-tests-tsan
unit-tests-asan: $(BUILDDIR)/unit-tests-asan
ring-stress: $(BUILDDIR)/ring-stress
fuzzers: $(addprefix $(BUILDDIR)/fuzz-,$(fuzz_targets))

# Tests are of one thread mostly, so two processes share them.
in_halves = @for half in 0 1; do GTEST_TOTAL_SHARDS=2 GTEST_SHARD_INDEX=$$half $(1) --gtest_brief=1 & pids="$$pids $$!"; done; \
	for pid in $$pids; do wait $$pid || status=1; done; exit $${status:-0}

check-unit: $(BUILDDIR)/unit-tests
	$(call in_halves,$<)

check-tsan: $(BUILDDIR)/unit-tests-tsan
	$(call in_halves,env TSAN_OPTIONS="halt_on_error=1 $(TSAN_OPTIONS)" $<)

check-asan: $(BUILDDIR)/unit-tests-asan
	$(call in_halves,$<)

check-stress: $(BUILDDIR)/ring-stress
	$< --seconds $(STRESS_SECONDS)

# The corpus begins with what the target itself writes into it. Nobody needs to see the help that is printed.
check-fuzz: fuzzers
	@for target in $(fuzz_targets); do \
		rm -rf $(BUILDDIR)/corpus/$$target; mkdir -p $(BUILDDIR)/corpus/$$target; \
		$(BUILDDIR)/fuzz-$$target -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -print_final_stats=1 -print_funcs=0 \
			-close_fd_mask=1 -artifact_prefix=$(BUILDDIR)/fuzz-$$target- $(BUILDDIR)/corpus/$$target \
			>$(BUILDDIR)/fuzz-$$target.log 2>&1 || { tail -n 60 $(BUILDDIR)/fuzz-$$target.log; exit 1; }; \
		echo "fuzz-$$target: $$(sed -n 's/^stat::number_of_executed_units: *//p' $(BUILDDIR)/fuzz-$$target.log) executions," \
			"$$(ls $(BUILDDIR)/corpus/$$target | wc -l) inputs in the corpus"; \
	done

$(BUILDDIR)/unit-tests: $(unit_objs) $(TOOLS_OBJECTS) $(unit_libraries)
	$(UNIT_CXX) $(unit_flags) -o $@ $^ -lgtest -lgtest_main $(PUBLISHER_LIBS)

$(BUILDDIR)/unit-tests-tsan: $(unit_objs_tsan) $(unit_libraries)
	$(UNIT_CXX) $(unit_flags) $(unit_flags_tsan) -o $@ $^ -lgtest -lgtest_main $(PUBLISHER_LIBS)

$(BUILDDIR)/unit-tests-asan: $(unit_objs_asan) $(unit_libraries)
	$(UNIT_CXX) $(unit_flags) $(unit_flags_asan) -o $@ $^ -lgtest -lgtest_main $(PUBLISHER_LIBS)

$(BUILDDIR)/ring-stress: $(stress_objs)
	$(UNIT_CXX) $(unit_flags) -o $@ $^

$(BUILDDIR)/fuzz-ring: $(call fuzz_objs,ring)
	$(FUZZ_CXX) $(unit_flags) $(fuzz_flags) -o $@ $^

$(BUILDDIR)/fuzz-stream: $(call fuzz_objs,stream) $(unit_libraries)
	$(FUZZ_CXX) $(unit_flags) $(fuzz_flags) -o $@ $^ $(PUBLISHER_LIBS)

$(BUILDDIR)/fuzz-config: $(call fuzz_objs,config) $(unit_libraries)
	$(FUZZ_CXX) $(unit_flags) $(fuzz_flags) -o $@ $^ $(PUBLISHER_LIBS)

$(BUILDDIR)/unit/%.o: %.cpp $(SIPHON_PB)
	@mkdir -p $(@D)
	$(UNIT_CXX) $(unit_flags) $(PUBLISHER_CPPFLAGS) -MMD -MP -c -o $@ $<

$(BUILDDIR)/unit-tsan/%.o: %.cpp $(SIPHON_PB)
	@mkdir -p $(@D)
	$(UNIT_CXX) $(unit_flags) $(unit_flags_tsan) $(PUBLISHER_CPPFLAGS) -MMD -MP -c -o $@ $<

$(BUILDDIR)/unit-asan/%.o: %.cpp $(SIPHON_PB)
	@mkdir -p $(@D)
	$(UNIT_CXX) $(unit_flags) $(unit_flags_asan) $(PUBLISHER_CPPFLAGS) -MMD -MP -c -o $@ $<

$(BUILDDIR)/fuzz/%.o: %.cpp $(SIPHON_PB)
	@mkdir -p $(@D)
	$(FUZZ_CXX) $(unit_flags) $(fuzz_flags) $(PUBLISHER_CPPFLAGS) -MMD -MP -c -o $@ $<

-include $(patsubst %.o,%.d,$(unit_objs) $(unit_objs_tsan) $(unit_objs_asan) $(stress_objs) $(all_fuzz_objs))
