/* SPDX-License-Identifier: Apache-2.0
 *
 * shape.h - how large each segment of a bus is and how its header starts out.
 *
 * One place says where the parts of a segment lie; mdbusd uses it to make a bus, tests use it to make one without a
 * daemon.  The init functions expect zeroed memory that begins with a filled-in mdbus_segment_hdr (mdbus_segment_create)
 * and write only the fields "fixed at creation".  Killed inside: the segment has no magic yet and is swept.
 *
 * And one place makes views of them: from the bus directory, which mdbusd alone writes, and from what is mapped.  Headers of
 * rings and key windows can be written by every line, and may change after they were checked.
 */
#ifndef MDBUS_SHAPE_H
#define MDBUS_SHAPE_H

#include <mdbus/abi.h>
#include <mdbus/lease.h>
#include <mdbus/ring.h>
#include <stddef.h>
#include "key.h"

size_t mdbus_shape_bus_size(uint32_t nchannel);

size_t mdbus_shape_ring_size(const struct mdbus_channel_desc *c);
void mdbus_shape_ring_init(struct mdbus_ring_hdr *r, const struct mdbus_channel_desc *c);

size_t mdbus_shape_arena_size(const struct mdbus_line_desc *l, uint32_t nchannel);
void mdbus_shape_arena_init(struct mdbus_arena_hdr *a, const struct mdbus_line_desc *l, uint32_t line, uint32_t nchannel);

/*
 * This process's view of a ring, of the shape that the bus directory says.  The ring's own header says the same, but lines can
 * write to it.  line: as in mdbus_ring_view.
 */
struct mdbus_ring mdbus_shape_ring_view(const struct mdbus_bus *bus, uint32_t channel, uint32_t line);

/* The same of a key window. */
struct mdbus_keys mdbus_shape_keys_view(const struct mdbus_bus *bus, uint32_t channel);

/* Where the frames of a line begin, from the start of its arena. */
uint64_t mdbus_shape_frames_off(const struct mdbus_line_desc *l, uint32_t nchannel);

/*
 * The ring by which line `giver` hands packets over to line `taker`, where the bus directory says that it is in the giver's
 * arena; NULL: it hands none to that one.
 */
struct mdbus_hand_ring *mdbus_shape_hand_ring(const struct mdbus_bus *bus, uint32_t giver, uint32_t taker);

size_t mdbus_shape_seat_size(void);

size_t mdbus_shape_keys_size(const struct mdbus_channel_desc *c);
void mdbus_shape_keys_init(struct mdbus_keys_hdr *k, const struct mdbus_channel_desc *c);

#endif
