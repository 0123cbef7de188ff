#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A subscriber that writes to what it may only read faults alone, gets no write access by any other way, also as another user,
# and may spoil its own seat: the lines go on and the others get every message.
# timeout: 120
# mutants: lend_all_writable
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_command jq

port=$((12000 + $$ % 18000))
hostile=$MDBUS_BUILD/tests/prog_hostile
other=65534 # "nobody", in a group of its own
root=
[ "$(id -u)" != 0 ] || root=y
groups=
[ -z "$root" ] || groups="groups = { subscriber = \"$(getent group $other | cut -d: -f1)\"; };"
cat >"$T/mdbus.conf" <<-CONF
	hugepages = "never";
	$groups
	buses = ( { name = "t"; seats = 4;
	  lines = ( { name = "A"; backend = "kernel"; interface = "lo"; idle_spins = 50; },
	    { name = "B"; backend = "kernel"; interface = "lo"; idle_spins = 50; } );
	  channels = ( { name = "one"; layout = "moldudp64"; gap_timeout_us = 1000000;
	      flows = { A = "127.0.0.1:$port"; B = "127.0.0.1:$((port + 1))"; }; } ); } );
CONF

bound() { # PORT
	grep -q ":$(printf %04X "$1") " /proc/net/udp
}

won() {
	"$MDBUS_BIN/mdbusctl" lines --json | jq '[.lines[].messages.won] | add'
}

# grows: messages are published now
grows() {
	local before
	before=$(won)
	sleep 0.1
	[ "$(won)" -gt "$before" ]
}

seats() {
	"$MDBUS_BIN/mdbusctl" subscribers --json | jq -r '[.subscribers[].name] | sort | join(" ")'
}

only_judge() { [ "$(seats)" = mdbus-verify ]; }

unharmed() { # AFTER-WHAT
	local name
	for name in mdbusd A B judge feed; do running $name || fail "$1: $name has ended: $(tail -n 3 "$T/$name.log")"; done
	wait_for 20 "messages after $1" grows
	wait_for 20 "the seat after $1" only_judge
}

# As another user of the subscriber group, with a copy that it can execute.
as_other() { # COMMAND...
	setpriv --reuid=$other --regid=$other --clear-groups "$@"
}

chmod 711 "$run_parent"
cp "$hostile" "$run_parent/hostile"
cp "$MDBUS_BIN/mdbus-ingest" "$run_parent/hostile-ingest"
chmod 755 "$run_parent"/hostile*
hostile=$run_parent/hostile
start mdbusd "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
wait_for 30 "mdbusd" "$MDBUS_BIN/mdbusctl" status
start A "$MDBUS_BIN/mdbus-ingest" t/A
start B "$MDBUS_BIN/mdbus-ingest" t/B
wait_for 30 "line A" bound "$port"
wait_for 30 "line B" bound $((port + 1))
start judge "$MDBUS_BIN/mdbus-verify" t --log "$T/log" --json
wait_for 30 "the verifier" grep -q attached "$T/judge.log"
start feed "$MDBUS_BIN/mdbus-feed" --generate moldudp64 --count 0 --size 60 --pack 2 --rate 4000 --log "$T/log" --json \
	--line "A,to=127.0.0.1:$port,loss=1%" --line "B,to=127.0.0.1:$((port + 1)),repack=3"
wait_for 20 "messages" grows

# ---- it faults, alone ----

for what in ring arena bus; do
	status=0
	(ulimit -c 0 && exec "$hostile" t write $what) >"$T/hostile" 2>&1 || status=$?
	same "a store into the $what" $((128 + 11)) "$status"
	same "before that" attached "$(cat "$T/hostile")"
	unharmed "a store into the $what"
done

# ---- it gets no other way in ----

"$hostile" t protect >"$T/hostile" || fail "write access to mappings: $(cat "$T/hostile")"
unharmed "mprotect"
if [ -n "$root" ] && command -v setpriv >/dev/null; then
	as_other "$hostile" t reopen >"$T/hostile" 2>&1 || fail "as another user: $(cat "$T/hostile")"
	as_other "$hostile" t protect >"$T/hostile" 2>&1 || fail "mappings of another user: $(cat "$T/hostile")"
	unharmed "another user"
	refused "another user as a line" "group|not allowed|permission" as_other "$run_parent/hostile-ingest" t/A
fi

# ---- it may spoil what is its own ----

for try in 1 2; do
	start spoiler "$hostile" t spoil
	wait_for 20 "its seat to be spoiled" grep -q spoiled "$T/spoiler.log"
	wait_for 20 "messages beside a spoiled seat" grows
	"$MDBUS_BIN/mdbusctl" subscribers --json >/dev/null || fail "mdbusctl subscribers beside a spoiled seat"
	# A line that starts now meets the spoiled seat too.
	[ $try = 1 ] || {
		stop A
		start A "$MDBUS_BIN/mdbus-ingest" t/A
		wait_for 20 "line A beside a spoiled seat" bound "$port"
	}
	wait_for 20 "messages" grows
	stop spoiler KILL
	unharmed "a spoiled seat"
done

stop feed INT
same "the feeder" 0 "$stopped"
stop judge
[ "$stopped" = 0 ] || fail "the other subscriber: $(cat "$T/judge.log")"
grep -o '"matched":[0-9]*' "$T/judge.log" | head -n 1
for name in A B mdbusd; do
	stop $name
	same "exit status of $name" 0 "$stopped"
done
[ ! -e "$MDBUS_RUN_DIR" ] || fail "left behind: $(find "$MDBUS_RUN_DIR")"
