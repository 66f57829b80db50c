# shellcheck shell=bash
# The Debian packages that building and testing Siphon takes, for each Debian release we support.
# This file is read by scripts/suite. Changing the list makes the next call build a new root filesystem.

# shellcheck disable=SC2034
SUITES=(bookworm trixie forky)

# The PostgreSQL major version that a release of Debian comes with.
postgresql_major() {
    case $1 in
        bookworm) echo 15 ;;
        trixie)   echo 17 ;;
        forky)    echo 18 ;;
        *)        return 1 ;;
    esac
}

# What building and testing take.
packages() {
    local suite=$1 major
    major=$(postgresql_major "$suite")

    local list=(
        # what the extension is made with
        "postgresql-server-dev-$major" libprotozero-dev libxxhash-dev
        g++ make pkgconf git

        # what the publisher is made with
        libnats-dev libzstd-dev libprotobuf-dev protobuf-compiler zlib1g-dev
        libcli11-dev libyaml-cpp-dev libspdlog-dev nlohmann-json3-dev libmicrohttpd-dev libssl-dev

        # what the tests run against, and what they are written in
        "postgresql-$major" "postgresql-$major-pgtap" nats-server
        perl libipc-run-perl libtap-parser-sourcehandler-pgtap-perl
        libgtest-dev libgmock-dev libbenchmark-dev

        # what benchmarks compare with, and draw with
        "postgresql-$major-wal2json" "postgresql-$major-decoderbufs" gnuplot-nox python3

        # packages, and consumers in Python
        debhelper python3-protobuf python3-yaml python3-zstandard

        # fuzzing and sanitizers
        clang libclang-rt-dev

        procps ca-certificates openssl
    )
    case $suite in
        # where the status page is looked at, alert rules are checked, and there is a consumer in Go
        trixie)
            list+=(chromium prometheus golang-go golang-github-nats-io-go-nats-dev golang-github-klauspost-compress-dev
                golang-google-protobuf-dev protoc-gen-go) ;;
        # nats-server wants one of the systemd-sysusers; the stand-alone one saves all of systemd. The rest is what
        # scripts/postgresql.sh takes.
        forky) list+=(systemd-standalone-sysusers bison flex libicu-dev liblz4-dev libxml2-dev) ;;
    esac
    printf '%s\n' "${list[@]}"
}

# What helps to look inside when something goes wrong.
packages_for_debugging() {
    printf '%s\n' gdb valgrind strace linux-perf iproute2
}
