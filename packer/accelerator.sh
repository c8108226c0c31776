#!/usr/bin/env bash
# Prints the accelerator to run QEMU with: kvm if a guest really runs with it, otherwise tcg. It is not
# enough that /dev/kvm can be opened.
# usage: accelerator.sh [ACCELERATOR TO TRY]
set -euo pipefail

wanted=${1:-kvm}
# How long the guest can take for its three instructions, in seconds.
limit=${TRIAL_SECONDS:-10}
sector=$(mktemp)
trap 'rm -f "$sector"' EXIT

# A boot sector that ends the VM by writing to a port. QEMU's exit code is twice the number, plus one.
#   mov al, 0x31; out 0xf4, al; hlt
printf '\xb0\x31\xe6\xf4\xf4' >"$sector"
truncate -s 510 "$sector"
printf '\x55\xaa' >>"$sector"

code=0
timeout --kill-after=1 "$limit" qemu-system-x86_64 -nodefaults -display none -accel "$wanted" -m 32 \
    -drive "file=$sector,format=raw,if=ide,readonly=off" -device isa-debug-exit,iobase=0xf4,iosize=0x04 \
    </dev/null >/dev/null 2>&1 || code=$?
if [ "$code" -eq $((0x31 * 2 + 1)) ]; then
    echo "$wanted"
else
    echo tcg
fi
