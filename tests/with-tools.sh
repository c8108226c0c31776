#!/usr/bin/env bash
# Runs a command with the packages that install-tools.sh unpacked below out/debian. Programs
# that are installed on this machine come first.
# usage: with-tools.sh COMMAND…
set -euo pipefail
# Tests compare English messages.
export LC_ALL=C.UTF-8

unpacked=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/out/debian/root
if [ -d "$unpacked" ]; then
    export UNPACKED=$unpacked
    export PATH=$PATH:$unpacked/usr/sbin:$unpacked/usr/bin:$unpacked/sbin:$unpacked/bin
    libraries=$unpacked/usr/lib/x86_64-linux-gnu:$unpacked/lib/x86_64-linux-gnu
    # Chromium's: the library for sound names the directory of its parts as an absolute path.
    libraries+=:$unpacked/usr/lib/x86_64-linux-gnu/pulseaudio
    export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$libraries
fi
exec "$@"
