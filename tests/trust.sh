#!/usr/bin/env bash
# Makes TRUSTED, a copy of the bundle DEFINITION with the checksums of the first downloads. A copy of the
# same definition is kept: later downloads are verified against its checksums.
# usage: trust.sh BUILDER DEFINITION TRUSTED [--mirror HOST=URL]…
set -euo pipefail

builder=$1
definition=$2
trusted=$3
shift 3

if cmp -s "$definition/bundle.toml" "$trusted/bundle.toml" && [ -e "$trusted/bundle.lock" ]; then
    echo "Checksums of your earlier first downloads: $trusted/bundle.lock; remove it to trust others."
else
    "$builder" bundle lock --bundle "$definition" --trust-on-first-use --output "$trusted" "$@"
fi
