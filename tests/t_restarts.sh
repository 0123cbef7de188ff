#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# mdbusd is killed and started again, over and over, while two lines and a subscriber are at work and a line dies now and then:
# nothing is lost, what died meanwhile is taken back, the living are adopted, and a second mdbusd never gets in.
# MDBUS_RESTARTS says how often, 20 if not given (make restarts: 1,000).
# timeout: 900
# mutants: adopt_nobody
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_command jq

restarts=${MDBUS_RESTARTS:-20}
port=$((12000 + $$ % 18000))
cat >"$T/mdbus.conf" <<-CONF
	hugepages = "never";
	buses = ( { name = "t"; seats = 4;
	  lines = ( { name = "A"; backend = "kernel"; interface = "lo"; idle_spins = 50; },
	    { name = "B"; backend = "kernel"; interface = "lo"; idle_spins = 50; },
	    { name = "C"; backend = "kernel"; interface = "lo"; idle_spins = 50; frames = 1024; } );
	  channels = ( { name = "one"; layout = "moldudp64"; depth = 32768; gap_timeout_us = 2000000;
	      flows = { A = "127.0.0.1:$port"; B = "127.0.0.1:$((port + 1))"; }; },
	    { name = "two"; layout = "moldudp64"; depth = 1024; flows = { C = "127.0.0.1:$((port + 2))"; }; } ); } );
CONF
ctl=$MDBUS_BIN/mdbusctl
bound() { # PORT
	grep -q ":$(printf %04X "$1") " /proc/net/udp
}
start_mdbusd() {
	start mdbusd "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
	wait_for 60 "mdbusd" grep -q "^mdbusd: ready" "$T/mdbusd.log"
}
held() { # who holds lines and seats
	"$ctl" leases --json | jq -r '.leases[] | select(.state == "held" and .name != "C") | "\(.name):\(.pid)"' | sort | xargs
}
line_c() { # up or down
	"$ctl" lines --json | jq -e ".lines[2].state == \"$1\""
}

start_mdbusd
start A "$MDBUS_BIN/mdbus-ingest" t/A
start B "$MDBUS_BIN/mdbus-ingest" t/B
wait_for 30 "line A" bound "$port"
wait_for 30 "line B" bound $((port + 1))
start judge "$MDBUS_BIN/mdbus-verify" t --log "$T/log" --json
wait_for 30 "the verifier" grep -q attached "$T/judge.log"
start feed "$MDBUS_BIN/mdbus-feed" --generate moldudp64 --count 0 --size 60 --pack 4 --rate 5000 --log "$T/log" --json \
	--line "A,to=127.0.0.1:$port,loss=0.02" --line "B,to=127.0.0.1:$((port + 1)),loss=0.02,repack=3"
holders=$(held)
same "holders" 3 "$(wc -w <<<"$holders")"

for ((i = 1; i <= restarts; i++)); do
	if ((i % 5 == 0)); then # a line that dies while nobody looks
		start C "$MDBUS_BIN/mdbus-ingest" t/C
		wait_for 60 "line C" line_c up
	fi
	if ((i % 4 == 0)); then
		stop mdbusd TERM # in good order: what is held stays
		same "exit status of mdbusd" 0 "$stopped"
	else
		stop mdbusd KILL
	fi
	((i % 5 != 0)) || stop C KILL
	start_mdbusd
	((i % 5 != 0)) || line_c down >/dev/null || fail "restart $i: line C is dead and not taken back"
	[ "$(held)" = "$holders" ] || fail "restart $i: held were $holders, now $(held)"
	((i % 7 != 0)) || refused "a second mdbusd" "another mdbusd" "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
done
for name in A B judge feed; do running $name || fail "$name has ended: $(tail -n 3 "$T/$name.log")"; done
stop feed INT
same "the feeder" 0 "$stopped"
stop judge
[ "$stopped" = 0 ] || fail "the subscriber: $(cat "$T/judge.log")"
echo "$restarts restarts: $(grep -o '"matched":[0-9]*' "$T/judge.log" | head -n 1 | cut -d: -f2) messages, none lost"
for name in A B mdbusd; do
	stop $name
	same "exit status of $name" 0 "$stopped"
done
[ ! -e "$MDBUS_RUN_DIR" ] || fail "left behind: $(find "$MDBUS_RUN_DIR")"
