# Builds and installs siphon-publisher and siphon-tail. Included by the top-level Makefile; also works by itself:
#
#   make -f publisher/publisher.mk
#
#   SRCDIR    the checkout, where it is not the current directory
#   BUILDDIR  where to build (build)
#   SANITIZE  address, undefined or thread
#   PREFIX    where to install (/usr/local), below DESTDIR

.PHONY: publisher install-publisher

publisher:

SRCDIR ?= .
BUILDDIR ?= build
PREFIX ?= /usr/local
PROTOC ?= protoc
say ?= @echo "  "
Q ?= @

PUBLISHER_PACKAGES = libnats libmicrohttpd gnutls openssl spdlog yaml-cpp libzstd protobuf zlib
PUBLISHER_CXXFLAGS ?= -O2 -g -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
PUBLISHER_LDFLAGS ?= -Wl,-z,relro,-z,now
PUBLISHER_CPPFLAGS = -I$(SRCDIR) -I$(SRCDIR)/publisher -isystem $(BUILDDIR)/gen \
	$(shell pkg-config --cflags $(PUBLISHER_PACKAGES))
PUBLISHER_LIBS = $(shell pkg-config --libs $(PUBLISHER_PACKAGES)) -pthread
publisher_sanitize = $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer) \
	$(if $(findstring thread,$(SANITIZE)),-Wno-tsan)
publisher_compile = $(CXX) $(PUBLISHER_CXXFLAGS) -std=c++20 -pthread -Wall -Wextra -Werror -Wshadow \
	$(publisher_sanitize) $(PUBLISHER_CPPFLAGS) -MMD -MP

PUBLISHER_STREAM_SRCS = $(wildcard publisher/stream/*.cpp publisher/stream/file/*.cpp)
PUBLISHER_JETSTREAM_SRCS = publisher/jetstream_api.cpp $(wildcard publisher/stream/jetstream/*.cpp)
# What the unit tests link: all but NATS and main().
UNIT_PUBLISHER_SRCS = publisher/command_line.cpp publisher/compression.cpp publisher/config.cpp publisher/cursor.cpp publisher/datetime.cpp \
	publisher/frame_messages.cpp publisher/hand_off.cpp publisher/hand_off_end.cpp publisher/hand_off_settle.cpp publisher/ledger.cpp publisher/lineage.cpp publisher/log.cpp publisher/log_json.cpp publisher/log_limit.cpp publisher/mover.cpp publisher/nats_login.cpp publisher/nkey.cpp publisher/secret_file.cpp \
	publisher/package_assembler.cpp publisher/parts.cpp publisher/progress.cpp publisher/published.cpp publisher/publisher.cpp \
	publisher/record_messages.cpp publisher/ring_directory.cpp publisher/ring_feed.cpp publisher/ring_feed_markers.cpp publisher/ring_feed_packages.cpp publisher/ring_source.cpp \
	publisher/state_writes.cpp publisher/stream_guard.cpp publisher/subject.cpp publisher/table_schema.cpp publisher/table_state.cpp publisher/tail_json.cpp publisher/wakeup.cpp \
	publisher/health.cpp publisher/metrics.cpp publisher/monitor.cpp publisher/publisher_settle.cpp publisher/publisher_status.cpp publisher/status_json.cpp \
	publisher/traffic.cpp $(PUBLISHER_STREAM_SRCS) $(wildcard publisher/stream/memory/*.cpp)

PUBLISHER_RING_SRCS = $(wildcard ring/*.cpp)
PUBLISHER_SRCS = publisher/main.cpp publisher/check.cpp publisher/check_nats.cpp publisher/check_replicas.cpp publisher/http_get.cpp publisher/command_line.cpp publisher/compression.cpp publisher/config.cpp publisher/cursor.cpp \
	publisher/frame_messages.cpp publisher/hand_off.cpp publisher/hand_off_end.cpp publisher/hand_off_settle.cpp $(PUBLISHER_STREAM_SRCS) $(PUBLISHER_JETSTREAM_SRCS) \
	publisher/ledger.cpp publisher/lineage.cpp publisher/log.cpp publisher/log_json.cpp publisher/log_limit.cpp publisher/mover.cpp publisher/nats_connection.cpp publisher/nats_login.cpp publisher/nkey.cpp publisher/secret_file.cpp \
	publisher/package_assembler.cpp publisher/parts.cpp publisher/progress.cpp publisher/published.cpp publisher/publisher.cpp \
	publisher/record_messages.cpp publisher/ring_directory.cpp publisher/ring_feed.cpp publisher/ring_feed_markers.cpp publisher/ring_feed_packages.cpp publisher/ring_source.cpp \
	publisher/state_writes.cpp publisher/stream_guard.cpp publisher/subject.cpp \
	publisher/table_schema.cpp publisher/table_state.cpp publisher/wakeup.cpp publisher/traffic.cpp \
	publisher/health.cpp publisher/http_port.cpp publisher/http_server.cpp publisher/http_text.cpp publisher/metrics.cpp publisher/monitor.cpp \
	publisher/publisher_settle.cpp publisher/publisher_status.cpp \
	publisher/status_json.cpp $(PUBLISHER_RING_SRCS)
TAIL_SRCS = publisher/tail.cpp publisher/tail_file.cpp publisher/stream/file/file_options.cpp publisher/stream/file/segment.cpp publisher/stream/log.cpp publisher/stream/jetstream/reader.cpp publisher/command_line.cpp publisher/compression.cpp publisher/config.cpp publisher/datetime.cpp \
	publisher/jetstream_api.cpp publisher/stream/jetstream/requests.cpp publisher/nats_connection.cpp publisher/nats_login.cpp publisher/nkey.cpp publisher/secret_file.cpp publisher/package_assembler.cpp \
	publisher/subject.cpp publisher/tail_json.cpp publisher/wakeup.cpp publisher/log.cpp publisher/log_json.cpp publisher/log_limit.cpp

PUBLISHER_OBJDIR = $(BUILDDIR)/publisher-objects
publisher_objects = $(patsubst %.cpp,$(PUBLISHER_OBJDIR)/%.o,$(1))
UNIT_PUBLISHER_OBJS = $(call publisher_objects,$(UNIT_PUBLISHER_SRCS))
SIPHON_PB = $(BUILDDIR)/gen/siphon.pb.h
SIPHON_PB_OBJECT = $(PUBLISHER_OBJDIR)/gen/siphon.pb.o

publisher: $(BUILDDIR)/siphon-publisher $(BUILDDIR)/siphon-tail

$(BUILDDIR)/siphon-publisher: $(call publisher_objects,$(PUBLISHER_SRCS)) $(SIPHON_PB_OBJECT)
$(BUILDDIR)/siphon-tail: $(call publisher_objects,$(TAIL_SRCS)) $(SIPHON_PB_OBJECT)

$(BUILDDIR)/siphon-publisher $(BUILDDIR)/siphon-tail:
	$(say) "LINK $@"
	$(Q)$(CXX) $(publisher_sanitize) $(PUBLISHER_LDFLAGS) -o $@ $^ $(PUBLISHER_LIBS)

# The page as a string.
$(BUILDDIR)/gen/status_page.inc: $(SRCDIR)/publisher/status_page.html
	@mkdir -p $(@D)
	$(Q){ printf 'R"HTML('; cat $<; printf ')HTML"\n'; } >$@
$(PUBLISHER_OBJDIR)/publisher/http_server.o: $(BUILDDIR)/gen/status_page.inc

$(PUBLISHER_OBJDIR)/%.o: $(SRCDIR)/%.cpp $(SIPHON_PB)
	@mkdir -p $(@D)
	$(say) "CXX  $<"
	$(Q)$(publisher_compile) -c -o $@ $<

$(BUILDDIR)/gen/siphon.pb.cc $(SIPHON_PB) &: $(SRCDIR)/proto/siphon.proto
	@mkdir -p $(BUILDDIR)/gen
	$(say) "PROTOC $<"
	$(Q)$(PROTOC) --proto_path=$(SRCDIR)/proto --cpp_out=$(BUILDDIR)/gen $<

#Generated code; its warnings are protoc's.
$(SIPHON_PB_OBJECT): $(BUILDDIR)/gen/siphon.pb.cc $(SIPHON_PB)
	@mkdir -p $(@D)
	$(say) "CXX  $<"
	$(Q)$(publisher_compile) -w -c -o $@ $<

#test / unit.mk builds the sources above once more, for each of its variants.
UNIT_EXTRA_OBJS += $(SIPHON_PB_OBJECT)
$(foreach variant,unit unit-tsan unit-asan,$(addprefix $(BUILDDIR)/$(variant)/,\
	$(UNIT_PUBLISHER_SRCS:.cpp=.o) $(patsubst %.cpp,%.o,$(wildcard test/unit/*.cpp)))): $(SIPHON_PB)
$(addprefix $(BUILDDIR)/fuzz/,$(UNIT_PUBLISHER_SRCS:.cpp=.o) test/fuzz/fuzz_stream.o): $(SIPHON_PB)

install-publisher: publisher
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(BUILDDIR)/siphon-publisher $(BUILDDIR)/siphon-tail $(DESTDIR)$(PREFIX)/bin

-include $(patsubst %.o,%.d,$(sort $(call publisher_objects,$(PUBLISHER_SRCS) $(TAIL_SRCS)) $(SIPHON_PB_OBJECT)))
