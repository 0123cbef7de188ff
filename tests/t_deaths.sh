#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A line is killed 30 times: lease, state and port come back each time.  make deaths: 1,000 times, and how long it took.
# mutants: dead_line_stays_up
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

"$MDBUS_BUILD/tests/prog_deaths" 30 || fail "something did not come back; see above"
