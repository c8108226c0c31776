#!/usr/bin/env bash
# The first boot of a golden image, and of a plain one with the appliance on a volume: tests/integration/golden/vm.rs.
# shellcheck source=bench/lib.sh
. "$(dirname "$0")/lib.sh"

choose_machines
measured_by_test golden::vm::a_golden_image_and_a_plain_one
