#!/usr/bin/env bash
# Prints how long each part of the last runs took, and how long it usually takes on two cores. For a part
# that ran twice, it prints the last time.
# usage: TIMINGS=FILE timings.sh RUN…
set -euo pipefail

usual=$(dirname "$0")/usual.tsv
[ -e "$TIMINGS" ] || {
    echo "error: nothing ran yet; run: make demo" >&2
    exit 1
}
for run; do
    awk -F '\t' -v run="$run" '
        $1 != run { next }
        FILENAME == ARGV[1] { usual[$2] = $3; next }
        !($2 in seconds) { order[++parts] = $2 }
        { seconds[$2] = $3 }
        END {
            if (!parts) { exit }
            printf "%8s %8s  make %s\n", "SECONDS", "USUALLY", run
            for (i = 1; i <= parts; i++) {
                printf "%8d %8s  %s\n", seconds[order[i]], usual[order[i]], order[i]
                sum += seconds[order[i]]
                expected += usual[order[i]]
            }
            printf "%8d %8d  all\n", sum, expected
        }' "$usual" "$TIMINGS"
done
