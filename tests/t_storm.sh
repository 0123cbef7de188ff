#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# 250 random SIGKILLs and SIGSTOPs to the lines, a subscriber and mdbusd of a running bus: storm.py says what must hold.
# `make storm` runs more, on any backend.
# timeout: 300
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_command python3
export PYTHONDONTWRITEBYTECODE=1
storm() { # SIGNALS OPTION...
	python3 "$MDBUS_TOP/tests/storm.py" --kills "$@" || fail "storm.py --kills $*"
}

storm 250 --seed "${SEED:-$RANDOM}"
if [ "$(id -u)" = 0 ] && [ -e "$MDBUS_BUILD/ingest/backend_xdp.o" ] && command -v ethtool nsenter >/dev/null; then
	storm 60 --seed "${SEED:-$RANDOM}" --backend af_xdp
fi
