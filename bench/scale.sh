#!/usr/bin/env bash
# What grows with the number of nodes: tests/integration/scale.rs.
# shellcheck source=bench/lib.sh
. "$(dirname "$0")/lib.sh"

measured_by_test scale::
