#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Messages without a number (PITCH, sequence 0) are delivered once, from whichever line brings them first, on the channel
# beside the sequenced one; the sequenced stream does not notice.
# timeout: 90
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_command python3

port=$((20000 + $$ % 20000))
cat >"$T/mdbus.conf" <<CONF
hugepages = "never";
buses = ( { name = "t"; seats = 8;
  lines = ( { name = "A"; backend = "kernel"; interface = "lo"; frames = 1024; idle_spins = 100; },
            { name = "B"; backend = "kernel"; interface = "lo"; frames = 1024; idle_spins = 100; } );
  channels = ( { name = "unit1"; layout = "cboe_pitch"; unsequenced = true; gap_timeout_us = 500000;
                 flows = { A = "127.0.0.1:$port"; B = "127.0.0.1:$((port + 1))"; }; } ); } );
CONF
start mdbusd "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
wait_for 20 "mdbusd" test -S "$MDBUS_RUN_DIR/mdbusd.sock"
start a "$MDBUS_BIN/mdbus-ingest" t/A
start b "$MDBUS_BIN/mdbus-ingest" t/B
bound() {
	grep -q "$(printf ':%04X ' "$1")" /proc/net/udp
}
wait_for 20 "line A" bound "$port"
wait_for 20 "line B" bound $((port + 1))
"$MDBUS_BIN/mdbus-tail" t --json --until-idle-ms 3000 >"$T/out" &
tail=$!
seats() {
	"$MDBUS_BIN/mdbusctl" leases | grep -q seat
}
wait_for 20 "the subscriber" seats

# 200 packets: the odd ones sequenced, the even ones not; line A loses every fifth, line B every seventh
python3 - "$port" <<'PY'
import socket, struct, sys, time
port = int(sys.argv[1])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
seq = 1
for i in range(1, 201):
    body = struct.pack("<BB", 10, 0x25) + struct.pack("<Q", i)
    packet = struct.pack("<HBBI", 8 + len(body), 1, 1, seq if i % 2 else 0) + body
    seq += i % 2
    if i % 5: s.sendto(packet, ("127.0.0.1", port))
    if i % 7: s.sendto(packet, ("127.0.0.1", port + 1))
    time.sleep(0.001)
for p in (port, port + 1):
    s.sendto(struct.pack("<HBBI", 8, 0, 1, seq), ("127.0.0.1", p))
PY
wait "$tail" || fail "mdbus-tail ended with $?"
python3 - "$T/out" <<'PY' || fail "not what was sent"
import json, struct, sys
got = {}
for line in open(sys.argv[1]):
    r = json.loads(line)
    got.setdefault(r["channel"], []).append(r)
def number(r): return struct.unpack_from("<Q", bytes.fromhex(r["payload"]), 2)[0]
unseq = sorted(number(r) for r in got["unit1.unseq"])
want = [i for i in range(2, 201, 2) if i % 35]
if unseq != want: sys.exit("unsequenced: %s instead of %s" % (unseq, want))
if [r["seq"] for r in got["unit1"]] != list(range(1, 101)): sys.exit("sequenced: out of order")
if [r["kind"] for r in got["unit1"]] != ["gap" if i % 35 == 0 else "data" for i in range(1, 201, 2)]: sys.exit("sequenced: gaps")
PY
echo "each message once, with a number and without"
