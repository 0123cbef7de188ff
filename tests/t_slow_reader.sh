#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A subscriber that is stopped for ten seconds costs the lines nothing: they publish on and drop nothing, and the other
# subscriber gets everything.  It then learns exactly how many records it has lost.
# timeout: 120
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_command jq

port=$((12000 + $$ % 18000))
if [ "$(id -u)" = 0 ]; then rate=20000; else rate=5000; fi
cat >"$T/mdbus.conf" <<-CONF
	hugepages = "never";
	buses = ( { name = "t"; seats = 4;
	  lines = ( { name = "A"; backend = "kernel"; interface = "lo"; idle_spins = 50; },
	    { name = "B"; backend = "kernel"; interface = "lo"; idle_spins = 50; } );
	  channels = ( { name = "one"; layout = "moldudp64"; depth = 32768; gap_timeout_us = 1000000;
	      flows = { A = "127.0.0.1:$port"; B = "127.0.0.1:$((port + 1))"; }; } ); } );
CONF

first() { # FIELD FILE
	grep -o "\"$1\": *[0-9]*" "$2" | head -n 1 | tr -d -c '0-9\n'
}

bound() { # PORT
	grep -q ":$(printf %04X "$1") " /proc/net/udp
}

sum() { # JQ-PATH: over both lines
	"$MDBUS_BIN/mdbusctl" lines --json | jq "[.lines[].$1] | add"
}

start mdbusd "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
wait_for 30 "mdbusd" "$MDBUS_BIN/mdbusctl" status
start A "$MDBUS_BIN/mdbus-ingest" t/A
start B "$MDBUS_BIN/mdbus-ingest" t/B
wait_for 30 "line A" bound "$port"
wait_for 30 "line B" bound $((port + 1))
start strict "$MDBUS_BIN/mdbus-verify" t --log "$T/log" --json
start slow "$MDBUS_BIN/mdbus-verify" t --log "$T/log" --allow-overruns --json
for name in strict slow; do wait_for 30 "the verifiers" grep -q attached "$T/$name.log"; done
start feed "$MDBUS_BIN/mdbus-feed" --generate moldudp64 --count 0 --size 60 --pack 4 --rate "$rate" --log "$T/log" --json \
	--line "A,to=127.0.0.1:$port" --line "B,to=127.0.0.1:$((port + 1)),repack=3"
grew() { [ "$(sum messages.won)" -gt "$1" ]; }
wait_for 30 "the feed" grew 1000
kill -STOP "$(pid_of slow)"
before=$(sum messages.won)
for second in 1 2 3 4 5 6 7 8 9 10; do
	won=$(sum messages.won)
	sleep 1
	grew "$won" || fail "second $second of the stop: nothing was published"
done
published=$(($(sum messages.won) - before))
[ "$published" -gt 40000 ] || fail "only $published messages in ten seconds: the ring did not lap the stopped one"
kill -CONT "$(pid_of slow)"
sleep 0.5
stop feed INT
same "the feeder" 0 "$stopped"
for count in nic_dropped ring_full fill_empty; do same "$count" 0 "$(sum counters.$count)"; done
stop strict
[ "$stopped" = 0 ] || fail "the other subscriber: $(cat "$T/strict.log")"
stop slow
[ "$stopped" = 0 ] || fail "the stopped subscriber: $(cat "$T/slow.log")"
sent=$(first sent "$T/slow.log")
same "all was delivered to the other" "$sent" "$(first matched "$T/strict.log")"
overruns=$(first overruns "$T/slow.log")
[ "$overruns" -gt 0 ] || fail "the stopped subscriber was not lapped"
same "delivered + lost to the overrun, of those published" "$sent" $(($(first matched "$T/slow.log") + overruns))
same "an overrun of another count than it spans" 0 "$(first overruns_inexact "$T/slow.log")"
echo "$published published while one subscriber was stopped; it got $(first matched "$T/slow.log") of $sent and lost $overruns"
