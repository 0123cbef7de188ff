/* SPDX-License-Identifier: Apache-2.0
 *
 * fixed.h - what of a layout can be read at constant places of a packet's header, for the XDP program.
 *
 * The program in the driver cannot run the decoder.  It needs number, count and session of an ordinary packet, and to know
 * every other kind when it sees one; all of these are words of eight bytes, masked.  A layout that keeps its numbers in
 * its messages, or whose kinds of packets are told by them, has no such form and is refused.
 *
 * What cannot be decided from the header counts as being so: a packet that may be of another kind is of another kind, and
 * takes the long way.  (A heartbeat that takes a number like any message may be treated like one.)
 */
#ifndef MDBUS_FIXED_H
#define MDBUS_FIXED_H

#include <linux/types.h> /* the XDP program is compiled without a C library */

#define MDBUS_FIXED_TESTS   16u
#define MDBUS_FIXED_HDR_MAX 256u

/* ((8 bytes from `at`, swapped if big-endian) >> shift & mask) + add */
struct mdbus_fixed_field {
	__u64 mask;
	__u16 at;
	__u8 shift; /* bits */
	__u8 swap;
	__u8 add;
	__u8 pad[3];
};

/* What the field is, from the 8 bytes that stand at its place. */
static inline __attribute__((always_inline)) __u64 mdbus_fixed_of(const struct mdbus_fixed_field *f, __u64 word)
{
	return ((f->swap ? __builtin_bswap64(word) : word) >> (f->shift & 63u) & f->mask) + f->add;
}

enum mdbus_fixed_how {
	MDBUS_FIXED_DIFFER = 1, /* holds if the bytes differ; else if they are equal */
	MDBUS_FIXED_AND = 2,    /* the next test is part of the same condition */
	MDBUS_FIXED_TURN = 4,   /* a session starts or ends here, or its numbers do */
};

/* 8 bytes from `at` & mask, compared with want, as they lie there. */
struct mdbus_fixed_test {
	__u64 mask, want;
	__u16 at;
	__u8 how; /* enum mdbus_fixed_how */
	__u8 pad[5];
};

struct mdbus_fixed {
	__u16 hdr;     /* bytes: all places lie within */
	__u8 nsession; /* of test[]: all must hold for the packet to be of the session */
	__u8 ntest;    /* the others: where one holds the packet is no ordinary one */
	__u32 pad;
	struct mdbus_fixed_field seq, count; /* of a layout without an order: seq is the key, there is no count */
	struct mdbus_fixed_test test[MDBUS_FIXED_TESTS];
};

struct mdbus_layout;

/*
 * The constant places of a layout.  0, or -ENOTSUP: it has none, *why says what is in the way (a phrase, static).  The
 * session is not filled in.  Pure.
 */
int mdbus_fixed_find(const struct mdbus_layout *l, struct mdbus_fixed *out, const char **why);

/*
 * The same of a layout without an order: the place of its key, of up to 8 bytes, so that two packets have the same value
 * there if and only if they have the same key.  No session is to be filled in.
 */
int mdbus_fixed_find_key(const struct mdbus_layout *l, struct mdbus_fixed *out, const char **why);

/* What stands there in a packet of n bytes.  0, or -EBADMSG: it is too short. */
int mdbus_fixed_value(const struct mdbus_fixed_field *f, const unsigned char *packet, unsigned n, __u64 *value);

/* Fill in the session: its bytes, as mdbus_layout_session gives them. */
void mdbus_fixed_session(const struct mdbus_layout *l, struct mdbus_fixed *f, const unsigned char *session);

#endif
