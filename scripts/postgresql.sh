# shellcheck shell=bash
# Makes a PostgreSQL with assertions, which Debian has not, from Debian's source package: once for all checkouts, beside the
# root filesystems, with the compiler and the libraries of one of them. Read by scripts/suite, which gives suite, say and
# die; scripts/rootfs.sh has been read before it.

# It takes the place of Debian's, so that nothing has to look for it elsewhere.
configured_with() {
    printf '%s\n' "--prefix=/usr/lib/postgresql/$major" --enable-cassert --enable-debug --enable-tap-tests \
        --with-openssl --with-libxml --with-lz4 --with-zstd --without-readline CFLAGS='-O1 -g'
}

# find_or_make_postgresql: sets postgresql, a directory that belongs at /usr/lib/postgresql/$major, and keeps it locked
# against removal. In it are pgTAP, and in regress what PostgreSQL's own regression suite takes.
find_or_make_postgresql() {
    local hash name=postgresql-$major-cassert
    hash=$({ echo "${rootfs##*/}"; configured_with; } | sha256sum)
    postgresql=$cache/$name-${hash:0:12}

    exec 8>"$cache/$name.lock"
    if ! flock -n 8; then
        say "another process is making PostgreSQL $major with assertions; waiting for it"
        flock 8
    fi
    if [[ ! -d $postgresql ]]; then make_postgresql "$name"; fi
    exec 4<"$postgresql"
    flock -s 4
    exec 8>&-
}

make_postgresql() {
    local name=$1 work=$postgresql.making log=$postgresql.log old started=$SECONDS
    rm -rf --one-file-system "$cache/$name"-*.making
    mkdir -p "$work"/{apt/state/lists/partial,apt/cache/archives/partial,source,installed}
    say "making PostgreSQL $major with assertions, once: some minutes, in $postgresql (log: $log)"
    { fetch_source "$work" && build_postgresql "$work"; } >"$log" 2>&1 </dev/null || {
        tail -n 15 "$log" >&2
        die "PostgreSQL $major could not be made; all that was said is in $log"
    }
    mv "$work/installed" "$postgresql"
    rm -rf --one-file-system "$work" "$log"
    say "made in $((SECONDS - started)) s"
    for old in "$cache/$name"-*; do
        if [[ -d $old && $old != "$postgresql" ]]; then flock -n "$old" rm -rf --one-file-system "$old" || true; fi
    done
}

# The source as Debian signs for it, by lists of packages of our own. All else is as this machine's apt is configured.
fetch_source() {
    local apt=$1/apt options
    set_sources
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${sources[0]#deb }" >"$apt/sources.list"
    options=(-o "Dir::State=$apt/state" -o "Dir::Cache=$apt/cache" -o "Dir::Etc::sourcelist=$apt/sources.list"
        -o Dir::Etc::sourceparts=- -o Acquire::Retries=5)
    if [[ $EUID -eq 0 ]]; then options+=(-o APT::Sandbox::User=root); fi
    (cd "$apt" && apt-get "${options[@]}" update && apt-get "${options[@]}" source --download-only "postgresql-$major") &&
        tar -x -C "$1/source" --strip-components=1 -f "$apt/postgresql-$major"_*.orig.tar.*
}

# In the root filesystem, as an ordinary user without a network.
build_postgresql() {
    local configure
    configure=$(configured_with | sed "s/.*/'&'/" | paste -sd ' ')
    bwrap --unshare-all --uid 1000 --gid 1000 --die-with-parent --ro-bind "$rootfs/usr" /usr --ro-bind "$rootfs/etc" /etc \
        --symlink usr/bin /bin --symlink usr/sbin /sbin --symlink usr/lib /lib --symlink usr/lib64 /lib64 \
        --proc /proc --dev /dev --tmpfs /tmp --bind "$1/source" /source --bind "$1/installed" "/usr/lib/postgresql/$major" \
        --chdir /source --clearenv --setenv PATH /usr/bin:/usr/sbin --setenv LANG C.UTF-8 \
        bash -ec "
            ./configure $configure
            make -s -j$(nproc) all
            make -s -j$(nproc) -C contrib all
            make -s install
            make -s -C contrib install
            cp /usr/share/postgresql/$major/extension/pgtap* /usr/lib/postgresql/$major/share/extension
            make -s -j$(nproc) -C src/test/regress all
            regress=/usr/lib/postgresql/$major/regress
            mkdir \$regress
            cp -r src/test/regress/{sql,expected,data,parallel_schedule,resultmap,regress.so} \$regress
            cp contrib/spi/{autoinc,refint}.so \$regress"
}
