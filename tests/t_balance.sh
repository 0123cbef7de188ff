#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# One queue's flows over three processes: line A receives, H and I are handed their shares.  Each flow is looked at by the process
# that the hash of network cards gives it to, as worked out here once more, bit by bit.  Then, while four flows come in on line A
# alone, H and I are killed and stopped, and no message may be lost; and with line B beside it, A is killed, with and without
# another one.  On loopback, and for root again on AF_XDP and on DPDK.
# timeout: 400
# mutants: handed_not_taken_back rss_ports_swapped
# alone: yes
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_command python3 jq
ctl=$MDBUS_BIN/mdbusctl

cat >"$T/share.py" <<'PY'
"""share.py PID DST PORT [SRC]: the share of three of what the process sends from its one UDP socket, as a card would put it."""
import os, re, socket, sys
KEY = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")
pid, dst, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
inodes = set()
for fd in os.listdir("/proc/%s/fd" % pid):
    m = re.match(r"socket:\[(\d+)\]", os.readlink("/proc/%s/fd/%s" % (pid, fd)))
    inodes |= {m.group(1)} if m else set()
with open("/proc/%s/net/udp" % pid, encoding="ascii") as f:
    ports = [int(w[1].split(":")[1], 16) for w in (line.split() for line in f.readlines()[1:]) if w[9] in inodes]
assert len(ports) == 1 and ports[0], ports
data = socket.inet_aton(sys.argv[4]) + socket.inet_aton(dst) + ports[0].to_bytes(2, "big") + port.to_bytes(2, "big")
key, bits, result = int.from_bytes(KEY, "big"), 8 * len(data), 0
for i in range(bits):
    if int.from_bytes(data, "big") >> (bits - 1 - i) & 1:
        result ^= key >> (8 * len(KEY) - 32 - i) & 0xffffffff
print(result % 128 % 3)
PY

count() { # LINE COUNTER...: their sum
	local line=$1
	shift
	"$ctl" lines --json | jq --arg line "$line" --arg names "$*" \
		'[.lines[] | select(.line == $line) | .counters[$names | split(" ")[]]] | add'
}

published() { # LINE CHANNEL: messages that it was the first with
	"$ctl" lines --all --json | jq --arg line "$1" --arg channel "$2" \
		'.lines[] | select(.line == $line) | .channels[] | select(.channel == $channel) | .counters.won'
}

line_up() { # LINE
	start "$1" "${ingest[@]}" "$MDBUS_BIN/mdbus-ingest" "t/$1"
	wait_for 30 "line $1" grep -q "recovered, core" "$T/$1.log"
}

sessions=0
verify() { # NUMBER [OPTION...]
	local n=$1
	shift
	start "verify$n" "$MDBUS_BIN/mdbus-verify" "t/c$n" --log "$T/log$n" --streams "c$n=0" --until-idle-ms 1500 "$@"
	wait_for 20 "mdbus-verify" grep -q attached "$T/verify$n.log"
}

feed() { # NUMBER COUNT RATE LINE...
	local n=$1 count=$2 rate=$3 line lines=()
	shift 3
	sessions=$((sessions + 1))
	for line; do
		line=${line/TO_A/${to_a[$n]}}
		lines+=(--line "${line/TO_B/${to_b[$n]}}")
	done
	start "feed$n" "${feeder[@]}" "$MDBUS_BIN/mdbus-feed" --generate moldudp64 --count "$count" --rate "$rate" --size 60 \
		--linger-ms 600 --session "S$sessions" --log "$T/log$n" "${lines[@]}"
}

passed() { # NUMBER...: the feeders have ended, and so have those who judge
	local n
	for n; do
		wait "$(pid_of "feed$n")" || fail "feeder $n: $(cat "$T/feed$n.log")"
	done
	for n; do
		wait "$(pid_of "verify$n")" || fail "channel c$n: $(cat "$T/verify$n.log"); $("$ctl" lines)"
		unset "started[feed$n]" "started[verify$n]"
	done
}

# Every packet of a flow where the hash says; until each process has had one.
every_share() {
	local n runs=0 share seen=" " before now line lines=(A H I)
	while [[ $seen != *" 0 "* || $seen != *" 1 "* || $seen != *" 2 "* ]]; do
		[ "$runs" -lt 60 ] || fail "after $runs flows only shares$seen had any; $(cat "$T/share.log")"
		n=$((runs % 4 + 1))
		runs=$((runs + 1))
		before=$(for line in A H I; do published "$line" "c$n"; done)
		verify "$n"
		feed "$n" 600 1500 "A,$on_a"
		sleep 0.1
		share=$(python3 "$T/share.py" "$(pid_of "feed$n")" "${to_a[$n]%:*}" "${to_a[$n]#*:}" "$from_a" \
			2>"$T/share.log") || share=
		passed "$n"
		[ -n "$share" ] || continue # the feeder was gone before it could be looked at
		now=$(for line in A H I; do published "$line" "c$n"; done)
		seen+="$share "
		# what was taken back, on a host too busy for this test, is A's
		if [ "$(count A handed_back handed_full handed_down)" != "$back" ]; then
			back=$(count A handed_back handed_full handed_down)
			continue
		fi
		paste <(echo "$before") <(echo "$now") | awk -v share="$share" '
			NR == share + 1 && $2 - $1 != 600 || NR != share + 1 && $2 != $1 { bad = 1 } END { exit bad }' ||
			fail "flow of share $share (0: A, 1: H, 2: I): published before ${before//$'\n'/ }, after ${now//$'\n'/ }"
	done
	echo "count: $runs flows on $1, shares:$seen"
}

# The line of H and I that is busier now; its name is in $busy.
find_busy() {
	local h i
	h=$(count H packets) i=$(count I packets)
	sleep 0.4
	h=$(($(count H packets) - h)) i=$(($(count I packets) - i))
	busy=H other=I
	[ "$i" -le "$h" ] || busy=I other=H
	[ $((h + i)) -gt 0 ]
}

# Four flows on line A alone, so that nobody makes good what is lost.  Takers die, are stopped, and come back.
takers_die() {
	local try
	for ((try = 0; try < 10; try++)); do
		for n in 1 2 3 4; do verify "$n"; done
		for n in 1 2 3 4; do feed "$n" 3500 1000 "A,$on_a"; done
		! find_busy || break
		passed 1 2 3 4
	done
	[ "$try" -lt 10 ] || fail "no flow is handed over"
	stop "$busy" KILL
	sleep 0.3
	line_up "$busy"
	sleep 0.2
	kill -STOP "$(pid_of "$busy")"
	sleep 0.6 # the giver is patient for a quarter of a second
	kill -CONT "$(pid_of "$busy")"
	sleep 0.2
	stop "$other" KILL
	stop "$busy" TERM
	sleep 0.2
	line_up H
	line_up I
	passed 1 2 3 4
	[ "$(count A handed_down)" -gt 0 ] || fail "nobody has missed the dead"
}

# B has everything; A, and whoever works for it, die.
giver_dies() {
	for n in 1 2 3 4; do verify "$n"; done
	for n in 1 2 3 4; do feed "$n" 3500 1000 "A,$on_a,loss=5%" "B,$on_b"; done
	sleep 0.5
	stop A KILL
	sleep 0.2
	line_up A
	sleep 0.3
	stop A KILL
	stop H KILL
	line_up H
	sleep 0.2
	line_up A
	sleep 0.2
	stop A TERM
	line_up A
	passed 1 2 3 4
}

all_back() {
	[ "$(count A frames_handed)" = 0 ]
}

# All frames have come home but those that the rings refer to, which is what a successor finds.
nothing_kept() {
	local line held
	wait_for 20 "all frames to come back" all_back
	sleep 1.5 # counters are written once a second
	for line in A H I; do
		held=$(count "$line" frames_held)
		stop "$line" KILL
		line_up "$line"
		grep -q ", $held recovered" "$T/$line.log" || fail "line $line held $held frames: $(cat "$T/$line.log")"
	done
}

whole() { # BACKEND
	local a=$1
	channels=
	for n in 1 2 3 4; do
		channels+="${channels:+, }{ name = \"c$n\"; layout = \"moldudp64\"; gap_timeout_us = 1000000; reorder_window = 8;
		  slot_size = $((n == 4 ? 64 : 128)); # longer messages stay in their frames
		  flows = { A = \"${to_a[$n]}\"; B = \"${to_b[$n]}\"; }; }"
	done
	cat >"$T/mdbus.conf" <<-CONF
		hugepages = "never";
		buses = ( { name = "t"; seats = 8;
		  lines = ( { name = "A"; backend = "$a"; interface = "$if_a"; idle_spins = 50; },
		    { name = "H"; backend = "handed"; from = "A"; idle_spins = 50; },
		    { name = "I"; backend = "handed"; from = "A"; idle_spins = 50; },
		    { name = "B"; backend = "$a"; interface = "$if_b"; idle_spins = 50; } );
		  channels = ( $channels ); } );
	CONF
	start mdbusd "${ingest[@]}" "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
	wait_for 60 "mdbusd" grep -q "^mdbusd: ready" "$T/mdbusd.log"
	back=0
	for line in A H I B; do line_up "$line"; done
	"$ctl" lines | grep -q "handed by A" || fail "$("$ctl" lines)"
	same "hands_to" "H I" "$("$ctl" lines --json | jq -r '.lines[0].hands_to | join(" ")')"
	every_share "$a"
	takers_die
	giver_dies
	nothing_kept
	same "entries refused" 0 "$(($(count A handed_bad) + $(count H handed_bad) + $(count I handed_bad)))"
	for line in A H I B; do stop "$line"; done
	stop mdbusd
	# shellcheck disable=SC2154 # stop sets it
	same "mdbusd" 0 "$stopped"
	[ ! -e "$MDBUS_RUN_DIR" ] || fail "left behind: $(find "$MDBUS_RUN_DIR")"
}

feeder=() ingest=() to_a=() to_b=()
port=$((12000 + $$ % 9000 * 2))
for n in 1 2 3 4; do
	to_a[n]=127.0.0.1:$((port + n)) to_b[n]=127.0.0.1:$((port + 10 + n))
done
if_a=lo if_b=lo from_a=127.0.0.1 on_a=to=TO_A on_b=to=TO_B
whole kernel

if [ "$(id -u)" = 0 ] && [ -e "$MDBUS_BUILD/ingest/backend_xdp.o" ]; then
	lab_up
	feeder=("${on_feed[@]}") ingest=("${on_ingest[@]}")
	for n in 1 2 3 4; do
		to_a[n]=239.1.1.1:$((7000 + n)) to_b[n]=239.1.2.1:$((7000 + n))
	done
	if_a=mda1 if_b=mdb1 from_a=10.77.1.1 on_a=to=TO_A,dev=mda0 on_b=to=TO_B,dev=mdb0
	whole af_xdp
	if [ -e "$MDBUS_BUILD/lib/mdbus/dpdk.so" ]; then
		if_a=net_af_packet0,iface=mda1 if_b=net_af_packet0,iface=mdb1
		whole dpdk
	fi
fi
