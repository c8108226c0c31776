#!/usr/bin/env bash
# Prints what `make appliance` made, in three lines: the file, its size and checksum, and what to type next.
# usage: made.sh APPLIANCE BUNDLE NEXT
set -euo pipefail

appliance=$1
bundle=$2
next=$3
size=$(stat --format %s "$appliance")
sum=$(sha256sum "$appliance")

echo "Made: $appliance (bundle $bundle)"
echo "Size: $size bytes; sha256: ${sum%% *}"
echo "Next: $next"
