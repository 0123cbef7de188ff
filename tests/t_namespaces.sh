#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Processes in other pid and time namespaces, and zombies.  A client further down is served like any other; one that mdbusd
# cannot see is refused; and an mdbusd to which noted pids mean nothing does not adopt, so it takes nothing from the living.
# timeout: 120
# mutants: namespaces_ignored
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_root
need_command unshare setpriv jq python3 pgrep
unshare --pid --fork --mount-proc true 2>/dev/null || skip "no pid namespaces here"

port=$((12000 + $$ % 18000))
cat >"$T/mdbus.conf" <<-CONF
	hugepages = "never";
	buses = ( { name = "t"; seats = 4;
	  lines = ( { name = "A"; backend = "kernel"; interface = "lo"; frames = 1024; idle_spins = 10; stale_ms = 300;
	      stuck_kill_ms = 1500; } );
	  channels = ( { name = "one"; layout = "moldudp64"; depth = 1024; flows = { A = "127.0.0.1:$port"; }; } ); } );
CONF
ctl=$MDBUS_BIN/mdbusctl
below=(unshare --pid --fork --kill-child --mount-proc)

start_mdbusd() { # [PREFIX...]
	rm -f "$T/mdbusd.log"
	start mdbusd "$@" "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
	wait_for 20 "mdbusd" grep -q "^mdbusd: ready" "$T/mdbusd.log"
}
line_is() { "$ctl" lines --json | jq -e ".lines[0].state == \"$1\""; }
holder() { "$ctl" lines --json | jq ".lines[0].pid"; }
heartbeat() { "$ctl" lines --json | jq ".lines[0].counters.heartbeat_ns"; }
turns_on() {
	local before
	before=$(heartbeat)
	sleep 0.05
	[ "$(heartbeat)" != "$before" ]
}

# ---- a client in a namespace below ----

start_mdbusd
start A "${below[@]}" "$MDBUS_BIN/mdbus-ingest" t/A
wait_for 20 "a line in a pid namespace of its own" line_is up
pid=$(holder)
grep -q mdbus-ingest "/proc/$pid/comm" || fail "its pid here is $pid, which is $(cat "/proc/$pid/comm")"
kill -KILL "$pid"
wait_for 20 "its death" line_is down
stop A KILL

# ---- a zombie has ended ----

python3 - "$MDBUS_BIN/mdbus-ingest" >"$T/zombie" <<-'PY' &
	import subprocess, sys, time
	p = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", sys.argv[1], "t/A"], stdout=subprocess.DEVNULL,
	                     stderr=subprocess.DEVNULL)
	print(p.pid, flush=True)
	time.sleep(60)
PY
started[parent]=$!
touch "$T/parent.log"
wait_for 20 "a line whose parent does not care" line_is up
pid=$(holder)
same "its pid" "$(cat "$T/zombie")" "$pid"
kill -KILL "$pid"
wait_for 20 "its death" line_is down
[[ $(cat "/proc/$pid/stat") == *") Z "* ]] || fail "it is no zombie: $(cat "/proc/$pid/stat")"
stop parent KILL

# ---- an mdbusd to which the pids of the living mean nothing ----

start A "$MDBUS_BIN/mdbus-ingest" t/A
wait_for 20 "line A" turns_on
stop mdbusd KILL
before=$(stat -c %Y "$MDBUS_RUN_DIR/bus.t/bus")
refused "adoption from below" "another pid or time namespace" timeout -s KILL 20 "${below[@]}" "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
if unshare --time --monotonic 3600 --boottime 3600 --fork --kill-child true 2>/dev/null; then
	refused "adoption from another time" "another pid or time namespace" timeout -s KILL 20 \
		unshare --time --monotonic 3600 --boottime 3600 --fork --kill-child "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
fi
refused "another namespace's /proc" "mount it \(unshare --mount-proc\)" timeout -s KILL 20 \
	unshare --pid --fork --kill-child "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
running A || fail "line A has ended: $(tail -n 2 "$T/A.log")"
same "the bus's files" "$before" "$(stat -c %Y "$MDBUS_RUN_DIR/bus.t/bus")"
start_mdbusd
line_is up >/dev/null || fail "line A was not adopted"
stop A
stop mdbusd
same "exit status" 0 "$stopped"

# ---- a client above, which mdbusd cannot see ----

start_mdbusd "${below[@]}"
refused "a client that cannot be seen" "run in mdbusd's pid namespace" timeout 20 "$MDBUS_BIN/mdbus-ingest" t/A
"$ctl" status >/dev/null || fail "questions need no pid, and are not answered"
refused "an admin that cannot be seen" "run in mdbusd's pid namespace" "$ctl" shutdown
kill -TERM "$(pgrep -P "$(pid_of mdbusd)" mdbusd)"
wait "$(pid_of mdbusd)" || fail "mdbusd in a namespace did not end well"

# ---- clocks that differ: a line whose clock is an hour behind is not taken for stuck, and is killed by nobody ----

if unshare --time --monotonic 3600 --fork --kill-child true 2>/dev/null; then
	start_mdbusd unshare --time --monotonic 3600 --boottime 3600 --fork --kill-child
	start A "$MDBUS_BIN/mdbus-ingest" t/A
	wait_for 20 "a line whose clock is behind" turns_on
	sleep 3
	turns_on || fail "the line has ended: $(tail -n 2 "$T/A.log")"
	same "alarms" 0 "$("$ctl" events --json | jq -s '[.[] | select(.type | startswith("stuck"))] | length')"
	stop A
	"$ctl" shutdown >/dev/null
	wait "$(pid_of mdbusd)" || fail "mdbusd in a time namespace did not end well"
fi
[ ! -e "$MDBUS_RUN_DIR" ] || fail "left behind: $(find "$MDBUS_RUN_DIR")"
