# The programs and the extension under sanitizers, in TAP tests with real servers. Included by the top-level Makefile.
#
#   make check-sanitized                                         SUITE as for check
#   make check-sanitized TESTS=test/t/056_partitions.pl          other tests
#
# First everything under Address- and UndefinedBehaviorSanitizer: the extension inside a server that is itself not
# instrumented, so that libasan comes in by LD_PRELOAD, and both programs. Then the programs under ThreadSanitizer (the
# extension has no threads). A report ends the process that it is about, which fails a test. As such a process might be
# started again unseen, there may be no report's file at the end, and none in a log (where UndefinedBehaviorSanitizer
# has its own).
#
# Leaks are not looked for in the server: what a process still has when it ends, its memory contexts have. In the
# programs they are, but for what test/sanitized.supp names. Other libraries are not instrumented: their own accesses are not seen, but their locks are.

SANITIZED_TESTS = $(patsubst %,test/t/%.pl,001_stream 002_types 020_publisher_restart 021_decoder_restart 025_hostile_ring \
	026_publisher_input 118_big 050_snapshot 056_partitions)
THREAD_TESTS = $(patsubst %,test/t/%.pl,001_stream 020_publisher_restart 022_outage 118_big 050_snapshot)

sanitized_undefined = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
sanitized_dir = $(BUILDDIR)/sanitized
sanitized_tests = $(if $(filter command% environment,$(origin TESTS)),$(TESTS),$(1))
sanitized_options = log_path=$(abspath $(sanitized_dir))/reports/report

.PHONY: check-sanitized-here sanitized-build sanitized-address sanitized-thread

sanitized-build:
	@mkdir -p $(sanitized_dir)
	@echo "check-sanitized: building (log: $(sanitized_dir)/build.log)"
	@{ $(MAKE) --no-print-directory $(check_jobs) BUILDDIR=$(sanitized_dir)/address all \
			SANITIZE_EXTENSION="$(sanitized_undefined)" SANITIZE="address,undefined -fno-sanitize-recover=all" PUBLISHER_CXXFLAGS="-O1 -g" && \
		$(MAKE) --no-print-directory $(check_jobs) -f publisher/publisher.mk BUILDDIR=$(sanitized_dir)/thread publisher \
			SANITIZE=thread PUBLISHER_CXXFLAGS="-O1 -g"; } >$(sanitized_dir)/build.log 2>&1 || \
		{ tail -n 40 $(sanitized_dir)/build.log; exit 1; }

# Runs tests with the programs of one kind. The server's library is the one that is installed.
sanitized-run = rm -rf $(sanitized_dir)/reports; mkdir -p $(sanitized_dir)/reports; \
	status=0; \
	PATH="$(abspath $(sanitized_dir))/$(1):$$PATH" $(3) \
		$(MAKE) --no-print-directory CHECK_INSTALLED=yes PREFIX=/nowhere check-tap-here PROVE_JOBS=1 TESTS="$(2)" || status=$$?; \
	for report in $(sanitized_dir)/reports/* $$(grep -l 'runtime error: ' $(check_dir)/tap/log/*); do \
		if [ -e "$$report" ]; then status=1; echo "$$report:"; grep -A 20 'runtime error: \|Sanitizer: ' "$$report"; fi; \
	done

sanitized-address: check-install sanitized-build
	@echo "check-sanitized: extension and programs under AddressSanitizer and UndefinedBehaviorSanitizer"
	@install -m 755 $(sanitized_dir)/address/siphon$(DLSUFFIX) $(pkglibdir)/siphon$(DLSUFFIX); \
	$(call sanitized-run,address,$(call sanitized_tests,$(SANITIZED_TESTS)),\
		ASAN_OPTIONS="$(sanitized_options)" LSAN_OPTIONS="suppressions=$(abspath test/sanitized.supp):print_suppressions=0" UBSAN_OPTIONS=print_stacktrace=1 \
		SIPHON_SERVER_PRELOAD="$$($(CXX) -print-file-name=libasan.so)"); \
	install -m 755 $(MODULES)$(DLSUFFIX) $(pkglibdir)/siphon$(DLSUFFIX); \
	exit $$status

sanitized-thread: check-install sanitized-build
	@echo "check-sanitized: programs under ThreadSanitizer"
	@$(call sanitized-run,thread,$(call sanitized_tests,$(THREAD_TESTS)),TSAN_OPTIONS="$(sanitized_options)"); exit $$status

check-sanitized-here:
	@$(MAKE) --no-print-directory sanitized-address
	@$(MAKE) --no-print-directory sanitized-thread CHECK_INSTALLED=yes
