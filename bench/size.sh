#!/usr/bin/env bash
# How large the program is, and with the bundle that `make appliance` put into it.
# shellcheck source=bench/lib.sh
. "$(dirname "$0")/lib.sh"

echo "builder_bytes $(bytes "$BUILDER")"
echo "appliance_bytes $(bytes "$APPLIANCE")"
echo "program_mb $(awk -v bytes="$(bytes "$BUILDER")" 'BEGIN { printf "%.2f", bytes / 1e6 }')"
