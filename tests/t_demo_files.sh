#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Captures on two lines, lossless and with 1 % loss a line, with the capture's packets on both and packed anew on one: no
# message is lost or doubled, gaps are what both lines lost, and IEX_DEEP10_dev's five restarts are five resets.
# timeout: 240
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_command jq
need_corpus iex_tp/IEX_DEEP10_dev.pcap
need_corpus cme_mdp3_xilinx/XILINX_cme_input_arb_AB.pcap

port=$((12000 + $$ % 18000))
a=127.0.0.1:$port b=127.0.0.1:$((port + 1))
if [ "$(id -u)" = 0 ]; then rate=60000; else rate=10000; fi # a receive buffer that only root may have

first() { # FIELD: the first number of this name in the verdict; the sums come before the channels
	grep -o "\"$1\":[0-9]*" "$T/verify.log" | head -n 1 | cut -d: -f2
}

bound() { # PORT
	grep -q ":$(printf %04X "$1") " /proc/net/udp
}

# One bus for one run, so that its epochs begin with the capture.
run() { # WHAT LAYOUT STREAMS FEEDER-ARGUMENT...
	local what=$1 layout=$2 streams=$3 name
	shift 3
	cat >"$T/mdbus.conf" <<-CONF
		hugepages = "never";
		buses = ( { name = "t"; seats = 4;
		  lines = ( { name = "A"; backend = "kernel"; interface = "lo"; idle_spins = 50; },
		    { name = "B"; backend = "kernel"; interface = "lo"; idle_spins = 50; } );
		  channels = ( { name = "one"; layout = "$layout"; slot_size = 64; gap_timeout_us = 1000000;
		      flows = { A = "$a"; B = "$b"; }; } ); } );
	CONF
	start mdbusd "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
	wait_for 30 "mdbusd" "$MDBUS_BIN/mdbusctl" status
	for name in A B; do start $name "$MDBUS_BIN/mdbus-ingest" t/$name; done
	wait_for 30 "line A" bound "$port"
	wait_for 30 "line B" bound $((port + 1))
	start verify "$MDBUS_BIN/mdbus-verify" t --log "$T/log" --streams "one=$streams" --json
	wait_for 30 "the verifier" grep -q attached "$T/verify.log"
	"$MDBUS_BIN/mdbus-feed" --rate "$rate" --log "$T/log" --linger-ms 300 --seed 4 "$@" >"$T/feed.log"
	sleep 1.3 # a gap at the very end takes its timeout
	stop verify
	[ "$stopped" = 0 ] || fail "$what: $(cat "$T/verify.log")"
	same "$what: delivered, lost on both or never shown" "$(first sent)" \
		$(($(first matched) + $(first gaps_lost_on_all_lines) + $(first edge_lost_on_all_lines)))
	echo "$what: $(first sent) sent, $(first matched) delivered, $(first gaps_lost_on_all_lines) lost on both lines, \
$(first resets) resets"
	for name in A B mdbusd; do
		stop $name
		same "$what: exit status of $name" 0 "$stopped"
	done
	[ ! -e "$MDBUS_RUN_DIR" ] || fail "$what: left behind: $(find "$MDBUS_RUN_DIR")"
}

iex() { # WHAT LOST FAULTS-A FAULTS-B
	run "IEX, $1" iex_tp 0 --pcap "$MDBUS_CORPUS/iex_tp/IEX_DEEP10_dev.pcap" --layout iex_tp \
		--line "A,to=$a$3" --line "B,to=$b$4"
	same "IEX, $1: messages" "$(jq "[.packets[][4]] | add" "$MDBUS_CORPUS/iex_tp/IEX_DEEP10_dev.json")" "$(first sent)"
	same "IEX, $1: resets" 5 "$(first resets)"
	lost "IEX, $1" "$2"
}

xilinx() { # WHAT LOST FAULTS
	run "Xilinx, $1" cme_mdp3_xilinx 0+1 --pcap "$MDBUS_CORPUS/cme_mdp3_xilinx/XILINX_cme_input_arb_AB.pcap" \
		--layout cme_mdp3_xilinx --line "A,to=$a,pick=224.0.31.9:14318$3" --line "B,to=$b,pick=224.0.32.9:15318$3"
	same "Xilinx, $1: resets" 0 "$(first resets)"
	lost "Xilinx, $1" "$2"
}

lost() { # WHAT yes|no|any
	local gaps
	gaps=$(first gaps_lost_on_all_lines)
	case $2 in
	no) same "$1: lost" 0 "$gaps" ;;
	yes) [ "$gaps" -gt 0 ] || fail "$1: nothing was lost on both lines" ;;
	esac
}

iex "same packets, lossless" no "" ""
iex "same packets, 1 % loss" yes ,loss=1% ,loss=1%
iex "packed anew, lossless" no "" ,repack=3,skew-us=500
iex "packed anew, 1 % loss" yes ,loss=1% ,loss=1%,repack=3,skew-us=500
xilinx "lossless" no ""
xilinx "1 % loss" any ,loss=1%
xilinx "30 % loss" yes ,loss=30%
