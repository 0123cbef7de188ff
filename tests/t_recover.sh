#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Recovery is a line: what lines A and B both lose, mdbus-recover gets from a request server that cuts its answers
# short, loses some and is second in the list.  Without a server the gaps are exactly what both lines lost, and a
# killed mdbus-recover holds them up no longer than it lived.
# timeout: 180
# mutants: recover_no_retry gap_before_recovery
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

feed=$MDBUS_BIN/mdbus-feed
verify=$MDBUS_BIN/mdbus-verify
port=$((20000 + $$ % 20000))
server=127.0.0.1:$((port + 4))

# "quick" has time enough for any recovery; "patient" never gives up on its gaps by itself.
cat >"$T/mdbus.conf" <<-CONF
	hugepages = "never";
	buses = ( { name = "t"; seats = 8;
	  lines = (
	    { name = "A"; backend = "kernel"; interface = "lo"; frames = 4096; idle_spins = 100; },
	    { name = "B"; backend = "kernel"; interface = "lo"; frames = 4096; idle_spins = 100; },
	    { name = "R"; backend = "recover"; servers = ("127.0.0.1:$((port + 5))", "$server");
	      request_rate = 5000; request_max = 64; retry_ms = 5; backoff_max_ms = 40; } );
	  channels = (
	    { name = "quick"; layout = "moldudp64"; gap_timeout_us = 1000000;
	      flows = { A = "127.0.0.1:$port"; B = "127.0.0.1:$((port + 1))"; R = true; }; },
	    { name = "patient"; layout = "moldudp64"; gap_timeout_us = 600000000;
	      flows = { A = "127.0.0.1:$((port + 2))"; B = "127.0.0.1:$((port + 3))"; R = true; }; } ); } );
CONF

# ---- what a configuration may not say ----

wrong() { # WHAT PATTERN SED-SCRIPT: the file edited so must be refused
	sed "$3" "$T/mdbus.conf" >"$T/wrong.conf"
	refused "$1" "wrong\.conf:$2" "$MDBUS_BIN/mdbusd" --check -c "$T/wrong.conf"
}
"$MDBUS_BIN/mdbusd" --check -c "$T/mdbus.conf" >/dev/null || fail "the configuration is refused"
wrong "a server without a port" '6: .*"192.0.2.1" is not "ADDRESS:PORT"' 's/"127[^"]*"/"192.0.2.1"/'
sed -n 6p "$T/mdbus.conf" | grep -q servers || fail "the line of the test's file is another"
wrong "no servers" '6: .*servers' 's/servers = ([^)]*);//'
wrong "another backend's key" '6: .*interface: not for backend' 's/name = "R";/& interface = "lo";/'
wrong "its key elsewhere" '5: .*retry_ms: only for backend' 's/name = "B";/& retry_ms = 1;/'
wrong "a backoff that shrinks" '7: .*backoff_max_ms = 4: must be at least' 's/backoff_max_ms = 40/backoff_max_ms = 4/'
wrong "no rate" '7: .*request_rate' 's/request_rate = 5000/request_rate = 0/'
wrong "a flow with an address" '10: .*write R = true' 's/R = true/R = "127.0.0.1:1"/'
wrong "no line but this" '10: .*needs a line that the feed comes in on' 's/A = "[^"]*"; B = "[^"]*";//'
wrong "another protocol" '9: .*|10: .*speak MoldUDP64' 's/moldudp64/iex_tp/'

# ---- a bus with it ----

start mdbusd "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
wait_for 20 "mdbusd" test -S "$MDBUS_RUN_DIR/mdbusd.sock"
refused "a recovery line for mdbus-ingest" "run mdbus-recover" "$MDBUS_BIN/mdbus-ingest" t/R
refused "a feed line for mdbus-recover" "run mdbus-ingest" "$MDBUS_BIN/mdbus-recover" t/A
start a "$MDBUS_BIN/mdbus-ingest" t/A
start b "$MDBUS_BIN/mdbus-ingest" t/B
start r "$MDBUS_BIN/mdbus-recover" t/R

says() { # NAME PATTERN
	grep -q "$2" "$T/$1.log"
}
for line in a b r; do wait_for 20 "line $line" says $line "recovered, core"; done

first() { # FIELD FILE: the first number of this name in a JSON object; the sums come before the channels
	grep -o "\"$1\":[0-9]*" "$2" | head -n 1 | cut -d: -f2
}

send() { # LOG PORT LOSS OPTION...
	local log=$1 to=$2 loss=$3
	shift 3
	"$feed" --generate moldudp64 --size 64 --pack 2 --count 20000 --rate 10000 --log "$log" --json \
		--line "A,to=127.0.0.1:$to,loss=$loss" --line "B,to=127.0.0.1:$((to + 1)),loss=$loss,repack=3,skew-us=500" \
		"$@" >"$log.json"
}

watch() { # NAME CHANNEL
	start "$1" "$verify" "t/$2" --log "$T/$1.bin" --streams "$2=0" --until-idle-ms 2500 --json
	wait_for 20 "the verifier" says "$1" "mdbus-verify: attached"
}

judge() { # NAME: the verdict is good
	stopped=0
	wait "${started[$1]}" || stopped=$?
	unset "started[$1]"
	cat "$T/$1.bin.json" "$T/$1.log"
	same "$1: verdict" 0 "$stopped"
	same "$1: sent" 20000 "$(first sent "$T/$1.log")"
	lost=$(first lost_all "$T/$1.bin.json")
	[ "$lost" -gt 0 ] || fail "$1: both lines lost nothing: this says nothing about recovery"
}

# ---- a server that is slow, lossy and stingy ----

watch served quick
start tail "$MDBUS_BIN/mdbus-tail" t/quick --json
send "$T/served.bin" $port 2% --seed 3 --linger-ms 1000 --serve "$server,truncate=2,loss=40%,delay-us=300"
judge served
same "served: gaps" 0 "$(first gaps "$T/served.log")"
same "served: matched" 20000 "$(first matched "$T/served.log")"
[ "$(first answers "$T/served.bin.json")" -gt 0 ] || fail "served: the server was not asked"
stop tail
[ "$(grep -c '"line":"R"' "$T/tail.log")" -ge "$lost" ] || fail "served: $lost lost by both lines, fewer came on line R"

# ---- no server: gaps are what both lines lost, at the timeout ----

watch alone quick
send "$T/alone.bin" $port 2% --seed 4 --session ALONE
judge alone
same "alone: gaps" "$lost" "$(first gaps "$T/alone.log")"

# ---- mdbus-recover dies: gaps wait for it no longer ----

watch killed patient
send "$T/killed.bin" $((port + 2)) 10% --seed 5 --no-loss-last 60 &
started[feed]=$!
held_up() { # readers have got somewhere, and get no further: there is a hole
	local before
	before=$(wc -l <"$T/waiting.json")
	"$MDBUS_BIN/mdbus-tail" t/patient --from oldest --json --until-idle-ms 100 >"$T/waiting.json"
	[ "$before" -gt 0 ] && [ "$before" = "$(wc -l <"$T/waiting.json")" ]
}
touch "$T/waiting.json"
wait_for 20 "a hole that both lines left" held_up
stop r KILL
wait "${started[feed]}"
unset "started[feed]"
judge killed
same "killed: gaps" "$lost" "$(first gaps "$T/killed.log")"
seen=$(grep -c '"kind":"data"' "$T/waiting.json")
! grep -q '"kind":"gap"' "$T/waiting.json" || fail "killed: a gap did not wait for the recovery line"
same "killed: what stood before the first gap while the recovery line lived" "$seen" \
	$(($("$feed" --print-log "$T/killed.bin" | awk '$6 == "--" { print $4; exit }') - 1))

# ---- a new one takes over, in a session that it comes into late ----

watch again patient
send "$T/again.bin" $((port + 2)) 10% --seed 6 --session AGAIN --linger-ms 1000 --serve "$server,delay-us=100" &
started[feed]=$!
new_gaps() {
	timeout 0.2 "$MDBUS_BIN/mdbus-tail" t/patient --json >"$T/new.json" || true
	grep -q '"kind":"gap"' "$T/new.json"
}
wait_for 20 "a gap of this session" new_gaps
start r "$MDBUS_BIN/mdbus-recover" t/R
wait "${started[feed]}"
unset "started[feed]"
judge again
gaps=$(first gaps "$T/again.log")
if [ "$gaps" -eq 0 ] || [ "$gaps" -ge "$lost" ]; then fail "again: $gaps gaps of $lost, half of the time recovered"; fi

for line in a b r; do
	stop $line
	same "exit status of $line" 0 "$stopped"
done
