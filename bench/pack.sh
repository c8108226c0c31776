#!/usr/bin/env bash
# What packing makes of the components, against what others make of the same files, and how long it takes.
# shellcheck source=bench/lib.sh
. "$(dirname "$0")/lib.sh"

# The directory of the same components, of which the largest program has other code and other data.
change_largest() {
    local largest
    mkdir "$WORK/changed"
    cp -s "$(realpath "$FILES")"/* "$WORK/changed/"
    largest=$(find -L "$WORK/changed" -type f ! -name '*.tar' -printf '%s %p\n' | sort -n | tail -1 | cut -d' ' -f2-)
    cp --remove-destination "$(realpath "$largest")" "$largest"
    python3 - "$largest" <<'PYTHON'
import os, sys
with open(sys.argv[1], "r+b") as file:
    for place in (4, 1.01):
        file.seek(int(os.path.getsize(sys.argv[1]) / place))
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
PYTHON
}

xz_two_threads() {
    solid | xz -6 -T2
}

# The bytes of a file, and of all files, each compressed by itself.
one_alone() {
    xz -9e -T1 -c "$1" | wc -c
}

alone() {
    for_each_file "$FILES" one_alone | awk '{ bytes += $1 } END { print bytes }'
}

have_payload
have_peers
pack_ms=$(cat "$WORK/pack_ms")
payload=$(bytes "$PAYLOAD")
alone=$(alone)
echo "components $(grep -c '^\[\[component' "$DEFINITION/bundle.toml")"
echo "components_bytes $(find -L "$FILES" -type f -exec cat {} + | wc -c)"
echo "payload_bytes $payload"
echo "each_xz_9e_bytes $alone"
echo "payload_ratio $(ratio "$payload" "$alone")"
echo "payload_over_tar_xz_9e $(ratio "$payload" "$(bytes "$SOLID_XZ")")"
echo "payload_over_k3s $(ratio "$payload" "$(bytes "$SOLID_ZSTD")")"
echo "payload_over_k0s $(ratio "$payload" "$(bytes "$DEFLATED"/*)")"
echo "payload_over_tar_zstd_19 $(ratio "$payload" "$(solid | zstd -19 -T0 -q | wc -c)")"
echo "pack_time_over_tar_xz_9e $(ratio "$pack_ms" "$(cat "$WORK/solid_xz_ms")")"
# Over the same bytes, the ratio of the times is that of the seconds per megabyte.
echo "pack_s_per_mb_ratio $(ratio "$pack_ms" "$(spent xz_two_threads)")"
cp "$PAYLOAD" "$WORK/kept"
change_largest
echo "repack_cached_ratio $(ratio "$(spent pack "$WORK/changed")" "$pack_ms")"
mv "$WORK/kept" "$PAYLOAD"
