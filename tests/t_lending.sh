#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# `mdbusctl queues` on a card of two queues, in a network namespace that mdbusd is not in: how many there are, who has which, what
# is free; a second taker is told who has it; death frees it; each lending is an event.
# timeout: 90
# sanitizers: none
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_xdp
need_command jq
lab_up
feed=mdlab-$lab-feed ingest=mdlab-$lab-ingest
ip -n "$feed" link add mdq0 numrxqueues 2 numtxqueues 2 type veth peer name mdq1 netns "$ingest" numrxqueues 2 numtxqueues 2
ip -n "$feed" link set mdq0 up
ip -n "$ingest" link set mdq1 up
ctl=$MDBUS_BIN/mdbusctl
line() { # NAME QUEUE [MORE]
	echo "{ name = \"$1\"; backend = \"af_xdp\"; interface = \"mdq1\"; queue = $2; frames = 1024; idle_spins = 10; ${3:-} }"
}
channel='{ name = "c"; layout = "moldudp64"; flows = { A = "239.1.1.1:7001"; }; }'
cat >"$T/mdbus.conf" <<-CONF
	hugepages = "never";
	buses = (
	  { name = "t"; seats = 2; lines = ( $(line A 0), $(line A2 1 'part_of = "A";') ); channels = ( $channel ); },
	  { name = "u"; seats = 2; lines = ( $(line A 0), $(line S 1 'steer = true;') ); channels = (
	    { name = "c"; layout = "moldudp64"; flows = { A = "239.1.1.1:7001"; S = "239.1.1.2:7001"; }; } ); } );
CONF
start mdbusd "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
wait_for 60 "mdbusd" grep -q "^mdbusd: ready" "$T/mdbusd.log"

# queue N: who has it, as "state bus/line".
queue() {
	"$ctl" queues --json | jq -r --argjson q "$1" '.queues[] | select(.queue == $q) | "\(.state) \(.bus)/\(.line) \(.pid)"'
}
runs() { # BUS/LINE
	grep -q "^mdbus-ingest: $1: af_xdp" "$T/${1/\//.}.log"
}
start_line() { # BUS/LINE
	start "${1/\//.}" "${on_ingest[@]}" "$MDBUS_BIN/mdbus-ingest" "$1"
	wait_for 20 "line $1" runs "$1"
}

# The right to tell cards something is kept for line S, and in force only when it is used.
same "privileges" '["CAP_KILL","CAP_NET_ADMIN"]' "$("$ctl" status --json | jq -c .privileges)"
effective=0x$(awk '$1 == "CapEff:" { print $2 }' "/proc/$(pid_of mdbusd)/status")
same "CAP_NET_ADMIN in force" 0 $((effective >> 12 & 1))
same "a queue that nobody has" "free null/null null" "$(queue 0)"
start_line t/A
same "queue 0" "held t/A $(pid_of t.A)" "$(queue 0)"
same "queue 1" "free null/null null" "$(queue 1)"
same "rows" 2 "$("$ctl" queues --json | jq '.queues | length')"
refused "a queue that is lent" "line A of bus u: queue 0 of mdq1 is lent to t/A, pid $(pid_of t.A): stop that process first" \
	"${on_ingest[@]}" "$MDBUS_BIN/mdbus-ingest" u/A
start_line t/A2
"$ctl" queues >"$T/table"
grep -qE "^mdq1 +[0-9]+ +0 +t/A +$(pid_of t.A) +af_xdp +t/A u/A$" "$T/table" || fail "the table: $(cat "$T/table")"
grep -qE "^mdq1 +[0-9]+ +1 +t/A2 +$(pid_of t.A2) +af_xdp +t/A2 u/S$" "$T/table" || fail "the table: $(cat "$T/table")"
"$ctl" rules >"$T/rules"
grep -qE "^mdq1 +xdp +- +239.1.1.1:7001 +0 +t/A +$(pid_of t.A)$" "$T/rules" || fail "the rules: $(cat "$T/rules")"
same "rules" 2 "$("$ctl" rules --json | jq '.rules | length')"
stop t.A2 KILL
refused "a card that cannot sort" "line S of bus u: mdq1 has no rules that sort packets.*ethtool -K mdq1 ntuple on" \
	"${on_ingest[@]}" "$MDBUS_BIN/mdbus-ingest" u/S
start_line t/A2
stop t.A KILL
start_line u/A
same "queue 0 after a death" "held u/A $(pid_of u.A)" "$(queue 0)"
stop mdbusd KILL
start mdbusd "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
wait_for 60 "mdbusd" grep -q "^mdbusd: ready" "$T/mdbusd.log"
same "queue 0 for the next mdbusd" "held u/A $(pid_of u.A)" "$(queue 0)"
refused "a queue that is lent" "queue 0 of mdq1 is lent to u/A, pid $(pid_of u.A)" "${on_ingest[@]}" "$MDBUS_BIN/mdbus-ingest" t/A
stop u.A
stop t.A2 KILL
free() { [ "$("$ctl" queues --json | jq '[.queues[] | select(.state != "free")] | length')" = 0 ]; }
wait_for 5 "free queues" free
start_line t/A
has_events() {
	"$ctl" events --json | jq -s -e 'map(select(.type | startswith("queue_")) | "\(.type) \(.bus)/\(.line) \(.interface) \(.queue)")
		== ["queue_free u/A mdq1 0", "queue_free t/A2 mdq1 1", "queue_alloc t/A mdq1 0"]'
}
wait_for 5 "the events of lending" has_events
