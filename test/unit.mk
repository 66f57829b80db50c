# Tests of what is built without PostgreSQL: unit tests (plain, under ThreadSanitizer, under Address- and
# UndefinedBehaviorSanitizer), the ring's stress test and its fuzzer.
#
# Included by the top-level Makefile behind publisher/publisher.mk, which gives what the tests of everything but the
# ring need: UNIT_PUBLISHER_SRCS, compiled here for each variant; UNIT_EXTRA_OBJS, linked as they are into every variant;
# PUBLISHER_CPPFLAGS and PUBLISHER_LIBS. Alone it has the ring's tests, which need none of that:
#
#   make -f test/unit.mk check-unit

BUILDDIR ?= build
UNIT_CXX ?= $(CXX)
FUZZ_CXX ?= clang++
UNIT_CXXFLAGS ?= -std=c++20 -Wall -Wextra -Werror -Wshadow -O2 -g
STRESS_SECONDS ?= 15
FUZZ_SECONDS ?= 20

unit_flags = -Isrc -I. $(UNIT_CXXFLAGS) -pthread
unit_ring_srcs = src/ring.cpp src/ring_file.cpp src/ring_fault.cpp
ifeq ($(strip $(UNIT_PUBLISHER_SRCS)),)
unit_srcs = $(unit_ring_srcs) $(sort $(wildcard test/unit/test_ring*.cpp))
else
unit_srcs = $(unit_ring_srcs) $(UNIT_PUBLISHER_SRCS) $(sort $(wildcard test/unit/test_*.cpp))
endif

# g++ says that ThreadSanitizer does not model fences. The ring's fences only order flags, which are atomic;
# its data is handed over by release and acquire.
unit_flags_tsan = -fsanitize=thread $(if $(findstring clang,$(UNIT_CXX)),,-Wno-tsan)
unit_flags_asan = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
fuzz_flags = -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

unit_objs = $(addprefix $(BUILDDIR)/unit/,$(unit_srcs:.cpp=.o))
unit_objs_tsan = $(addprefix $(BUILDDIR)/unit-tsan/,$(unit_srcs:.cpp=.o))
unit_objs_asan = $(addprefix $(BUILDDIR)/unit-asan/,$(unit_srcs:.cpp=.o))
stress_objs = $(addprefix $(BUILDDIR)/unit/,$(unit_ring_srcs:.cpp=.o) test/stress/ring_stress.o)
fuzz_objs = $(addprefix $(BUILDDIR)/fuzz/,src/ring.o test/fuzz/fuzz_ring.o)

.PHONY: unit-tests unit-tests-tsan unit-tests-asan ring-stress fuzz-ring
.PHONY: check-unit check-tsan check-asan check-stress check-fuzz

unit-tests: $(BUILDDIR)/unit-tests
unit-tests-tsan: $(BUILDDIR)/unit-tests-tsan
unit-tests-asan: $(BUILDDIR)/unit-tests-asan
ring-stress: $(BUILDDIR)/ring-stress
fuzz-ring: $(BUILDDIR)/fuzz-ring

check-unit: $(BUILDDIR)/unit-tests
	$< --gtest_brief=1

check-tsan: $(BUILDDIR)/unit-tests-tsan
	TSAN_OPTIONS="halt_on_error=1 $(TSAN_OPTIONS)" $< --gtest_brief=1

check-asan: $(BUILDDIR)/unit-tests-asan
	$< --gtest_brief=1

check-stress: $(BUILDDIR)/ring-stress
	$< --seconds $(STRESS_SECONDS)

check-fuzz: $(BUILDDIR)/fuzz-ring
	$< -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -verbosity=0 -print_final_stats=1 -artifact_prefix=$(BUILDDIR)/fuzz-ring-

$(BUILDDIR)/unit-tests: $(unit_objs) $(UNIT_EXTRA_OBJS)
	$(UNIT_CXX) $(unit_flags) -o $@ $^ -lgtest -lgtest_main $(PUBLISHER_LIBS)

$(BUILDDIR)/unit-tests-tsan: $(unit_objs_tsan) $(UNIT_EXTRA_OBJS)
	$(UNIT_CXX) $(unit_flags) $(unit_flags_tsan) -o $@ $^ -lgtest -lgtest_main $(PUBLISHER_LIBS)

$(BUILDDIR)/unit-tests-asan: $(unit_objs_asan) $(UNIT_EXTRA_OBJS)
	$(UNIT_CXX) $(unit_flags) $(unit_flags_asan) -o $@ $^ -lgtest -lgtest_main $(PUBLISHER_LIBS)

$(BUILDDIR)/ring-stress: $(stress_objs)
	$(UNIT_CXX) $(unit_flags) -o $@ $^

$(BUILDDIR)/fuzz-ring: $(fuzz_objs)
	$(FUZZ_CXX) $(unit_flags) $(fuzz_flags) -o $@ $^

$(BUILDDIR)/unit/%.o: %.cpp
	@mkdir -p $(@D)
	$(UNIT_CXX) $(unit_flags) $(PUBLISHER_CPPFLAGS) -MMD -MP -c -o $@ $<

$(BUILDDIR)/unit-tsan/%.o: %.cpp
	@mkdir -p $(@D)
	$(UNIT_CXX) $(unit_flags) $(unit_flags_tsan) $(PUBLISHER_CPPFLAGS) -MMD -MP -c -o $@ $<

$(BUILDDIR)/unit-asan/%.o: %.cpp
	@mkdir -p $(@D)
	$(UNIT_CXX) $(unit_flags) $(unit_flags_asan) $(PUBLISHER_CPPFLAGS) -MMD -MP -c -o $@ $<

$(BUILDDIR)/fuzz/%.o: %.cpp
	@mkdir -p $(@D)
	$(FUZZ_CXX) $(unit_flags) $(fuzz_flags) -MMD -MP -c -o $@ $<

-include $(patsubst %.o,%.d,$(unit_objs) $(unit_objs_tsan) $(unit_objs_asan) $(stress_objs) $(fuzz_objs))
