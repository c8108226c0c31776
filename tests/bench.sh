#!/usr/bin/env bash
# Prints measurements, one `name value` per line. Times are ratios of two measurements in this run.
# usage: bench.sh BUILDER APPLIANCE [PROGRAMS]
# PROGRAMS is a directory of large programs to pack. The default is ten Go programs from the Debian
# packages of the tests.
set -euo pipefail

builder=$(realpath "$1")
appliance=$(realpath "$2")
programs=${3:-}
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

bytes() {
    cat "$@" | wc -c
}

ratio() {
    awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f\n", a / b }'
}

# The milliseconds that a command takes.
spent() {
    local start
    start=$(date +%s%N)
    "$@" >/dev/null
    echo $((($(date +%s%N) - start) / 1000000))
}

# The peak memory of a command, in MiB.
peak() {
    python3 -c 'import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)' "$@"
}

# A directory that an install accepts as a machine.
make_root() {
    mkdir -p "$work/root/usr/lib/systemd" "$work/root/usr/bin" "$work/root/lib/systemd/system"
    touch "$work/root/usr/lib/systemd/systemd" "$work/root/usr/bin/docker" \
        "$work/root/lib/systemd/system/docker.service"
}

install_once() {
    "$appliance" install --root "$work/root" --metadata-dir tests/fixtures/metadata/queens-static \
        --role master 2>/dev/null
}

unpack_with_tar() {
    mkdir "$work/plain"
    tar -C "$work/plain" -xJf "$1"
    sync -f "$work/plain"
    rm -rf "$work/plain"
}

collect_programs() {
    local name
    programs=$work/programs
    mkdir "$programs"
    for name in containerd containerd-shim-runc-v2 ctr docker docker-proxy docker-registry dockerd etcd etcdctl runc; do
        cp -L "$(command -v "$name")" "$programs/"
    done
}

define_bundle() {
    local path
    mkdir "$work/definition"
    printf '[bundle]\nname = "bench"\nkubernetes = "v1.9.0"\ndescription = "Programs to pack."\n'
    for path in "$programs"/*; do
        [ -f "$path" ] || continue
        printf '[[component]]\nname = "%s"\nkind = "program"\nversion = "-"\npath = "bin/%s"\nfile = "%s"\n' \
            "${path##*/}" "${path##*/}" "${path##*/}"
    done
}

# Packs the programs in that directory, with the streams that are in the cache.
pack_programs() {
    "$builder" bundle pack --bundle "$work/definition" --components "$1" --cache "$work/cache" --output "$work/payload" 2>/dev/null
}

# The directory of the same programs, of which the largest has other code and other data.
change_largest() {
    local path largest
    mkdir "$work/changed"
    for path in "$programs"/*; do
        [ ! -f "$path" ] || ln -s "$(realpath "$path")" "$work/changed/"
    done
    largest=$(find -L "$work/changed" -type f -printf '%s %p\n' | sort -n | tail -1 | cut -d' ' -f2-)
    cp --remove-destination "$(realpath "$largest")" "$largest"
    python3 -c 'import os, sys
with open(sys.argv[1], "r+b") as file:
    for place in (4, 1.01):
        file.seek(int(os.path.getsize(sys.argv[1]) / place))
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))' "$largest"
}

tar_programs() {
    find "$programs" -maxdepth 1 ! -type d -printf '%P\n' | sort | tar -C "$programs" -chf - -T -
}

tar_xz() {
    tar_programs | xz -9e -T1 >"$work/programs.tar.xz"
}

tar_xz_two_threads() {
    tar_programs | xz -6 -T2
}

[ -n "$programs" ] || collect_programs
programs=$(realpath "$programs")
define_bundle >"$work/bundle.toml"
mv "$work/bundle.toml" "$work/definition/"

echo "builder_bytes $(bytes "$builder")"
echo "appliance_bytes $(bytes "$appliance")"

pack_ms=$(spent pack_programs "$programs")
tar_xz_ms=$(spent tar_xz)
payload=$(bytes "$work/payload")
echo "programs $(grep -c '^name' "$work/definition/bundle.toml" | awk '{ print $1 - 1 }')"
echo "programs_bytes $(tar_programs | wc -c)"
echo "payload_bytes $payload"
alone=0
for program in "$programs"/*; do
    [ ! -f "$program" ] || alone=$((alone + $(xz -9e -T1 -c "$program" | wc -c)))
done
echo "each_xz_9e_bytes $alone"
echo "payload_ratio $(ratio "$payload" "$alone")"
echo "payload_over_tar_xz_9e $(ratio "$payload" "$(bytes "$work/programs.tar.xz")")"
echo "payload_over_tar_zstd_19 $(ratio "$payload" "$(tar_programs | zstd -19 -T0 -q | wc -c)")"
echo "pack_time_over_tar_xz_9e $(ratio "$pack_ms" "$tar_xz_ms")"
# Over the same bytes, the ratio of the times is that of the seconds per megabyte.
echo "pack_s_per_mb_ratio $(ratio "$pack_ms" "$(spent tar_xz_two_threads)")"
change_largest
echo "repack_cached_ratio $(ratio "$(spent pack_programs "$work/changed")" "$pack_ms")"
verify_ms=$(spent "$builder" bundle verify "$work/payload" 2>/dev/null)
tar_ms=$(spent unpack_with_tar "$work/programs.tar.xz")
echo "verify_time_over_tar_x $(ratio "$verify_ms" "$tar_ms")"
echo "unpack_peak_mib $(peak "$builder" bundle verify "$work/payload")"

make_root
install_ms=$(spent install_once)
again_ms=$(spent install_once)
echo "second_install_over_first $(ratio "$again_ms" "$install_ms")"

# The join service of the appliance with many and with slow workers; see tests/integration/join/load.rs.
APPLIANCE=$appliance cargo test --locked --test integration -- --ignored --nocapture join::load |
    grep -E '^[a-z0-9_]+ [0-9]+$'
