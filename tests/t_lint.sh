#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The source tree keeps its rules (scripts/lint --quick), and lint sees each rule broken in a small tree made for that.
# Under CI=true the compilers and shellcheck look too; elsewhere, and with the analysers, `make lint` does it: versions differ.
# timeout: 900
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_command nm ar gcc

tree=$T/tree
fresh() { # a small tree without a fault
	rm -rf "$tree"
	mkdir -p "$tree"/{bus,ingest,subscribers,mgmt,include/mdbus,scripts,tests,build/lib}
	cp "$MDBUS_TOP/scripts/lint" "$tree/scripts"
	cd "$tree"
	echo 'all:' >Makefile
	spdx='/* SPDX-License-Identifier: Apache-2.0 */'
	echo "$spdx" | tee include/mdbus/a.h bus/a.h ingest/a.h subscribers/a.h mgmt/a.h >/dev/null
	printf '%s\n' "$spdx" '#include <mdbus/a.h>' '#include "a.h"' '#ifdef MDBUS_MUTANT_x' '#endif' >bus/a.c
	printf '%s\n' "$spdx" '#include "../bus/a.h"' '#include "a.h"' | tee ingest/a.c >mgmt/a.c
	printf '%s\n' "$spdx" '/* mutants: w x */' >tests/unit_a.c
}

finds() { # PATTERN, after something was broken
	refused "lint for $1" "$1" scripts/lint --quick
	same "findings for $1" "lint: 1 findings" "$(scripts/lint --quick | tail -n 1)"
}

fresh
scripts/lint --quick || fail "a faultless tree is not let through"

touch notes.txt && finds "notes.txt does not belong"
fresh && echo '#include "../ingest/a.h"' >>bus/a.c && finds "bus/a.c includes ingest/a.h"
fresh && echo '#include "../../bus/a.h"' >>include/mdbus/a.h && finds "include/mdbus/a.h includes"
fresh && echo '#include "../bus/a.h"' >>subscribers/a.h && finds "subscribers/a.h includes bus/a.h"
fresh && echo '#include "../ingest/a.h"' >>mgmt/a.c && finds "mgmt/a.c includes ingest/a.h"
fresh && yes '/* */' | head -n 600 >>mgmt/a.c && finds "mgmt/a.c has 603 lines"
fresh && printf '/*%150s*/\n' x >>mgmt/a.c && finds "mgmt/a.c:4 has 154 columns"
fresh && echo '/* none */' >mgmt/a.c && finds "mgmt/a.c has no SPDX line"
fresh && echo '#if 0' >>mgmt/a.c && finds "mgmt/a.c:4"
fresh && sed -i 's/mutants.*/nothing/' tests/unit_a.c && finds "no test guards the mutant x"
fresh && echo 'int other_name = 1; int mdbus_name = 2;' | gcc -c -x c -o a.o - && ar rc build/lib/libmdbus.a a.o && rm a.o &&
	finds "other_name is global"

cd "$MDBUS_TOP"
how=--quick
[ -z "${CI:-}" ] || how=--compilers
BUILD=$MDBUS_BUILD nice scripts/lint "$how" || fail "the tree breaks its rules"
