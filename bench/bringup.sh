#!/usr/bin/env bash
# The appliance and a script of the tutorial's commands (bench/tutorial.sh) make the same node, each of a fresh machine:
# tests/integration/bringup.rs.
# shellcheck source=bench/lib.sh
. "$(dirname "$0")/lib.sh"

choose_machines
measured_by_test bringup::
