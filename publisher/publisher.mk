# Builds and installs siphon-publisher and siphon-tail. Included by the top-level Makefile; also works by itself:
#
#   make -f publisher/publisher.mk
#
#   BUILDDIR  where to build (build)
#   SANITIZE  address, undefined or thread
#   PREFIX    where to install (/usr/local), below DESTDIR
#
# What the programs share is in a library for each of publisher/, reader/, program/ and ring/, which the tests, fuzzers
# and benchmarks link too. Sources are found: each that is in a room is a part of its library.

.PHONY: publisher install-publisher

publisher:

BUILDDIR ?= build
PREFIX ?= /usr/local
PROTOC ?= protoc
say ?= @echo "  "
Q ?= @

PUBLISHER_PACKAGES = libnats libmicrohttpd gnutls openssl spdlog yaml-cpp libzstd protobuf zlib
PUBLISHER_CXXFLAGS ?= -O2 -g -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
PUBLISHER_LDFLAGS ?= -Wl,-z,relro,-z,now
PUBLISHER_CPPFLAGS = -I. -isystem $(BUILDDIR)/gen $(shell pkg-config --cflags $(PUBLISHER_PACKAGES))
PUBLISHER_LIBS = $(shell pkg-config --libs $(PUBLISHER_PACKAGES)) -pthread
publisher_sanitize = $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer) \
	$(if $(findstring thread,$(SANITIZE)),-Wno-tsan)
publisher_compile = $(CXX) $(PUBLISHER_CXXFLAGS) -std=c++20 -pthread -Wall -Wextra -Werror -Wshadow \
	$(publisher_sanitize) $(PUBLISHER_CPPFLAGS) -MMD -MP

# In the order in which they are linked: each uses those behind it. What is in publisher/ itself is the program.
LIBRARIES = publisher reader program ring
library_srcs_publisher = $(wildcard publisher/*/*.cpp publisher/*/*/*.cpp)
library_srcs_reader = $(wildcard reader/*.cpp reader/*/*.cpp)
library_srcs_program = $(wildcard program/*.cpp program/*/*.cpp)
library_srcs_ring = $(wildcard ring/*.cpp)
# Without main(), for tests.
TOOLS_SRCS = $(filter-out tools/tail.cpp,$(wildcard tools/*.cpp))

PUBLISHER_OBJDIR = $(BUILDDIR)/publisher-objects
publisher_objects = $(patsubst %.cpp,$(PUBLISHER_OBJDIR)/%.o,$(1))
libraries = $(patsubst %,$(BUILDDIR)/lib%.a,$(1))
SIPHON_PB = $(BUILDDIR)/gen/siphon.pb.h
SIPHON_PB_OBJECT = $(PUBLISHER_OBJDIR)/gen/siphon.pb.o
TOOLS_OBJECTS = $(call publisher_objects,$(TOOLS_SRCS))

publisher: $(BUILDDIR)/siphon-publisher $(BUILDDIR)/siphon-tail

$(BUILDDIR)/siphon-publisher: $(call publisher_objects,$(wildcard publisher/*.cpp)) $(call libraries,$(LIBRARIES))
$(BUILDDIR)/siphon-tail: $(call publisher_objects,$(wildcard tools/*.cpp)) $(call libraries,reader program ring)

$(BUILDDIR)/siphon-publisher $(BUILDDIR)/siphon-tail:
	$(say) "LINK $@"
	$(Q)$(CXX) $(publisher_sanitize) $(PUBLISHER_LDFLAGS) -o $@ $^ $(PUBLISHER_LIBS)

# Who reads a stream needs the wire contract.
$(BUILDDIR)/libreader.a: $(SIPHON_PB_OBJECT)
$(foreach library,$(LIBRARIES),$(eval \
	$(call libraries,$(library)): $(call publisher_objects,$(library_srcs_$(library)))))
$(call libraries,$(LIBRARIES)):
	$(say) "AR   $@"
	$(Q)rm -f $@ && $(AR) qcs $@ $^

# The page as a string.
$(BUILDDIR)/gen/status_page.inc: publisher/http/status_page.html
	@mkdir -p $(@D)
	$(Q){ printf 'R"HTML('; cat $<; printf ')HTML"\n'; } >$@
$(PUBLISHER_OBJDIR)/publisher/http/http_server.o: $(BUILDDIR)/gen/status_page.inc

$(PUBLISHER_OBJDIR)/%.o: %.cpp $(SIPHON_PB)
	@mkdir -p $(@D)
	$(say) "CXX  $<"
	$(Q)$(publisher_compile) -c -o $@ $<

$(BUILDDIR)/gen/siphon.pb.cc $(SIPHON_PB) &: proto/siphon.proto
	@mkdir -p $(BUILDDIR)/gen
	$(say) "PROTOC $<"
	$(Q)$(PROTOC) --proto_path=proto --cpp_out=$(BUILDDIR)/gen $<

# Generated code; its warnings are protoc's.
$(SIPHON_PB_OBJECT): $(BUILDDIR)/gen/siphon.pb.cc $(SIPHON_PB)
	@mkdir -p $(@D)
	$(say) "CXX  $<"
	$(Q)$(publisher_compile) -w -c -o $@ $<

install-publisher: publisher
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(BUILDDIR)/siphon-publisher $(BUILDDIR)/siphon-tail $(DESTDIR)$(PREFIX)/bin

-include $(patsubst %.o,%.d,$(SIPHON_PB_OBJECT) $(call publisher_objects, \
	$(wildcard publisher/*.cpp tools/*.cpp) $(foreach library,$(LIBRARIES),$(library_srcs_$(library)))))
