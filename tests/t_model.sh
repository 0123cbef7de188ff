#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The slot protocol as a model, checked by spin over all orders of all steps; then every rule broken in turn, which spin has to
# notice.  The mutants are those of the model (tests/model/run), so this script tries them itself.
# timeout: 400
# sanitizers: none
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_command spin gcc
cd "$MDBUS_TOP" || exit

nice tests/model/run || fail "the model breaks a guarantee; the steps are above"
nice tests/model/run --mutants || fail "a broken rule goes unnoticed: the model proves nothing about it"
guarded=$(grep -oE '(ifn?def |defined\()MUTANT_[a-z_]+' tests/model/ring.pml | sed "s,.*MUTANT_,," | sort -u | wc -l)
same "broken rules that gcc and spin were given" "$guarded" "$(tests/model/run --mutants --list | wc -l)"
