#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# mdbus on aarch64, whose memory is weak.  bus/ and the tests that need no more are compiled for any such machine and for those
# with LSE.  Then what ring.h and handover.h do to shared memory is read in the machine code: each order that their arguments
# rest on has to be there, as the instruction that has it and at its place.  And the tests run, in qemu.
#
# What this cannot show is that those orders are enough: qemu runs on an x86-64 processor, which hardly reorders anything, so a
# missing one does no harm there.  It shows that registers, sizes, alignment and instructions are right.
# timeout: 600
# builds: deps-check
# mutants: relaxed_cas no_fence publish_before_payload no_mark skip_recheck reuse_before_expire
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cross=aarch64-linux-gnu
need_command $cross-gcc $cross-objdump $cross-nm
echo 'int main(void) { return 0; }' >"$T/empty.c"
$cross-gcc -static -pthread -o "$T/empty" "$T/empty.c" 2>/dev/null || skip "needs libc6-dev-arm64-cross"
cd "$MDBUS_TOP"

mutant=$(grep -so 'MDBUS_MUTANT_[a-z_]*' "$MDBUS_BUILD/how" || true)
flags=(-std=gnu11 -O2 -D_GNU_SOURCE -Iinclude -I. -fno-strict-aliasing -pthread ${mutant:+"-D$mutant"})
# shellcheck disable=SC2207 # words
[ -n "$mutant" ] || flags+=(-Werror $(make -s print-WARN))

# ---- the orders, in the machine code ----

# One function for each operation, with a ring of a known shape, so that hardly a branch is left.
cat >"$T/probe.c" <<'C'
#include <mdbus/ring_single.h>
#define RING { slots, 63, 7, 104, 8, 1, 0 }
#define PROBE(type, name, ...) type name(uint8_t *slots, uint64_t pos, __VA_ARGS__); \
	type name(uint8_t *slots, uint64_t pos, __VA_ARGS__)

PROBE(int, probe_publish, const uint8_t *bytes, uint64_t off)
{
	return mdbus_ring_publish(&(struct mdbus_ring)RING, pos, 1, bytes, off, 64, off, 0);
}

PROBE(int, probe_single, const uint8_t *bytes, uint64_t off)
{
	return mdbus_ring_publish_single(&(struct mdbus_ring)RING, pos, 1, bytes, off, 64, off, 0);
}

PROBE(int, probe_mark, uint64_t value)
{
	return mdbus_ring_mark(&(struct mdbus_ring)RING, pos, 1, MDBUS_KIND_GAP, value);
}

PROBE(int, probe_expire, uint64_t off)
{
	return mdbus_ring_expire(&(struct mdbus_ring)RING, pos, 1, off);
}

PROBE(int, probe_look, uint64_t *out)
{
	return mdbus_ring_look(&(struct mdbus_ring)RING, pos, 1, &out[0], &out[1]);
}

PROBE(int, probe_copy, uint64_t stamp, uint8_t *to)
{
	const struct mdbus_slot *slot = mdbus_ring_slot(&(struct mdbus_ring)RING, pos);

	__builtin_memcpy(to, slot->bytes, 16);
	return mdbus_ring_still(slot, stamp);
}

PROBE(int, probe_load_pair, struct mdbus_pair *out)
{
	return mdbus_load_pair((struct mdbus_pair *)(void *)slots + pos, out);
}
C

echo '#include "bus/handover.c"' >>"$T/probe.c" # its own functions

# What a function does to memory, a letter each: c a compare-and-swap of acquire and release, A and R a load that acquires and a
# store that releases, F and f a full barrier and one for loads, l and s other loads and stores, ! anything else with an order.
# Its stack does not count.
letters() { # OBJECT FUNCTION
	$cross-objdump -d --no-show-raw-insn --no-addresses "$1" | awk -v from="<$2>:" '
		/>:$/ { inside = $1 == from; next }
		!inside || /\[sp/ { next }
		$1 == "caspal" || $1 == "stlxp" { printf "c" ; next }
		$1 == "ldaxp" { next }
		$1 == "ldar" || $1 == "ldapr" { printf "A"; next }
		$1 == "stlr" { printf "R"; next }
		$1 == "dmb" { printf $2 == "ish" ? "F" : $2 == "ishld" ? "f" : "!"; next }
		$1 ~ /^(ldx|stx|ldax|stlx|cas|swp|ldadd|ldset|ldclr|ldlar|stllr)/ { printf "!"; next }
		$1 ~ /^ld/ { printf "l"; next }
		$1 ~ /^st/ { printf "s"; next }'
}

# ordered WHAT FUNCTION ONLY PATTERN: of the letters in ONLY, the function has what matches the pattern.
ordered() {
	local got
	got=$(letters "$T/probe.o" "$2" | tr -cd "$3!")
	[[ $got =~ ^($4)$ ]] || fail "$variant, $2: $1 ($4), but the machine code has '$got'"
}

look_at_orders() {
	# the stamp, a barrier, the inline bytes, the second stamp, and after it and after the taking off of a mark the barrier
	# that lets the caller have its frame back
	ordered "stamp, barrier, bytes, stamp, barrier" probe_publish csRF 'cFs+ccF+'
	ordered "mark, barrier, ref and bytes, stamp with release" probe_single csRF 'sFs+R'
	ordered "one compare-and-swap" probe_mark csRF 'c'
	ordered "compare-and-swap before the frame is let go" probe_expire csRF 'cF+'
	ordered "stamp with acquire, ref, barrier, stamp" probe_look lAf 'Alfl'
	ordered "bytes, barrier, stamp" probe_copy lAf 'l+fl'
	ordered "half with acquire, half, barrier, half" probe_load_pair lAf 'Alfl+'
	# packets handed over: entries before head, copies before floor, floor before frames are used, what was published before tail
	ordered "head with release" mdbus_giver_show R 'R'
	ordered "head and floor with release, barrier" mdbus_giver_take_back RF 'RRF'
	ordered "tail with acquire" mdbus_giver_look A 'A'
	ordered "floor and head with acquire" mdbus_taker_look A 'AA'
	ordered "barrier, floor" mdbus_taker_still lf 'l*fl+'
	ordered "tail with release" mdbus_taker_done R 'R'
}

# ---- the sources and tests ----

tests=(unit_ring unit_generation unit_histogram race_ring race_single)
with_jansson=(unit_arbitrate unit_attack unit_group unit_keyed unit_layout_text unit_segment unit_subscriber)

compile() { # OPTION...: everything, into $T
	local source
	# shellcheck disable=SC2016 # for the inner shell
	for source in bus/*.c tests/bus_bed.c "${tests[@]/#/tests/}" "${with_jansson[@]/#/tests/}"; do
		echo "${source%.c}.c"
	done | sort -u | xargs -P "$(nproc)" -I{} sh -c 'exec "$@" -c -o "$0/$(basename {} .c).o" {}' "$T" $cross-gcc "${flags[@]}" "$@" ||
		fail "$variant: does not compile"
}

built=0 ran=0
link_and_run() { # TEST LIBRARY...
	local name=$1
	shift
	$cross-gcc -static -pthread -o "$T/$name" "$T/$name.o" "$T/bus.a" "$@" || fail "$variant: $name is not linked"
	built=$((built + 1))
	[ -n "$qemu" ] || return 0
	"$qemu" "$T/$name" >"$T/$name.log" 2>&1 || fail "$variant: $name ends with $?: $(tail -n 20 "$T/$name.log")"
	ran=$((ran + 1))
}

qemu=$(command -v qemu-aarch64-static || command -v qemu-aarch64 || true)
jansson=() # JANSSON_AARCH64: the directory it is in, if the linker does not know
[ -z "${JANSSON_AARCH64:-}" ] || jansson=("-L$JANSSON_AARCH64")
jansson+=(-ljansson)
if $cross-gcc -static -o "$T/empty" "$T/empty.c" "${jansson[@]}" 2>/dev/null; then
	tests+=("${with_jansson[@]}")
else
	jansson=()
fi
for variant in armv8-a armv8.1-a; do
	$cross-gcc "${flags[@]}" -march=$variant -fno-reorder-blocks -c -o "$T/probe.o" "$T/probe.c" ||
		fail "$variant: the probe does not compile"
	look_at_orders
	compile -march=$variant
	rm -f "$T/bus.a"
	objects=(bus/*.c)
	objects=("${objects[@]#bus/}")
	(cd "$T" && $cross-ar rcs bus.a bus_bed.o "${objects[@]/%.c/.o}")
	! $cross-nm -u "$T/bus.a" | grep -E '__(atomic|sync)_' ||
		fail "$variant: an atomic operation is left to a library, where it may be a lock"
	for name in "${tests[@]}"; do link_and_run "$name" "${jansson[@]}"; done
done
echo "count: $built test programs for aarch64, $ran run in qemu"
[ -n "$qemu" ] || echo "not run: there is no qemu-aarch64-static"
