#!/usr/bin/env bash
# How long `appliance install` unpacks: it decompresses, hashes, writes and flushes every file. It installs a machine,
# loses the unpacked programs, and installs again: what this run takes longer than the next one is the unpacking.
# shellcheck source=bench/lib.sh
. "$(dirname "$0")/lib.sh"

write_files() {
    python3 - "$FILES" "$WORK/written" <<'PYTHON'
import os, sys, time
files = [open(entry.path, "rb").read() for entry in os.scandir(sys.argv[1])]
os.mkdir(sys.argv[2])
begun = time.monotonic()
for number, content in enumerate(files):
    with open(f"{sys.argv[2]}/{number}", "wb") as file:
        file.write(content)
        os.fsync(file.fileno())
print(round((time.monotonic() - begun) * 1e3))
PYTHON
    rm -rf "$WORK/written"
}

untar_xz() {
    tar -C "$WORK/plain" -xJf "$SOLID_XZ"
}

untar_xz_flushed() {
    untar_xz
    sync -f "$WORK/plain"
}

untar_zstd() {
    zstd -q -d -c --long=25 "$SOLID_ZSTD" | tar -C "$WORK/plain" -xf -
}

inflate() {
    gzip -d -c "$1" >"$WORK/plain/${1##*/}"
}

inflate_all() {
    for_each_file "$DEFLATED" inflate
}

# The milliseconds that one of these takes into an empty directory, if they are fewer than the number before.
shortest() {
    local took
    mkdir "$WORK/plain"
    took=$(spent "$2")
    rm -rf "$WORK/plain"
    sync -f "$WORK"
    smaller "$1" "$took"
}

whole_ms() {
    local took
    read -r took _ _ < <(used "${INSTALL[@]}")
    echo "${took%.*}"
}

have_payload
have_peers
root=$WORK/unpack
make_root "$root"
installation "$root" "$BUILDER" --payload "$PAYLOAD"
read -r _ _ peak < <(used "${INSTALL[@]}")
most=999999999
unpack=$most noop=$most xz=$most flushed=$most zstd=$most deflated=$most write=$most
for _ in $(seq "$REPEAT"); do
    find "$root/opt/appliance" -mindepth 1 -maxdepth 1 -type d ! -name shims -exec rm -rf {} +
    sync -f "$root"
    unpack=$(smaller "$unpack" "$(whole_ms)")
    noop=$(smaller "$noop" "$(whole_ms)")
    xz=$(shortest "$xz" untar_xz)
    flushed=$(shortest "$flushed" untar_xz_flushed)
    zstd=$(shortest "$zstd" untar_zstd)
    deflated=$(shortest "$deflated" inflate_all)
    write=$(smaller "$write" "$(write_files)")
done
unpack=$((unpack - noop))
echo "unpack_ms $unpack"
echo "unpack_ratio $(ratio "$unpack" "$xz")"
echo "unpack_over_tar_flushed $(ratio "$unpack" "$flushed")"
echo "unpack_over_k3s $(ratio "$unpack" "$zstd")"
echo "unpack_over_k0s $(ratio "$unpack" "$deflated")"
echo "unpack_over_write $(ratio "$unpack" "$write")"
echo "peak_mb_install $peak"
