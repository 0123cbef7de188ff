/* SPDX-License-Identifier: Apache-2.0
 *
 * mdbus/layout.h - a feed's packet layout as data, and the one decoder that reads any of them.
 *
 * A layout says where in a UDP payload the sequence number, count, session and messages are and which packets are
 * heartbeats, resets or retransmissions.  The text form is JSON, one object per layout:
 *
 *   "e"       "le" or "be"
 *   "hdr"     header bytes
 *   "seq"     [where, offset, width]   where: "h" from the start of the payload, "m" within a message
 *   "unit"    what seq counts: "msg" messages, "pkt" packets (then the packet is the message), "arrival" nothing
 *   "count"   field with the number of messages, or null: walk to the end
 *   "pktlen"  [where, offset, width, bias]   the packet's length, header included, is value + bias
 *   "time"    field with the exchange's time
 *   "pktseq"  field with the packet's own number, for feeds that number both
 *   "key"     list of fields whose bytes tell one stream from another on the same address and port
 *   "session" list of fields whose bytes name the session
 *             Those of key and session may be [where, offset, width, mask]: only these bits of the number (which then
 *             has at most 4 bytes) count, the others are taken for 0
 *   "msglen"  [offset, width, bias]   of a message's length, from its first byte; the next one starts value + bias on
 *   "end"     "count": as many messages as count says; "payload": up to the packet's end
 *   "align"   a packet is padded to a multiple of this: fewer bytes after the last message are no message
 *   "wrap"    null, "max->1" or "reset"
 *   "rules"   list of {"if": [[where, offset, width, op, value], ...],
 *                      "act": ..., "seq": ..., "field": ..., "nomsg": true}
 *             op: "==", "!=", "in" (a list), "&" (any of these bits).  The first rule whose conditions all hold gives
 *             the event; "retrans" marks the packet and goes on; "opaque" (not with unit "msg") goes on too, but
 *             what follows the header is not messages that could be looked at (compressed): the packet is numbered and
 *             published whole.  A condition within a message looks at the first one and is false where there is none,
 *             or it is too short.
 *             act: "heartbeat", "eos", "sos", "reset", "unseq", "ignore", "retrans", "opaque"
 *             seq: "next", "last", "counts", "zero", "field", "pktnext", "unknown" (enum mdbus_event_seq)
 *   "note"    text for people
 *
 * Members that are absent or null mean "none"; any other member is an error.  Fields have 1 to 8 bytes, those of key
 * and session up to 32, those that hold a length or a count up to 4; fields "h" lie within the header.
 *
 * A decoder never reads outside [payload, payload + len) whatever the packet says, never allocates, logs or fails
 * otherwise than by returning a code.  All functions are pure but for their output and may be called from any
 * process.
 */
#ifndef MDBUS_LAYOUT_H
#define MDBUS_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#define MDBUS_LAYOUT_NAME_MAX   32
#define MDBUS_LAYOUT_RULES_MAX  8
#define MDBUS_LAYOUT_CONDS_MAX  4
#define MDBUS_LAYOUT_VALUES_MAX 16
#define MDBUS_LAYOUT_KEYS_MAX   4
#define MDBUS_SESSION_MAX       32 /* bytes of all session fields together, and of all key fields */

enum mdbus_unit {
	MDBUS_UNIT_MESSAGE = 0,
	MDBUS_UNIT_PACKET = 1,
	MDBUS_UNIT_ARRIVAL = 2, /* no order: the packet is the message, the key deduplicates */
};

enum mdbus_event {
	MDBUS_EVENT_NONE = 0,
	MDBUS_EVENT_HEARTBEAT,
	MDBUS_EVENT_EOS, /* end of session */
	MDBUS_EVENT_SOS, /* start of session */
	MDBUS_EVENT_RESET,
	MDBUS_EVENT_UNSEQ, /* messages without a number */
	MDBUS_EVENT_IGNORE,
};

/* How an event's number is to be read. */
enum mdbus_event_seq {
	MDBUS_EVENT_SEQ_NONE = 0,
	MDBUS_EVENT_SEQ_NEXT,    /* seq is the next number that will be sent */
	MDBUS_EVENT_SEQ_LAST,    /* seq is the last number that was sent */
	MDBUS_EVENT_SEQ_COUNTS,  /* the event itself takes a number, like a message */
	MDBUS_EVENT_SEQ_ZERO,    /* the number says nothing; after a reset or start of session the next one is 1 */
	MDBUS_EVENT_SEQ_FIELD,   /* the next number that will be sent stands in rule.field */
	MDBUS_EVENT_SEQ_PKTNEXT, /* counts packets, not messages */
	MDBUS_EVENT_SEQ_UNKNOWN,
};

enum mdbus_wrap { MDBUS_WRAP_NONE = 0, MDBUS_WRAP_MAX_TO_1, MDBUS_WRAP_RESET };

struct mdbus_layout_field {
	uint8_t in_message; /* 0: offset from the start of the payload; 1: from the first byte of a message */
	uint8_t width;      /* bytes; 0: there is no such field */
	uint16_t offset;
	union {
		int32_t bias;  /* of a length */
		uint32_t mask; /* of a key or session field: the bits that count; 0: all */
	};
};

enum mdbus_op { MDBUS_OP_EQ = 0, MDBUS_OP_NE, MDBUS_OP_IN, MDBUS_OP_ANY_BIT };

enum mdbus_quick { MDBUS_QUICK_NOT = 0, MDBUS_QUICK_EQUAL, MDBUS_QUICK_DIFFER };

struct mdbus_layout_cond {
	struct mdbus_layout_field field;
	uint8_t op; /* enum mdbus_op */
	uint8_t nvalue;
	/* derived: the same as comparing (8 bytes of the payload from `at`) & mask with want, where it can be one */
	uint8_t quick; /* enum mdbus_quick */
	uint8_t pad;
	uint16_t at;
	uint16_t pad2;
	uint64_t mask, want;
	uint64_t value[MDBUS_LAYOUT_VALUES_MAX];
};

struct mdbus_layout_rule {
	uint8_t ncond;
	uint8_t event;     /* enum mdbus_event; NONE with retrans or opaque set: mark and go on */
	uint8_t event_seq; /* enum mdbus_event_seq */
	uint8_t retrans;
	uint8_t nomsg; /* the packet carries no messages whatever its count says */
	uint8_t opaque; /* what it carries cannot be looked into */
	uint8_t pad[2];
	struct mdbus_layout_field field;
	struct mdbus_layout_cond cond[MDBUS_LAYOUT_CONDS_MAX];
};

/* Derived: a header field is (the 8 bytes from `at`, in the feed's order) << left >> right. */
struct mdbus_layout_word {
	uint16_t at;
	uint8_t left, right;
};

/* Derived: a rule's first condition, whose rule mostly does not hold; all of them lie together. */
struct mdbus_layout_first {
	uint64_t mask, want;
	uint16_t at;
	uint8_t quick; /* enum mdbus_quick; NOT: the rule has to be looked at */
	uint8_t pad[5];
};

/* Derived: what a walk over the messages has to look at. */
enum mdbus_walk {
	MDBUS_WALK_ANY = 0,
	MDBUS_WALK_1,          /* lengths of 1 byte */
	MDBUS_WALK_2_LE,       /* of 2 */
	MDBUS_WALK_2_BE,
	MDBUS_WALK_COUNTED_LE, /* the same, as many as the header counts, numbered from the header's number on without a wrap */
	MDBUS_WALK_COUNTED_BE,
};

/* Plain data, without pointers: it is stored in shared memory as it is. */
struct mdbus_layout {
	char name[MDBUS_LAYOUT_NAME_MAX];
	uint8_t big_endian;
	uint8_t unit; /* enum mdbus_unit */
	uint8_t end_count; /* 1: messages end by count; 0: at the packet's end */
	uint8_t align;     /* 0 or 1: no pad at the packet's end */
	uint8_t wrap;      /* enum mdbus_wrap */
	uint8_t nkey;
	uint8_t nsession;
	uint8_t nrule;
	uint16_t hdr;
	uint8_t key_bytes, session_bytes; /* summed widths */
	uint16_t msg_min; /* derived: bytes that a message has at least, those of its length and number fields */
	uint8_t walk;     /* derived: enum mdbus_walk */
	uint8_t words;    /* derived: the header has 8 bytes, so its fields are words */
	struct mdbus_layout_word seq_word, count_word, pktlen_word, time_word, pktseq_word;
	uint8_t plain; /* derived: a number and a short count of messages in the header, no wrap, each rule has a quick first condition */
	uint8_t pad[3];
	struct mdbus_layout_first first[MDBUS_LAYOUT_RULES_MAX];
	struct mdbus_layout_field seq, count, pktlen, time, pktseq;
	struct mdbus_layout_field msglen; /* width 0: no messages inside, the packet is one */
	struct mdbus_layout_field key[MDBUS_LAYOUT_KEYS_MAX], session[MDBUS_LAYOUT_KEYS_MAX];
	struct mdbus_layout_rule rule[MDBUS_LAYOUT_RULES_MAX];
};

/* Why a payload was refused. */
enum mdbus_decode_error {
	MDBUS_DECODE_OK = 0,
	MDBUS_DECODE_BAD_HEADER, /* shorter than the header, or than a field that the layout needs */
	MDBUS_DECODE_BAD_LENGTH, /* a packet or message length runs outside the payload, or is too small for itself */
	MDBUS_DECODE_BAD_COUNT,  /* fewer messages present than counted */
};

#define MDBUS_FRAMES_TO_END UINT32_MAX /* frames: the layout counts none, walk to the packet's end */

/*
 * What one packet says.
 *
 * count messages are to be published; has_seq says whether they take the numbers seq, seq + 1, ... (PITCH's
 * unsequenced ones do not).  has_next is what moves the head without a message: heartbeats, resets and ends of
 * session have it where their number says anything, whatever has_seq and count are.  A heartbeat that is framed as a
 * message but takes no number (CTA's line integrity) has count 0 and frames 1.
 */
struct mdbus_packet {
	uint64_t seq;        /* number of the first message (or of the packet) */
	uint64_t next_seq;   /* number expected after this packet; valid if has_next */
	uint64_t session;    /* 64-bit hash of the session bytes, never 0; 0 when the layout has none */
	uint64_t time_ns;    /* raw value of the time field */
	uint64_t pktseq;
	uint32_t count;      /* messages to publish; 1 for UNIT_PACKET and UNIT_ARRIVAL */
	uint32_t frames;     /* messages as the exchange framed them, or MDBUS_FRAMES_TO_END; 0 if opaque */
	uint32_t msgs_off;   /* where the first message starts */
	uint32_t msgs_end;   /* where the last one must end: the packet's own length where it has one */
	uint8_t event;       /* enum mdbus_event */
	uint8_t event_seq;   /* enum mdbus_event_seq */
	uint8_t retrans;
	uint8_t has_next;
	uint8_t has_seq;     /* seq belongs to the channel's numbering */
	uint8_t no_messages; /* nothing to publish: count is 0 */
	uint8_t pad[2];
};

/* One message inside a packet: [off, off + len) of the payload, length prefix included. */
struct mdbus_message {
	uint32_t off;
	uint32_t len;
	uint64_t seq; /* its own number where seq stands inside the message ("m"), else packet seq + index */
};

/*
 * Read a packet's header and event and check its lengths against len.  Does not walk the messages, except for layouts
 * whose numbers stand in the messages or that do not count them (their count, seq and next_seq come from the walk).
 * Returns MDBUS_DECODE_OK or the reason why the packet is malformed (then *out is not to be used).
 */
enum mdbus_decode_error mdbus_layout_decode(const struct mdbus_layout *l, const uint8_t *payload, uint32_t len,
                                            struct mdbus_packet *out);

/*
 * Walk the messages of a decoded packet that are to be published into out[0..max).  *walked gets how many were
 * written. For UNIT_PACKET and UNIT_ARRIVAL that is one entry, the whole payload up to msgs_end.  A malformed message
 * ends the walk with its reason; the messages before it are valid, next_seq then is not to be believed.
 * MDBUS_DECODE_BAD_COUNT: the count disagrees with the messages present.  A packet with more than max messages: OK,
 * *walked == max < p->count. payload and len must be those of the decode.
 */
enum mdbus_decode_error mdbus_layout_messages(const struct mdbus_layout *l, const uint8_t *payload, uint32_t len,
                                              const struct mdbus_packet *p, struct mdbus_message *out, uint32_t max,
                                              uint32_t *walked);

/*
 * The physical messages of a packet as the exchange framed them, whatever the unit and the event: what mdbus-decode
 * prints.  Same rules as mdbus_layout_messages.
 */
enum mdbus_decode_error mdbus_layout_frames(const struct mdbus_layout *l, const uint8_t *payload, uint32_t len,
                                            const struct mdbus_packet *p, struct mdbus_message *out, uint32_t max,
                                            uint32_t *walked);

/* "bad header", "bad length", "bad count"; "heartbeat", ... ("" for none); "next", ... ("" for none). Never NULL. */
const char *mdbus_decode_error_name(enum mdbus_decode_error error);
const char *mdbus_event_name(unsigned event);
const char *mdbus_event_seq_name(unsigned event_seq);

/*
 * Copy the key (session) bytes of a payload, masked where they are, to out[MDBUS_SESSION_MAX].  Returns how many, or
 * -EBADMSG: too short.
 */
int mdbus_layout_key(const struct mdbus_layout *l, const uint8_t *payload, uint32_t len, uint8_t *out);
int mdbus_layout_session(const struct mdbus_layout *l, const uint8_t *payload, uint32_t len, uint8_t *out);

/* The built-in layout of that name, or NULL.  With index: the i-th of them, or NULL past the end. */
const struct mdbus_layout *mdbus_layout_builtin(const char *name);
const struct mdbus_layout *mdbus_layout_builtin_at(size_t index);

/*
 * Parse text: one layout object, which is then called `name`, or an object of layouts from which `name` is taken
 * (with name NULL the only one).  Returns 0, or -EINVAL with a message naming the member and line in err.  Not for
 * the hot path (allocates).
 */
int mdbus_layout_parse(const char *text, const char *name, struct mdbus_layout *out, char *err, size_t errlen);

/* As mdbus_layout_parse, from a file, whose name opens the message; or another -errno when it cannot be read. */
int mdbus_layout_load(const char *path, const char *name, struct mdbus_layout *out, char *err, size_t errlen);

/* 0 if every member of a layout found in shared memory is within its bounds, else -EINVAL. */
int mdbus_layout_check(const struct mdbus_layout *l);

#endif
