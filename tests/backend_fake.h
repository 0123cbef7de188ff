/* SPDX-License-Identifier: Apache-2.0
 *
 * backend_fake.h - what the tests of the receive backends share: an arena without a bus, and numbered packets.
 *
 * The test plays the line process: it owns every frame that the backend hands over, and when it has given them and the
 * line back, every frame must be free.  Packets carry their number and bytes that follow from it, so one that is lost,
 * doubled, cut or mixed up is known by looking at it.
 */
#ifndef MDBUS_TESTS_BACKEND_FAKE_H
#define MDBUS_TESTS_BACKEND_FAKE_H

#include <mdbus/abi.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "../ingest/backend.h"

#define CHECK(what)                                                                      \
	do {                                                                             \
		if (!(what)) {                                                           \
			printf("%s:%d: failed: %s\n", __FILE__, __LINE__, #what);        \
			exit(1);                                                         \
		}                                                                        \
	} while (0)

struct fake {
	struct mdbus_line_desc line;
	struct mdbus_arena_hdr *arena;
	size_t size;
	struct mdbus_frames pool;
	struct mdbus_backend_env env;
};

/* An arena as mdbusd would lend it, all frames free.  Shared memory, so that a child may receive into it. */
static inline void fake_arena(struct fake *f, uint32_t nframes, uint32_t frame_size)
{
	uint64_t frames_off = (sizeof(struct mdbus_arena_hdr) + 4095) & ~UINT64_C(4095);

	memset(f, 0, sizeof(*f));
	f->size = frames_off + (uint64_t)nframes * frame_size;
	f->arena = mmap(NULL, f->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(f->arena != MAP_FAILED);
	f->arena->frame_size = frame_size;
	f->arena->nframes = nframes;
	f->arena->frames_off = frames_off;
	f->pool.stack = calloc(nframes, sizeof(*f->pool.stack));
	CHECK(f->pool.stack != NULL);
	f->pool.nframes = nframes;
	for (uint32_t i = 0; i < nframes; i++)
		mdbus_frames_put(&f->pool, i);
	snprintf(f->line.name, sizeof(f->line.name), "A");
	snprintf(f->line.xdp_mode, sizeof(f->line.xdp_mode), "auto");
	snprintf(f->line.xdp_copy, sizeof(f->line.xdp_copy), "auto");
	f->line.frames = nframes;
	f->line.frame_size = frame_size;
	f->line.rx_ring = 4096;
	f->line.fill_ring = 4096;
	f->line.batch = 64;
	f->env.line = &f->line;
	f->env.arena = f->arena;
	f->env.frames = (uint8_t *)f->arena + frames_off;
	f->env.pool = &f->pool;
}

/* Every frame free, and none twice. */
static inline void fake_check_all_free(const struct fake *f)
{
	uint8_t *seen = calloc(f->pool.nframes, 1);

	CHECK(seen != NULL);
	CHECK(f->pool.nfree == f->pool.nframes);
	for (uint32_t i = 0; i < f->pool.nfree; i++) {
		CHECK(f->pool.stack[i] < f->pool.nframes);
		CHECK(!seen[f->pool.stack[i]]++);
	}
	free(seen);
}

static inline void fake_free(struct fake *f)
{
	munmap(f->arena, f->size);
	free(f->pool.stack);
}

static inline const uint8_t *fake_bytes(const struct fake *f, const struct mdbus_rx *rx)
{
	CHECK(rx->frame < f->pool.nframes);
	CHECK(rx->off >= MDBUS_FRAME_META && rx->off + rx->len <= f->arena->frame_size);
	return f->env.frames + (uint64_t)rx->frame * f->arena->frame_size + rx->off;
}

/* Packet `number`: its number, then bytes that follow from it. */
static inline void numbered_fill(uint8_t *bytes, uint32_t len, uint32_t number)
{
	memcpy(bytes, &number, sizeof(number));
	for (uint32_t i = sizeof(number); i < len; i++)
		bytes[i] = (uint8_t)(number * 31 + i * 7 + (number >> 8));
}

/* The number of a packet whose bytes are all right. */
static inline uint32_t numbered_check(const uint8_t *bytes, uint32_t len)
{
	uint32_t number;

	CHECK(len >= sizeof(number));
	memcpy(&number, bytes, sizeof(number));
	for (uint32_t i = sizeof(number); i < len; i++)
		CHECK(bytes[i] == (uint8_t)(number * 31 + i * 7 + (number >> 8)));
	return number;
}

#endif
