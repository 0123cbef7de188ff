#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A line of two queues, one mdbus-ingest each, and line B beside it: the whole bus.  Whichever queue the interface's hash
# gives a channel to, every message arrives once or is a gap that the feeder's log explains, also when the process of one queue is
# killed; its silent sibling makes no line stale; and the last process leaves nothing on the interface.
# timeout: 180
# sanitizers: none
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_xdp
lab_up
feed=mdlab-$lab-feed ingest=mdlab-$lab-ingest
ip -n "$feed" link add mdq0 numrxqueues 2 numtxqueues 2 type veth peer name mdq1 netns "$ingest" numrxqueues 2 numtxqueues 2
ip -n "$feed" addr add 10.77.3.1/24 dev mdq0
ip -n "$feed" link set mdq0 up
ip -n "$ingest" link set mdq1 up
ctl=$MDBUS_BIN/mdbusctl
line='backend = "af_xdp"; idle_spins = 10; stale_ms = 300;'
channels=
for port in 1 2 3 4; do
	channels+="${channels:+, }{ name = \"c$port\"; layout = \"moldudp64\"; gap_timeout_us = 1000000;
	  flows = { A = \"239.1.1.1:$((7000 + port))\"; B = \"239.1.2.1:$((7000 + port))\"; }; }"
done
cat >"$T/mdbus.conf" <<-CONF
	hugepages = "never";
	buses = ( { name = "t"; seats = 4;
	  lines = (
	    { name = "A"; interface = "mdq1"; queue = 0; $line },
	    { name = "A2"; part_of = "A"; interface = "mdq1"; queue = 1; $line },
	    { name = "B"; interface = "mdb1"; $line } );
	  channels = ( $channels ); } );
CONF

start mdbusd "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
wait_for 60 "mdbusd" grep -q "^mdbusd: ready" "$T/mdbusd.log"
start_line() { # LINE
	start "$1" "${on_ingest[@]}" "$MDBUS_BIN/mdbus-ingest" "t/$1"
	wait_for 20 "line $1" grep -q "^mdbus-ingest: t/$1: af_xdp native" "$T/$1.log"
}
start A "${on_ingest[@]}" "$MDBUS_BIN/mdbus-ingest" t/A
start_line A2 # at the same time
wait_for 20 "line A" grep -q "^mdbus-ingest: t/A: af_xdp native" "$T/A.log"
start_line B

packets() { # LINE
	"$ctl" lines --json | python3 -c 'import json, sys
lines = json.load(sys.stdin)
lines = lines if isinstance(lines, list) else lines["lines"]
print(next(l["counters"]["feed_packets"] for l in lines if l["line"] == sys.argv[1]))' "$1"
}

drops() { # what the queues had no room for: a host too busy for this test looks like that
	"$ctl" lines --json | tr ',' '\n' |
		grep -E '"(line|nic_dropped|ring_full|fill_empty|wrong_queue|feed_packets)"' | tr -d '\n'
}

sessions=0
send() { # CHANNEL LOSS [LOSS-ON-B [COMMAND while it sends]]
	local stream=$((7000 + $1))
	sessions=$((sessions + 1))
	start verify "$MDBUS_BIN/mdbus-verify" "t/c$1" --log "$T/log" --streams "c$1=0" --until-idle-ms 2000
	wait_for 10 "mdbus-verify" grep -q attached "$T/verify.log"
	start feed "${on_feed[@]}" "$MDBUS_BIN/mdbus-feed" --generate moldudp64 --count 10000 --rate 20000 \
		--session "S$sessions" --log "$T/log" \
		--line "A,to=239.1.1.1:$stream,dev=mdq0,loss=$2" --line "B,to=239.1.2.1:$stream,dev=mdb0,loss=${3:-$2}"
	sleep 0.2
	${4:-true}
	wait "$(pid_of feed)" || fail "the feeder"
	wait "$(pid_of verify)" || fail "run $sessions, channel c$1: $(drops) $(cat "$T/verify.log")"
	unset 'started[feed]' 'started[verify]'
}

# Until each queue has had some: every run has a socket, and so a hash, of its own.
runs=0
while [ "$(packets A)" = 0 ] || [ "$(packets A2)" = 0 ] || [ "$runs" -lt 4 ]; do
	[ "$runs" -lt 40 ] || fail "after $runs runs: A has $(packets A) packets, A2 has $(packets A2)"
	send $((runs % 4 + 1)) 10%
	runs=$((runs + 1))
done

# One queue's process is killed in the midst of it; B carries everything.
kill_A() { stop A KILL; }
kill_A2() { stop A2 KILL; }
for line in A A2; do
	send 1 5% 0 "kill_$line"
	ip -n "$ingest" link show mdq1 | grep -q xdp || fail "the program has gone with $line"
	start_line "$line"
	send 2 10%
done

# While the feed goes on, the queue that hears nothing of it is not stale.
start feed "${on_feed[@]}" "$MDBUS_BIN/mdbus-feed" --generate moldudp64 --count 10000 --rate 5000 --session LAST --log "$T/log" \
	--line A,to=239.1.1.1:7003,dev=mdq0 --line B,to=239.1.2.1:7003,dev=mdb0
sleep 1.2
"$ctl" lines --json | python3 -c 'import json, sys
lines = json.load(sys.stdin)
lines = lines if isinstance(lines, list) else lines["lines"]
sys.exit(any(l["stale"] for l in lines))' || fail "a line is stale in the midst of the feed"
wait "$(pid_of feed)"
unset 'started[feed]'

for line in A A2 B; do stop "$line" KILL; done
nothing_left() {
	! ip -n "$ingest" link show | grep -q xdp && ! ip netns exec "$ingest" grep -qi 010101EF /proc/net/igmp
}
wait_for 5 "an interface without a program or a group" nothing_left
