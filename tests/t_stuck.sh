#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A line whose process is stopped is told of, and killed where the configuration says so; it is never taken from a living
# process, which may go on at any time.  An mdbusd that was stopped together with it does not blame it.
# timeout: 120
# mutants: stuck_is_robbed
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_command jq

port=$((12000 + $$ % 18000))
cat >"$T/mdbus.conf" <<-CONF
	hugepages = "never";
	buses = ( { name = "t"; seats = 4;
	  lines = ( { name = "A"; backend = "kernel"; interface = "lo"; frames = 1024; idle_spins = 10; stuck_kill_ms = 3000; },
	    { name = "B"; backend = "kernel"; interface = "lo"; frames = 1024; idle_spins = 10; } );
	  channels = ( { name = "one"; layout = "moldudp64"; depth = 1024;
	      flows = { A = "127.0.0.1:$port"; B = "127.0.0.1:$((port + 1))"; }; } ); } );
CONF
ctl=$MDBUS_BIN/mdbusctl

event() { # TYPE LINE: how many
	"$ctl" events --json | jq -s "[.[] | select(.type == \"$1\" and .line == \"$2\")] | length"
}
has_event() { # TYPE LINE [COUNT]
	[ "$(event "$1" "$2")" -ge "${3:-1}" ]
}
line_is() { # LINE STATE
	"$ctl" lines --json | jq -e ".lines[] | select(.line == \"$1\") | .state == \"$2\""
}
turns() { # LINE: how far it has come
	"$ctl" lines --json | jq ".lines[] | select(.line == \"$1\") | .counters.heartbeat_ns"
}
turns_on() { # LINE
	local before
	before=$(turns "$1")
	sleep 0.05
	[ "$(turns "$1")" != "$before" ]
}

start mdbusd "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
wait_for 20 "mdbusd" "$ctl" status
start A "$MDBUS_BIN/mdbus-ingest" t/A
start B "$MDBUS_BIN/mdbus-ingest" t/B
wait_for 20 "line A" turns_on A
wait_for 20 "line B" turns_on B

# ---- both stopped for longer than any limit: nobody was there to see it stuck ----

kill -STOP "$(pid_of A)"
kill -STOP "$(pid_of mdbusd)"
sleep 4
kill -CONT "$(pid_of mdbusd)"
sleep 0.2
kill -CONT "$(pid_of A)"
wait_for 20 "line A to go on" turns_on A
running A || fail "line A was killed for the time that mdbusd slept"

# ---- one is killed, the other only told of ----

kill -STOP "$(pid_of A)"
kill -STOP "$(pid_of B)"
wait_for 20 "the alarm for A" has_event stuck A
wait_for 20 "the alarm for B" has_event stuck B
wait_for 20 "the end of line A" line_is A down
has_event stuck_kill A || fail "A was not killed, and yet it is down"
status=0
timeout 10 tail --pid="$(pid_of A)" -f /dev/null || fail "A is down and its process lives"
wait "$(pid_of A)" || status=$?
same "how A ended" 137 "$status"
start A "$MDBUS_BIN/mdbus-ingest" t/A
wait_for 20 "line A's next process" turns_on A
sleep 2.5
line_is B up >/dev/null || fail "line B was taken from a living process"
refused "a second line B" "taken by pid $(pid_of B)" timeout 20 "$MDBUS_BIN/mdbus-ingest" t/B
same "kills of B" 0 "$(event stuck_kill B)"
kill -CONT "$(pid_of B)"
wait_for 20 "the end of the alarm" has_event stuck_end B
wait_for 20 "line B to go on" turns_on B
for name in A B mdbusd; do
	stop $name
	same "exit status of $name" 0 "$stopped"
done
[ ! -e "$MDBUS_RUN_DIR" ] || fail "left behind: $(find "$MDBUS_RUN_DIR")"
