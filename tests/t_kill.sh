#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Deaths in an order that matters.  A line that dies while mdbusd is dead is reclaimed by the next one, which adopts
# everybody else.  And what a line published behind an open hole stays, though the line dies, and its next process starts in
# the next session.
# timeout: 120
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_command python3 jq

port=$((12000 + $$ % 18000))
cat >"$T/mdbus.conf" <<-CONF
	hugepages = "never";
	buses = ( { name = "t"; seats = 4;
	  lines = ( { name = "A"; backend = "kernel"; interface = "lo"; frames = 1024; idle_spins = 50; },
	    { name = "B"; backend = "kernel"; interface = "lo"; frames = 1024; idle_spins = 50; } );
	  channels = ( { name = "one"; layout = "moldudp64"; gap_timeout_us = 2000000; reorder_window = 8;
	      flows = { A = "127.0.0.1:$port"; B = "127.0.0.1:$((port + 1))"; }; },
	    { name = "two"; layout = "moldudp64"; slot_size = 64; gap_timeout_us = 500000; reorder_window = 8;
	      flows = { A = "127.0.0.1:$((port + 2))"; B = "127.0.0.1:$((port + 3))"; }; } ); } );
CONF

# Send packets of MoldUDP64, one message each; lines C and D are A and B of channel two.
packets() { # LINE SESSION NUMBER...
	python3 - "$@" <<-'PY' "$port"
		import socket, struct, sys
		line, session, *numbers, port = sys.argv[1:]
		s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
		for n in map(int, numbers):
		    body = b"%-50s:%d" % (session.encode(), n) if line in "CD" else b"%s:%d" % (session.encode(), n)
		    n %= 10000
		    s.sendto(struct.pack(">10sQHH", session.encode(), n, 1, len(body)) + body,
		             ("127.0.0.1", int(port) + "ABCD".index(line)))
	PY
}

leases() { # those held, as kind:name:pid
	"$MDBUS_BIN/mdbusctl" leases --json | jq -r '.leases[] | select(.state == "held") | "\(.kind):\(.name):\(.pid)"' | sort
}

receives() { # LINE SINCE-NS
	[ "$("$MDBUS_BIN/mdbusctl" lines --json | jq ".lines[] | select(.line == \"$1\") | .counters.heartbeat_ns")" -gt "$2" ]
}

line_up() { # LINE
	local since
	since=$(python3 -c 'import time; print(time.monotonic_ns())')
	start "$1" "$MDBUS_BIN/mdbus-ingest" "t/$1"
	wait_for 30 "line $1" receives "$1" "$since"
}

records() { # those that mdbus-tail has printed: seq, with g for a gap and r for a reset
	jq -rj 'select(.channel == "one") | if .kind == "data" then "\(.seq) "
		elif .kind == "gap" then "g\(.seq)x\(.count) " else "\(.kind)\(.epoch) " end' \
		"$T/tail.log"
}

printed() { # RECORDS
	[ "$(records)" = "$1 " ]
}

expect() { # WHAT RECORDS
	local try
	for ((try = 0; try < 500; try++)); do
		! printed "$2" || return 0
		sleep 0.02
	done
	fail "$1: expected '$2 ', got '$(records)'"
}

kills=0
dies() { # NAME
	stop "$1" KILL
	kills=$((kills + 1))
}

start mdbusd "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
wait_for 30 "mdbusd" "$MDBUS_BIN/mdbusctl" status
line_up A
line_up B
start tail "$MDBUS_BIN/mdbus-tail" t --json
seat_taken() { leases | grep -q seat; }
wait_for 30 "mdbus-tail" seat_taken

# ---- a line dies while mdbusd is dead ----

packets A ONE 1 2 3
packets B ONE 1 2 3 4
expect "both lines" "1 2 3 4"
dies mdbusd
dies A
packets B ONE 5 6
expect "without mdbusd and line A" "1 2 3 4 5 6"
start mdbusd "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
wait_for 30 "the next mdbusd" "$MDBUS_BIN/mdbusctl" status
reclaimed() { [ "$(leases)" = "line:B:$(pid_of B)
seat:mdbus-tail:$(pid_of tail)" ]; }
wait_for 30 "line A to be taken back, the others kept" reclaimed
"$MDBUS_BIN/mdbusctl" events --json | grep -q '"type":"line_down","bus":"t","line":"A"' ||
	fail "no event tells of the line: $("$MDBUS_BIN/mdbusctl" events --json)"
line_up A
packets A ONE 7 8
expect "line A again" "1 2 3 4 5 6 7 8"

# ---- a line dies with messages behind an open hole, and comes back in another session ----

packets A ONE 10 11 12
dies A
line_up A
packets A TWO 1 2 3 4 5
all="1 2 3 4 5 6 7 8 g9x1 10 11 12 reset2 1 2 3 4 5"
expect "a hole, a death and a new session" "$all"

# ---- a line dies after a restart of the numbers under one name, when the frames of the same numbers have been taken back ----

newest() { # of channel two
	[ "$(jq -r 'select(.channel == "two") | "\(.epoch) \(.seq) \(.kind)"' "$T/tail.log" | tail -n 1)" = "$1" ]
}
for ((first = 1; first <= 1401; first += 100)); do # in steps that any socket's buffer holds
	# shellcheck disable=SC2046 # numbers
	packets C ONE $(seq $first $((first + 99)))
	wait_for 20 "number $((first + 99)) of channel two" newest "1 $((first + 99)) data"
done
# shellcheck disable=SC2046
packets C ONE $(seq 10001 10020) # numbers 1 to 20, other bytes
wait_for 20 "the restart" newest "2 20 data"
dies A
line_up A
# shellcheck disable=SC2046
packets C ONE $(seq 10021 10025)
wait_for 20 "what a new process gets in the restarted session" newest "2 25 data"

# ---- everything dies; the bus is there for the next ones ----

dies A
dies mdbusd
dies B
start mdbusd "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
wait_for 30 "the third mdbusd" "$MDBUS_BIN/mdbusctl" status
line_up B
packets B TWO 5 6
expect "only the subscriber has lived through" "$all 6"
stop tail
same "mdbus-tail" 0 "$stopped"
dies B
nobody() { [ -z "$(leases)" ]; }
wait_for 30 "all leases to come back" nobody
stop mdbusd
same "mdbusd" 0 "$stopped"
[ ! -e "$MDBUS_RUN_DIR" ] || fail "left behind: $(find "$MDBUS_RUN_DIR")"
echo "count: $kills kills"
