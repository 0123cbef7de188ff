#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
# alone: yes
# mutants: veth_unplugged veth_thread_free veth_starved
#
# DPDK lines and a feeder on virtual NICs that a virtual bridge joins, as root and as nobody.  Line A has two processes, each
# on a queue of one NIC, and one of them is killed in the midst of it: line B carries what it then misses.  The bridge
# is killed and started again, many times, and the lines find it.  The demo passes its verdict on such NICs, with nothing left
# behind.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_command jq python3
[ -x "$MDBUS_BIN/mdbus-vbridge" ] || skip "built without DPDK"
ctl=$MDBUS_BIN/mdbusctl

value() { # LINE JQ-PATH
	"$ctl" lines --json | jq -r --arg line "$1" ".lines[] | select(.line == \$line) | $2"
}
start_line() { # LINE
	start "$1" "$MDBUS_BIN/mdbus-ingest" "t/$1"
	wait_for 20 "line $1" grep -q "dpdk memif" "$T/$1.log"
}
start_bridge() {
	start bridge "$MDBUS_BIN/mdbus-vbridge" --json feed-a,net=A nic-a,net=A,queues=2 feed-b,net=B nic-b,net=B
	wait_for 10 "the bridge" grep -q ready "$T/bridge.log"
}
more_than() { # LINES
	[ "$(wc -l <"$T/bridge.log")" -gt "$1" ]
}
# The bridge's counters as they are now.
bridge_count() { # JQ-PATH
	local before
	before=$(wc -l <"$T/bridge.log")
	kill -USR1 "$(pid_of bridge)"
	wait_for 5 "the bridge's counters" more_than "$before"
	tail -n 1 "$T/bridge.log" | jq -r "$1"
}
# One message a packet, on all four channels, by both lines.
feed() { # COUNT SESSION
	local i lines=()
	for i in 0 1 2 3; do
		lines+=(--line "A$i,to=239.1.1.$i:700$i,dev=user-veth:feed-a,from=10.77.0.1"
			--line "B$i,to=239.1.2.$i:700$i,dev=user-veth:feed-b,from=10.77.1.1")
	done
	start feed "$MDBUS_BIN/mdbus-feed" --transport dpdk --generate moldudp64 --count "$1" --size 300 --rate 1200 \
		--session "$2" --log "$T/log" --linger-ms 300 "${lines[@]}"
}
judge() { # WHAT
	start verify "$MDBUS_BIN/mdbus-verify" t --log "$T/log" --streams c0=0,c1=0,c2=0,c3=0 --until-idle-ms 2500
	wait_for 10 "mdbus-verify" grep -q attached "$T/verify.log"
}
judged() { # WHAT
	wait "$(pid_of feed)" || fail "$1: the feeder: $(cat "$T/feed.log")"
	wait "$(pid_of verify)" || fail "$1: $(cat "$T/verify.log") $("$ctl" lines)"
	unset 'started[feed]' 'started[verify]'
	grep -qE '^ +gaps \(numbers\) +0 +0 +ok' "$T/verify.log" || fail "$1: a line carried all: $(cat "$T/verify.log")"
}

{
	echo 'hugepages = "never"; buses = ( { name = "t"; seats = 4; lines = ('
	echo '  { name = "A"; backend = "dpdk"; interface = "user-veth:nic-a"; frames = 8192; idle_spins = 10; },'
	echo '  { name = "A2"; part_of = "A"; backend = "dpdk"; interface = "user-veth:nic-a"; queue = 1; frames = 8192;'
	echo '    idle_spins = 10; },'
	echo '  { name = "B"; backend = "dpdk"; interface = "user-veth:nic-b"; frames = 8192; idle_spins = 10; },'
	echo '  { name = "X"; backend = "dpdk"; interface = "user-veth:nic-x"; frames = 1024; } ); channels = ('
	for i in 0 1 2 3; do
		echo "  ${i/#[1-3]/,} { name = \"c$i\"; layout = \"moldudp64\"; slot_size = 64; gap_timeout_us = 2000000;"
		echo "    flows = { A = \"239.1.1.$i:700$i\"; B = \"239.1.2.$i:700$i\"; X = \"239.1.3.$i:700$i\"; }; }"
	done | sed 's/^  0/  /'
	echo '); } );'
} >"$T/mdbus.conf"
start mdbusd "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
wait_for 60 "mdbusd" grep -q "^mdbusd: ready" "$T/mdbusd.log"

# ---- what cannot be ----

refused "no bridge" "user-veth:nic-x: there is no virtual bridge.*start mdbus-vbridge" "$MDBUS_BIN/mdbus-ingest" t/X
start_bridge
refused "no such port" "user-veth:nic-x: no virtual bridge has this port" "$MDBUS_BIN/mdbus-ingest" t/X
refused "a second bridge" "another mdbus-vbridge runs in" "$MDBUS_BIN/mdbus-vbridge" nic-a
refused "no port at all" "no port: mdbus-vbridge" "$MDBUS_BIN/mdbus-vbridge"
for wrong in "dev=lo" "from=10.0.0.1" "dev=user-veth:nowhere,from=10.0.0.1" "dev=user-veth:feed-a"; do
	refused "$wrong" "user-veth:(PORT|nowhere|feed-a)" "$MDBUS_BIN/mdbus-feed" --transport dpdk --generate moldudp64 --count 1 \
		--size 40 --line "A,to=239.1.1.1:7001,$wrong"
done

# ---- the bridge dies, and comes back ----

for line in A A2 B; do start_line "$line"; done
same "how A2 receives" "dpdk memif q1 4K promisc" "$(value A2 .obtained)"
held=$("$ctl" queues --json | jq -r '[.queues[] | select(.state == "held") | "\(.bus)/\(.line)"] | sort | join(" ")')
same "queues" "t/A t/A2 t/B" "$held"
refused "a second process" "taken by pid" "$MDBUS_BIN/mdbus-ingest" t/A2
replugged() { [ "$(bridge_count '[.ports[].queues[] | select(.up)] | length')" = 3 ]; }
for round in 1 2 3 4 5 6 7 8 9 10; do
	stop bridge KILL
	[ -S "$MDBUS_RUN_DIR/veth/nic-a.1" ] || fail "the test expects a killed bridge's sockets to stay"
	sleep "0.$((RANDOM % 10))"
	start_bridge
	wait_for 8 "the lines at the new bridge, round $round" replugged
done
same "the lines' processes" 0 "$(for line in A A2 B; do running "$line" || echo gone; done | wc -l)"

# ---- two processes on one NIC, one is killed ----

judge
feed 6000 first
sleep 1
stop A2 KILL
sleep 0.3
start_line A2
judged "a queue's process is killed"
spread=$(bridge_count '[.ports[] | select(.port == "nic-a").queues[].tx_frames] | map(. > 1000) | tostring')
same "both queues have flows" "[true,true]" "$spread"
[ "$(value A2 .messages.won)" -gt 100 ] || fail "the killed process does nothing since: $(value A2 .messages)"
[ "$(value A '.counters.frames_free + .counters.frames_held')" = 8192 ] || fail "frames of A: $(value A .counters)"
# (A new process is plugged in some microseconds before it lends its buffers.)
same "not forwarded for want of room" 0 "$(bridge_count '[.ports[].queues[] | select(.connects == 1).tx_full] | add')"
same "heard by the wrong net" 0 "$(bridge_count '[.ports[] | select(.port | startswith("feed")).queues[].tx_frames] | add')"

# ---- the lines end, and the bridge dies under a feeder ----

for line in A A2 B; do
	stop "$line"
	same "line $line" 0 "$stopped"
done
stop bridge
for round in 1 2 3 4 5 6 7 8; do
	start_bridge
	start feed "$MDBUS_BIN/mdbus-feed" --transport dpdk --generate moldudp64 --count 0 --size 60 \
		--line A,to=239.9.9.9:7000,dev=user-veth:feed-a,from=10.77.0.1
	fed() { [ "$(bridge_count '.ports[0].queues[0].rx_frames')" -gt 1000 ]; }
	wait_for 10 "the feed" fed
	stop bridge KILL
	status=0
	wait "$(pid_of feed)" || status=$?
	unset 'started[feed]'
	same "the feeder's status in round $round" "1 Network is down" "$status $(grep -o 'Network is down' "$T/feed.log")"
done
start_bridge

# ---- the end ----

stop mdbusd
same "mdbusd" 0 "$stopped"
stop bridge
same "the bridge" 0 "$stopped"
[ ! -e "$MDBUS_RUN_DIR" ] || fail "left behind: $(find "$MDBUS_RUN_DIR")"
case $MDBUS_BUILD in *mutant*) exit 0 ;; esac

# ---- random deaths ----

PYTHONDONTWRITEBYTECODE=1 python3 "$MDBUS_TOP/tests/storm.py" --kills 20 --seed "${SEED:-$RANDOM}" --backend user-veth ||
	fail "the storm"

# ---- the demo, with and without privilege ----

demo() { # WHAT PREFIX...
	local what=$1 dir
	shift
	env -u MDBUS_RUN_DIR BUILD="$MDBUS_BUILD" MDBUS_CORPUS=/nonexistent "$@" "$MDBUS_TOP/scripts/demo" --backend user-veth --seconds 4 \
		>"$T/out" 2>&1 || fail "$what: exit status $?: $(cat "$T/out")"
	grep -q '^verdict: PASS' "$T/out" || fail "$what: no verdict: $(cat "$T/out")"
	grep -q 'line B receives by dpdk memif' "$T/out" || fail "$what: not by DPDK: $(cat "$T/out")"
	grep -q 'ingest A is started again and receives' "$T/out" || fail "$what: nothing was killed: $(cat "$T/out")"
	dir=$(sed -n 's|.*MDBUS_RUN_DIR=\(.*\)/bus .*|\1|p' "$T/out")
	if [ -z "$dir" ] || [ -e "$dir" ]; then fail "$what: left behind: $dir"; fi
	echo "$what: $(grep -c ' ok$' "$T/out") rows hold"
}

demo "as $(id -un)"
nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all --inh-caps=-all)
if [ "$(id -u)" = 0 ] && "${nobody[@]}" test -x "$MDBUS_BIN/mdbusd" -a -x "$MDBUS_TOP/scripts/demo"; then
	demo "as nobody" "${nobody[@]}"
fi
