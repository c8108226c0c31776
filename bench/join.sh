#!/usr/bin/env bash
# The join service with many and with slow workers: tests/integration/join/load.rs.
# shellcheck source=bench/lib.sh
. "$(dirname "$0")/lib.sh"

measured_by_test join::load
