# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# lib.sh - what shell tests share.  Begin a test with:
#
#   #!/usr/bin/env bash
#   . "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
#
# and end it by falling off the end (pass), `fail "why"` or `skip "why"`.  Everything registered with at_exit, started with
# `start` or made under $T is gone when the test ends, interrupted ones too.  tests/run sets the variables below; run by
# hand, a test uses the plain build.
#
#   MDBUS_TOP      the source tree            MDBUS_BUILD, MDBUS_BIN  the build under test and its programs
#   MDBUS_CORPUS   captured packets, may not be there
#   MDBUS_RUN_DIR  the bus's run directory, on tmpfs, for this test alone
#   T              a directory for this test alone
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

: "${MDBUS_TOP:=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}"
: "${MDBUS_BUILD:=$MDBUS_TOP/build}"
: "${MDBUS_BIN:=$MDBUS_BUILD/bin}"
: "${MDBUS_CORPUS:=$MDBUS_TOP/../shared/corpus}"
export MDBUS_TOP MDBUS_BUILD MDBUS_BIN MDBUS_CORPUS
T=$(mktemp -d "${TMPDIR:-/tmp}/mdbus-test.XXXXXX")
shm=/dev/shm
[ -w "$shm" ] || shm=$T
run_parent=$(mktemp -d "$shm/mdbus-test.XXXXXX")
export MDBUS_RUN_DIR=$run_parent/run T

fail() {
	echo "FAIL: $*"
	exit 1
}

skip() {
	echo "$*"
	exit 77
}

need_root() {
	[ "$(id -u)" = 0 ] || skip "needs root"
}

# A rule that only root's part of a test tries.
mutant_needs_root() { # MUTANT WHAT
	[[ $MDBUS_BUILD != *mutant-$1 || $(id -u) = 0 ]] || skip "$2 needs root"
}

need_command() { # COMMAND...
	local command
	for command; do
		command -v "$command" >/dev/null || skip "needs $command"
	done
}

need_corpus() { # [FILE]
	[ -e "$MDBUS_CORPUS/${1:-layouts.json}" ] || skip "needs the corpus: no $MDBUS_CORPUS/${1:-}"
}

need_xdp() {
	need_root
	[ -e "$MDBUS_BUILD/ingest/backend_xdp.o" ] || skip "built without AF_XDP"
}

# same WHAT EXPECTED GOT
same() {
	[ "$2" = "$3" ] || fail "$1: expected '$2', got '$3'"
}

# refused WHAT PATTERN COMMAND...: the command must fail and say something that matches.
refused() {
	local what=$1 pattern=$2 output status=0
	shift 2
	output=$("$@" 2>&1) || status=$?
	[ "$status" -ne 0 ] || fail "$what: accepted, and it must not be: $output"
	[ "$status" -lt 126 ] || fail "$what: ended with status $status: $output"
	grep -qE -- "$pattern" <<<"$output" || fail "$what: the message does not say '$pattern': $output"
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
	local deadline=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -le "$deadline" ] || fail "waited in vain for $what: $*"
		sleep 0.02
	done
}

# ---- what has to be undone ----

exit_commands=()
declare -A started=()

at_exit() { # COMMAND, evaluated; the last one registered runs first
	exit_commands+=("$1")
}

# start NAME COMMAND...: in the background, output to $T/NAME.log; pid_of NAME is its process.
start() {
	local name=$1
	shift
	: >"$T/$name.log" # at once: what the last one of this name said is not this one's
	"$@" >"$T/$name.log" 2>&1 &
	started[$name]=$!
}

pid_of() { # NAME
	echo "${started[$1]}"
}

running() { # NAME
	kill -0 "${started[$1]}" 2>/dev/null
}

# stop NAME [SIGNAL]: signal it, wait for its end; its exit status is in $stopped.
stop() {
	stopped=0
	kill -"${2:-TERM}" "${started[$1]}" 2>/dev/null || true
	kill -CONT "${started[$1]}" 2>/dev/null || true
	# shellcheck disable=SC2034 # for the tests
	wait "${started[$1]}" 2>/dev/null || stopped=$?
	unset "started[$1]"
}

at_end() {
	local status=$? i name
	trap '' INT TERM HUP
	set +e
	for name in "${!started[@]}"; do
		kill -KILL "${started[$name]}" 2>/dev/null
		wait "${started[$name]}" 2>/dev/null
		[ "$status" = 0 ] || [ "$status" = 77 ] || { echo "---- $name"; tail -n 20 "$T/$name.log"; }
	done
	for ((i = ${#exit_commands[@]} - 1; i >= 0; i--)); do
		eval "${exit_commands[i]}"
	done
	drop_mounts "$run_parent"
	rm -rf "$T" "$run_parent"
	exit "$status"
}

# Unmount whatever a killed mdbusd left mounted below a directory.
drop_mounts() { # DIRECTORY
	local point
	while read -r _ point _; do
		case $point in "$1"/*) umount -l "$point" 2>/dev/null ;; esac
	done </proc/mounts
}

trap at_end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# ---- a lab of two lines (root only); see scripts/lab ----

# A prefix of arrays, so that `start x "${on_ingest[@]}" program` starts the program itself and not a shell around it.
lab_up() {
	need_root
	need_command ip ethtool nsenter
	lab=t$$
	at_exit "$MDBUS_TOP/scripts/lab down $lab"
	"$MDBUS_TOP/scripts/lab" up "$lab"
	# shellcheck disable=SC2034 # for the tests
	on_feed=(nsenter --net="/run/netns/mdlab-$lab-feed") on_ingest=(nsenter --net="/run/netns/mdlab-$lab-ingest")
}
