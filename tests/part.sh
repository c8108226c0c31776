#!/usr/bin/env bash
# Runs a command as one part of a run such as `make demo`: shows its name and how long it usually takes on
# two cores, and records in the file TIMINGS how long it took.
# usage: RUN=NAME TIMINGS=FILE part.sh PART COMMAND…
set -euo pipefail

part=$1
shift
usual=$(awk -F '\t' -v run="$RUN" -v part="$part" '$1 == run && $2 == part { print $3 }' "$(dirname "$0")/usual.tsv")
echo "== $part${usual:+, usually $usual s}"
mkdir -p "$(dirname "$TIMINGS")"
status=0
"$@" || status=$?
printf '%s\t%s\t%s\n' "$RUN" "$part" "$SECONDS" >>"$TIMINGS"
exit "$status"
