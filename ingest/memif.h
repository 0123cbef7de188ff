/* SPDX-License-Identifier: Apache-2.0
 *
 * memif.h - what memif 2.0 puts on the socket and into shared memory.  Little-endian hosts only, as the peers are here.
 *
 * Socket (SEQPACKET, each message 128 bytes):
 *
 *	server                          client
 *	hello ------------------------>
 *	      <------------------------ init       which interface, which mode
 *	ack   ------------------------>
 *	      <------------------------ add_region with its descriptor; ack
 *	      <------------------------ add_ring   with an eventfd, once a ring; ack
 *	      <------------------------ connect
 *	connected -------------------->
 *
 * Memory: a ring is a head, a tail and descriptors of buffers.  In the client's ring to the server, the client fills buffers
 * at the head, the server takes them from the tail.  In the ring back, the client lends empty buffers at the head, and the
 * server fills them at the tail.  Heads and tails run freely, modulo 2^16.
 */
#ifndef MDBUS_INGEST_MEMIF_H
#define MDBUS_INGEST_MEMIF_H

#include <stddef.h>
#include <stdint.h>

#define MEMIF_VERSION   0x0200u
#define MEMIF_COOKIE    0x3e31f20u
#define MEMIF_LOG2_MAX  14u
#define MEMIF_C2S       1u /* add_ring.flags: from client to server */
#define MEMIF_NEXT      1u /* desc.flags: the frame goes on in the next buffer */
#define MEMIF_NO_WAKE   1u /* ring.flags: the receiver does not want its eventfd written */
#define MEMIF_ETHERNET  0u

enum memif_type {
	MEMIF_NONE,
	MEMIF_ACK,
	MEMIF_HELLO,
	MEMIF_INIT,
	MEMIF_ADD_REGION,
	MEMIF_ADD_RING,
	MEMIF_CONNECT,
	MEMIF_CONNECTED,
	MEMIF_DISCONNECT,
};

struct memif_msg {
	uint16_t type;
	union {
		struct {
			char name[32];
			uint16_t version_min, version_max, region_max, ring_max_to_client, ring_max_to_server;
			uint8_t log2_max;
		} __attribute__((packed)) hello;
		struct {
			uint16_t version;
			uint32_t id;
			uint8_t mode;
			char secret[24], name[32];
		} __attribute__((packed)) init;
		struct {
			uint16_t index;
			uint64_t size;
		} __attribute__((packed)) add_region;
		struct {
			uint16_t flags, index, region;
			uint32_t offset;
			uint8_t log2;
			uint16_t header;
		} __attribute__((packed)) add_ring;
		struct {
			char name[32];
		} __attribute__((packed)) connect;
		struct {
			uint32_t code;
			char text[96];
		} __attribute__((packed)) disconnect;
		uint8_t bytes[126];
	};
} __attribute__((packed));

struct memif_desc {
	uint16_t flags, region;
	uint32_t len, offset, metadata;
};

struct memif_ring {
	uint32_t cookie;
	uint16_t flags, head;
	uint8_t pad0[56];
	uint16_t tail;
	uint8_t pad1[62];
	struct memif_desc desc[];
};

_Static_assert(sizeof(struct memif_msg) == 128, "a message of memif");
_Static_assert(offsetof(struct memif_msg, add_ring.log2) == 12, "add_ring");
_Static_assert(sizeof(struct memif_desc) == 16, "a descriptor of memif");
_Static_assert(offsetof(struct memif_ring, tail) == 64 && sizeof(struct memif_ring) == 128, "a ring of memif");

#endif
