#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What mdbusd keeps of root's privileges: CAP_KILL, and CAP_SYS_ADMIN, not in force, only where it has mounted huge pages.  It
# says so, all of its threads agree, and with that little it still serves every group and cleans up.
# timeout: 120
# mutants: all_privileges_kept
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_root
need_command jq setpriv

port=$((12000 + $$ % 18000))
config() { # PAGES
	cat >"$T/mdbus.conf" <<-CONF
		hugepages = "$1";
		groups = { subscriber = "users"; ingest = "games"; admin = "audio"; };
		buses = ( { name = "t"; seats = 4;
		  lines = ( { name = "A"; backend = "kernel"; interface = "lo"; frames = 1024; idle_spins = 10; } );
		  channels = ( { name = "one"; layout = "moldudp64"; depth = 16384; flows = { A = "127.0.0.1:$port"; }; } ); } );
	CONF
}
ctl=$MDBUS_BIN/mdbusctl

start_mdbusd() {
	rm -f "$T/mdbusd.log"
	start mdbusd "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
	wait_for 20 "mdbusd" grep -q "^mdbusd: ready" "$T/mdbusd.log"
}

sets() { # FIELD: its values in all threads
	sed -n "s/^$1:[[:blank:]]*//p" /proc/"$(pid_of mdbusd)"/task/*/status | sort -u
}

kill_bit=0000000000000020 admin_bit=0000000000200000 both=0000000000200020
hidden=
! grep -qE '^[^ ]+ /proc proc [^ ]*hidepid=[^0o]' /proc/mounts || hidden=y
[ -z "$hidden" ] || skip "/proc hides processes here: mdbusd keeps CAP_SYS_PTRACE"

# ---- without huge pages: only CAP_KILL ----

config never
start_mdbusd
same "permitted" $kill_bit "$(sets CapPrm)"
same "in force" $kill_bit "$(sets CapEff)"
same "the bounding set" $kill_bit "$(sets CapBnd)"
same "inheritable" 0000000000000000 "$(sets CapInh)"
same "no new privileges" 1 "$(sets NoNewPrivs)"
same "what it says" '["CAP_KILL"]' "$("$ctl" status --json | jq -c .privileges)"
grep -q "keeps CAP_KILL to end stuck lines$" "$T/mdbusd.log" || fail "it does not say at its start what it keeps"
"$ctl" status | grep -q "^privileges  *CAP_KILL$" || fail "status: $("$ctl" status)"
same "mode of the sockets" "666 666 666" "$(stat -c %a "$MDBUS_RUN_DIR"/{mdbusd.sock,ctl.ipc,events.ipc} | xargs)"

# It can still kill a process of another user.
setpriv --reuid=65534 --regid=65534 --groups "$(getent group games | cut -d: -f3)" true || skip "no other user here"
public=$(mktemp -d /dev/shm/mdbus-test.XXXXXX)
at_exit "rm -rf $public"
chmod 755 "$public" "$run_parent"
cp "$MDBUS_BIN/mdbus-ingest" "$public"
start A setpriv --reuid=65534 --regid=65534 --groups "$(getent group games | cut -d: -f3)" "$public/mdbus-ingest" t/A
line_is() { "$ctl" lines --json | jq -e ".lines[0].state == \"$1\""; }
wait_for 20 "line A of another user" line_is up
"$ctl" end --kill t/A >/dev/null || fail "it may not kill a line of another user"
wait_for 20 "line A to be taken back" line_is down
stop mdbusd
same "exit status" 0 "$stopped"
[ ! -e "$MDBUS_RUN_DIR" ] || fail "left behind: $(find "$MDBUS_RUN_DIR")"

# ---- one group only: the sockets are given to it without CAP_CHOWN ----

config never
sed -i 's/subscriber = "users"; ingest = "games"; admin = "audio";/subscriber = "users";/' "$T/mdbus.conf"
start_mdbusd
same "group and mode of the sockets" "users660 users660 users660" \
	"$(stat -c %G%a "$MDBUS_RUN_DIR"/{mdbusd.sock,ctl.ipc,events.ipc} | xargs)"
stop mdbusd

# ---- with huge pages that it has mounted itself: CAP_SYS_ADMIN too, kept for the end ----

config 2M
start_mdbusd
if grep -q " $MDBUS_RUN_DIR/huge " /proc/mounts; then
	same "permitted" $both "$(sets CapPrm)"
	same "in force" $kill_bit "$(sets CapEff)"
	same "what it says" '["CAP_KILL","CAP_SYS_ADMIN"]' "$("$ctl" status --json | jq -c .privileges)"
else
	echo "no hugetlbfs can be mounted here: CAP_SYS_ADMIN ($admin_bit) is not looked at"
fi
stop mdbusd
same "exit status" 0 "$stopped"
! grep -q "$MDBUS_RUN_DIR" /proc/mounts || fail "its huge pages are still mounted"
[ ! -e "$MDBUS_RUN_DIR" ] || fail "left behind: $(find "$MDBUS_RUN_DIR")"
