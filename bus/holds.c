/* SPDX-License-Identifier: Apache-2.0 */
#include "holds.h"

#include <errno.h>
#include <stdlib.h>

int mdbus_holds_init(struct mdbus_holds *h, const struct mdbus_arena_hdr *arena, uint64_t capacity)
{
	uint64_t n = 1024;

	while (n < capacity)
		n *= 2;
	*h = (struct mdbus_holds){
		.refs = calloc(arena->nframes, sizeof(*h->refs)),
		.fifo = calloc(n, sizeof(*h->fifo)),
		.mask = n - 1u,
		.frames_off = arena->frames_off,
		.frame_shift = (uint32_t)__builtin_ctz(arena->frame_size),
		.nframes = arena->nframes,
	};
	if (h->refs == NULL || h->fifo == NULL) {
		mdbus_holds_free(h);
		return -ENOMEM;
	}
	return 0;
}

void mdbus_holds_free(struct mdbus_holds *h)
{
	free(h->refs);
	free(h->fifo);
	*h = (struct mdbus_holds){ 0 };
}

bool mdbus_holds_drop(struct mdbus_holds *h, const struct mdbus_ring *const *rings, uint32_t *frame, uint64_t *expired)
{
	const struct mdbus_hold *o = &h->fifo[h->tail++ & h->mask];

	if (mdbus_ring_expire(rings[o->channel], o->pos, o->gen, o->off))
		(*expired)++;
	*frame = mdbus_holds_frame(h, o->off);
	return --h->refs[*frame] == 0;
}
