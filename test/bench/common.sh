# What the benchmarks share: a server of their own with Siphon, two tables, nats-server, and medians. To be sourced.
# shellcheck shell=bash

build=${BUILDDIR:-build/native}
work=$build/bench
data=$work/data
rings=$(mktemp -d -p /dev/shm siphon-bench.XXXXXX)
sockets=$(mktemp -d -t siphon-bench.XXXXXX)
nats_port=14223
nats_url=nats://127.0.0.1:$nats_port
PATH=$(pg_config --bindir):${PREFIX:-/usr/local}/bin:$PATH
export PGHOST=$sockets PGPORT=5503 PGUSER=postgres PGDATABASE=postgres
declare -A running=()

sql() { psql -XqAt -v ON_ERROR_STOP=1 -c "$1"; }
say() { printf '%s\n' "$*" >&2; }
now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { print b - a }'; }
nap() { read -rt "$1" <> <(:) || true; }

cleanup() {
    local pid
    trap - EXIT INT TERM
    for pid in "${!running[@]}"; do kill "$pid" 2>/dev/null || true; done
    if [[ -f $data/postmaster.pid ]]; then pg_ctl -D "$data" -m immediate -w stop >/dev/null || true; fi
    rm -rf "$rings" "$sockets" "$data" "$work/jetstream"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# start COMMAND...: in the background; its process ID is in $started
start() {
    "$@" &
    started=$!
    running[$started]=1
}

stop() {
    kill "$1"
    wait "$1" 2>/dev/null || true
    unset "running[$1]"
}

# start_nats: with an empty store on disk
start_nats() {
    rm -rf "$work/jetstream"
    start nats-server -a 127.0.0.1 -p "$nats_port" -js -sd "$work/jetstream" -l "$work/nats.log"
}

start_publisher() {
    start siphon-publisher --application main --ring-directory "$rings" --nats-url "$nats_url" 2>"$work/publisher.log"
}

start_drain() {
    start "$build/ring-drain" "$rings" main
}

# server LIBRARIES: (re)starts with them preloaded
server() {
    if [[ -f $data/postmaster.pid ]]; then pg_ctl -D "$data" -m fast -w stop >/dev/null; fi
    pg_ctl -D "$data" -l "$work/server.log" -o "-c shared_preload_libraries='$1'" -w start >/dev/null
}

prepare() {
    rm -rf "$work"
    mkdir -p "$work"
    initdb -D "$data" -U postgres -A trust -N >"$work/initdb.log"
    cat >>"$data/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$sockets'
wal_level = logical
port = $PGPORT
max_wal_size = 20GB
shared_buffers = 1GB
synchronous_commit = off
fsync = off
jit = off
autovacuum = off
siphon.ring_directory = '$rings'
CONF
    if postgres -C output_plugin_libraries -D "$data" >/dev/null 2>&1; then
        echo "output_plugin_libraries = 'siphon, pgoutput'" >>"$data/postgresql.conf"
    fi
    server siphon
    sql "CREATE EXTENSION siphon"
    sql "CREATE TABLE narrow (id bigint PRIMARY KEY, a bigint, b int, c smallint, t timestamptz)"
    sql "CREATE TABLE wide (id bigint PRIMARY KEY, title text, description text, project_id bigint, author_id bigint,
         created_at timestamptz, updated_at timestamptz, state smallint, confidential bool, weight int, meta jsonb)"
}

# load TABLE ROWS
load() {
    say "writing $2 rows into $1"
    if [[ $1 == narrow ]]; then
        psql -XqAt -c "SELECT format('INSERT INTO narrow SELECT g, g * 7, g, g %% 1000, clock_timestamp() FROM generate_series(%s, %s) g;',
            f, least(f + 499, $2)) FROM generate_series(1, $2, 500) f" | psql -Xq -v ON_ERROR_STOP=1
    else
        psql -XqAt -c "SELECT setseed(0.5)" -c "SELECT format(\$q\$INSERT INTO wide SELECT g, 'Issue ' || g,
            (SELECT string_agg(md5((g * 31 + i)::text), ' ') FROM generate_series(1, 27) i), g %% 1000, g %% 777, clock_timestamp(),
            clock_timestamp(), 1, false, nullif(g %% 5, 0),
            jsonb_build_object('labels', md5(g::text) || md5((g + 1)::text), 'n', g, 'text', repeat(md5(g::text), 4))
            FROM generate_series(%s, %s) g;\$q\$, f, least(f + 999, $2)) FROM generate_series(1, $2, 1000) f" | psql -Xq -v ON_ERROR_STOP=1
    fi
    sql "CHECKPOINT"
}

# Of lines "contestant seconds": "contestant median lowest highest", in the order of their first appearance.
medians() {
    awk '
        !($1 in n) { order[++contestants] = $1 }
        { t[$1, ++n[$1]] = $2 }
        END {
            for (k = 1; k <= contestants; k++) {
                c = n[order[k]]
                for (i = 1; i <= c; i++) a[i] = t[order[k], i]
                for (i = 1; i <= c; i++) for (j = i + 1; j <= c; j++) if (a[j] < a[i]) { x = a[i]; a[i] = a[j]; a[j] = x }
                print order[k], a[int((c + 1) / 2)], a[1], a[c]
            }
        }' "$1"
}
