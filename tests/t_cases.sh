#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Seeded cases on real processes against a naive reference arbiter: storm_cases.py says which. `make storm` runs 10,000.
# timeout: 400
# mutants: last_as_next gap_before_timeout
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_command python3

# A mutant is in the bus, not in the feeder that tests it.
MDBUS_FEED=$MDBUS_BIN/mdbus-feed
[ ! -e "$MDBUS_BUILD/../bin/mdbus-feed" ] || MDBUS_FEED=$MDBUS_BUILD/../bin/mdbus-feed
export MDBUS_FEED PYTHONDONTWRITEBYTECODE=1
python3 "$MDBUS_TOP/tests/storm_cases.py" --cases "${CASES:-300}" --seed "${SEED:-1}"
