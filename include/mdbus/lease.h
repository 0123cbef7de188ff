/* SPDX-License-Identifier: Apache-2.0
 *
 * mdbus/lease.h - how a process borrows a line or a seat from mdbusd and maps the bus.
 *
 * The wire protocol is one fixed-size request and one reply per lease over a SOCK_SEQPACKET socket
 * (RUN_DIR/mdbusd.sock).  mdbusd takes the caller's identity from the socket (SO_PEERCRED, SO_PEERPIDFD), never from a
 * message, and answers with descriptors, so a process gets exactly the access its role has: read-only descriptors for
 * what it may only read.  A lease belongs to the process that connected, and ends when that process ends, however it ends,
 * or gives it back from any connection of its own; the socket of the lease is closed as soon as everything has come.
 *
 *	LINE lease: bus, seats, other arenas read-only; rings, keys, own arena read-write
 *	SEAT lease: bus, rings, arenas read-only; own seat read-write
 */
#ifndef MDBUS_LEASE_H
#define MDBUS_LEASE_H

#include <mdbus/abi.h>
#include <stddef.h>

#define MDBUS_LEASE_MAGIC   0x4c53444du /* "MDSL" */
#define MDBUS_LEASE_VERSION 1u
#define MDBUS_LEASE_FDS     32u /* descriptors per reply message */

enum mdbus_lease_op {
	MDBUS_LEASE_LINE = 1,    /* be the ingest process of line `name` */
	MDBUS_LEASE_SEAT = 2,    /* be a subscriber called `name` */
	MDBUS_LEASE_RELEASE = 3, /* give lease `id` back */
	/* commands of an admin: see mdbus_admin_ask */
	MDBUS_LEASE_END = 4,
	MDBUS_LEASE_KILL = 5,
	MDBUS_LEASE_SHUTDOWN = 6,
};

/* As `id` of a LINE request: an answer to this process may have been lost; if it already is the holder, it is so anew. */
#define MDBUS_LEASE_AGAIN UINT32_MAX

struct mdbus_lease_request {
	uint32_t magic, version, op, id; /* id: of RELEASE, or MDBUS_LEASE_AGAIN, else 0 */
	char bus[MDBUS_NAME_MAX];
	char name[MDBUS_NAME_MAX];
};

struct mdbus_lease_fd {
	uint32_t kind;  /* enum mdbus_segment_kind */
	uint32_t index;
};

/* A reply may come as several messages; `left` counts the descriptors that are still to come after this one. */
struct mdbus_lease_reply {
	uint32_t magic, version;
	int32_t status; /* 0 or -errno; then `error` says why and what to do.  -EAGAIN: its last holder is just dying, ask again */
	uint32_t id;
	uint32_t index; /* line or seat number */
	uint32_t nfd, left, pad;
	struct mdbus_lease_fd fd[MDBUS_LEASE_FDS];
	char error[256]; /* of a command that was done: what was done */
};

struct mdbus_region {
	void *base; /* NULL: not mapped */
	size_t size;
};

/* A bus as one process has it mapped. Plain memory of that process; never shared. */
struct mdbus_bus {
	struct mdbus_bus_hdr *dir; /* read-only unless this is mdbusd */
	struct mdbus_region ring[MDBUS_CHANNELS_MAX];
	struct mdbus_region keys[MDBUS_CHANNELS_MAX]; /* lines only */
	struct mdbus_region arena[MDBUS_LINES_MAX];
	struct mdbus_region seat[MDBUS_SEATS_MAX];    /* a line has all, a subscriber its own */
	struct mdbus_region dir_region;
	uint32_t role;     /* enum mdbus_lease_op of the lease */
	uint32_t index;    /* own line or seat number */
	uint32_t lease_id;
	uint32_t pad;
	char error[512];   /* why the last call failed and what to do about it */
};

/*
 * RUN_DIR: $MDBUS_RUN_DIR, else /run/mdbus for root, else $XDG_RUNTIME_DIR/mdbus, else /tmp/mdbus-UID.  Static storage, set
 * by the first call.
 */
const char *mdbus_run_dir(void);

/*
 * Ask mdbusd for a lease and map everything it lends.  name: the line's name, or what the subscriber calls itself.
 * Waits up to wait_ms for mdbusd to answer (it may be restarting) and for a line whose last holder is being reclaimed.
 * Returns 0, or -errno with bus->error set: -ENOENT no such bus or line, -EBUSY taken (by whom is in error),
 * -EACCES role not allowed, -ECONNREFUSED no mdbusd, -ENOSPC no seat left, -EPROTO and its like: a segment is not what it
 * should be.  An mdbusd that is there gets at least a second to answer.  On failure nothing is mapped and the lease is
 * given back.  The bus stays mapped and usable whatever becomes of mdbusd.  Killed inside: mdbusd takes the lease back.
 */
int mdbus_bus_attach(struct mdbus_bus *bus, const char *bus_name, enum mdbus_lease_op role, const char *name,
                     int wait_ms);

/*
 * Give the lease back and unmap; waits for mdbusd at most a second.  A process that just exits is reclaimed as well; this is
 * for one that goes on.  Harmless on a bus that is not attached.
 */
void mdbus_bus_detach(struct mdbus_bus *bus);

/*
 * Have mdbusd do something, as root, as mdbusd's own user or as one of the admin group: MDBUS_LEASE_END or _KILL sends SIGTERM
 * or SIGKILL to whoever holds line (or "seat.N") `name` of a bus, which is then taken back as after any other death;
 * MDBUS_LEASE_SHUTDOWN stops mdbusd as SIGTERM does (bus_name and name: "").  0 or -errno; said gets what was done, or why not
 * and what to do.
 */
int mdbus_admin_ask(enum mdbus_lease_op command, const char *bus_name, const char *name, char *said, size_t size);

static inline struct mdbus_ring_hdr *mdbus_bus_ring(const struct mdbus_bus *bus, uint32_t channel)
{
	return bus->ring[channel].base;
}

static inline struct mdbus_arena_hdr *mdbus_bus_arena(const struct mdbus_bus *bus, uint32_t line)
{
	return bus->arena[line].base;
}

/*
 * One channel as `line` sees it, or NULL if that line's arena is not mapped.  The arena's header is that line's to write, so
 * where the table lies is believed only after it was compared with what is mapped.  Any process.
 */
static inline struct mdbus_line_channel *mdbus_bus_line_channel(const struct mdbus_bus *bus, uint32_t line,
                                                                uint32_t channel)
{
	const struct mdbus_region *r = &bus->arena[line];
	uint64_t off;

	if (r->base == NULL)
		return NULL;
	off = mdbus_load_relaxed(&((struct mdbus_arena_hdr *)r->base)->channels_off);
	if (off % MDBUS_CACHE_LINE != 0 || off > r->size ||
	    (r->size - off) / sizeof(struct mdbus_line_channel) <= channel)
		return NULL;
	return (struct mdbus_line_channel *)(void *)((uint8_t *)r->base + off) + channel;
}

/* The furthest position that any line has noted as resolved on a channel; 0: none.  Any process. */
static inline uint64_t mdbus_bus_newest_head(const struct mdbus_bus *bus, uint32_t channel)
{
	uint64_t newest = 0;

	for (uint32_t k = 0; k < bus->dir->nline && k < MDBUS_LINES_MAX; k++) {
		const struct mdbus_line_channel *c = mdbus_bus_line_channel(bus, k, channel);
		uint64_t head = c ? mdbus_load_acquire(&c->head) : 0;

		newest = head > newest ? head : newest;
	}
	return newest;
}

#endif
