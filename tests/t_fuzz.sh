#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Each fuzzer for a few seconds (MDBUS_FUZZ_SECONDS, 5 if not given): its seeds first, then what libFuzzer makes of them.
# timeout: 600
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_command clang
clang -fsanitize=fuzzer,address,undefined -x c -o "$T/probe" - >"$T/probe.log" 2>&1 <<<'int LLVMFuzzerTestOneInput(const
	unsigned char *p, unsigned long n) { return n && !*p ? 0 : 0; }' ||
	skip "clang has no libFuzzer: $(tail -n 1 "$T/probe.log")"
cd "$MDBUS_TOP"

BUILD=$MDBUS_BUILD FRESH=1 tests/fuzz "${MDBUS_FUZZ_SECONDS:-5}" | tee "$T/tried" || fail "a fuzzer found something; see above"
awk '/inputs tried/ { n += $NF } END { print "count: " NR " fuzzers, " n + 0 " inputs tried" }' "$T/tried"
