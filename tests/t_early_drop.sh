#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Early drop on a whole bus: two lines on AF_XDP with loss on both, B behind A.  Everything that either carried is delivered, B's
# duplicates are dropped by the XDP program in front of it, and B's counters say the same as without.  Then A's process is
# stopped until its queue runs over while B goes on, and is killed: nothing that B carried is lost.  The same for a channel without
# an order, by key.
# timeout: 240
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_xdp
need_command jq
lab_up
ctl=$MDBUS_BIN/mdbusctl

config() { # LAYOUT OPTIONS...
	cat <<-CONF
		hugepages = "never";
		buses = ( { name = "t"; seats = 4;
		  lines = ( { name = "A"; backend = "af_xdp"; interface = "mda1"; frames = 16384; idle_spins = 20; },
		            { name = "B"; backend = "af_xdp"; interface = "mdb1"; frames = 65536; idle_spins = 20;
		              rx_ring = 32768; fill_ring = 32768; } );
		  channels = ( { name = "c"; layout = "$1"; gap_timeout_us = 2000000; window = 32768; $2
		    flows = { A = "239.1.1.1:7001"; B = "239.1.2.1:7001"; }; } ); } );
	CONF
}

# ---- what is refused, and what is only noted ----

check() { # LAYOUT OPTIONS
	config "$1" "$2" >"$T/check.conf"
	"$MDBUS_BIN/mdbusd" --check -c "$T/check.conf"
}
check moldudp64 "early_drop = true;" >/dev/null || fail "early_drop with moldudp64 is refused"
refused "numbers in the messages" "channel c.*early_drop = true: not with layout otc_link: its sequence numbers stand in" \
	check otc_link "early_drop = true;"
check optiq "ordered = false; early_drop = true;" >/dev/null || fail "early_drop without an order is refused"
refused "keys of no age" "early_drop = true: not with key_age_ms = 10: .* at least 50, or 0" \
	check optiq "ordered = false; early_drop = true; key_age_ms = 10;"
refused "keys without a time" "early_drop = true: .* also needs timed = true" \
	check optiq "ordered = false; early_drop = true; timed = false;"

# ---- the same feed without and with it ----

value() { # LINE WHAT: of its counters, or of its counters of channel c
	"$ctl" lines --json | jq ".lines[] | select(.line == \"$1\") | $2"
}

channel_count() { # LINE COUNTER
	"$ctl" channels --json | jq ".channels[] | select(.channel == \"c\") | .lines[] | select(.line == \"$1\") | .counters.$2"
}

start_line() { # LINE
	start "$1" "${on_ingest[@]}" "$MDBUS_BIN/mdbus-ingest" "t/$1"
	wait_for 20 "line $1" grep -q "^mdbus-ingest: t/$1: af_xdp native" "$T/$1.log"
}

layout=moldudp64
generate=(--generate moldudp64 --size 60)
judge=()

begin() { # OPTIONS
	config "$layout" "$1" >"$T/mdbus.conf"
	start mdbusd "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
	wait_for 60 "mdbusd" grep -q "^mdbusd: ready" "$T/mdbusd.log"
	start_line A
	start_line B
}

end() {
	stop A
	stop B
	stop mdbusd
}

# send SESSION COUNT RATE LOSS-A LOSS-B [COMMAND while it sends]
send() {
	start verify "$MDBUS_BIN/mdbus-verify" t/c --log "$T/log" --streams c=0 "${judge[@]}" --until-idle-ms 3000 --json
	wait_for 10 "mdbus-verify" grep -q attached "$T/verify.log"
	start feed "${on_feed[@]}" "$MDBUS_BIN/mdbus-feed" "${generate[@]}" --count "$2" --rate "$3" --seed 5 \
		--session "$1" --log "$T/log" --json \
		--line "A,to=239.1.1.1:7001,dev=mda0,loss=$4" --line "B,to=239.1.2.1:7001,dev=mdb0,loss=$5,skew-us=3000"
	${6:-true}
	wait "$(pid_of feed)" || fail "the feeder: $(cat "$T/feed.log")"
	wait "$(pid_of verify)" || fail "session $1: $(cat "$T/verify.log") $("$ctl" lines --json | jq -c '[.lines[] | .counters]')"
	unset 'started[feed]' 'started[verify]'
}

delivered() {
	tail -n 1 "$T/verify.log" | jq -c '[.. | objects | select(has("delivered")) | .delivered] | first'
}

begin ""
send PLAIN 60000 30000 2% 2%
plain="$(delivered) $(channel_count B messages) $(channel_count B line_gaps)"
same "dropped early without being asked to" 0 "$(value B .counters.early_dropped)"
end
begin "early_drop = true;"
send EARLY 60000 30000 2% 2%
sleep 1.2 # the counters of the program
same "delivered by both, messages of B, gaps of B" "$plain" "$(delivered) $(channel_count B messages) $(channel_count B line_gaps)"
dropped=$(value B .counters.early_dropped)
[ "$dropped" -gt 20000 ] || fail "only $dropped packets of B were dropped early"
[ "$(channel_count B duplicates)" -ge "$dropped" ] || fail "B has $(channel_count B duplicates) duplicates, $dropped dropped"
[ "$(value B '.lateness_ns.p50')" -gt 500000 ] || fail "B is 3 ms behind, and late by $(value B .lateness_ns)"

# ---- A stops, and its queue runs over ----

halt() {
	sleep 0.5
	kill -STOP "$(pid_of A)"
	sleep 1
	kill -CONT "$(pid_of A)"
}
send_and_halt() {
	local overrun='.counters.ring_full + .counters.nic_dropped + .counters.fill_empty' before
	before=$(value A "$overrun")
	send STOP 60000 20000 0 0 halt
	sleep 1.2
	[ "$(value A "$overrun")" -gt "$before" ] || fail "A's queue has not run over: $(value A .counters)"
}

kill_a() {
	sleep 0.5
	stop A KILL
}
send_and_halt
send KILL 40000 20000 0 0 kill_a
start_line A
send AGAIN 40000 30000 1% 1%
end
echo "count: $dropped of 60000 packets of B dropped early"

# ---- by key; a bus for each, as the feeder's keys begin again each time ----

layout=optiq
generate=(--generate optiq --size 60)
judge=(--unordered c)
by_key="ordered = false; key_age_ms = 0; key_window = 131072; early_drop = true;"
begin "${by_key/early_drop = true;/}"
send PLAIN 60000 30000 2% 2%
plain="$(delivered) $(channel_count B messages)"
end
begin "$by_key"
send EARLY 60000 30000 2% 2%
sleep 1.2
same "by key: delivered by both, messages of B" "$plain" "$(delivered) $(channel_count B messages)"
dropped=$(value B .counters.early_dropped)
[ "$dropped" -gt 20000 ] || fail "only $dropped packets of B were dropped early by key"
[ "$(channel_count B duplicates)" -ge "$dropped" ] || fail "B has $(channel_count B duplicates) duplicates, $dropped dropped"
[ "$(value B '.lateness_ns.p50')" -gt 500000 ] || fail "by key: B is 3 ms behind, and late by $(value B .lateness_ns)"
end
begin "$by_key"
send_and_halt
end
begin "$by_key"
send KILL 40000 20000 0 0 kill_a
stop B
stop mdbusd
echo "count: $dropped of 60000 packets of B dropped early by key"
