#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What a line had comes back, on every backend that there is here, whether its process is told to end or killed: in one order,
# each step once in mdbusd's events and once in its log, with nothing left on the interface, in the kernel or in the run directory.
# timeout: 120
# mutants: dpdk_files_left
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
mutant_needs_root dpdk_files_left "a line on DPDK"
need_command jq python3
ctl=$MDBUS_BIN/mdbusctl
port=$((22000 + $$ % 10000))
on_ingest=() ingest=
lines="{ name = \"K\"; backend = \"kernel\"; interface = \"lo\"; frames = 1024; },
	{ name = \"P\"; backend = \"pcap\"; file = \"$T/slow.pcap\"; frames = 1024; },
	{ name = \"R\"; backend = \"recover\"; servers = (\"127.0.0.1:$((port + 2))\"); frames = 1024; }"
flows="K = \"127.0.0.1:$port\"; P = \"239.1.3.1:7001\"; R = true;"
names=(K P R)
if [ "$(id -u)" = 0 ]; then
	lab_up
	ingest=mdlab-$lab-ingest
	"${on_ingest[@]}" ip link set lo up
	if [ -e "$MDBUS_BUILD/ingest/backend_xdp.o" ]; then
		lines+=", { name = \"X\"; backend = \"af_xdp\"; interface = \"mda1\"; frames = 1024; }"
		flows+=" X = \"239.1.1.1:7001\";"
		names+=(X)
	fi
	if [ -e "$MDBUS_BUILD/lib/mdbus/dpdk.so" ]; then
		lines+=", { name = \"D\"; backend = \"dpdk\"; interface = \"net_af_packet0,iface=mdb1\"; frames = 1024; }"
		flows+=" D = \"239.1.2.1:7001\";"
		names+=(D)
	fi
fi
# Two packets, an hour apart.
python3 - "$T/slow.pcap" <<-'PY'
	import struct, sys
	mold = b"TESTSESS01" + struct.pack(">QH", 1, 1) + struct.pack(">H", 4) + b"abcd"
	udp = struct.pack(">4H", 9, 7001, 8 + len(mold), 0) + mold
	ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 8, 17, 0, bytes([10, 0, 0, 1]), bytes([239, 1, 3, 1])) + udp
	frame = bytes.fromhex("01005e010301020000000001") + b"\x08\x00" + ip
	with open(sys.argv[1], "wb") as f:
	    f.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
	    for second in (1, 3601):
	        f.write(struct.pack("<4I", second, 0, len(frame), len(frame)) + frame)
PY
cat >"$T/mdbus.conf" <<-CONF
	hugepages = "never";
	buses = ( { name = "t"; seats = 2; lines = ( $lines );
	  channels = ( { name = "c"; layout = "moldudp64"; flows = { $flows }; } ); } );
CONF
start mdbusd "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
wait_for 60 "mdbusd" grep -q "^mdbusd: ready" "$T/mdbusd.log"

runs() { # LINE: its present process has come round its loop
	"$ctl" lines --json | jq -e --arg l "$1" --argjson p "$(pid_of "$1")" --argjson since "$since" \
		'.lines[] | select(.line == $l) | .pid == $p and .counters.heartbeat_ns > $since'
}
start_line() { # LINE
	local program=mdbus-ingest
	[ "$1" != R ] || program=mdbus-recover
	since=$(python3 -c 'import time; print(time.monotonic_ns())')
	start "$1" "${on_ingest[@]}" "$MDBUS_BIN/$program" "t/$1"
	wait_for 20 "line $1" runs "$1"
}
steps() { # PID
	"$ctl" events --json | jq -sr --argjson p "$1" 'map(select(.pid == $p and (.type | startswith("st") | not))
		| .step // .type) | join(" ")' # stale and stuck say nothing here
}
is_down() { # LINE PID
	[[ $(steps "$2") == *line_down ]]
}
clean() {
	[ -z "$ingest" ] || ! ip -n "$ingest" -d link show | grep -qE 'xdp|PROMISC' || return 1
	[ -z "$ingest" ] || [ "$(ip -n "$ingest" -d -o link show | grep -cE 'promiscuity [1-9]')" = 0 ] || return 1
	! "${on_ingest[@]}" grep -qiE '010[123]01EF' /proc/net/igmp || return 1
	[ ! -e "$MDBUS_RUN_DIR/dpdk" ]
}
order="lease state marks queue_free rule_delete mbuf_put memp_free free line_down"
for signal in TERM KILL KILL; do
	for line in "${names[@]}"; do start_line "$line"; done
	if [ -e "$MDBUS_BUILD/lib/mdbus/dpdk.so" ]; then # as a process leaves it that is killed while it starts
		mkdir -p "$MDBUS_RUN_DIR/dpdk/mdbus-t-D"
		echo >"$MDBUS_RUN_DIR/dpdk/mdbus-t-D/config"
	fi
	for line in "${names[@]}"; do
		pid=$(pid_of "$line")
		stop "$line" $signal
		wait_for 10 "line $line to come back" is_down "$line" "$pid"
		steps=$(steps "$pid")
		[[ $steps == *"line_up $order" ]] || [[ $steps == *"line_up queue_alloc $order" ]] || fail "line $line by $signal: $steps"
		same "log of line $line by $signal" "queue_free rule_delete mbuf_put memp_free" \
			"$(sed -n "s/^mdbusd: bus t: line $line, pid $pid: \([a-z_]*\): .*/\1/p" "$T/mdbusd.log" | paste -sd ' ')"
	done
	[ "$(id -u)" = 0 ] || rm -rf "$MDBUS_RUN_DIR/dpdk" # only a dpdk line's death takes it away
	wait_for 5 "interfaces, groups and the run directory as they were" clean
	same "leases" 0 "$("$ctl" leases --json | jq '.leases | length')"
	same "queues" 0 "$("$ctl" queues --json | jq '[.queues[] | select(.state != "free")] | length')"
	same "rules" 0 "$("$ctl" rules --json | jq '.rules | length')"
done
stop mdbusd
same "mdbusd" 0 "$stopped"
[ ! -e "$MDBUS_RUN_DIR" ] || fail "left behind: $(find "$MDBUS_RUN_DIR")"
