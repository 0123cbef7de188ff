#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A lab carries frames on both lines, two labs do not see each other, and nothing of one is left: not after down, not when
# its command fails, not when it is interrupted, not when setting it up fails half-way.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_root
need_command ip ethtool nsenter python3
labs=$MDBUS_TOP/scripts/lab

gone() { # NAME
	[ ! -e "/run/netns/mdlab-$1-feed" ] && [ ! -e "/run/netns/mdlab-$1-ingest" ]
}

at_exit "$labs down t$$a; $labs down t$$b"
"$labs" up "t$$a"
"$labs" up "t$$b"
refused "the same lab twice" "is up already" "$labs" up "t$$a"
refused "a bad name" "is no name for a lab" "$labs" up ../x
refused "exec without a lab" "there is no lab" "$labs" exec "t$$c" feed true

# A datagram on each line of lab a arrives there, and a multicast one leaves on the line it is sent on.
hear='
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 5000))
group = struct.pack("4s4s", socket.inet_aton("239.1.1.1"), socket.inet_aton(sys.argv[1]))
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
s.settimeout(10)
print("ready", flush=True)
for i in range(2):
    print(s.recv(100).decode(), flush=True)
'
tell='
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(sys.argv[1]))
s.sendto(b"unicast", (sys.argv[2], 5000))
s.sendto(b"multicast", ("239.1.1.1", 5000))
'
for line in 1 2; do
	start "hear$line" "$labs" exec "t$$a" ingest python3 -c "$hear" "10.77.$line.2"
	start "deaf$line" "$labs" exec "t$$b" ingest python3 -c "$hear" "10.77.$line.2"
	wait_for 10 "a receiver" grep -q ready "$T/hear$line.log"
	wait_for 10 "a receiver" grep -q ready "$T/deaf$line.log"
	"$labs" exec "t$$a" feed python3 -c "$tell" "10.77.$line.1" "10.77.$line.2"
	wait_for 10 "both datagrams on line $line" grep -q multicast "$T/hear$line.log"
	same "received on line $line" "ready unicast multicast" "$(paste -sd' ' "$T/hear$line.log")"
	same "received in the other lab" "ready" "$(paste -sd' ' "$T/deaf$line.log")"
	stop "hear$line" KILL
	stop "deaf$line" KILL
done

# down ends what runs inside.
start inside "$labs" exec "t$$a" ingest sleep 100
sleeps_inside() {
	[ -n "$(ip netns pids "mdlab-t$$a-ingest")" ]
}
wait_for 10 "the sleeper" sleeps_inside
"$labs" down "t$$a"
gone "t$$a" || fail "down leaves a namespace"
stop inside 0
[ "$stopped" = 137 ] || fail "down leaves a process"
"$labs" down "t$$a" || fail "a second down ends with $?"
gone "t$$b" && fail "down of one lab removes another"
"$labs" list | grep -qx "t$$b" || fail "list does not know t$$b"

# with: the command's status, and nothing left.
# shellcheck disable=SC2016 # for the inner shell
status=0 && "$labs" with sh -c 'echo $MDBUS_LAB; exit 3' >"$T/with" || status=$?
same "status of with" 3 "$status"
gone "$(cat "$T/with")" || fail "with leaves its lab"
# Interrupted as a terminal or timeout(1) does it: the whole process group at once.
# shellcheck disable=SC2016
start with setsid "$labs" with sh -c 'echo $MDBUS_LAB; sleep 100'
wait_for 20 "a lab" test -s "$T/with.log"
kill -TERM -- "-$(pid_of with)"
wait "$(pid_of with)" && fail "with ends with 0 although interrupted"
gone "$(cat "$T/with.log")" || fail "an interrupted with leaves its lab"

# Half a lab is none.
mkdir "$T/bin"
printf '#!/bin/sh\nexit 1\n' >"$T/bin/ethtool"
chmod +x "$T/bin/ethtool"
refused "a lab without gro" "gro" env PATH="$T/bin:$PATH" "$labs" up "t$$d"
gone "t$$d" || fail "a failed up leaves half a lab"
