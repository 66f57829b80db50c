# shellcheck shell=bash
# Runs a command in a root filesystem, as an ordinary user, with no network but the loopback. Read by scripts/suite and
# scripts/check-packages, which give tree, suite, major, rootfs, build (where in the tree the command may write), and
# mounts: bwrap's arguments for what else there is inside.

enter() {
    local variable value call=(
        bwrap
        --unshare-user --uid 1000 --gid 1000 --cap-drop ALL
        --unshare-pid --unshare-ipc --unshare-uts --unshare-net --unshare-cgroup-try --hostname siphon
        --die-with-parent
        --ro-bind "$rootfs/usr" /usr --ro-bind "$rootfs/etc" /etc --ro-bind "$rootfs/var" /var
        --symlink usr/bin /bin --symlink usr/sbin /sbin --symlink usr/lib /lib --symlink usr/lib64 /lib64
        --proc /proc --dev /dev --ro-bind /sys /sys
        --perms 1777 --tmpfs /dev/shm --perms 1777 --tmpfs /tmp --perms 1777 --tmpfs /var/tmp
        --tmpfs /run --dir /run/postgresql --perms 1777 --size $((12 * 1024 * 1024)) --tmpfs /run/small --tmpfs /home --dir /home/siphon
        --ro-bind-data 5 /etc/passwd --ro-bind-data 6 /etc/group
        --bind "$tree" /siphon --chdir /siphon
        "${mounts[@]}"
        --clearenv
        --setenv PATH "/usr/lib/postgresql/$major/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        --setenv HOME /home/siphon --setenv USER siphon --setenv LOGNAME siphon
        --setenv LANG C.UTF-8 --setenv TZ UTC
        --setenv SUITE "$suite" --setenv BUILDDIR "${build#"$tree/"}" --setenv INSIDE_SUITE "$suite"
    )
    for variable in \
        TERM COLORTERM NO_COLOR CI V VERBOSE CC CXX CFLAGS CXXFLAGS CPPFLAGS LDFLAGS COPT PROFILE SANITIZE \
        TESTS PROVE_FLAGS PROVE_TESTS PG_TEST_EXTRA PG_TEST_NOCLEAN PG_TEST_TIMEOUT_DEFAULT
    do
        if [[ -n ${!variable+set} ]]; then call+=(--setenv "$variable" "${!variable}"); fi
    done
    # Debian's has its version in its name, so that clang's sanitizers and libFuzzer don't find it by themselves.
    value=$(compgen -G "$rootfs/usr/lib/llvm-*/bin/llvm-symbolizer" | sort -V | tail -n 1) || true
    if [[ -n $value ]]; then call+=(--setenv ASAN_SYMBOLIZER_PATH "/usr/${value##*/usr/}"); fi
    # A make outside can't lend its job slots to a make inside; -j and the rest go through.
    value=$(sed -E 's/ ?--jobserver-(auth|fds)=[^ ]+//g' <<<"${MAKEFLAGS:-}")
    if [[ -n $value ]]; then call+=(--setenv MAKEFLAGS "$value"); fi

    exec 5<<<'root:x:0:0:root:/root:/bin/bash
siphon:x:1000:1000:Siphon:/home/siphon:/bin/bash
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin' 6<<<'root:x:0:
tty:x:5:
siphon:x:1000:
nogroup:x:65534:'

    # Ctrl-C goes to the command, which can clean up; bwrap stays until it is done, then ends what is left.
    trap '' INT
    exec "${call[@]}" -- env --default-signal=INT "$@"
}
