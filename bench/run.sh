#!/usr/bin/env bash
# Measures, and compares with the goals. Prints one `name value` per line as soon as it is known, and then a table with
# the goal of each value that has one. A missed goal is no error: the table says so.
# usage: run.sh BUILDER APPLIANCE VM
# BUILDER is the program without components, APPLIANCE the one with the demonstration's, VM the harness of machines.
# ONLY='FAMILY …' measures only these families, PROGRAMS=DIR packs and unpacks the components in DIR.
# bench/README.md explains the values.
set -euo pipefail

families=(size pack unpack install scale join bringup golden)
usage='usage: [ONLY="FAMILY …"] [PROGRAMS=DIR] [MACHINES=containers|vms] bench/run.sh BUILDER APPLIANCE VM'

[ $# = 3 ] || { echo "$usage" >&2; exit 2; }
for family in ${ONLY:-}; do
    [[ " ${families[*]} " = *" $family "* ]] || {
        echo "error: ONLY=$family is no family of measurements; there are: ${families[*]}" >&2
        exit 2
    }
done
BUILDER=$(realpath "$1") APPLIANCE=$(realpath "$2") VM=$(realpath "$3")
PROGRAMS=${PROGRAMS:+$(realpath "$PROGRAMS")}
cd "$(dirname "$0")/.."
mkdir -p out/bench
# On a disk: what is written and flushed there takes as long as on a machine.
WORK=$(mktemp -d out/bench/XXXXXX)
trap 'rm -rf "$WORK"' EXIT
WORK=$(realpath "$WORK")
export BUILDER APPLIANCE VM PROGRAMS WORK

failed=()
for family in ${ONLY:-${families[@]}}; do
    echo "== $family" >&2
    bench/"$family".sh | tee -a "$WORK/values" || failed+=("$family")
done
cp "$WORK/values" out/bench/values

awk -F '\t' -f bench/goals.awk <(sed 's/ /\t/' "$WORK/values") bench/goals.tsv
[ ${#failed[@]} = 0 ] || {
    echo "error: not measured, see above: ${failed[*]}" >&2
    exit 1
}
