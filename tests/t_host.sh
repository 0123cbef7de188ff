#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# scripts/host applies what it checks, reads it back, and undoes it to the old values, except what somebody else has changed.
# Tried in a lab's namespace, where sysctls and interfaces are its own.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
lab_up
state=$T/host.state
conf=/proc/sys/net/ipv4/conf
host=("${on_ingest[@]}" "$MDBUS_TOP/scripts/host")

value() { # FILE
	"${on_ingest[@]}" cat "$1"
}
poke() { # FILE VALUE
	"${on_ingest[@]}" sh -c "echo $2 >$1"
}

poke $conf/all/rp_filter 1
poke $conf/mda1/rp_filter 2
memberships=$(value /proc/sys/net/ipv4/igmp_max_memberships)
[ "$memberships" -lt 1024 ] || fail "the lab begins with $memberships memberships: nothing to show"

stages=(multicast nic)
options=(-i "mda1,mdb1")
refused "check before" "mda1/rp_filter is 2, should be = 0" "${host[@]}" check "${options[@]}" -s "$state" "${stages[@]}"
[ ! -e "$state" ] || fail "check has written a state file"
same "rp_filter after check" 2 "$(value $conf/mda1/rp_filter)"

"${host[@]}" apply "${options[@]}" -s "$state" "${stages[@]}" || fail "apply ends with $?"
same "all/rp_filter applied" 0 "$(value $conf/all/rp_filter)"
same "mda1/rp_filter applied" 0 "$(value $conf/mda1/rp_filter)"
same "memberships applied" 1024 "$(value /proc/sys/net/ipv4/igmp_max_memberships)"
"${host[@]}" check "${options[@]}" -s "$state" "${stages[@]}" || fail "check after apply finds something"

cp "$state" "$T/once"
"${host[@]}" apply "${options[@]}" -s "$state" "${stages[@]}" || fail "the second apply ends with $?"
cmp "$state" "$T/once" || fail "a second apply has changed the saved values"

poke /proc/sys/net/ipv4/igmp_max_memberships 2000
"${host[@]}" undo -s "$state" "${stages[@]}" >"$T/undo" || fail "undo ends with $?: $(cat "$T/undo")"
same "all/rp_filter undone" 1 "$(value $conf/all/rp_filter)"
same "mda1/rp_filter undone" 2 "$(value $conf/mda1/rp_filter)"
same "what another has changed" 2000 "$(value /proc/sys/net/ipv4/igmp_max_memberships)"
grep -q 'left .*igmp_max_memberships is 2000' "$T/undo" || fail "undo does not say what it left: $(cat "$T/undo")"
[ ! -e "$state" ] || fail "undo leaves its state file: $(cat "$state")"
same "undo again" "host: nothing to undo" "$("${host[@]}" undo -s "$state")"

refused "an unknown stage" "no stage 'nonsense'" "${host[@]}" check nonsense
refused "an unknown interface" "no interface eth77" "${host[@]}" check -i eth77 -s "$state" nic
refused "not a number" "'many' is no number" "${host[@]}" check -p many
