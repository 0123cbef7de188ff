/* SPDX-License-Identifier: Apache-2.0
 *
 * frames.h - which frames of a line's arena are free.
 *
 * Private memory of the ingest process: a stack of frame numbers and, per frame, how many slots of the rings were
 * published by reference to it.  It is a cache of the truth, which is the rings: a restarted process rebuilds it by
 * scanning them (mdbus_frames_recover).  A frame whose references are all gone from the rings (lapped or EXPIRED) is free.
 */
#ifndef MDBUS_INGEST_FRAMES_H
#define MDBUS_INGEST_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

struct mdbus_frames {
	uint32_t *stack;
	uint32_t nfree;
	uint32_t nframes;
};

/* Take a free frame. False: none. */
static inline bool mdbus_frames_get(struct mdbus_frames *f, uint32_t *frame)
{
	if (f->nfree == 0)
		return false;
	*frame = f->stack[--f->nfree];
	return true;
}

/* Give a frame back. The caller owns it. */
static inline void mdbus_frames_put(struct mdbus_frames *f, uint32_t frame)
{
	f->stack[f->nfree++] = frame;
}

#endif
