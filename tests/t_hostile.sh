#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Hostile neighbours: garbage, floods, drips, replays, false names and a thousand hung clients on every socket of mdbusd, by
# members of its groups and by strangers.  It goes on, serves the others, stays small, and believes nobody.
# timeout: 300
# mutants: wait_for_clients trust_message_pid anybody_is_admin clients_without_bound
# alone: yes
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
mutant_needs_root anybody_is_admin "another user"
need_command python3 jq

port=$((12000 + $$ % 18000))
other=65534
groups=
as=()
if [ "$(id -u)" = 0 ] && setpriv --reuid=$other --regid=$other --clear-groups true 2>/dev/null; then
	groups='groups = { subscriber = "users"; ingest = "games"; admin = "audio"; };'
	as=(setpriv "--reuid=$other" "--regid=$other")
	chmod 755 "$run_parent"
	# a parent that others may not pass would make every test of theirs pass
	mkdir -p "$run_parent/bin"
	cp "$MDBUS_BIN"/{mdbusctl,mdbus-tail,mdbus-ingest} "$MDBUS_TOP/tests/hostile.py" "$run_parent/bin"
	chmod -R a+rX "$run_parent/bin"
	for ((dir = ${#run_parent}; dir > 0; dir = ${#parent})); do
		parent=${run_parent:0:dir}
		parent=${parent%/*}
		[ -z "$parent" ] || "${as[@]}" --clear-groups test -x "$parent" || skip "other users cannot reach $parent"
	done
fi
python=$(PATH=/usr/bin:$PATH command -v python3) # others may not reach what stands first in our path
cat >"$T/mdbus.conf" <<-CONF
	hugepages = "never";
	$groups
	buses = ( { name = "t"; seats = 4;
	  lines = ( { name = "A"; backend = "kernel"; interface = "lo"; frames = 1024; idle_spins = 10; } );
	  channels = ( { name = "one"; layout = "moldudp64"; depth = 1024; flows = { A = "127.0.0.1:$port"; }; } ); } );
CONF
ctl=$MDBUS_BIN/mdbusctl

member() { # GROUP... -- COMMAND...: as another user in these groups, or in none
	local list=()
	while [ "$1" != -- ]; do
		list+=("$(getent group "$1" | cut -d: -f3)")
		shift
	done
	shift
	local IFS=,
	if [ ${#as[@]} = 0 ]; then
		"$@"
	elif [ ${#list[@]} = 0 ]; then
		"${as[@]}" --clear-groups -- "$@"
	else
		"${as[@]}" --groups "${list[*]}" -- "$@"
	fi
}

hostile() { # as the caller
	MDBUS_BIN=$MDBUS_BIN python3 -B "$MDBUS_TOP/tests/hostile.py" "$@"
}
user_hostile() { # GROUP... -- WHAT...
	local list=()
	while [ "$1" != -- ]; do
		list+=("$1")
		shift
	done
	shift
	if [ ${#as[@]} = 0 ]; then
		hostile "$@"
	else
		MDBUS_BIN=$run_parent/bin member "${list[@]}" -- "$python" -B "$run_parent/bin/hostile.py" "$@"
	fi
}

start mdbusd "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
wait_for 20 "mdbusd" grep -q "^mdbusd: ready" "$T/mdbusd.log"
# somebody whose work all this must not touch
start tail "$MDBUS_BIN/mdbus-tail" t
subscribed() { "$ctl" subscribers --json | jq -e '.subscribers | length == 1'; }
wait_for 20 "the subscriber" subscribed

well() { # AFTER-WHAT
	running mdbusd || fail "$1: mdbusd has ended: $(tail -n 3 "$T/mdbusd.log")"
	running tail || fail "$1: the subscriber has ended"
	wait_for 20 "an answer after $1" "$ctl" status
	wait_for 20 "the seat after $1" subscribed
}

# ---- ten hung clients; a thousand of them later ----

hostile reclaim 10 || fail "ten hung clients delay it: see above"
well "ten hung clients"

memory() { sed -n 's/^VmRSS:[[:blank:]]*\([0-9]*\) kB/\1/p' "/proc/$(pid_of mdbusd)/status"; }
descriptors() { find "/proc/$(pid_of mdbusd)/fd" -mindepth 1 | wc -l; }
memory_before=$(memory)
descriptors_before=$(descriptors)

# ---- members of the subscriber group, or the same user where there is only one ----

for attack in garbage descriptors replay flood ctl; do
	user_hostile users -- $attack || fail "$attack: see above"
	well "$attack"
done
user_hostile users -- identity "$(pid_of tail)" || fail "a false identity: see above"
well "a false identity"

# ---- who may do what ----

if [ ${#as[@]} != 0 ]; then
	user_hostile -- roles nnnn || fail "a stranger"
	user_hostile users -- roles nynn || fail "a subscriber"
	user_hostile games -- roles yynn || fail "a line"
	user_hostile audio -- roles nyyy || fail "an admin"
	for command in status "end t/A" shutdown; do
		# shellcheck disable=SC2086 # words
		refused "a stranger's $command" "group|permission denied" member -- "$run_parent/bin/mdbusctl" $command
	done
	refused "a subscriber's shutdown" "may not be an admin: join group audio" member users -- "$run_parent/bin/mdbusctl" shutdown
	refused "a line's kill" "may not be an admin" member games -- "$run_parent/bin/mdbusctl" end --kill t/seat.0
	user_hostile -- garbage || fail "a stranger's garbage"
	user_hostile -- flood || fail "a stranger's flood"
	well "a stranger's flood"
	# the files themselves
	for file in bus ring.0 arena.0 seat.0 keys.0; do
		for group in users games audio; do
			refused "reading $file as $group" "ermission denied" member $group -- cat "$MDBUS_RUN_DIR/bus.t/$file"
		done
	done
	refused "listing" "ermission denied" member users games audio -- ls "$MDBUS_RUN_DIR/bus.t"
fi

# ---- a thousand hung clients ----

hostile reclaim 1000 || fail "a thousand hung clients delay it: see above"
well "a thousand hung clients"
mkfifo "$T/hold"
exec 9<>"$T/hold"
# shellcheck disable=SC2016
start hang bash -c 'exec python3 -B "$1" hang 1000 <"$2"' bash "$MDBUS_TOP/tests/hostile.py" "$T/hold" # & would take its input away
hung() { grep -q "^hung: " "$T/hang.log"; }
wait_for 60 "the hung clients" hung
bounded() { [ "$(descriptors)" -le $((descriptors_before + 3 * 256 + 16)) ]; }
wait_for 10 "the connections to be bounded, $(descriptors) descriptors" bounded
many() { [ "$(descriptors)" -gt $((descriptors_before + 256)) ]; }
many || fail "$(descriptors) descriptors: no client hangs on"
well "clients that hang on"
stop hang KILL
few() { [ "$(descriptors)" -le $((descriptors_before + 4)) ]; }
wait_for 20 "descriptors to come back, $descriptors_before before, $(descriptors) now" few
[ "$(memory)" -le $((memory_before + 32768)) ] || fail "mdbusd grew from $memory_before to $(memory) KiB"

# ---- an admin's commands do what they say ----

start A "$MDBUS_BIN/mdbus-ingest" t/A
line_is() { "$ctl" lines --json | jq -e ".lines[0].state == \"$1\""; }
wait_for 20 "line A" line_is up
refused "a line that is not there" "no line or seat t/Z" "$ctl" end t/Z
refused "no name" "whom" "$ctl" end
refused "a seat that nobody has" "nobody holds t/seat.3" "$ctl" end t/seat.3
member audio -- "${run_parent}/bin/mdbusctl" end t/A >"$T/said" 2>&1 || "$ctl" end t/A >"$T/said" || fail "end: $(cat "$T/said")"
wait_for 20 "line A to end" line_is down
wait "$(pid_of A)" || fail "line A did not end well: $?"
start A "$MDBUS_BIN/mdbus-ingest" t/A
wait_for 20 "line A" line_is up
kill -STOP "$(pid_of A)"
"$ctl" end --kill t/A | grep -q "pid $(pid_of A), which holds t/A, was killed" || fail "end --kill"
wait_for 20 "line A to be killed" line_is down
"$ctl" events --json | jq -se '[.[] | select(.type == "admin")] | length == 2' >/dev/null || fail "no event of the commands"
stop A
stop tail
"$ctl" shutdown | grep -q "pid $(pid_of mdbusd), stops" || fail "shutdown"
status=0
wait "$(pid_of mdbusd)" || status=$?
same "exit status of mdbusd" 0 "$status"
[ ! -e "$MDBUS_RUN_DIR" ] || fail "left behind: $(find "$MDBUS_RUN_DIR")"
