#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# mutants: gap_before_timeout
# alone: yes
#
# The demo passes its own verdict: made-up feed and captures, with and without loss, both backends, root and not; it leaves
# nothing behind, interrupted ones too; and its exit status is the verdict, as the mutant shows.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_command jq python3 setsid
[ -x "$MDBUS_BIN/mdbusctl" ] || fail "there is no $MDBUS_BIN/mdbusctl"
export BUILD=$MDBUS_BUILD

# Nothing of the demo that wrote $T/out may be left: files, mounts, processes, labs.
nothing_left() { # WHAT
	local dir lab
	dir=$(sed -n 's|.*MDBUS_RUN_DIR=\(.*\)/bus .*|\1|p' "$T/out")
	lab=$(sed -n 's/^== lines: .* in lab \(demo[0-9]*\),.*/\1/p' "$T/out")
	[ -n "$dir" ] || fail "$1: no run directory is named: $(cat "$T/out")"
	[ ! -e "$dir" ] || fail "$1: $dir is left"
	! grep -q "$dir" /proc/mounts || fail "$1: a mount is left: $(grep "$dir" /proc/mounts)"
	! grep -lsz "$dir" /proc/[0-9]*/environ || fail "$1: a process is left"
	[ -z "$lab" ] || [ ! -e "/run/netns/mdlab-$lab-ingest" ] || fail "$1: $lab is left"
}

demo() { # WHAT ARGUMENT...
	local what=$1
	shift
	"$MDBUS_TOP/scripts/demo" --seconds 6 "$@" >"$T/out" 2>&1 || fail "$what: exit status $?: $(cat "$T/out")"
	grep -q '^verdict: PASS' "$T/out" || fail "$what: no verdict: $(cat "$T/out")"
	grep -q 'ingest A is started again and receives' "$T/out" || fail "$what: nothing was killed: $(cat "$T/out")"
	nothing_left "$what"
	echo "$what: $(grep -c ' ok$' "$T/out") rows hold"
}

MDBUS_CORPUS=/nonexistent demo "made-up feed, kernel backend" --backend kernel
grep -q 'lost though carried (failover loss)  *0  *0  *ok' "$T/out" || fail "no failover row: $(cat "$T/out")"

capture=$MDBUS_CORPUS/iex_tp/IEX_DEEP10_dev.pcap
if [ -e "$capture" ]; then
	demo "IEX, loss on both lines"
	grep -qE '^ +resets +5 +5 +ok' "$T/out" || fail "not the five resets of the capture: $(cat "$T/out")"
	demo "IEX, no loss" --loss 0
	grep -qE 'in gaps: 0 lost on all lines' "$T/out" || fail "loss where there should be none: $(cat "$T/out")"
	demo "both lines from one capture" --pcap "$MDBUS_CORPUS/cme_mdp3_xilinx/XILINX_cme_input_arb_AB.pcap"
fi

if [ "$(id -u)" = 0 ] && [ -e "$MDBUS_BUILD/lib/mdbus/dpdk.so" ]; then
	for backend in dpdk mixed; do
		MDBUS_CORPUS=/nonexistent demo "made-up feed, $backend" --backend $backend
		grep -q 'line B receives by dpdk af_packet' "$T/out" || fail "line B is not on DPDK: $(cat "$T/out")"
	done
fi

refused "a capture without a layout" "LAYOUT=name" "$MDBUS_TOP/scripts/demo" --pcap "$MDBUS_TOP/LICENSE"
refused "no capture" "there is no /none" "$MDBUS_TOP/scripts/demo" --pcap /none
refused "a loss in words" "a percentage" "$MDBUS_TOP/scripts/demo" --loss some
refused "a rate in words" "messages a second" "$MDBUS_TOP/scripts/demo" --rate fast
refused "one wire of two" "--wire-a and --wire-b: both" "$MDBUS_TOP/scripts/demo" --wire-a lo=lo
refused "a wire from nowhere" "no interface nowhere0" "$MDBUS_TOP/scripts/demo" --wire-a nowhere0=lo --wire-b lo=lo

start out setsid "$MDBUS_TOP/scripts/demo"
wait_for 30 "a demo under way" grep -q 'a second at a time' "$T/out.log"
sleep 1
kill -TERM -- "-$(pid_of out)"
if wait "$(pid_of out)"; then fail "an interrupted demo ends with 0"; fi
cp "$T/out.log" "$T/out"
nothing_left "interrupted"
