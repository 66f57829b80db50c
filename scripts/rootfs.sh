# shellcheck shell=bash
# Makes the small Debian root filesystems that Siphon is built and tested in, once for all checkouts, each named by what
# is in it, under ~/.cache/siphon. Read by scripts/suite and scripts/check-packages, which give suite, say and die.

# ---- what the host has, and what it lacks ----------------------------------------------------------

# Arguments are program=package, or /a/file=package: the package is installed where the first is missing.
need_on_host() {
    local pair missing=() as_root=() log
    for pair; do
        if [[ $pair == /* ]]; then [[ -e ${pair%%=*} ]]; else command -v "${pair%%=*}" >/dev/null; fi ||
            missing+=("${pair#*=}")
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0

    command -v apt-get >/dev/null ||
        die "missing on this machine: ${missing[*]} (and it has no apt-get, so please install them yourself)"
    if [[ $EUID -ne 0 ]]; then
        command -v sudo >/dev/null || die "missing on this machine: as root, apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    say "installing on this machine: ${missing[*]}"
    log=$(mktemp -t siphon-apt.XXXXXX)
    if ! { "${as_root[@]}" apt-get update &&
           "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
         } >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        die "apt-get could not install them; all that it said is in $log"
    fi
    rm -f "$log"
}

check_namespaces() {
    local complaint
    complaint=$(bwrap --unshare-all --ro-bind / / --proc /proc true 2>&1) && return
    say "$complaint"
    die "this machine does not let us make namespaces, which bwrap needs. In a container, start it with
       --privileged; on a host, allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1,
       and on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0), or run this as root."
}

# ---- the root filesystem ---------------------------------------------------------------------------

# How the root filesystem is made: mmdebstrap's arguments, without where to and where from. LLVM is in it
# for clang's sake only; what else it brings (JIT, static libraries, headers) would nearly double the size.
set_recipe() {
    local path included=$*
    recipe=(
        --variant=apt
        --hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr
        --aptopt='Acquire::Languages "none"'
        --aptopt='Acquire::Retries "5"'
        --dpkgopt=force-unsafe-io
    )
    for path in \
        '/usr/share/doc/*' '/usr/share/info/*' '/usr/share/man/*' '/usr/share/locale/*' '/usr/share/i18n/*' \
        '/usr/lib/postgresql/*/lib/bitcode/*' '/usr/lib/postgresql/*/lib/llvmjit*' \
        '/usr/lib/llvm-*/lib/lib*.a' '/usr/lib/llvm-*/bin/llvm-exegesis' '/usr/include/llvm-*' \
        '/usr/lib/*/libclang-[0-9]*.so*' '/usr/bin/*-lto-dump-*'
    do
        recipe+=(--dpkgopt="path-exclude=$path")
    done
    # The tests make clusters of their own.
    # shellcheck disable=SC2016
    recipe+=(--essential-hook='mkdir -p "$1/etc/postgresql-common"
        echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.conf"')
    recipe+=(--include="${included// /,}")
}

# Where Debian comes from: the mirror that this machine's apt uses, if it uses one, in the way it does.
set_sources() {
    local targets mirror security proxy='' check_valid_until=''
    # shellcheck disable=SC2016
    targets=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' \
        'Created-By: Packages' 'Origin: Debian' 2>/dev/null) || targets=
    mirror=$(awk '$1 == "Debian" && $2 ~ /^https?:/ { print $2; exit }' <<<"$targets")
    security=$(awk '$1 == "Debian-Security" && $2 ~ /^https?:/ { print $2; exit }' <<<"$targets")
    if [[ -z $mirror ]]; then
        mirror=http://deb.debian.org/debian/
        security=http://deb.debian.org/debian-security/
    fi
    sources=("deb $mirror $suite main")
    sources_options=()
    if [[ $suite != forky ]]; then  # not released yet: no updates, no security
        sources+=("deb $mirror $suite-updates main")
        if [[ -n $security ]]; then sources+=("deb $security $suite-security main"); fi
    fi
    eval "$(apt-config shell proxy Acquire::http::Proxy check_valid_until Acquire::Check-Valid-Until/b)"
    if [[ -n $proxy && $proxy != DIRECT ]]; then export http_proxy=$proxy; fi
    if [[ $check_valid_until == false ]]; then
        # A mirror that is a snapshot of an earlier day. Signatures are checked all the same.
        sources_options=(--aptopt='Acquire::Check-Valid-Until "false"')
        say "as in this machine's apt configuration, a mirror may be out of date (Check-Valid-Until is off)"
    fi
}

# find_or_make_rootfs NAME PACKAGE...: sets rootfs, and keeps it locked against removal for as long as anything runs
# in it.
find_or_make_rootfs() {
    local hash name=$1
    shift
    set_recipe "$@"
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/siphon
    hash=$(printf '%s\n' "${recipe[@]}" | sha256sum)
    rootfs=$cache/$name-${hash:0:12}

    mkdir -p "$cache"
    exec 8>"$cache/$name.lock"
    if ! flock -n 8; then
        say "another process is making the root filesystem of $name; waiting for it"
        flock 8
    fi
    if [[ ! -d $rootfs ]]; then make_rootfs "$name"; fi
    need_on_host bwrap=bubblewrap
    exec 9<"$rootfs"
    flock -s 9
    exec 8>&-
}

make_rootfs() {
    local name=$1 work=$rootfs.making log=$rootfs.log newest_key=/usr/share/keyrings/debian-archive-trixie-stable.gpg
    local old pid started=$SECONDS

    need_on_host mmdebstrap=mmdebstrap bwrap=bubblewrap "$newest_key=debian-archive-keyring"
    [[ -e $newest_key ]] ||
        die "this machine's debian-archive-keyring doesn't know Debian 13; please install a newer one"
    if [[ $EUID -ne 0 ]]; then need_on_host newuidmap=uidmap; fi
    check_namespaces

    # what builds that were killed left behind
    rm -rf --one-file-system "$cache/$name"-*.making

    set_sources
    say "making the root filesystem of $name, once: about a minute, in $rootfs"
    say "packages come from ${sources[0]#deb }"
    set -m  # a process group of its own, to be stopped as a whole
    run_mmdebstrap "$work" >"$log" 2>&1 </dev/null &
    pid=$!
    set +m
    # shellcheck disable=SC2064
    trap "stop_making $pid '$work' '$log'" INT TERM HUP
    watch_progress "$pid" "$log" "$started"
    if ! wait "$pid"; then
        grep -E '^(E:|Err:|dpkg: error)' "$log" | tail -n 10 >&2 || tail -n 10 "$log" >&2
        rm -rf --one-file-system "$work"
        die "making the root filesystem of $name failed; all that mmdebstrap said is in $log"
    fi
    trap - INT TERM HUP

    mv "$work" "$rootfs"
    rm -f "$log"
    say "made in $((SECONDS - started)) s"
    for old in "$cache/$name"-*; do
        if [[ -d $old && $old != "$rootfs" ]]; then
            flock -n "$old" rm -rf --one-file-system "$old" || say "$old is out of date, but still in use"
        fi
    done
}

stop_making() {
    local pid=$1 work=$2 log=$3 signal=KILL
    trap '' INT TERM HUP
    if [[ $EUID -ne 0 ]]; then signal=TERM; fi  # mmdebstrap has things of other users to clear away
    { kill -"$signal" -- "-$pid"; wait "$pid"; } 2>/dev/null || true
    while kill -0 -- "-$pid" 2>/dev/null; do sleep 0.2; done
    rm -rf --one-file-system "$work" "$log"
    die "stopped"
}

# Runs in the background, as a process of its own.
run_mmdebstrap() {
    local work=$1 call=(
        mmdebstrap --verbose --keyring=/usr/share/keyrings/debian-archive-keyring.gpg
        "${recipe[@]}" "${sources_options[@]}"
    )
    if [[ $EUID -eq 0 ]]; then
        # in namespaces, so that neither a process nor a mount outlives this script
        exec setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --mount-proc \
            "${call[@]}" --mode=root --format=directory "$suite" "$work" "${sources[@]}"
    else
        # An ordinary user can't own the files of several users, and doesn't have to.
        mkdir "$work"
        "${call[@]}" --mode=unshare --format=tar "$suite" - "${sources[@]}" |
            tar -x -C "$work" --no-same-owner --exclude='./dev/*'
    fi
}

# Says how far the packages are: in one changing line on a terminal, elsewhere in a line now and then.
watch_progress() {
    local pid=$1 log=$2 started=$3 line next=10
    while kill -0 "$pid" 2>/dev/null; do
        sleep 1
        line=$(awk '
            / newly installed,/ { total += $1 + $3 }
            /^Unpacking /       { unpacked++ }
            /^Setting up /      { ready++ }
            END { if (unpacked > total) unpacked = total
                  if (total) printf "%d of %d packages unpacked, %d set up", unpacked, total, ready
                  else printf "fetching package lists" }' "$log")
        if [[ -t 2 ]]; then
            printf '\r\033[Ksuite: %3d s, %s' $((SECONDS - started)) "$line" >&2
        elif (( SECONDS - started >= next )); then
            say "$((SECONDS - started)) s, $line"
            next=$((SECONDS - started + 10))
        fi
    done
    if [[ -t 2 ]]; then echo >&2; fi
}
