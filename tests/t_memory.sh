#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# `mdbusctl memory`: every segment with its owner, size and pages; every frame of a line in one place; and a line that has
# fallen behind opens its reserve, sweeps, tells, and has all of it back afterwards, also after a death in the midst of it.
# timeout: 90
# sanitizers: none
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_xdp
need_command jq
lab_up
ctl=$MDBUS_BIN/mdbusctl
common='backend = "af_xdp"; frames = 1024; rx_ring = 1024; fill_ring = 1024; batch = 16; idle_spins = 10; low_watermark = 256;'
cat >"$T/mdbus.conf" <<-CONF
	hugepages = "never";
	buses = ( { name = "t"; seats = 4;
	  lines = (
	    { name = "A"; interface = "mda1"; $common reserve_frames = 512; },
	    { name = "B"; interface = "mdb1"; $common } );
	  channels = (
	    { name = "c"; layout = "moldudp64"; depth = 8192; slot_size = 64; flows = { A = "239.1.1.1:7001"; }; },
	    { name = "d"; layout = "moldudp64"; depth = 8192; slot_size = 64; flows = { B = "239.1.2.1:7001"; }; } ); } );
CONF
start mdbusd "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
wait_for 60 "mdbusd" grep -q "^mdbusd: ready" "$T/mdbusd.log"
start_line() { # LINE
	start "$1" "${on_ingest[@]}" "$MDBUS_BIN/mdbus-ingest" "t/$1"
	wait_for 20 "line $1" grep -q "^mdbus-ingest: t/$1: af_xdp" "$T/$1.log"
}
frames() { # LINE JQ
	"$ctl" memory --json | jq -r --arg l "$1" ".memory[] | select(.kind == \"arena\" and .owner == \$l) | .frames | $2"
}
events() { # TYPE LINE
	"$ctl" events --json | jq -s "[.[] | select(.type == \"$1\" and .line == \"$2\")] | length"
}
has_event() { [ "$(events "$1" "$2")" -ge 1 ]; }
was_low() { # LINE TIMES-BEFORE
	[ "$(frames "$1" .times_low)" -gt "$2" ]
}
is_over() { [ "$(events memp_low "$1")" = "$(events memp_low_end "$1")" ]; }
whole() { [ "$(frames "$1" '.held + .pool + .fill + .rx + .reserve == .total')" = true ]; }
send() { # LINE COUNT: by reference, as they are longer than a slot
	local to=239.1.1.1:7001 dev=mda0
	[ "$1" = A ] || { to=239.1.2.1:7001 && dev=mdb0; }
	"${on_feed[@]}" "$MDBUS_BIN/mdbus-feed" --generate moldudp64 --count "$2" --size 300 --rate 20000 --session "S$SECONDS$2" \
		--line "$1,to=$to,dev=$dev" >"$T/feed.log" 2>&1 || fail "the feeder: $(cat "$T/feed.log")"
}

start_line A
start_line B
same "segments" "arena.0 arena.1 bus ring.0 ring.1" \
	"$("$ctl" memory --json | jq -r '[.memory[].name] | sort | join(" ")')"
same "owners" "A:$(pid_of A) B:$(pid_of B) mdbusd:null c:null d:null" \
	"$("$ctl" memory --json | jq -r '[.memory | sort_by(.name)[] | "\(.owner):\(.pid)"] | join(" ")')"
same "sizes as they are" true "$("$ctl" memory --json | jq '[.memory[] | .bytes > 0 and .page_size >= 4096] | all')"
started() { # LINE RESERVE
	[ "$(frames "$1" '"\(.total) \(.reserve) \(.low_watermark)"')" = "$((1024 + $2)) $2 256" ]
}
wait_for 5 "the frames of A to be told" started A 512
wait_for 5 "the frames of B to be told" started B 0
"$ctl" memory >"$T/table"
grep -qE "^t +arena.0 +A +$(pid_of A) +[0-9]+ [KM]iB .* 1536 +0 +0 +1024 +0 +512 +0 +0$" "$T/table" || fail "the table: $(cat "$T/table")"

# ---- fallen behind ----

for line in A B; do
	send "$line" 2000 # half of the frames are held from here on
	whole "$line" || fail "frames of $line: $(frames "$line" .)"
	before=$(frames "$line" .times_low)
	kill -STOP "$(pid_of "$line")"
	send "$line" 1500
	kill -CONT "$(pid_of "$line")"
	wait_for 10 "$line to be low" was_low "$line" "$before"
	wait_for 10 "the event" has_event memp_low "$line"
	wait_for 10 "the end of it" is_over "$line"
	whole "$line" || fail "frames of $line afterwards: $(frames "$line" .)"
done
wait_for 5 "the reserve of A" started A 512
[ "$(frames B .swept)" -gt 0 ] || fail "B had no reserve, and nothing was swept: $(frames B .)"

# ---- killed while it is low ----

send A 2000
kill -STOP "$(pid_of A)"
send A 1600
kill -CONT "$(pid_of A)"
stop A KILL
start_line A
wait_for 5 "the frames of A to be told" started A 512
same "A after a death" false "$(frames A .low)"
send A 3000
whole A || fail "frames of A after a death: $(frames A .)"
