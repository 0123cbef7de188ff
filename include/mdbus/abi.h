/* SPDX-License-Identifier: Apache-2.0
 *
 * mdbus/abi.h - the shared-memory ABI: what lies where in each segment, and who may write it.
 *
 * A bus is a directory of files, one file a segment:
 *
 *   bus            the directory of the bus: lines, channels, seats, leases      written by mdbusd only
 *   ring.<n>       one channel's ring                                            lines and mdbusd; all others read
 *   arena.<n>      one line's counters, progress, packet frames, and the rings   that line only; all others read
 *                  by which it hands packets over to other lines
 *   seat.<n>       one subscriber's counters                                     that subscriber only; all others read
 *   keys.<n>       the shared dedup window of a channel without an order         lines only
 *
 * Everything is little-endian offsets and integers, no pointers.  A segment starts with mdbus_segment_hdr;
 * `magic` is written last and the file is renamed into place after that, so a process killed while creating a
 * segment leaves a file under a temporary name that mdbusd removes, never a half-made segment.
 *
 * Positions.  A channel numbers its ring by `pos`, which never goes back: slot[pos mod depth].  Within one
 * generation of the channel pos = base + (seq - first_seq), so the sequence number is the address.  A session change,
 * a sequence restart or an agreed forward jump opens the next generation with a base beyond everything the old one may
 * still use, so the tail of an old session and the head of the new one never share a slot, and an overrun is
 * counted by subtraction.  Each generation is ended by one RESET record (or a GAP record over the numbers jumped).
 */
#ifndef MDBUS_ABI_H
#define MDBUS_ABI_H

#include <mdbus/atomics.h>
#include <mdbus/counters.h>
#include <mdbus/histogram.h>
#include <mdbus/layout.h>

#define MDBUS_ABI_VERSION     1u
#define MDBUS_MAGIC           UINT64_C(0x3153554244444d01) /* "\1MDBUS1" */
#define MDBUS_NAME_MAX        32u
#define MDBUS_LINES_MAX       8u
#define MDBUS_SERVERS_MAX     8u /* request servers of a recovery line */
#define MDBUS_CHANNELS_MAX    1024u
#define MDBUS_SEATS_MAX       256u
#define MDBUS_GENERATIONS     256u /* how many generations of a channel can be looked up */
#define MDBUS_POS_MAX         ((UINT64_C(1) << 48) - 1u) /* the last position; also the mask of one beside a generation */
#define MDBUS_SLOT_SIZE_MIN   64u
#define MDBUS_SLOT_SIZE_MAX   2048u
#define MDBUS_MESSAGE_MAX     65535u
#define MDBUS_XSTATS_MAX      128u
#define MDBUS_FRAME_META      64u /* bytes at the start of each frame that hold mdbus_frame_meta */

enum mdbus_segment_kind {
	MDBUS_SEGMENT_BUS = 1,
	MDBUS_SEGMENT_RING,
	MDBUS_SEGMENT_ARENA,
	MDBUS_SEGMENT_SEAT,
	MDBUS_SEGMENT_KEYS,
};

struct mdbus_segment_hdr {
	uint64_t magic;
	uint32_t version;
	uint32_t kind;
	uint64_t layout_hash; /* MDBUS_ABI_LAYOUT of the process that made it */
	uint64_t size;        /* bytes of the whole segment */
	uint64_t page_size;   /* bytes of the pages obtained: 4 KiB, 2 MiB or 1 GiB; THP shows as 2 MiB on shmem */
	uint32_t index;       /* n of ring.<n>, arena.<n>, seat.<n> */
	uint32_t page_kind;   /* enum mdbus_page_kind, segment.h */
	char bus[MDBUS_NAME_MAX];
	uint8_t pad[128 - 80];
};

/* ---- slots ------------------------------------------------------------------------------------------------- */

/*
 * stamp: pos:48 | gen:8 | kind:3 | writing:1 | tainted:1 | line:3        (high to low)
 *
 * A greater pos is newer; at an equal pos the later generation is newer (gen is the low byte of the generation).
 * `writing` (W): the winner `line` is copying the bytes inline.  `tainted` (T): line `line`, stopped inside such a
 * copy a lap ago, may still scribble over the inline bytes, so this record is by reference only.
 *
 * ref:   0:8 | off:36 | len:16 | line:3 | flags:1     where the bytes lie: offset in that line's arena, length in bytes.
 * For GAP: the number of sequence numbers lost; for RESET: the generation that follows.
 */
enum mdbus_kind {
	MDBUS_KIND_EMPTY = 0,
	MDBUS_KIND_REF = 1,     /* bytes by ref */
	MDBUS_KIND_INLINE = 2,  /* bytes in the slot */
	MDBUS_KIND_GAP = 3,     /* lost on all lines: ref numbers from here on */
	MDBUS_KIND_RESET = 4,   /* end of this generation and session; the next one follows */
	MDBUS_KIND_SKIP = 5,    /* before the first number seen when the bus came in midstream: nothing to report */
	MDBUS_KIND_EXPIRED = 6, /* was by ref; its owner took the frame back */
	MDBUS_KIND_JUMP = 7,    /* end of this generation, same session: ref numbers from here on were jumped */
};

struct mdbus_slot {
	struct mdbus_pair head; /* lo = stamp, hi = ref */
	uint8_t bytes[];        /* slot_size - 16; a timed channel starts them with rx_ns (8 bytes) */
};

#define MDBUS_REF_RETRANS 1u /* ref flag: came as a retransmission or from a recovery line */

/* ---- ring.<n> ------------------------------------------------------------------------------------------------ */

/*
 * A generation is two pairs, each changed by one compare-and-swap from the entry it replaces:
 *   open:   lo = gen:16 | base:48   hi = first_seq:44 | flags:2 | session:18   set once, by the line that opens it
 *   closed: lo = gen:16 | end:48    hi = skipped:48 | epoch:16                 set once, after the end record is placed
 * end = pos of the RESET or JUMP record; skipped = positions of all earlier generations that no record ever used
 * (so records between two positions can be counted); epoch = the epoch of *this* generation as users see it.
 */
struct mdbus_generation {
	struct mdbus_pair open;
	struct mdbus_pair closed;
};

#define MDBUS_GEN_JUMPED    1u /* the generation goes on in the session of the one before: no new epoch */
#define MDBUS_GEN_MIDSTREAM 2u /* the bus came in midstream: numbers before the first one seen are SKIP, not GAP */
#define MDBUS_SEQ_MAX       ((UINT64_C(1) << 44) - 1u)

struct mdbus_ring_hdr {
	struct mdbus_segment_hdr segment;
	/* fixed at creation */
	uint64_t depth;       /* slots, a power of two */
	uint32_t slot_size;   /* bytes, a power of two, 64..2048 */
	uint32_t timed;       /* 1: the first 8 inline bytes are rx_ns */
	uint32_t ordered;     /* 1: by sequence number; 0: arrival order, deduplicated by key */
	uint32_t single_line; /* 1: exactly one line; published with plain release stores */
	uint64_t slots_off;   /* bytes from the start of the segment */
	uint32_t nline;       /* lines of this channel */
	uint32_t pad0;
	uint8_t pad1[64 - 48];
	/* changed by the lines */
	uint64_t gen __attribute__((aligned(64))); /* hint: newest generation opened */
	uint64_t gen_opened_ns; /* hint: when a line last set out to open one, ns of CLOCK_MONOTONIC */
	uint32_t doorbell __attribute__((aligned(64))); /* futex; ring 0 serves the whole bus */
	uint32_t pad2;
	struct mdbus_generation generation[MDBUS_GENERATIONS] __attribute__((aligned(64)));
};

/* ---- arena.<n> ----------------------------------------------------------------------------------------------- */

/* At the start of each frame, written by the line before a message of the frame is published. */
struct mdbus_frame_meta {
	uint64_t rx_ns;   /* when the packet was taken from its queue, ns of CLOCK_MONOTONIC */
	uint64_t wire_ns; /* hardware or driver receive timestamp, ns of its own clock; 0: none */
};

/* One channel as one line sees it.  Written by that line alone; others read it when they look at a gap. */
struct mdbus_line_channel {
	/* progress: gen:16 | next:48, the position after the newest one this line has seen.  Release. */
	uint64_t progress;
	uint64_t head;     /* hint: every position below is resolved */
	uint64_t left[4];  /* [gen mod 4] = gen:16 | end:48: where this line left each of its last generations */
	uint64_t candidate_seq;     /* a jump or restart this line has seen but not yet taken: first number, 0 none */
	uint64_t candidate_session; /* and its session hash */
	struct {
		MDBUS_LINE_CHANNEL_COUNTERS(MDBUS_COUNTER_FIELD)
	} count;
	/*
	 * [gen mod 4]: the session bytes of the packets of that generation, as its layout names them; before progress says so.
	 * To be believed only if their hash is the generation's.
	 */
	uint8_t session[4][MDBUS_SESSION_MAX];
} __attribute__((aligned(64)));

/* A counter that only this line's port has, under the port's own name. */
struct mdbus_xstat {
	char name[56];
	uint64_t value;
};

/* ---- packets handed from one line's process to another's: see handover.h ---- */

/* One packet, whole in a frame of the arena that this stands in. */
struct mdbus_hand_entry {
	uint32_t frame;
	uint32_t channel; /* that it belongs to */
	uint32_t off;     /* of its payload, bytes from the start of the frame */
	uint32_t len;
	uint64_t rx_ns;   /* as in mdbus_frame_meta */
	uint64_t wire_ns;
};

/* In the giver's arena, before its frames, one for each of its takers: written by the giver alone. */
struct mdbus_hand_ring {
	uint64_t head;  /* entries handed over so far; entry n is in entry[n mod size].  Release */
	uint64_t floor; /* entries below this one are the giver's again.  Release */
	struct mdbus_hand_entry entry[] __attribute__((aligned(64)));
};

/* In the taker's arena: written by the taker alone. */
struct mdbus_taker_words {
	uint32_t ready;    /* number of the lease that packets are taken under; 0: none are.  Release */
	uint32_t sleeping; /* 1: wants to be woken */
	struct {
		uint64_t tail; /* entries below this one are done with.  Release */
	} __attribute__((aligned(64))) from[MDBUS_LINES_MAX]; /* by giver */
} __attribute__((aligned(64)));

struct mdbus_arena_hdr {
	struct mdbus_segment_hdr segment;
	/* fixed at creation */
	uint32_t line;
	uint32_t nchannel;
	uint32_t frame_size; /* bytes, a power of two, 2048 or 4096 */
	uint32_t nframes;
	uint64_t channels_off; /* struct mdbus_line_channel[nchannel] */
	uint64_t frames_off;   /* page-aligned; off in a ref counts from the start of the segment */
	uint8_t pad[64 - 32];
	/* written by the line */
	struct {
		MDBUS_LINE_COUNTERS(MDBUS_COUNTER_FIELD)
	} count __attribute__((aligned(64)));
	char backend[MDBUS_NAME_MAX]; /* backend and mode obtained, e.g. "af_xdp native copy" */
	struct mdbus_hist lateness;   /* how long after the winner this line's duplicates came, ns (once a packet) */
	char detail[128];             /* more of what was obtained, for people */
	uint32_t nxstat;              /* release: so many names are final; starts at 0 again with the line's process */
	uint32_t pad1;
	struct mdbus_xstat xstat[MDBUS_XSTATS_MAX];
	struct mdbus_taker_words taker; /* of a line that is handed packets */
};

/* ---- seat.<n> ------------------------------------------------------------------------------------------------ */

struct mdbus_seat_channel {
	uint64_t pos;     /* next position this subscriber will read; 0: not subscribed */
	uint64_t overrun; /* records lost on this channel */
};

struct mdbus_seat_hdr {
	struct mdbus_segment_hdr segment;
	uint32_t sleeping; /* 1: wants the doorbell */
	uint32_t pad0;
	uint8_t pad1[64 - 8];
	struct {
		MDBUS_SEAT_COUNTERS(MDBUS_COUNTER_FIELD)
	} count __attribute__((aligned(64)));
	struct mdbus_seat_channel channel[MDBUS_CHANNELS_MAX];
};

/* ---- keys.<n>: see key.h ------------------------------------------------------------------------------------- */

#define MDBUS_KEY_WAYS 8u /* entries of a bucket: two cache lines, replaced first in first out */

struct mdbus_keys_hdr {
	struct mdbus_segment_hdr segment;
	uint64_t nbuckets; /* a power of two */
	uint64_t age_ns;   /* a key older than this is new again; 0: never */
	uint64_t buckets_off;
};

/* ---- bus ----------------------------------------------------------------------------------------------------- */

enum mdbus_lease_state {
	MDBUS_LEASE_FREE = 0,
	MDBUS_LEASE_HELD = 1,
	MDBUS_LEASE_RECLAIM = 2, /* holder is dead, being taken back; safe to do again from the start */
};

/* Who holds a line or a seat.  (pid, start) names a process for good: a reused pid has another start time. */
struct mdbus_lease {
	uint32_t state; /* enum mdbus_lease_state; written last */
	uint32_t pid;
	uint64_t start;   /* field 22 of /proc/PID/stat */
	uint32_t uid;
	uint32_t id;      /* number of this lease on this bus; never reused */
	uint64_t since_ns; /* CLOCK_MONOTONIC */
	char name[MDBUS_NAME_MAX];
};

/* A request server of a recovery line. */
struct mdbus_server_desc {
	uint32_t addr; /* network byte order */
	uint16_t port; /* host byte order */
	uint16_t pad;
};

/* Whether the card is told which queue a flow belongs to. */
enum mdbus_steer {
	MDBUS_STEER_NO = 0,
	MDBUS_STEER_YES = 1,
	MDBUS_STEER_AUTO = 2, /* if it has several queues, and filters that are on */
};

struct mdbus_line_desc {
	char name[MDBUS_NAME_MAX];
	char backend[16];    /* "af_xdp", "kernel", "pcap", "dpdk", "recover", "handed" */
	char interface[128]; /* network interface; DPDK device or vdev; empty: any */
	char file[256];      /* pcap backend: the file */
	char xdp_mode[8];    /* "auto", "native", "skb" */
	char xdp_copy[12];   /* "auto", "copy", "zerocopy" */
	int32_t cpu;         /* core to pin to, -1: none */
	int32_t numa;        /* NUMA node of the arena, -1: that of the interface or core */
	uint32_t queue;      /* NIC queue */
	uint32_t batch;      /* packets taken at once */
	uint32_t frames;     /* frames in the arena */
	uint32_t frame_size; /* bytes */
	uint32_t rx_ring;    /* descriptors, power of two */
	uint32_t fill_ring;
	uint32_t idle_spins;    /* empty polls before it sleeps; 0: never sleeps (own core) */
	uint32_t poll_timeout_us; /* longest sleep */
	uint32_t busy_poll_us;  /* SO_BUSY_POLL of the kernel backend, 0: off */
	uint32_t stale_ms;      /* silence that raises an event, 0: never */
	uint32_t pcap_speed_x1000; /* pcap backend: 1000 = file's timing, 0 = as fast as it can be read */
	uint32_t ifindex;
	uint32_t group; /* index of the line that this one is another queue of; its own: of none */
	uint32_t recovery; /* 1: a recovery line: fills holes that others leave, never says how far a channel has come */
	uint32_t nserver;
	uint32_t request_rate;   /* requests a second at most */
	uint32_t request_max;    /* messages asked for at once */
	uint32_t retry_ms;       /* an unanswered request goes out again after this, */
	uint32_t backoff_max_ms; /* twice as long each time, up to this */
	struct mdbus_server_desc server[MDBUS_SERVERS_MAX];
	struct mdbus_lease lease;
	uint32_t stuck_kill_ms; /* a living process that has not come round its loop for so long is killed; 0: never */
	uint32_t steer; /* enum mdbus_steer */
	uint64_t netns; /* network namespace of its newest process, which `interface` is a name in; 0: there was none */
	uint32_t low_watermark;  /* frames: fewer free ones than this are low */
	uint32_t reserve_frames; /* of `frames`, kept aside until they are low */
	uint32_t from_mask; /* backend "handed": the lines whose processes hand packets over to this one's */
	uint32_t to_mask;   /* the lines whose processes this one's hands packets over to */
	uint32_t hand_size; /* entries of the ring to each of those, a power of two */
	uint8_t pad[28];
};

/* Where a channel arrives on one line. addr 0: this line does not carry the channel.  A recovery
 * line asks for it instead: the broadcast address, and 1 + the channel's number for a port. */
struct mdbus_flow_desc {
	uint32_t addr;   /* IPv4 destination address (group or host), network byte order */
	uint32_t source; /* source address for source-specific multicast, network byte order; 0: any */
	uint16_t port;   /* UDP destination port, host byte order */
	uint16_t key_len; /* bytes of `key` that select the channel among those of this address and port; 0: all */
	uint8_t key[20];
	uint32_t rule; /* the card's rule for it, made by mdbusd (mgmt/rules.h); 0: none */
};

struct mdbus_channel_desc {
	char name[MDBUS_NAME_MAX];
	uint64_t depth;
	uint32_t slot_size;
	uint32_t timed;
	uint32_t ordered;
	uint32_t reorder_window; /* messages a line must be past a hole before the hole counts as seen by it */
	uint64_t window;         /* positions ahead of the head that a number may name; at most depth / 2 */
	uint64_t gap_timeout_ns;
	uint32_t agree_packets;  /* packets in a row that make a jump or restart true; both lines agreeing do too */
	uint32_t compare_every;  /* compare every n-th duplicate with the published copy; 0: never */
	uint64_t key_window;     /* unordered: keys remembered */
	uint64_t key_age_ns;
	struct mdbus_layout layout;
	struct mdbus_flow_desc flow[MDBUS_LINES_MAX]; /* by line index */
	uint32_t line_mask; /* lines that carry the channel */
	uint32_t early_drop; /* 1: lines on AF_XDP drop in the driver what the ring has already */
	uint32_t unseq_of;  /* 1 + number of the channel whose unsequenced messages this one carries; 0: an ordinary channel */
};

enum mdbus_line_state {
	MDBUS_LINE_DOWN = 0, /* no process, or dead: gaps do not wait for it */
	MDBUS_LINE_UP = 1,
};

struct mdbus_bus_hdr {
	struct mdbus_segment_hdr segment;
	uint32_t nline;
	uint32_t nchannel;
	uint32_t nseat;
	uint32_t next_lease;
	uint64_t created_ns;
	uint64_t wall_offset_ns; /* CLOCK_REALTIME - CLOCK_MONOTONIC at creation: rx_ns + this is wall time */
	uint32_t line_state[MDBUS_LINES_MAX]; /* enum mdbus_line_state; what the gap rule believes */
	uint64_t config_hash;  /* of the bus's part of the configuration: another one means another bus */
	uint32_t daemon_pid;
	uint32_t namespaces; /* those that the pids and start times of the leases are of (mgmt/process.h); 0: not known */
	uint64_t reclaims; /* processes taken back since creation */
	struct mdbus_line_desc line[MDBUS_LINES_MAX];
	struct mdbus_lease seat[MDBUS_SEATS_MAX];
	struct mdbus_channel_desc channel[]; /* nchannel */
};

/*
 * One number over the offsets that two programs must agree on: a program built from another layout refuses to
 * attach instead of reading the wrong words.
 */
#define MDBUS_ABI_MIX_(h, v) (((h) ^ (uint64_t)(v)) * UINT64_C(0x100000001b3))
#define MDBUS_ABI_LAYOUT                                                                                    \
	MDBUS_ABI_MIX_(MDBUS_ABI_MIX_(MDBUS_ABI_MIX_(MDBUS_ABI_MIX_(MDBUS_ABI_MIX_(MDBUS_ABI_MIX_(                \
	UINT64_C(0xcbf29ce484222325), sizeof(struct mdbus_bus_hdr)), sizeof(struct mdbus_channel_desc)),          \
	sizeof(struct mdbus_ring_hdr)), sizeof(struct mdbus_arena_hdr)), sizeof(struct mdbus_line_channel)),      \
	sizeof(struct mdbus_seat_hdr))

#define MDBUS_ABI_AT(type, field, offset)                                                                   \
	_Static_assert(__builtin_offsetof(type, field) == (offset), #type "." #field " moved")
MDBUS_ABI_AT(struct mdbus_segment_hdr, layout_hash, 16);
MDBUS_ABI_AT(struct mdbus_segment_hdr, bus, 48);
_Static_assert(sizeof(struct mdbus_segment_hdr) == 128, "segment header moved");
MDBUS_ABI_AT(struct mdbus_slot, bytes, 16);
MDBUS_ABI_AT(struct mdbus_ring_hdr, depth, 128);
MDBUS_ABI_AT(struct mdbus_ring_hdr, gen, 192);
MDBUS_ABI_AT(struct mdbus_ring_hdr, doorbell, 256);
MDBUS_ABI_AT(struct mdbus_ring_hdr, generation, 320);
_Static_assert(sizeof(struct mdbus_generation) == 32, "generation moved");
MDBUS_ABI_AT(struct mdbus_arena_hdr, count, 192);
MDBUS_ABI_AT(struct mdbus_line_channel, count, 64);
MDBUS_ABI_AT(struct mdbus_hand_ring, entry, 64);
_Static_assert(sizeof(struct mdbus_hand_entry) == 32, "entries of a hand-over share cache lines unevenly");
_Static_assert(sizeof(struct mdbus_line_channel) % 64 == 0, "line channels share a cache line");

#endif
