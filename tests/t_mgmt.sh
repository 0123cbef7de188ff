#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# mdbusd and mdbusctl as their users meet them: messages, tables, adoption, purge, roles, and a life without root.
# timeout: 120
# alone: yes
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

mdbusd=$MDBUS_BIN/mdbusd
ctl=$MDBUS_BIN/mdbusctl
port=$((20000 + $$ % 20000))

config() { # HEAD [DEPTH]
	cat <<-CONF
		$1
		buses = ( { name = "t"; seats = 4;
		  lines = (
		    { name = "A"; backend = "kernel"; interface = "lo"; frames = 4096; idle_spins = 10; stale_ms = 300; },
		    { name = "B"; backend = "kernel"; interface = "lo"; frames = 4096; idle_spins = 10; } );
		  channels = (
		    { name = "one"; layout = "moldudp64"; depth = ${2:-65536};
		      flows = { A = "127.0.0.1:$port"; B = "127.0.0.1:$((port + 1))"; }; } ); } );
	CONF
}

start_mdbusd() { # [OPTION...]
	rm -f "$T/mdbusd.log" # of the one before, which was ready too
	start mdbusd "$mdbusd" -c "$T/mdbus.conf" "$@"
	wait_for 20 "mdbusd" grep -q "^mdbusd: ready" "$T/mdbusd.log"
}

# says PATTERN COMMAND...: not through a pipe, whose reader may end before the program has written everything.
says() {
	local pattern=$1 output
	shift
	output=$("$@" 2>&1) && grep -qE -- "$pattern" <<<"$output"
}

has_event() { # PATTERN
	says "$1" "$ctl" events --json
}

state_of() { # LINE
	"$ctl" lines | awk -v line="$1" '$2 == line { print $3 }'
}

line_is() { # LINE STATE
	[[ $(state_of "$1") == "$2"* ]]
}

# ---- without a daemon ----

config 'hugepages = "never";' >"$T/mdbus.conf"
says "no mistakes" "$mdbusd" --check -c "$T/mdbus.conf" || fail "a good file is not accepted"
sed 's/seats = 4/seets = 4/; s/depth = 65536/depth = 65535/' "$T/mdbus.conf" >"$T/bad.conf"
refused "a bad file" "bad.conf:2: bus t: unknown key seets, did you mean seats\?" "$mdbusd" --check -c "$T/bad.conf"
refused "a bad file" "bad.conf:7: bus t, channel one: depth = 65535: must be a power of two, such as 65536" \
	"$mdbusd" --check -c "$T/bad.conf"
refused "starting with a bad file" "bad.conf:2:" "$mdbusd" -c "$T/bad.conf"
refused "no file" "No such file" "$mdbusd" -c "$T/none.conf"
refused "an unknown option" "--nonsense" "$mdbusd" --nonsense
[ ! -e "$MDBUS_RUN_DIR" ] || fail "checking a file has made $MDBUS_RUN_DIR"
for command in status lines channels subscribers leases events; do
	refused "$command without mdbusd" "no mdbusd in $MDBUS_RUN_DIR .*start mdbusd" "$ctl" "$command"
done
refused "an unknown command" "not a command" "$ctl" states
refused "follow elsewhere" "only with events" "$ctl" lines --follow
for program in "$mdbusd" "$ctl"; do
	says --version "$program" --help || fail "$program --help"
	says "^${program##*/} [0-9]" "$program" --version || fail "$program --version"
done

# ---- a daemon, two lines, a subscriber ----

exec {ready}> >(cat >"$T/ready")
start_mdbusd --ready-fd "$ready"
exec {ready}>&-
wait_for 5 "--ready-fd" grep -q "^mdbusd: ready" "$T/ready"
refused "a second mdbusd" "another mdbusd \(pid $(pid_of mdbusd)\)" "$mdbusd" -c "$T/mdbus.conf"
refused "purge beside a living mdbusd" "another mdbusd" "$mdbusd" --purge
start a "$MDBUS_BIN/mdbus-ingest" t/A
start b "$MDBUS_BIN/mdbus-ingest" t/B
start tail "$MDBUS_BIN/mdbus-tail" t
start follow "$ctl" events --follow --json
wait_for 10 "line A" line_is A up
wait_for 10 "line B" line_is B up
wait_for 10 "the subscriber" has_event '"seat_up"'
says "bus t: 2 of 2 lines up, 1 channels, 1 of 4 seats taken" "$ctl" status || fail "status: $("$ctl" status)"
says "^ +ring.0 +8 MiB|^ +ring.0 .*(THP|4 KiB)" "$ctl" status || fail "status does not name the pages of ring.0"
says '"pages"' "$ctl" status --json || fail "status --json"
says "one .*moldudp64" "$ctl" channels || fail "channels"
says "mdbus-tail .*$(pid_of tail)" "$ctl" subscribers || fail "subscribers"
same "leases" 3 "$("$ctl" leases | grep -c " held ")"
says "packets .*frames received from the backend" "$ctl" lines --all || fail "lines --all has no meanings"
says '"line_gaps"' "$ctl" lines --json --bus t || fail "lines --json has no counters"
refused "an unknown bus" "no bus u" "$ctl" lines --bus u
wait_for 10 "the stale event" has_event '"stale".*"line":"A"'
refused "a second line A" "taken by pid $(pid_of a)" timeout 20 "$MDBUS_BIN/mdbus-ingest" t/A

# ---- death of a line ----

stop a KILL
wait_for 10 "the end of line A" has_event '"line_down".*"line":"A"'
for step in lease state marks free; do
	has_event "\"reclaim\".*\"line\":\"A\".*\"step\":\"$step\"" || fail "no event of step $step"
done
same "line A" down "$(state_of A)"
wait_for 10 "the published event" grep -q '"line_down"' "$T/follow.log"
start a "$MDBUS_BIN/mdbus-ingest" t/A
wait_for 10 "line A again" line_is A up

# ---- death of mdbusd ----

stop mdbusd KILL
refused "questions to a dead mdbusd" "no mdbusd in" "$ctl" status
running a || fail "line A ended with mdbusd"
running tail || fail "the subscriber ended with mdbusd"
stop b KILL
start_mdbusd
has_event '"adopt".*"held":3' || fail "not adopted: $("$ctl" events)"
line_is A up || fail "line A was not adopted"
same "line B, killed meanwhile" down "$(state_of B)"
says "adopted from an earlier mdbusd" "$ctl" status || fail "status does not say adopted"

# ---- another configuration, stopping, purging ----

stop mdbusd TERM
same "exit status of mdbusd" 0 "$stopped"
[ -e "$MDBUS_RUN_DIR/bus.t/bus" ] || fail "a bus in use is gone"
grep -q "stay for the next mdbusd" "$T/mdbusd.log" || fail "mdbusd does not say that it left something"
config 'hugepages = "never";' 1024 >"$T/mdbus.conf"
refused "another configuration" "the configuration has changed, but it is in use: line A by pid" \
	"$mdbusd" -c "$T/mdbus.conf"
sed 's/name = "t"/name = "u"/' "$T/mdbus.conf" >"$T/other.conf"
refused "a forgotten bus" "bus t: it is not in the configuration, but it is in use" "$mdbusd" -c "$T/other.conf"
[ ! -e "$MDBUS_RUN_DIR/bus.u" ] || fail "a refusal left bus.u"
stop a KILL
stop tail KILL
stop follow TERM
start_mdbusd
says '"depth": 1024' "$ctl" channels --json || fail "the new configuration is not in force"
stop mdbusd KILL
says "bus t removed" "$mdbusd" --purge || fail "purge"
[ ! -e "$MDBUS_RUN_DIR" ] || fail "purge left $(find "$MDBUS_RUN_DIR")"
"$mdbusd" --purge || fail "purging nothing"

# ---- huge pages: taken and given back ----

huge=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
nobody_else() { # uses huge pages, and would change their number
	! grep -q hugetlbfs /proc/mounts
}
if [ "$(id -u)" = 0 ] && [ -w "$huge" ] && nobody_else; then
	before=$(cat "$huge")
	config 'hugepages = "2M";' 16384 >"$T/mdbus.conf"
	start_mdbusd
	says "ring.0 .*KiB|ring.0 .*MiB" "$ctl" status || fail "status with huge pages"
	stop mdbusd KILL
	start_mdbusd
	stop mdbusd TERM
	same "exit status of mdbusd" 0 "$stopped"
	[ ! -e "$MDBUS_RUN_DIR" ] || fail "left: $(find "$MDBUS_RUN_DIR")"
	! nobody_else || same "nr_hugepages" "$before" "$(cat "$huge")"
fi

# ---- roles ----

if [ "$(id -u)" = 0 ] && [ -r "$MDBUS_BIN/mdbusd" ] && setpriv --reuid=65534 --regid=65534 --clear-groups true; then
	as() { # GROUP... -- COMMAND...: as nobody, in these groups
		local groups=()
		while [ "$1" != -- ]; do
			groups+=("$(getent group "$1" | cut -d: -f3)")
			shift
		done
		shift
		local IFS=,
		if [ ${#groups[@]} = 0 ]; then
			setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@"
		else
			setpriv --reuid=65534 --regid=65534 --groups "${groups[*]}" -- "$@"
		fi
	}
	public=$(mktemp -d /dev/shm/mdbus-test.XXXXXX)
	at_exit "drop_mounts $public; rm -rf $public"
	chmod 755 "$public"
	cp "$MDBUS_BIN"/{mdbusd,mdbusctl,mdbus-ingest,mdbus-tail} "$public"
	export MDBUS_RUN_DIR=$public/run
	config 'hugepages = "never"; groups = { subscriber = "users"; ingest = "games"; };' 1024 >"$T/mdbus.conf"
	start_mdbusd
	refused "a stranger" "may not be a subscriber: join group users" as -- "$public/mdbus-tail" t
	refused "a stranger's question" "permission denied" as -- "$public/mdbusctl" status
	refused "a subscriber as a line" "may not be a line: join group games" as users -- "$public/mdbus-ingest" t/A
	as users -- "$public/mdbusctl" status >/dev/null || fail "a subscriber may not ask"
	start tail setpriv --reuid=65534 --regid=65534 --groups "$(getent group users | cut -d: -f3)" -- "$public/mdbus-tail" t
	wait_for 10 "a subscriber of group users" has_event '"seat_up"'
	start a setpriv --reuid=65534 --regid=65534 --groups "$(getent group games | cut -d: -f3)" -- "$public/mdbus-ingest" t/A
	wait_for 10 "a line of group games" line_is A up
	stop a KILL
	stop tail KILL
	stop mdbusd TERM

	# ---- all of it without root ----

	config '' 16384 >"$public/mdbus.conf"
	chmod 644 "$public/mdbus.conf"
	mkdir "$public/home"
	chown 65534 "$public/home"
	export MDBUS_RUN_DIR=$public/home/run
	rm -f "$T/mdbusd.log"
	start mdbusd setpriv --reuid=65534 --regid=65534 --clear-groups -- "$public/mdbusd" -c "$public/mdbus.conf"
	wait_for 20 "mdbusd as nobody" grep -q "^mdbusd: ready" "$T/mdbusd.log"
	start a setpriv --reuid=65534 --regid=65534 --clear-groups -- "$public/mdbus-ingest" t/A
	start tail setpriv --reuid=65534 --regid=65534 --clear-groups -- "$public/mdbus-tail" t
	wait_for 10 "line A as nobody" line_is A up
	says "ring.0 .*(THP|4 KiB)" "$ctl" status || fail "pages without root: $("$ctl" status)"
	stop a KILL
	wait_for 10 "the end of line A as nobody" line_is A down
	stop tail KILL
	wait_for 10 "the end of the subscriber" has_event '"seat_down"'
	stop mdbusd TERM
	same "exit status of mdbusd as nobody" 0 "$stopped"
	[ ! -e "$MDBUS_RUN_DIR" ] || fail "left: $(find "$MDBUS_RUN_DIR")"
fi
