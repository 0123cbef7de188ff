#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
# mutants: dpdk_files_left
#
# Line A on DPDK (net_af_packet), line B on AF_XDP, or on DPDK too where there is none.  Both lose packets; line A is killed in
# the midst of it and started again; B carries what A then misses.  What was published by reference stays readable over the
# death.  Killed while it starts or runs, a line leaves nothing: no run files, no promiscuous interface, no group, no frame.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_root
need_command jq python3
[ -e "$MDBUS_BUILD/lib/mdbus/dpdk.so" ] || skip "built without DPDK"
lab_up
ctl=$MDBUS_BIN/mdbusctl
ingest=mdlab-$lab-ingest
b='backend = "af_xdp"; interface = "mdb1";'
[ -e "$MDBUS_BUILD/ingest/backend_xdp.o" ] || b='backend = "dpdk"; interface = "net_af_packet0,iface=mdb1";'
cat >"$T/mdbus.conf" <<-CONF
	hugepages = "never";
	buses = ( { name = "t"; seats = 4;
	  lines = (
	    { name = "A"; backend = "dpdk"; interface = "net_af_packet0,iface=mda1"; frames = 8192; idle_spins = 10; },
	    { name = "B"; $b frames = 8192; idle_spins = 10; },
	    { name = "X"; backend = "dpdk"; interface = "net_af_packet0,iface=nowhere"; frames = 1024; },
	    { name = "Y"; backend = "dpdk"; interface = "0000:ff:1f.7"; frames = 1024; } );
	  channels = ( { name = "c"; layout = "moldudp64"; slot_size = 64; gap_timeout_us = 1000000;
	    flows = { A = "239.1.1.1:7001"; B = "239.1.2.1:7001"; X = "239.1.3.1:7001"; Y = "239.1.4.1:7001"; }; } ); } );
CONF

value() { # LINE JQ-PATH
	"$ctl" lines --json | jq -r --arg line "$1" ".lines[] | select(.line == \$line) | $2"
}
runs() { # LINE SINCE_NS
	[ "$(value "$1" .counters.heartbeat_ns)" -gt "$2" ]
}
start_line() { # LINE
	local since
	since=$(python3 -c 'import time; print(time.monotonic_ns())')
	start "$1" "${on_ingest[@]}" "$MDBUS_BIN/mdbus-ingest" "t/$1"
	wait_for 20 "line $1" runs "$1" "$since"
}
no_place() { [ ! -e "$MDBUS_RUN_DIR/dpdk" ]; }
conserved() { # LINE
	[ "$(value "$1" '.counters.frames_free + .counters.frames_held')" = 8192 ]
}

start mdbusd "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
wait_for 60 "mdbusd" grep -q "^mdbusd: ready" "$T/mdbusd.log"

# ---- what cannot be ----

refused "no such interface" 'cannot make the device "net_af_packet0,iface=nowhere".*No such device' \
	"${on_ingest[@]}" "$MDBUS_BIN/mdbus-ingest" t/X
refused "no such card" "no port on PCI device 0000:ff:1f.7.*dpdk-devbind" "${on_ingest[@]}" "$MDBUS_BIN/mdbus-ingest" t/Y
no_place || fail "a failed start leaves $(find "$MDBUS_RUN_DIR/dpdk")"

# ---- a death in the midst of it ----

start_line A
start_line B
no_place || fail "a running line has files: $(find "$MDBUS_RUN_DIR/dpdk")"
same "how A receives" "dpdk af_packet q0 4K joined" "$(value A .obtained)"
grep -q "link up" <<<"$(value A .detail)" || fail "the link is not told: $(value A .detail)"
: >"$T/downs"
start verify "$MDBUS_BIN/mdbus-verify" t/c --log "$T/log" --streams c=0 --downs "$T/downs" --until-idle-ms 2500
wait_for 10 "mdbus-verify" grep -q attached "$T/verify.log"
start feed "${on_feed[@]}" "$MDBUS_BIN/mdbus-feed" --generate moldudp64 --count 60000 --size 300 --rate 15000 --log "$T/log" \
	--linger-ms 300 --line A,to=239.1.1.1:7001,dev=mda0,loss=5% --line B,to=239.1.2.1:7001,dev=mdb0,repack=2
won() { [ "$(value A .messages.by_ref)" -gt 500 ]; }
wait_for 20 "messages by reference of line A" won
stop A KILL
sleep 0.3
start_line A
[ "$(value A .counters.frames_recovered)" -gt 0 ] || fail "the new process has found no frame in use"
wait "$(pid_of feed)" || fail "the feeder"
wait "$(pid_of verify)" || fail "$(cat "$T/verify.log") $("$ctl" lines)"
unset 'started[feed]' 'started[verify]'
grep -qE '^ +gaps \(numbers\) +0 +0 +ok' "$T/verify.log" || fail "B carried all, and something is lost: $(cat "$T/verify.log")"
conserved A || fail "frames of A: $(value A .counters)"
counted() { [ "$(value A '.xstats.rx_good_packets // 0')" -gt 0 ]; }
wait_for 5 "the port's own counters" counted

steps=$("$ctl" events --json | jq -sr 'map(select(.line == "A") | .step // .type) | join(" ")')
[[ $steps == *"lease state marks queue_free rule_delete mbuf_put memp_free free line_down"* ]] ||
	fail "not taken back in order: $steps"

# ---- killed while it starts ----

for ms in 20 60 100 140 180 40 80 120; do
	stop A KILL
	start A "${on_ingest[@]}" "$MDBUS_BIN/mdbus-ingest" t/A
	sleep "0.$(printf %03d "$ms")"
done
# As a process would leave it that is killed at the worst moment; only mdbusd is there to clean up.
mkdir -p "$MDBUS_RUN_DIR/dpdk/mdbus-t-A"
echo >"$MDBUS_RUN_DIR/dpdk/mdbus-t-A/config"
stop A KILL
wait_for 5 "a run directory without DPDK's files" no_place

start_line A
conserved A || fail "frames of A after all this: $(value A .counters)"
for line in A B; do stop "$line" KILL; done
same "flags of the interface" "" "$(ip -n "$ingest" link show mda1 | grep -o PROMISC || true)"
no_group() { ! "${on_ingest[@]}" grep -qiE '010101EF|010201EF' /proc/net/igmp; }
wait_for 5 "the groups to be left" no_group
[ ! -e /var/run/dpdk ] || [ -z "$(find /var/run/dpdk -name 'mdbus-t-*')" ] || fail "files in /var/run/dpdk"
nobody() { [ "$("$ctl" leases --json | jq '[.leases[] | select(.state == "held")] | length')" = 0 ]; }
wait_for 5 "all leases to come back" nobody
stop mdbusd
same "mdbusd" 0 "$stopped"
[ ! -e "$MDBUS_RUN_DIR" ] || fail "left behind: $(find "$MDBUS_RUN_DIR")"
