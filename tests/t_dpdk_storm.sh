#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What holds on any backend holds with DPDK, and with line A on AF_XDP and line B on DPDK: random SIGKILLs and SIGSTOPs, and
# seeded cases against the reference arbiter.  `make storm BACKEND=dpdk` or mixed runs more,
# and `make storm-kills BACKEND=dpdk ONLY=ingest KILLS=1000` kills ingest processes alone.
# timeout: 300
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_root
need_command python3 ip ethtool nsenter
[ -e "$MDBUS_BUILD/lib/mdbus/dpdk.so" ] || skip "built without DPDK"
export PYTHONDONTWRITEBYTECODE=1
for backend in dpdk mixed; do
	[ $backend = dpdk ] || [ -e "$MDBUS_BUILD/ingest/backend_xdp.o" ] || continue
	python3 "$MDBUS_TOP/tests/storm.py" --kills 40 --seed "${SEED:-$RANDOM}" --backend $backend || fail "the storm on $backend"
	[ $backend != dpdk ] || python3 "$MDBUS_TOP/tests/storm.py" --kills 20 --seed "${SEED:-$RANDOM}" --backend dpdk --only ingest ||
		fail "the kills of ingest processes"
	python3 "$MDBUS_TOP/tests/storm_cases.py" --cases 20 --seed "${SEED:-1}" --backend $backend || fail "the cases on $backend"
done
