#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# mdbus-feed over AF_XDP, across the veth pairs of a lab: the kernel on the other side accepts every frame (addresses,
# lengths, both checksums) and what arrives is exactly what the log says.
# timeout: 120
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_xdp
need_command python3
lab_up
feed=("${on_feed[@]}" "$MDBUS_BIN/mdbus-feed" --transport af_xdp --log "$T/log" --json)
hear=("${on_ingest[@]}" python3 "$MDBUS_TOP/tests/feed_hear.py")

# Payloads of every length, odd ones too: a wrong checksum is a packet less.
a=239.200.1.255:26477 b=239.72.3.4:26478
for size in 36 37 38 39 255; do
	"${hear[@]}" optiq "$T/log" ordered $a@mda1 $b@mdb1 -- "${feed[@]}" --generate optiq --size $size --count 300 \
		--rate 20000 --line A,to=$a,dev=mda0 --line B,to=$b,dev=mdb0,skew-us=1000 || fail "size $size"
done
"${hear[@]}" moldudp64 "$T/log" dup $a@mda1 $b@mdb1 -- "${feed[@]}" --generate moldudp64 --size 50 --count 30000 \
	--restart-every 10000 --rate 100000 --line A,to=$a,dev=mda0,loss=5%,dup=5%,reorder=5%:8 \
	--line B,to=$b,dev=mdb0,loss=5%,repack=20 || fail "with faults"

# Unicast needs a neighbour: found in the table, or given.
mac() { # INTERFACE of the ingest side
	ip -n "mdlab-$lab-ingest" -br link show "$1" | awk '{ print $3 }'
}
ip -n "mdlab-$lab-feed" neigh replace 10.77.1.2 dev mda0 lladdr "$(mac mda1)"
ua=10.77.1.2:9000 ub=10.77.2.2:9000
"${hear[@]}" moldudp64 "$T/log" ordered $ua $ub -- "${feed[@]}" --generate moldudp64 --count 1000 --rate 20000 \
	--line A,to=$ua,dev=mda0 --line "B,to=$ub,dev=mdb0,mac=$(mac mdb1),from=10.77.2.9" || fail "unicast"
refused "an unknown neighbour" "no MAC address known for 10.77.2.77" "${feed[@]}" --generate optiq --count 1 \
	--line A,to=10.77.2.77:1,dev=mdb0

refused "packets too large" "MTU" "${feed[@]}" --generate moldudp64 --size 1500 --count 1 --line A,to=$a,dev=mda0
refused "no such interface" "nowhere0" "${feed[@]}" --generate optiq --count 1 --line A,to=$a,dev=nowhere0
refused "no such queue" "queue 9" "${feed[@]}" --generate optiq --count 1 --line A,to=$a,dev=mda0,queue=9
refused "no privilege" "CAP_NET_RAW" "${on_feed[@]}" setpriv --bounding-set=-net_raw,-net_admin --inh-caps=-net_raw,-net_admin \
	"$MDBUS_BIN/mdbus-feed" --transport af_xdp --generate optiq --count 1 --line A,to=$a,dev=mda0

# A socket that holds the queue: the second feeder says so; when the first is killed, the queue is free again.
sent() {
	"${on_feed[@]}" awk '$1 == "mda0:" { print $11 }' /proc/net/dev
}
sends_more_than() {
	[ "$(sent)" -gt "$1" ]
}
before=$(sent)
start holder "${feed[@]}" --generate optiq --rate 100 --line A,to=$a,dev=mda0
wait_for 5 "the first feeder's packets" sends_more_than "$((before + 10))"
refused "a queue that is taken" "queue 0 of mda0 is taken" "${on_feed[@]}" "$MDBUS_BIN/mdbus-feed" --transport af_xdp \
	--generate optiq --count 1 --line A,to=$a,dev=mda0
stop holder KILL
"${feed[@]}" --generate optiq --count 1 --line A,to=$a,dev=mda0 >/dev/null || fail "the queue did not come back"
