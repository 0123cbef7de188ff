#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The hot path takes as many instructions as tests/instructions.baseline says, within 3 %: counted by callgrind, so no clock and
# no neighbour disturbs it.  Counts belong to a compiler and its flags; one that the file does not know is skipped.
# `make instructions-baseline` (--baseline) writes the counts of this one, to be committed with the change that explains them.
# mutants: slow_publish
# optimize: -O3
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_command valgrind callgrind_annotate

program=$MDBUS_BUILD/tests/prog_instructions
baseline=$MDBUS_TOP/tests/instructions.baseline
tolerance=3
[ -x "$program" ] || fail "not built: make $program"
built=$("$program" --built)

# "NAME INSTRUCTIONS" for each part of the hot path, per operation.  A function that is inlined into others is listed more than
# once; the whole is the largest.
count() {
	valgrind --tool=callgrind --callgrind-out-file="$T/counts" --toggle-collect='measure_*' "$program" \
		>"$T/valgrind.log" 2>&1 || fail "callgrind: $(tail -n 5 "$T/valgrind.log")"
	callgrind_annotate --inclusive=yes --threshold=100 --auto=no "$T/counts" >"$T/annotated"
	"$program" --counts | while read -r name times _; do
		awk -v name="$name" -v times="$times" '
			$0 ~ ":measure_" name "( |$)" { gsub(",", "", $1); if ($1 > most) most = $1 }
			END { if (most) printf "%s %.1f\n", name, most / times }' "$T/annotated"
	done
}

# The counts committed for this compiler.
committed() {
	[ ! -e "$baseline" ] || awk -v built="[$built]" '/^\[/ { on = $0 == built; next } on && NF == 2' "$baseline"
}

# Put this compiler's counts in the place of its old ones, or at the end.
write_baseline() {
	local rest
	rest=$(awk -v built="[$built]" '/^\[/ { on = $0 == built } !on' "$baseline")
	{
		printf '%s\n\n[%s]\n' "$rest" "$built"
		cat "$T/now"
	} >"$T/baseline"
	cat -s "$T/baseline" >"$baseline"
	echo "written to $baseline:"
	cat "$T/now"
}

# percent NAME COUNT WAS: by how much it changed, one decimal
percent() {
	awk -v now="$2" -v was="$3" 'BEGIN { printf "%+.1f", (now - was) * 100 / was }'
}

# differs PERCENT: beyond the tolerance
differs() {
	awk -v p="$1" -v t="$tolerance" 'BEGIN { exit !(p > t || p < -t) }'
}

# compare NAME COUNT: with the committed one
compare() {
	local was change
	was=$(awk -v name="$1" '$1 == name { print $2 }' "$T/was")
	[ -n "$was" ] || fail "$baseline has no count of $1: make instructions-baseline"
	change=$(percent "$1" "$2" "$was")
	if differs "$change"; then
		echo "$1: $2 instructions, $was committed: $change %"
		return 1
	fi
}

count >"$T/now"
same "parts counted" "$("$program" --counts | wc -l)" "$(wc -l <"$T/now")"
if [ "${1:-}" = --baseline ]; then
	write_baseline
	exit 0
fi
committed >"$T/was"
[ -s "$T/was" ] || skip "no counts committed for $built: make instructions-baseline"

worse=0
while read -r name instructions; do
	compare "$name" "$instructions" || worse=$((worse + 1))
done <"$T/now"
[ "$worse" = 0 ] || fail "$worse parts of the hot path changed by more than $tolerance %; if that is meant, commit new counts:" \
	"make instructions-baseline"

# The guard sees a publish that takes five instructions more.
slowed=$(awk '$1 == "publish_slowed" { print $2 }' "$T/now")
compare publish "$slowed" >/dev/null && fail "a publish of $slowed instructions is let through"
[[ $(percent publish "$slowed" "$(awk '$1 == "publish" { print $2 }' "$T/now")") == +* ]] ||
	fail "the slowed publish takes no more instructions: $slowed"
echo "$(wc -l <"$T/now") parts within $tolerance %"
