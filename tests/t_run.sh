#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The test runner tells a pass from a failure, a skip, a hang, a left-over process, a surviving mutant and a test that does
# not build.  It is tried on a small source tree with one rule in it.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_command gcc make

tree=$T/tree
mkdir -p "$tree"/{bus,ingest,subscribers,mgmt,include/mdbus,scripts,tests}
cp "$MDBUS_TOP/Makefile" "$tree"
cp "$MDBUS_TOP"/tests/{run,lib.sh} "$tree/tests"
cd "$tree"

cat >bus/rule.c <<'C'
int rule(int x);
int rule(int x)
{
#ifdef MDBUS_MUTANT_lax
	return x;
#elif defined(MDBUS_MUTANT_nil)
	return 0;
#elif defined(MDBUS_MUTANT_harmless)
	return x > 10 ? 10 : x + 0;
#else
	return x > 10 ? 10 : x;
#endif
}
C
cat >tests/unit_good.c <<'C'
/* mutants: lax */
int rule(int x);
int main(void)
{
	return rule(11) != 10;
}
C
cat >tests/unit_counts.c <<'C'
/* mutants: lax
 * mutants: nil */
#include <stdio.h>
int rule(int x);
int main(void)
{
	puts("many words");
	puts("count: 3 rules tried");
	return rule(11) != 10;
}
C
sed 's/lax/harmless/' tests/unit_good.c >tests/unit_survivor.c
sed 's/lax/unheard_of/' tests/unit_good.c >tests/unit_unknown.c
sed 's/!= 10/== 10/; s/mutants.*lax/sanitizers: none/' tests/unit_good.c >tests/unit_bad.c
sed 's/return rule/return no_such_rule/; s/mutants.*lax/sanitizers: none/' tests/unit_good.c >tests/unit_unbuilt.c
cat >tests/unit_memory.c <<'C'
#include <stdlib.h>
int main(void)
{
	volatile char *p = malloc(4);

	p[4] = 1;
	free((void *)p);
	return 0;
}
C
printf '# mutants: lax\necho it is too late today\nexit 77\n' >tests/t_skip.sh
printf '# timeout: 1\nsleep 30\n' >tests/t_hang.sh
printf 'setsid sleep 33 & \n' >tests/t_leaves.sh
# shellcheck disable=SC2016 # for the script
printf '%s\n' '[ -d "$TMPDIR" ] && [ "$MDBUS_BIN" = "$PWD/build/bin" ] && [ -d "${MDBUS_RUN_DIR%/*}" ]' >tests/t_env.sh

status=0
tests/run >out 2>&1 || status=$?
cat out
same "exit status" 1 "$status"
same "last line" "13 passed, 7 failed, 2 skipped" "$(tail -n 1 out)"

line() { # RESULT NAME REASON
	grep -qE "^$1 +$2 .*$3" out || fail "no line '$1 $2 ... $3'"
}
line ok "unit_good" ""
line ok "unit_good \[address,undefined\]" ""
line ok "unit_good \[mutant lax\]" "caught"
line ok "unit_counts \[mutant lax\]" "caught"
line ok "unit_counts \[mutant nil\]" "caught"
line ok "unit_survivor" ""
line FAIL "unit_survivor \[mutant harmless\]" "survived"
line FAIL "unit_unknown \[mutant unheard_of\]" "no source file knows"
line FAIL "unit_bad" "status 1"
line FAIL "unit_unbuilt" "does not build"
line FAIL "unit_memory \[address,undefined\]" ""
line skip "t_skip" "it is too late today"
line skip "t_skip \[mutant lax\]" ""
line FAIL "t_hang" "did not end in time"
line FAIL "t_leaves" "status 99"
line ok "t_env" ""

# What a test counted is printed below it, whenever it has passed and is no mutant; nothing else of what it says.
same "counts" $'ok unit_counts\n- 3 rules tried\nok unit_counts [address,undefined]\n- 3 rules tried' \
	"$(sed -nE 's/^(ok +unit_counts( \[address,undefined\])?) +[0-9.]+ s .*/\1/p; s/^ +(- .*)/\1/p' out | tr -s ' ')"
! grep -q "many words" out || fail "what a passing test says is shown"

# Single tests by name, and the status of a clean run.
tests/run unit_good >out 2>&1 || fail "a clean run ends with status $?: $(cat out)"
same "last line" "3 passed, 0 failed, 0 skipped" "$(tail -n 1 out)"
refused "an unknown test" "no test 'nonsense'" tests/run nonsense

# make check is the same with its dependencies looked after, and says nothing after the last line.
printf 'exit 0\n' >scripts/deps
chmod +x scripts/deps
same "make check" "3 passed, 0 failed, 0 skipped" "$(make check TESTS=unit_good | tail -n 1)"
