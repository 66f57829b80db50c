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
PUBLISHER_CPPFLAGS = -I$(SRCDIR) -isystem $(BUILDDIR)/gen \
	$(shell pkg-config --cflags $(PUBLISHER_PACKAGES))
PUBLISHER_LIBS = $(shell pkg-config --libs $(PUBLISHER_PACKAGES)) -pthread
publisher_sanitize = $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer) \
	$(if $(findstring thread,$(SANITIZE)),-Wno-tsan)
publisher_compile = $(CXX) $(PUBLISHER_CXXFLAGS) -std=c++20 -pthread -Wall -Wextra -Werror -Wshadow \
	$(publisher_sanitize) $(PUBLISHER_CPPFLAGS) -MMD -MP

PUBLISHER_STREAM_SRCS = $(wildcard publisher/stream/*.cpp publisher/stream/file/*.cpp reader/file/*.cpp)
PUBLISHER_JETSTREAM_SRCS = reader/nats/jetstream_api.cpp reader/nats/requests.cpp reader/nats/jetstream_reader.cpp $(wildcard publisher/stream/jetstream/*.cpp)
# What the unit tests link: all but NATS and main().
UNIT_PUBLISHER_SRCS = program/command_line.cpp reader/compression.cpp publisher/config/config.cpp reader/cursor.cpp reader/datetime.cpp \
	publisher/messages/frame_messages.cpp publisher/table/hand_off.cpp publisher/table/hand_off_end.cpp publisher/table/hand_off_settle.cpp publisher/messages/ledger.cpp publisher/history/lineage.cpp program/log.cpp program/log_json.cpp program/log_limit.cpp publisher/table/mover.cpp reader/nats/nats_login.cpp reader/nkey.cpp program/secret_file.cpp \
	reader/package_assembler.cpp publisher/messages/parts.cpp publisher/watch/progress.cpp publisher/history/published.cpp publisher/core/publisher.cpp \
	publisher/messages/record_messages.cpp publisher/source/ring_directory.cpp publisher/source/ring_feed.cpp publisher/source/ring_feed_markers.cpp publisher/source/ring_feed_packages.cpp publisher/source/ring_source.cpp \
	publisher/table/state_writes.cpp publisher/history/stream_guard.cpp reader/subject.cpp publisher/table/table_schema.cpp publisher/table/table_state.cpp tools/tail_json.cpp program/wakeup.cpp \
	publisher/watch/health.cpp publisher/watch/metrics.cpp publisher/watch/monitor.cpp publisher/core/publisher_settle.cpp publisher/core/publisher_status.cpp publisher/watch/status_json.cpp \
	publisher/messages/traffic.cpp $(PUBLISHER_STREAM_SRCS) $(wildcard publisher/stream/memory/*.cpp)

PUBLISHER_RING_SRCS = $(wildcard ring/*.cpp)
PUBLISHER_SRCS = publisher/main.cpp publisher/check.cpp publisher/check_nats.cpp publisher/check_replicas.cpp program/http/http_get.cpp program/command_line.cpp reader/compression.cpp publisher/config/config.cpp reader/cursor.cpp \
	publisher/messages/frame_messages.cpp publisher/table/hand_off.cpp publisher/table/hand_off_end.cpp publisher/table/hand_off_settle.cpp $(PUBLISHER_STREAM_SRCS) $(PUBLISHER_JETSTREAM_SRCS) \
	publisher/messages/ledger.cpp publisher/history/lineage.cpp program/log.cpp program/log_json.cpp program/log_limit.cpp publisher/table/mover.cpp reader/nats/nats_connection.cpp reader/nats/nats_login.cpp reader/nkey.cpp program/secret_file.cpp \
	reader/package_assembler.cpp publisher/messages/parts.cpp publisher/watch/progress.cpp publisher/history/published.cpp publisher/core/publisher.cpp \
	publisher/messages/record_messages.cpp publisher/source/ring_directory.cpp publisher/source/ring_feed.cpp publisher/source/ring_feed_markers.cpp publisher/source/ring_feed_packages.cpp publisher/source/ring_source.cpp \
	publisher/table/state_writes.cpp publisher/history/stream_guard.cpp reader/subject.cpp \
	publisher/table/table_schema.cpp publisher/table/table_state.cpp program/wakeup.cpp publisher/messages/traffic.cpp \
	publisher/watch/health.cpp program/http/http_port.cpp publisher/http/http_server.cpp publisher/http/http_text.cpp publisher/watch/metrics.cpp publisher/watch/monitor.cpp \
	publisher/core/publisher_settle.cpp publisher/core/publisher_status.cpp \
	publisher/watch/status_json.cpp $(PUBLISHER_RING_SRCS)
TAIL_SRCS = tools/tail.cpp tools/tail_file.cpp reader/file/file_options.cpp reader/file/segment.cpp publisher/stream/log.cpp reader/nats/jetstream_reader.cpp program/command_line.cpp reader/compression.cpp publisher/config/config.cpp reader/datetime.cpp \
	reader/nats/jetstream_api.cpp reader/nats/requests.cpp reader/nats/nats_connection.cpp reader/nats/nats_login.cpp reader/nkey.cpp program/secret_file.cpp reader/package_assembler.cpp \
	reader/subject.cpp tools/tail_json.cpp program/wakeup.cpp program/log.cpp program/log_json.cpp program/log_limit.cpp

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
$(BUILDDIR)/gen/status_page.inc: $(SRCDIR)/publisher/http/status_page.html
	@mkdir -p $(@D)
	$(Q){ printf 'R"HTML('; cat $<; printf ')HTML"\n'; } >$@
$(PUBLISHER_OBJDIR)/publisher/http/http_server.o: $(BUILDDIR)/gen/status_page.inc

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
