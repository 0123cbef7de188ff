#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The wall clock jumps by an hour, to and fro, under every process of a bus: nothing is lost, late, stale, stuck or a gap,
# because durations are measured with CLOCK_MONOTONIC.  The jumps are made by a library in front of libc's clock.
# timeout: 120
# mutants: wall_clock
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_command gcc jq

# ---- who asks for the wall clock at all: two places that tell people the time ----

allowed='^(mgmt/events\.c|mgmt/bus_files\.c):'
cd "$MDBUS_TOP"
asks=$(grep -nE '\b(CLOCK_REALTIME|gettimeofday|time\(NULL\))' bus/*.[ch] ingest/*.[ch] subscribers/*.[ch] mgmt/*.[ch] |
	grep -vE "$allowed|MDBUS_MUTANT|: \*|/\*.*CLOCK_REALTIME" || true)
asks=$(grep -v 'mutant of t_clock' <<<"$asks" || true)
same "other places that ask for the wall clock" "" "$asks"

# ---- the clock that jumps ----

cat >"$T/jump.c" <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* An hour ahead while a file of that name is there, an hour back while the other one is. */
static long jump(void)
{
	static const char *ahead, *back;

	if (!ahead) {
		ahead = getenv("CLOCK_AHEAD");
		back = getenv("CLOCK_BACK");
	}
	return ahead && access(ahead, F_OK) == 0 ? 3600 : back && access(back, F_OK) == 0 ? -3600 : 0;
}

int clock_gettime(clockid_t id, struct timespec *t)
{
	static int (*real)(clockid_t, struct timespec *);

	if (!real)
		real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	int rc = real(id, t);

	if (rc == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
		t->tv_sec += jump();
	return rc;
}

time_t time(time_t *at)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	if (at)
		*at = t.tv_sec;
	return t.tv_sec;
}
C
gcc -shared -fPIC -O1 -o "$T/jump.so" "$T/jump.c" -ldl
export CLOCK_AHEAD=$T/ahead CLOCK_BACK=$T/back
jumpy=(env "LD_PRELOAD=$T/jump.so")
touch "$T/ahead"
year_ahead=$("${jumpy[@]}" date +%s)
rm "$T/ahead"
[ $((year_ahead - $("${jumpy[@]}" date +%s))) -ge 3500 ] || skip "the clock cannot be replaced here"

port=$((12000 + $$ % 18000))
cat >"$T/mdbus.conf" <<-CONF
	hugepages = "never";
	buses = ( { name = "t"; seats = 4;
	  lines = ( { name = "A"; backend = "kernel"; interface = "lo"; idle_spins = 50; stale_ms = 5000; stuck_kill_ms = 5000; },
	    { name = "B"; backend = "kernel"; interface = "lo"; idle_spins = 50; stale_ms = 5000; stuck_kill_ms = 5000; } );
	  channels = ( { name = "one"; layout = "moldudp64"; depth = 32768; gap_timeout_us = 1000000;
	      flows = { A = "127.0.0.1:$port"; B = "127.0.0.1:$((port + 1))"; }; } ); } );
CONF
ctl=$MDBUS_BIN/mdbusctl
bound() { # PORT
	grep -q ":$(printf %04X "$1") " /proc/net/udp
}
won() {
	"$ctl" lines --json | jq '[.lines[].messages.won] | add'
}
grew() { # FROM
	[ "$(won)" -gt $(($1 + 2000)) ]
}

start mdbusd "${jumpy[@]}" "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
wait_for 30 "mdbusd" "$ctl" status
start A "${jumpy[@]}" "$MDBUS_BIN/mdbus-ingest" t/A
start B "${jumpy[@]}" "$MDBUS_BIN/mdbus-ingest" t/B
wait_for 30 "line A" bound "$port"
wait_for 30 "line B" bound $((port + 1))
start judge "${jumpy[@]}" "$MDBUS_BIN/mdbus-verify" t --log "$T/log" --json
wait_for 30 "the verifier" grep -q attached "$T/judge.log"
start feed "${jumpy[@]}" "$MDBUS_BIN/mdbus-feed" --generate moldudp64 --count 0 --size 60 --pack 4 --rate 5000 --log "$T/log" \
	--json --line "A,to=127.0.0.1:$port,loss=0.02" --line "B,to=127.0.0.1:$((port + 1)),repack=3"
# Line A stands still meanwhile, for less than would be told: it is the one whose silence is measured over the jump.
types='stuck|stale|gap|reset|jump|overrun|line_down'
for step in ahead "" back "" ahead back; do
	begin=$(date +%s%N)
	kill -STOP "$(pid_of A)"
	sleep 0.15 # mdbusd looks ten times a second: once before the jump
	rm -f "$T/ahead" "$T/back"
	[ -z "$step" ] || touch "$T/$step"
	sleep 0.15 # and once after it
	kill -CONT "$(pid_of A)"
	[ $(($(date +%s%N) - begin)) -lt 700000000 ] || types='stale|reset|jump|overrun|line_down' # this host stopped it for long
	since=$(won)
	wait_for 30 "messages after the clock went ${step:-right}" grew "$since"
	sleep 0.3
done
stop feed INT
same "the feeder" 0 "$stopped"
stop judge
[ "$stopped" = 0 ] || fail "the subscriber: $(cat "$T/judge.log")"
same "alarms" "" "$("$ctl" events --json | jq -rs --arg types "$types" '.[] | select(.type | test($types)) | .type' |
	sort -u | xargs)"
grep -o '"matched":[0-9]*' "$T/judge.log" | head -n 1
for name in A B mdbusd; do
	stop $name
	same "exit status of $name" 0 "$stopped"
done
[ ! -e "$MDBUS_RUN_DIR" ] || fail "left behind: $(find "$MDBUS_RUN_DIR")"
