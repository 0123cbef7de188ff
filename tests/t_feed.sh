#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# mdbus-feed over sockets: what arrives on each line is exactly what the log says, for made streams and captures, with every
# fault; it can be interrupted without losing account; wrong arguments are refused by name and leave nothing.
# timeout: 240
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_command python3
feed=$MDBUS_BIN/mdbus-feed
log=$T/log
port=$((20000 + $$ % 20000))
a=127.0.0.1:$port
b=239.77.$((RANDOM % 200)).$((RANDOM % 200)):$((port + 1))
if [ "$(id -u)" = 0 ]; then rate=50000; else rate=10000; fi # a receive buffer that only root may have

hear() { # WORDS of feed_hear.py, for the lines A and B as below
	heard=$(python3 "$MDBUS_TOP/tests/feed_hear.py" "$@") || fail "feed_hear $*"
	echo "$heard"
}

lines() { # FAULTS of A, FAULTS of B
	args=(--line "A,to=$a$1" --line "B,to=$b,dev=lo$2" --log "$log" --json)
}

# ---- made streams ----

lines "" ""
hear moldudp64 "$log" ordered $a "$b@lo" -- "$feed" --generate moldudp64 --count 5000 --rate $rate "${args[@]}"
same "messages" "5000 0" "$(cut -d' ' -f1,2 <<<"$heard")"

lines ,loss=10%,reorder=5%:8,dup=3% ,loss=20%,repack=5,skew-us=20000
hear moldudp64 "$log" dup $a "$b@lo" -- "$feed" --generate moldudp64 --count 10000 --restart-every 3000 --size 80 --pack 2 \
	--rate $rate --end eos "${args[@]}"
read -r messages lost_all packets_a packets_b <<<"$heard"
if [ "$messages" != 10000 ] || [ "$lost_all" -lt 50 ] || [ "$lost_all" -gt 500 ]; then fail "unlikely losses: $heard"; fi
if [ "$packets_a" -lt 4000 ] || [ "$packets_b" -gt 2000 ]; then fail "unlikely packing: $heard"; fi
lost() { # what was lost where
	"$feed" --print-log "$log" | awk '{ print $2, $4, $6 }' | md5sum
}
first=$(lost)

# The same seed loses the same again, another does not.
made=("$feed" --generate moldudp64 --count 10000 --restart-every 3000 --size 80 --pack 2)
hear moldudp64 "$log" dup $a "$b@lo" -- "${made[@]}" --rate $rate --end eos "${args[@]}"
same "what a seed loses" "$first" "$(lost)"
hear moldudp64 "$log" dup $a "$b@lo" -- "${made[@]}" --rate $rate --restart seq --seed 2 "${args[@]}"
[ "$first" != "$(lost)" ] || fail "--seed changes nothing"
hear moldudp64 "$log" dup $a "$b@lo" -- "${made[@]}" --rate $rate --burst 10 "${args[@]}"

lines ,loss=5% ,loss=5%,reorder=10%:4
hear optiq "$log" $a "$b@lo" -- "$feed" --generate optiq --count 5000 --rate $rate "${args[@]}"

# ---- interrupted ----

lines ,loss=1% ,skew-us=50000,repack=3
hear moldudp64 "$log" term=1000 $a "$b@lo" -- "$feed" --generate moldudp64 --rate $((rate / 2)) --linger-ms 60000 "${args[@]}"
[ "${heard%% *}" -ge 1000 ] || fail "interrupted too early: $heard"
same "messages cut off" 0 "$("$feed" --print-log "$log" | awk '$7 ~ /c/' | wc -l)"

# ---- captures ----

if [ -e "$MDBUS_CORPUS/layouts.json" ]; then
	lines ,loss=2%,dup=1% ,loss=2%,repack=3
	hear iex_tp "$log" dup $a "$b@lo" -- "$feed" --pcap "$MDBUS_CORPUS/iex_tp/IEX_DEEP10_dev.pcap" --layout iex_tp \
		--rate $((rate * 5)) "${args[@]}"
	same "messages of the capture" 156840 "${heard%% *}"
	same "its restarts" "1 2 3 4 5 6" "$("$feed" --print-log "$log" | awk '/^[^#]/ { print $2 }' | uniq | xargs)"

	xilinx=$MDBUS_CORPUS/cme_mdp3_xilinx/XILINX_cme_input_arb_AB.pcap
	lines ,pick=224.0.31.9:14318,loss=20% ,pick=224.0.32.9:15318
	hear cme_mdp3_xilinx "$log" ordered $a "$b@lo" -- "$feed" --pcap "$xilinx" \
		--layout "$MDBUS_CORPUS/layouts.json:cme_mdp3_xilinx" --timing 1 "${args[@]}"
	same "messages of both lines" 104 "${heard%% *}"
	same "lines of the second stream" "-- A-" "$("$feed" --print-log "$log" | awk '$1 == 1 { print $6 }' | sort -u | xargs)"
	same "lines of the first stream" "-B" "$("$feed" --print-log "$log" | awk '$1 == 0 { print $6 }' | sort -u | xargs)"
	# The same routes by --map.
	hear cme_mdp3_xilinx "$log" ordered $a "$b@lo" -- "$feed" --pcap "$xilinx" --layout cme_mdp3_xilinx --line A \
		--map "224.0.31.9:14318=$a" --line B,dev=lo --map "224.0.32.9:15318=$b" --log "$log" --json
	same "messages of both lines" "104 0 52 52" "$heard"
	refused "a pick that is not there" "there is 224.0.32.9:15318, 224.0.31.9:14318" \
		"$feed" --pcap "$xilinx" --layout cme_mdp3_xilinx --line "A,to=$a,pick=224.0.31.9:1" --log "$T/none"
	refused "packing packets" "needs a feed that numbers messages" \
		"$feed" --pcap "$xilinx" --layout cme_mdp3_xilinx --line "A,to=$a,repack=2" --log "$T/none"
fi

# ---- mistakes ----

to=(--line "A,to=$a" --log "$T/none")
refused "no source" "give one source" "$feed" "${to[@]}"
refused "two sources" "give one source" "$feed" --pcap x --generate optiq "${to[@]}"
refused "no layout" "--pcap needs --layout" "$feed" --pcap x "${to[@]}"
refused "an unknown layout" "built in" "$feed" --pcap x --layout nothing "${to[@]}"
refused "no capture" "/nonexistent" "$feed" --pcap /nonexistent --layout iex_tp "${to[@]}"
refused "not a capture" "$log" "$feed" --pcap "$log" --layout iex_tp "${to[@]}"
refused "an unknown kind" "only moldudp64 and optiq" "$feed" --generate itch "${to[@]}"
refused "a small message" "22 to" "$feed" --generate moldudp64 --size 21 "${to[@]}"
refused "no line" "no line to send to" "$feed" --generate optiq --count 1
refused "no destination" "to=ADDR:PORT" "$feed" --generate optiq --count 1 --line A --log "$T/none"
refused "a line twice" "two lines are called A" "$feed" --generate optiq --count 1 --line "A,to=$a" "${to[@]}"
refused "no such interface" "no interface 'nowhere0'" "$feed" --generate optiq --line "A,to=$b,dev=nowhere0" --log "$T/none"
refused "rate and timing" "--rate or --timing" "$feed" --pcap x --layout iex_tp --rate 1 --timing 1 "${to[@]}"
refused "negative" "negative" "$feed" --generate optiq --count -1 "${to[@]}"
refused "an unknown option" "--speed: unknown option" "$feed" --generate optiq --speed 1 "${to[@]}"
refused "a map without a line" "--map" "$feed" --generate optiq --map "$a=$b" "${to[@]}"
serve=("$feed" --generate moldudp64 --count 1 "${to[@]}" --serve)
refused "serving nowhere" "starts with ADDR:PORT" "${serve[@]}" truncate=3
refused "serving in an unknown way" "unknown 'late'; there is truncate, loss, delay-us" "${serve[@]}" "$a,late=1"
refused "answers of nothing" "truncate=0: expected a number of messages" "${serve[@]}" "$a,truncate=0"
refused "more than all lost" "loss=2: expected a probability" "${serve[@]}" "$a,loss=2"
refused "serving elsewhere" "cannot bind" "${serve[@]}" "192.0.2.1:$((port + 2))"
refused "serving twice" "one is enough" "${serve[@]}" "127.0.0.1:$((port + 2))" --serve "127.0.0.1:$((port + 3))"
refused "serving another feed" "layout optiq is not that" "$feed" --generate optiq --count 1 "${to[@]}" --serve "$a"
refused "a CPU that is not there" "--cpu 4000" "$feed" --generate optiq --count 1 --cpu 4000 "${to[@]}"
refused "no AF_XDP interface" "dev=IFACE|built without" "$feed" --generate optiq --transport af_xdp "${to[@]}"
refused "a log that cannot be" "/nonexistent/log" "$feed" --generate optiq --count 1 --line "A,to=$a" --log /nonexistent/log
refused "a disk that is full" "No space left" "$feed" --generate optiq --count 1 --line "A,to=$a" --log /dev/full
[ ! -e "$T/none" ] || fail "a refused run left a log"
[ -c /dev/full ] || fail "a failed run removed what is not its own"
"$feed" --version | grep -q "^mdbus-feed [0-9]" || fail "--version"
"$feed" --help | grep -q -- "--no-loss-last" || fail "--help"
