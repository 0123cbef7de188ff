#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What a host may be short of: descriptors, disk, memory, huge pages, capabilities, queues, cores, interfaces.  Each program says
# what is missing and what to do about it, ends with a status, and leaves nothing behind; and the bus goes on without it.
# timeout: 180
# mutants: shortage_without_word full_disk_ignored
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
mutant_needs_root full_disk_ignored "a full disk"
need_command prlimit jq

at=127.$((100 + $$ % 100)).$((RANDOM % 250)).$((RANDOM % 250 + 1))
conf=$T/mdbus.conf
configure() { # LINE-SETTINGS [HUGEPAGES]
	cat >"$conf" <<-CONF
		hugepages = "${2:-never}";
		buses = ( { name = "t"; seats = 8; lines = ( { name = "A"; idle_spins = 10; $1 } );
		  channels = ( { name = "one"; layout = "moldudp64"; depth = 4096; flows = { A = "$at:20001"; }; } ); } );
	CONF
}
on_ingest=()
nothing_left() { # WHAT
	[ ! -e "$MDBUS_RUN_DIR" ] || fail "$1: left behind: $(find "$MDBUS_RUN_DIR")"
}
up() {
	start mdbusd "${on_ingest[@]}" "$MDBUS_BIN/mdbusd" -c "$conf"
	wait_for 30 "mdbusd" grep -q "^mdbusd: ready" "$T/mdbusd.log"
}
held() {
	"$MDBUS_BIN/mdbusctl" leases --json | jq -r '.leases[] | select(.state != "free") | .name'
}
down() { # WHAT: nobody holds anything, and mdbusd ends in good order
	same "$1: leases" "" "$(held)"
	stop mdbusd
	[ "$stopped" = 0 ] || fail "$1: mdbusd ended with $stopped: $(cat "$T/mdbusd.log")"
	nothing_left "$1"
}
# ---- descriptors ----

# Whatever number there is: the program works, or says what to raise.  How many it needs is nobody's business.
# MARK is what it prints when it works and would go on; "" if it ends by itself.
short_of_descriptors() { # WHAT MARK COMMAND...
	local what=$1 mark=$2 n told=
	shift 2
	for n in {4..40}; do
		start short "${on_ingest[@]}" prlimit --nofile="$n:$n" -- "$@"
		wait_for 30 "$what with $n descriptors" said_or_ended "$mark"
		if [ -n "$mark" ] && grep -q "$mark" "$T/short.log"; then
			stop short
		else
			stopped=0
			wait "${started[short]}" || stopped=$?
			unset "started[short]"
		fi
		case $stopped in
		0) break ;;
		1) grep -q "ulimit -n" "$T/short.log" || fail "$what with $n descriptors: $(cat "$T/short.log")" ;;
		127) continue ;; # not even its libraries can be opened
		*) fail "$what with $n descriptors: status $stopped: $(cat "$T/short.log")" ;;
		esac
		told=y
	done
	[ "$stopped" = 0 ] || fail "$what wants more than 40 descriptors: $(cat "$T/short.log")"
	[ -n "$told" ] || fail "$what never lacks descriptors: this says nothing"
}
said_or_ended() { # MARK
	! running short || { [ -n "$1" ] && grep -q "$1" "$T/short.log"; }
}
mdbusd_short() { # one try leaves nothing for the next to trip over
	local n status
	for n in {4..20}; do
		start short prlimit --nofile="$n:$n" -- "$MDBUS_BIN/mdbusd" -c "$conf"
		wait_for 30 "mdbusd with $n descriptors" said_or_ended "^mdbusd: ready"
		status=ended
		! running short || status=ready
		stop short
		nothing_left "mdbusd with $n descriptors"
		[ $status = ended ] || break
		[ "$stopped" = 127 ] || grep -q "ulimit -n" "$T/short.log" || fail "mdbusd with $n descriptors: $(cat "$T/short.log")"
		[ "$stopped" != 0 ] || fail "mdbusd with $n descriptors: it has failed, and says 0"
	done
	[ $status = ready ] || fail "mdbusd wants more than 20 descriptors: $(cat "$T/short.log")"
}

configure 'backend = "kernel"; interface = "lo"; frames = 1024;'
mdbusd_short
up
short_of_descriptors mdbus-ingest "recovered, core" "$MDBUS_BIN/mdbus-ingest" t/A
short_of_descriptors mdbus-tail "" "$MDBUS_BIN/mdbus-tail" t --until-idle-ms 10
short_of_descriptors mdbus-feed "" "$MDBUS_BIN/mdbus-feed" --generate moldudp64 --count 10 --size 72 --log "$T/few.log" \
	--line "A,to=$at:20001" --linger-ms 1
down "descriptors"

# An mdbusd with few: it lends what it can, and says what to raise when there are no more.
start mdbusd prlimit --nofile=24:24 -- "$MDBUS_BIN/mdbusd" -c "$conf"
wait_for 30 "mdbusd" grep -q "^mdbusd: ready" "$T/mdbusd.log"
for i in {1..8}; do start "tail$i" "$MDBUS_BIN/mdbus-tail" t; done
nobody() { [ -z "$(held)" ]; }
some_refused() { for i in {1..8}; do ! running "tail$i" || continue; grep -q "ulimit -n" "$T/tail$i.log" && return; done; return 1; }
wait_for 30 "a subscriber to be told" some_refused
for i in {1..8}; do
	let_in=y
	running "tail$i" || let_in=
	stop "tail$i"
	[ -n "$let_in" ] || grep -q "ulimit -n" "$T/tail$i.log" || fail "a subscriber that was not let in: $(cat "$T/tail$i.log")"
done
wait_for 30 "the seats to come back" nobody
down "an mdbusd with few descriptors"

# ---- cores, interfaces, memory ----

configure 'backend = "kernel"; interface = "lo"; cpu = 4095;'
refused "a core that is not there" 'cpu = 4095: this host has cores' "$MDBUS_BIN/mdbusd" -c "$conf"
nothing_left "a core that is not there"
configure 'backend = "kernel"; interface = "lo"; frames = 8388608; frame_size = 4096;'
if [ "$(df --output=avail -k "${MDBUS_RUN_DIR%/*}" | tail -n 1)" -lt 33000000 ]; then
	refused "too little memory" "arena.0: cannot reserve .*lower depth and frames" "$MDBUS_BIN/mdbusd" -c "$conf"
	nothing_left "too little memory"
fi
configure 'backend = "kernel"; interface = "nosuch0";'
up
refused "a missing interface" 'no network interface "nosuch0".*ip link' "$MDBUS_BIN/mdbus-ingest" t/A
down "a missing interface"

[ "$(id -u)" = 0 ] || { echo "disks, huge pages and capabilities need root" && exit; }

# ---- disk ----

small=$T/small
mkdir "$small"
mount -t tmpfs -o size=64k none "$small"
at_exit "umount -l '$small'"
configure 'backend = "kernel"; interface = "lo"; frames = 1024;'
MDBUS_RUN_DIR=$small/run refused "mdbusd on a full disk" "No space left.*enlarge that tmpfs" "$MDBUS_BIN/mdbusd" -c "$conf"
[ ! -e "$small/run" ] || fail "mdbusd on a full disk: left behind: $(find "$small")"
refused "the feeder's log on a full disk" "log $small/log: No space left.*free some space" "$MDBUS_BIN/mdbus-feed" \
	--generate moldudp64 --count 20000 --size 72 --log "$small/log" --line "A,to=$at:20001" --linger-ms 1

# ---- huge pages: a preference, but one that is spoken of ----

# A host that has none, or has none left: mdbusd sees another directory in place of the kernel's.
# shellcheck disable=SC2016 # for that shell
poor_host=(unshare --mount sh -c 'mount --bind "$1" /sys/kernel/mm/hugepages &&
	mount -o remount,ro,bind /sys/kernel/mm/hugepages && shift && exec "$@"' sh) # DIRECTORY COMMAND...
mkdir -p "$T/none" "$T/used-up/hugepages-2048kB"
for file in nr_hugepages free_hugepages resv_hugepages; do echo 0 >"$T/used-up/hugepages-2048kB/$file"; done
configure 'backend = "kernel"; interface = "lo"; frames = 4096;' 2M
if "${poor_host[@]}" "$T/none" true 2>/dev/null && [ -d /sys/kernel/mm/hugepages/hugepages-2048kB ]; then
	for host in none used-up; do
		start mdbusd "${poor_host[@]}" "$T/$host" "$MDBUS_BIN/mdbusd" -c "$conf"
		wait_for 30 "mdbusd" grep -q "^mdbusd: ready" "$T/mdbusd.log"
		grep -qE "no huge pages of 2048 KiB can be had|huge pages of 2048 KiB wanted, 0 obtained" "$T/mdbusd.log" ||
			fail "a host whose huge pages are $host: $(cat "$T/mdbusd.log")"
		"$MDBUS_BIN/mdbusctl" status --json | jq -e . >/dev/null || fail "a host whose huge pages are $host: no status"
		down "a host whose huge pages are $host"
	done
fi

# ---- AF_XDP: capabilities, locked memory, descriptors, queues ----

need_xdp
need_command capsh
lab_up
configure 'backend = "af_xdp"; interface = "mda1"; frames = 4096; rx_ring = 512; fill_ring = 1024;'
sed -i "s/$at:20001/233.54.12.1:26477/" "$conf"
up
line=("$MDBUS_BIN/mdbus-ingest" t/A)
clean_interface() { # WHAT
	! "${on_ingest[@]}" ip -d link show mda1 | grep -q "prog/xdp" || fail "$1: an XDP program is left"
}
without() { # CAPABILITIES PATTERN
	refused "AF_XDP without $1" "$2" "${on_ingest[@]}" capsh --drop="$1" -- -c "exec '$MDBUS_BIN/mdbus-ingest' t/A"
	clean_interface "AF_XDP without $1"
}
without cap_net_raw 'missing CAP_NET_RAW: .*backend = "kernel"'
without cap_bpf,cap_sys_admin 'missing CAP_BPF: .*backend = "kernel"'
without all 'missing CAP_NET_RAW .*backend = "kernel"'
refused "AF_XDP with little locked memory" "may not lock 8 MiB of frames, the limit is 64 KiB.*ulimit -l" \
	"${on_ingest[@]}" prlimit --memlock=65536:65536 -- capsh --drop=cap_ipc_lock,cap_sys_resource -- -c "exec '${line[0]}' t/A"
clean_interface "AF_XDP with little locked memory"
short_of_descriptors "mdbus-ingest on AF_XDP" "recovered, core" "${line[@]}"
clean_interface "AF_XDP with few descriptors"
configure_other() { # SETTINGS: another mdbusd, which does not know of the first
	sed "s/frames = 4096;/& $1/" "$conf" >"$T/other.conf"
	start other env MDBUS_RUN_DIR="$run_parent/other" "${on_ingest[@]}" "$MDBUS_BIN/mdbusd" -c "$T/other.conf"
	wait_for 30 "the other mdbusd" grep -q "^mdbusd: ready" "$T/other.log"
}
start holder "${on_ingest[@]}" "${line[@]}"
wait_for 30 "a line" grep -q "recovered, core" "$T/holder.log"
configure_other ""
refused "a queue that is taken" "queue 0 of interface mda1 is taken by another AF_XDP socket: stop" \
	"${on_ingest[@]}" env MDBUS_RUN_DIR="$run_parent/other" "${line[@]}"
running holder || fail "a queue that is taken: its holder has ended"
stop other
same "the other mdbusd" 0 "$stopped"
configure_other "queue = 7;"
refused "a queue that is not there" "interface mda1 has no receive queue 7: it has 1" \
	"${on_ingest[@]}" env MDBUS_RUN_DIR="$run_parent/other" "${line[@]}"
stop other
same "the other mdbusd" 0 "$stopped"
[ ! -e "$run_parent/other" ] || fail "the other mdbusd: left behind: $(find "$run_parent/other")"
stop holder
same "the line that had the queue" 0 "$stopped"
clean_interface "everything"
down "AF_XDP"
