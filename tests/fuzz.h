/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz.h - what the fuzzers share.
 *
 * A fuzzer is a function of bytes.  Where it wants more of them than there are it gets zeros, so that every input means
 * something and shorter ones mean less.  tests/fuzz builds and runs them; tests/seeds/NAME/ are inputs to start from.
 */
#ifndef MDBUS_TESTS_FUZZ_H
#define MDBUS_TESTS_FUZZ_H

#include <errno.h>
#include <mdbus/layout.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FUZZ_NBUILTIN 17u /* so that a seed means the same layout when more are added */

/* libFuzzer tells an abort's input from others. */
#define FUZZ_CHECK(cond)                                                                \
	do {                                                                            \
		if (!(cond)) {                                                          \
			fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #cond); \
			abort();                                                        \
		}                                                                       \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz_in {
	const uint8_t *at, *end;
};

static inline size_t fuzz_left(const struct fuzz_in *in)
{
	return (size_t)(in->end - in->at);
}

static inline uint8_t fuzz_u8(struct fuzz_in *in)
{
	return in->at < in->end ? *in->at++ : 0;
}

static inline uint16_t fuzz_u16(struct fuzz_in *in)
{
	uint16_t low = fuzz_u8(in);

	return (uint16_t)(low | fuzz_u8(in) << 8);
}

static inline uint64_t fuzz_u64(struct fuzz_in *in)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < 8; i++)
		v |= (uint64_t)fuzz_u8(in) << 8 * i;
	return v;
}

#endif
