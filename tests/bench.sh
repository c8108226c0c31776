#!/usr/bin/env bash
# Figures, one `name value` a line. Times are ratios of two measurements in this run.
# usage: bench.sh BUILDER PAYLOAD APPLIANCE
set -euo pipefail

builder=$1
payload=$2
appliance=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

bytes() {
    cat "$@" | wc -c
}

ratio() {
    awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f\n", a / b }'
}

# Milliseconds a command takes.
spent() {
    local start
    start=$(date +%s%N)
    "$@"
    echo $((($(date +%s%N) - start) / 1000000))
}

# A directory that an install accepts as a machine, with metadata beside it.
make_root() {
    mkdir -p "$work/root/usr/lib/systemd" "$work/root/usr/bin" "$work/root/lib/systemd/system"
    touch "$work/root/usr/lib/systemd/systemd" "$work/root/usr/bin/docker" \
        "$work/root/lib/systemd/system/docker.service"
}

install_once() {
    "$builder" install --root "$work/root" --payload "$payload" \
        --metadata-dir tests/fixtures/metadata/queens-static --role master 2>/dev/null
}

unpack_with_tar() {
    tar -C "$work/plain" -xJf "$payload"/pack-0.tar.xz
    sync -f "$work/plain"
}

mkdir "$work/plain"
make_root
tar_ms=$(spent unpack_with_tar)
install_ms=$(spent install_once)
again_ms=$(spent install_once)
tar -C "$work/plain" -cf - . | xz -9e -T1 >"$work/plain.tar.xz"

packed=$(bytes "$payload"/pack-*)
echo "builder_bytes $(bytes "$builder")"
echo "appliance_bytes $(bytes "$appliance")"
echo "payload_bytes $packed"
echo "unpacked_bytes $(find "$work/plain" -type f -exec cat {} + | wc -c)"
echo "payload_over_tar_xz_9e $(ratio "$packed" "$(bytes "$work/plain.tar.xz")")"
echo "install_over_tar_x $(ratio "$install_ms" "$tar_ms")"
echo "second_install_over_first $(ratio "$again_ms" "$install_ms")"
