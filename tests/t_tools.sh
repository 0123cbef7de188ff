#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The tools on a live bus (kernel backend, loopback): mdbus-tail prints what was sent, mdbus-latency measures it, and
# mdbus-verify passes a good run and fails one whose log says otherwise, or that it could not follow.
# timeout: 180
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

tail=$MDBUS_BIN/mdbus-tail
latency=$MDBUS_BIN/mdbus-latency
verify=$MDBUS_BIN/mdbus-verify
feed=$MDBUS_BIN/mdbus-feed

stopped=0

# ---- without a bus ----

for tool in "$tail" "$latency" "$verify --log $T/log"; do
	# shellcheck disable=SC2086 # an option and its value
	refused "${tool##*/} without mdbusd" "mdbusd" $tool nobus
	# shellcheck disable=SC2086
	refused "${tool##*/} without a bus" "name exactly one bus" $tool
	# shellcheck disable=SC2086
	refused "${tool##*/} with an unknown option" "--nonsense" $tool nobus --nonsense
done
for tool in "$tail" "$latency" "$verify"; do
	"$tool" --help | grep -q -- --json || fail "$tool --help does not name --json"
	"$tool" --version | grep -q "^${tool##*/} [0-9]" || fail "$tool --version"
done
refused "verify without a log" "--log" "$verify" nobus
refused "tail from nowhere" "head or oldest" "$tail" nobus --from nowhere

# ---- a bus ----

# A line that gets no processor for a while is late, and what comes after the gap timeout is lost by design.  So the timeout
# is longer than any wait here, rates leave a line room to be late, and the test waits for events, never for a time.
port=$((20000 + $$ % 20000))
config() { # DEPTH
	cat <<-CONF
		hugepages = "never";
		buses = ( { name = "t"; seats = 8;
		  lines = (
		    { name = "A"; backend = "kernel"; interface = "lo"; frames = 4096; idle_spins = 100; },
		    { name = "B"; backend = "kernel"; interface = "lo"; frames = 4096; idle_spins = 100; } );
		  channels = (
		    { name = "one"; layout = "moldudp64"; depth = $1; gap_timeout_us = 10000000;
		      flows = { A = "127.0.0.1:$port"; B = "127.0.0.1:$((port + 1))"; }; } ); } );
	CONF
}

config 65536 >"$T/mdbus.conf"
start mdbusd "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
wait_for 20 "mdbusd" test -S "$MDBUS_RUN_DIR/mdbusd.sock"
start a "$MDBUS_BIN/mdbus-ingest" t/A
start b "$MDBUS_BIN/mdbus-ingest" t/B

# Both sockets are bound: what is sent from now on arrives.
bound() {
	local hex
	hex=$(printf ':%04X ' "$1")
	grep -q "$hex" /proc/net/udp
}
wait_for 20 "line A" bound "$port"
wait_for 20 "line B" bound $((port + 1))
refused "an unknown bus" "other" "$tail" other
refused "an unknown channel" "other" "$tail" t/other

attached() { # NAME: the verifier started under this name says that it is ready
	grep -q "mdbus-verify: attached" "$T/$1.log"
}

first() { # FIELD FILE: the first number of this name in a JSON object; the sums come before the channels
	grep -o "\"$1\":[0-9]*" "$2" | head -n 1 | cut -d: -f2
}

seated() { # NAME: a subscriber that calls itself so has its seat
	"$MDBUS_BIN/mdbusctl" subscribers --json | grep -q "\"$1\""
}

seen() { # SEQ: the tail has printed this message
	tail -c 2000 "$T/tail.log" | grep -q "\"seq\":$1,\"kind\":\"data\""
}

measured() { # COUNT: mdbus-latency has reported so many messages, over all its intervals
	[ "$(grep '"final":false' "$T/latency.log" | grep -o '"final":false,"seconds":[0-9.]*,"count":[0-9]*' |
		awk -F: '{ n += $NF } END { print n + 0 }')" -ge "$1" ]
}

send() { # LOG OPTION...
	local log=$1
	shift
	"$feed" --generate moldudp64 --size 64 --log "$log" --json "$@" >"$T/feed.json"
}

lossy=(--line "A,to=127.0.0.1:$port,loss=0.05" --line "B,to=127.0.0.1:$((port + 1)),loss=0.05,repack=3")

# ---- a run with losses on both lines ----

start good "$verify" t --log "$T/good.log.bin" --json
start tail "$tail" t/one --from oldest --json
start ahead "$tail" t/one --from oldest --json --unordered
start latency "$latency" t --sleep --stamp-offset 2 --every 0.2 --json
wait_for 20 "the verifier" attached good
wait_for 20 "mdbus-latency" seated mdbus-latency
send "$T/good.log.bin" --count 20000 --rate 8000 --seed 7 --pack 2 --no-loss-last 100 "${lossy[@]}"
wait_for 60 "the last message" seen 20000
stop good
cat "$T/good.log"
same "verdict" 0 "$stopped"
same "sent" 20000 "$(first sent "$T/good.log")"
gaps=$(first gaps "$T/good.log")
matched=$(first matched "$T/good.log")
[ "$gaps" -gt 0 ] || fail "nothing was lost on both lines: the run says nothing about gaps"
[ "$matched" -gt 19000 ] || fail "only $matched matched"

# ---- mdbus-tail saw the same, and ends on SIGTERM with everything written ----

stop tail
same "tail's exit status" 0 "$stopped"
same "tail's messages" "$matched" "$(grep -c '"kind":"data"' "$T/tail.log")"
# Numbers in order, each delivered or in a gap, and each payload is the one made for its number (bytes 10 to 17, low first).
awk '
	function field(name,   at, rest) {
		at = index($0, "\"" name "\":")
		rest = substr($0, at + length(name) + 3)
		return at ? rest : ""
	}
	BEGIN { next_seq = 1 }
	{
		seq = field("seq") + 0
		if (seq != next_seq) { print "line " NR ": seq " seq ", not " next_seq; exit 1 }
		if ($0 ~ /"kind":"gap"/) { gaps += field("count"); next_seq += field("count"); next }
		if ($0 !~ /^{"channel":"one","epoch":1,"seq":[0-9]+,"kind":"data","len":64,"line":"[AB]","rx_ns":[0-9]+,"pay/ ||
		    field("payload") !~ /^"[0-9a-f]+"}$/) {
			print "line " NR ": " $0; exit 1
		}
		want = sprintf("%02x%02x%02x00", seq % 256, int(seq / 256) % 256, int(seq / 65536))
		if (substr(field("payload"), 22, 8) != want) { print "line " NR ": not the payload of " seq ": " $0; exit 1 }
		next_seq++
	}
	END { print gaps + 0 > "/dev/stderr" }
' "$T/tail.log" 2>"$T/tail.gaps" || fail "mdbus-tail"
same "tail's gaps" "$gaps" "$(cat "$T/tail.gaps")"

# The unordered view: some records before their turn, and each of them once.
stop ahead
grep -q '"ahead":true' "$T/ahead.log" || fail "mdbus-tail --unordered never ran ahead of a hole"
cmp <(sort "$T/tail.log") <(sed 's/,"ahead":true//' "$T/ahead.log" | sort) || fail "mdbus-tail --unordered shows other records"

# ---- mdbus-latency measured them ----

wait_for 60 "mdbus-latency to have measured all" measured "$matched"
stop latency
grep '"final":true' "$T/latency.log" >"$T/latency.json" || fail "mdbus-latency ended without its last report"
same "latency's exit status" 0 "$stopped"
same "latency's messages" "$matched" "$(first count "$T/latency.json")"
same "messages without a stamp" 0 "$(first unstamped "$T/latency.json")"
spans=$(grep -o '_to_read_ns":{[^}]*}' "$T/latency.json" |
	sed -n 's/.*"p50":\([0-9]*\),"p90":\([0-9]*\),"p99":\([0-9]*\),"p99.9":\([0-9]*\),"max":\([0-9]*\)}/\1 \2 \3 \4 \5/p' |
	awk '{ for (i = 1; i < 5; i++) if ($i > $(i + 1)) bad = 1 } $1 == 0 { bad = 1 } END { print NR, bad + 0 }')
same "two spans, percentiles in order" "2 0" "$spans"

# ---- the same run again from the oldest record, against logs that say otherwise ----

head -c 16 "$T/good.log.bin" >"$T/header"
total=$(stat -c %s "$T/good.log.bin")
verdict() { # LOG OPTION...: the exit status, the verdict in $T/verdict
	local log=$1 status=0
	shift
	timeout 30 "$verify" t --from oldest --until-idle-ms 200 --log "$log" --json "$@" >"$T/verdict" || status=$?
	echo "$status"
}
same "from the oldest" 0 "$(verdict "$T/good.log.bin")"
same "from the oldest, matched" "$matched" "$(first matched "$T/verdict")"

record=5000
at=$((16 + record * 48))
cp "$T/good.log.bin" "$T/hash.bin"
printf '\125\252\125\252' | dd of="$T/hash.bin" bs=1 seek=$((at + 8)) conv=notrunc status=none
printf '\125\252\125\252' | dd of="$T/hash.bin" bs=1 seek=$((at + 48 + 8)) conv=notrunc status=none
same "other bytes" 1 "$(verdict "$T/hash.bin")"
[ "$(first torn "$T/verdict")" -ge 1 ] || fail "other bytes were not found: $(cat "$T/verdict")"

# The log loses a record: that message was delivered though nobody sent it (or a gap stands for a number never sent).
head -c "$at" "$T/good.log.bin" >"$T/short.bin"
tail -c $((total - at - 10 * 48)) "$T/good.log.bin" >>"$T/short.bin"
same "messages nobody sent" 1 "$(verdict "$T/short.bin")"
[ "$(first unsent "$T/verdict")" -ge 1 ] || fail "not found: $(cat "$T/verdict")"

# The log claims that line A carried everything: every gap is a loss.
"$feed" --print-log "$T/good.log.bin" >"$T/good.txt"
lost=$(awk '!/^#/ && $6 == "--" { print NR - 3; exit }' "$T/good.txt")
cp "$T/good.log.bin" "$T/carried.bin"
printf '\001' | dd of="$T/carried.bin" bs=1 seek=$((16 + lost * 48 + 38)) conv=notrunc status=none
same "a carried message in a gap" 1 "$(verdict "$T/carried.bin")"
same "lost though carried" 1 "$(first lost_though_carried "$T/verdict")"
same "the same while line A was down" 0 "$(verdict "$T/carried.bin" --down A:0:)"
same "carried only by a line that was down" 1 "$(first gaps_on_down_line "$T/verdict")"
same "line B does not excuse it" 1 "$(verdict "$T/carried.bin" --down B:0:)"
printf 'A:0:\n' >"$T/downs"
same "the same, from a file" 0 "$(verdict "$T/carried.bin" --downs "$T/downs")"

head -c $((total - 5)) "$T/good.log.bin" >"$T/cut.bin"
same "a log that ends inside a record" 1 "$(verdict "$T/cut.bin")"
same "a stream that is not in the log" 1 "$(verdict "$T/good.log.bin" --streams one=4)"
same "no stream for the channel" 1 "$(verdict "$T/header" --streams one=0)"
same "a line that is not there" 2 "$(verdict "$T/good.log.bin" --down C:1:2)"

# ---- mdbus-tail ends as it should ----

same "--count" 7 "$("$tail" t --from oldest --count 7 | grep -c ' data \| GAP')"
"$tail" t --from oldest --json --until-idle-ms 100 >"$T/again"
cmp "$T/again" "$T/tail.log" || fail "the oldest records are not those that were new"
status=0
"$tail" t --from oldest --json --until-idle-ms 20000 | head -n 1 >/dev/null || status=$?
same "a closed pipe" 0 "$status"
# shellcheck disable=SC2016 # for the shell started
refused "a full disk" "No space left" sh -c '"$1" t --from oldest --json --until-idle-ms 100 >/dev/full' sh "$tail"

# ---- a verifier that cannot follow says so, and counts exactly ----

start slow "$verify" t --log "$T/slow.bin" --allow-overruns --json
start strict "$verify" t --log "$T/slow.bin" --json
wait_for 20 "the verifiers" attached slow
wait_for 20 "the verifiers" attached strict
kill -STOP "$(pid_of slow)" "$(pid_of strict)"
start tail "$tail" t --json
send "$T/slow.bin" --count 150000 --rate 50000 --size 32 --pack 20 --session AFTER \
	--line "A,to=127.0.0.1:$port" --line "B,to=127.0.0.1:$((port + 1))"
wait_for 60 "the last message" seen 150000
stop slow # goes on, finds itself lapped, reads what is there, and judges
cat "$T/slow.log"
same "overruns allowed" 0 "$stopped"
overruns=$(first overruns "$T/slow.log")
[ "$overruns" -gt 0 ] || fail "the stopped verifier was not lapped"
same "every message proved or lost to the overrun" "$(first sent "$T/slow.log")" \
	$(($(first matched "$T/slow.log") + $(first unproven "$T/slow.log") + $(first gaps_lost_on_all_lines "$T/slow.log")))
same "the overrun: those messages and the reset before them" "$(($(first unproven "$T/slow.log") + 1))" "$overruns"
stop strict
same "overruns not allowed" 1 "$stopped"

# ---- a second signal ends it at once, and then it does not pretend to know ----

start twice "$verify" t --log "$T/slow.bin"
wait_for 20 "the verifier" attached twice
kill -STOP "$(pid_of twice)"
kill -INT "$(pid_of twice)"
stop twice
same "two signals" 1 "$stopped"
grep -q "no verdict" "$T/twice.log" || fail "two signals: $(cat "$T/twice.log")"
! grep -q "^verdict" "$T/twice.log" || fail "a verdict all the same: $(cat "$T/twice.log")"
