#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Every process of a bus is killed at each of its hooks, the points beside each store to shared memory and each step that takes
# or gives back a resource: hooks.py says what must hold then.  Ordinary programs have no hooks.
# timeout: 400
# builds: hooked
# mutants: adopt_nobody recover_ignores_ring key_claim_is_seen
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_command python3 nm

for program in "$MDBUS_BIN"/*; do
	! nm "$program" | grep -w mdbus_hook || fail "${program##*/} has hooks"
done
MDBUS_BIN=$MDBUS_BUILD/hooks/bin python3 -B "$MDBUS_TOP/tests/hooks.py" --seed "${SEED:-$RANDOM}" || fail "hooks.py"
