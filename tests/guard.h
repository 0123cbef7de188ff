/* SPDX-License-Identifier: Apache-2.0
 *
 * guard.h - bytes that end where memory ends, so that a parser which reads one byte too far is killed by it, in every
 * build.  guard_put(p, n) copies n bytes to the very end of a page before an inaccessible one, behind another such.
 */
#ifndef MDBUS_TESTS_GUARD_H
#define MDBUS_TESTS_GUARD_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CHECK(cond)                                                                     \
	do {                                                                            \
		if (!(cond)) {                                                          \
			printf("%s:%d: failed: %s\n", __FILE__, __LINE__, #cond);       \
			exit(1);                                                        \
		}                                                                       \
	} while (0)

#define CHECK_U64(got, want)                                                                                  \
	do {                                                                                                  \
		unsigned long long got_ = (unsigned long long)(got), want_ = (unsigned long long)(want);      \
		if (got_ != want_) {                                                                          \
			printf("%s:%d: %s is %llu, not %llu\n", __FILE__, __LINE__, #got, got_, want_);       \
			exit(1);                                                                              \
		}                                                                                             \
	} while (0)

#define GUARD_ROOM 65536u

static inline uint8_t *guard_put(const void *bytes, uint32_t n)
{
	static uint8_t *room;
	uint8_t *at;

	if (!room) {
		uint8_t *map = mmap(NULL, GUARD_ROOM + 2 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		CHECK(map != MAP_FAILED);
		room = map + 4096;
		CHECK(mprotect(room, GUARD_ROOM, PROT_READ | PROT_WRITE) == 0);
	}
	CHECK(n <= GUARD_ROOM);
	memset(room, 0xff, GUARD_ROOM - n);
	at = room + GUARD_ROOM - n;
	if (n)
		memcpy(at, bytes, n);
	return at;
}

#endif
