#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# make install: what a user of the library needs is in place and is all that is needed.  A small subscriber is built in an
# empty directory with what pkg-config says, in C and in C++, from the installed files only.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_command make gcc pkg-config

make -s -C "$MDBUS_TOP" install BUILD="${MDBUS_BUILD#"$MDBUS_TOP/"}" DESTDIR="$T/root" PREFIX=/opt/mdbus
prefix=$T/root/opt/mdbus
for program in "$MDBUS_BIN"/*; do
	cmp -s "$program" "$prefix/bin/${program##*/}" || fail "${program##*/} is not installed"
	"$prefix/bin/${program##*/}" --version | grep -q '[0-9]\.[0-9]' || fail "${program##*/} --version gives no version"
	"$prefix/bin/${program##*/}" --help | grep -q -- --version || fail "${program##*/} --help does not help"
done
for header in "$MDBUS_TOP"/include/mdbus/*.h; do
	cmp -s "$header" "$prefix/include/mdbus/${header##*/}" || fail "${header##*/} is not installed"
done
same "files outside the prefix" "" "$(find "$T/root" -type f -not -path "$prefix/*")"

cd "$T"
cat >user.c <<'C'
#include <mdbus/subscriber.h>
#include <stdio.h>

int main(void)
{
	char why[256] = "";
	struct mdbus_sub *s = mdbus_sub_open("nasdaq", NULL, why, sizeof(why));

	if (s == NULL) {
		puts(why);
		return 3;
	}
	mdbus_sub_close(s);
	return 0;
}
C
cp user.c user.cc
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$T/root
same "version" "$(make -s -C "$MDBUS_TOP" print-VERSION)" "$(pkg-config --modversion mdbus)"
# shellcheck disable=SC2046 # words
gcc -std=c11 -Wall -Wextra -Werror $(pkg-config --cflags mdbus) -o user user.c $(pkg-config --libs mdbus)
status=0 && ./user >out || status=$?
same "status without mdbusd" 3 "$status"
grep -q mdbusd out || fail "the reason does not name mdbusd: $(cat out)"
if command -v g++ >/dev/null; then
	# shellcheck disable=SC2046
	g++ -Wall -Wextra -Werror $(pkg-config --cflags mdbus) -o user++ user.cc $(pkg-config --libs mdbus)
fi

if [ -x "$prefix/bin/mdbusd" ]; then
	"$prefix/bin/mdbusd" --check -c "$prefix/share/doc/mdbus/mdbus.conf.example" || fail "mdbusd refuses the example"
fi
