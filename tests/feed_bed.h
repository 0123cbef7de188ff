/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_bed.h - a bed for the feeder: captures made up from a layout, and a wire that keeps what was sent on it.
 *
 * The wire stands in for a transport.  It may be lazy: then it takes only some of the packets offered, as a busy
 * transport does, in a way that repeats.
 */
#ifndef MDBUS_TESTS_FEED_BED_H
#define MDBUS_TESTS_FEED_BED_H

#include "../ingest/feed_build.h"
#include "../ingest/feed_run.h"
#include "../ingest/feed_spec.h"
#include "guard.h"
#include <arpa/inet.h>
#include <mdbus/feedlog.h>
#include <unistd.h>

/* ---- the wire --------------------------------------------------------------------------------------------------- */

struct sent {
	uint8_t *data;
	uint32_t len, dest;
	uint64_t order; /* over all lines */
};

struct wire {
	struct sent *packet;
	size_t n, cap;
};

static struct wire wire[MDBUS_FEED_LINES_MAX];
static uint64_t wire_order;
static bool wire_lazy;
static uint64_t wire_dice;

static inline void wire_reset(bool lazy)
{
	for (size_t i = 0; i < MDBUS_FEED_LINES_MAX; i++) {
		for (size_t k = 0; k < wire[i].n; k++)
			free(wire[i].packet[k].data);
		wire[i].n = 0;
	}
	wire_order = 0;
	wire_lazy = lazy;
}

/* Lines are called A, B, ... in the order of their wires. */
static inline void *wire_open(const struct mdbus_feed_tx_config *c, char *err, size_t errlen)
{
	(void)err, (void)errlen;
	return &wire[c->line[0] - 'A'];
}

static inline int wire_send(void *self, const struct mdbus_feed_tx_packet *p, uint32_t n)
{
	struct wire *w = self;

	CHECK(n > 0 && n <= MDBUS_FEED_BATCH);
	if (wire_lazy)
		n = (uint32_t)((wire_dice = wire_dice * 6364136223846793005u + 1442695040888963407u) >> 33) % (n + 1);
	for (uint32_t i = 0; i < n; i++) {
		struct sent *s;

		if (w->n == w->cap) {
			w->cap = w->cap * 2 + 1024;
			w->packet = realloc(w->packet, w->cap * sizeof(*w->packet));
			CHECK(w->packet);
		}
		s = &w->packet[w->n++];
		*s = (struct sent){ malloc(p[i].len + 1), p[i].len, p[i].dest, wire_order++ };
		CHECK(s->data);
		memcpy(s->data, p[i].data, p[i].len);
	}
	return (int)n;
}

static inline void wire_close(void *self)
{
	(void)self;
}

static const struct mdbus_feed_tx_ops wire_ops = { "wire", wire_open, wire_send, wire_close };

static inline bool wires_equal(const struct wire *a, const struct wire *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (a->packet[i].len != b->packet[i].len ||
		    memcmp(a->packet[i].data, b->packet[i].data, a->packet[i].len) != 0)
			return false;
	return true;
}

/* Take what a wire holds away from it. */
static inline struct wire wire_take(size_t i)
{
	struct wire w = wire[i];

	wire[i] = (struct wire){ 0 };
	return w;
}

static inline void wire_free(struct wire *w)
{
	for (size_t i = 0; i < w->n; i++)
		free(w->packet[i].data);
	free(w->packet);
	*w = (struct wire){ 0 };
}

/* ---- a capture, made up ----------------------------------------------------------------------------------------- */

struct capture {
	FILE *f;
	char path[64];
	uint64_t ns;
};

static inline void capture_begin(struct capture *c)
{
	const uint32_t head[6] = { 0xa1b23c4d, 4 << 16 | 2, 0, 0, 65535, 1 }; /* ns, 2.4, Ethernet */
	int fd;

	strcpy(c->path, "/tmp/mdbus-feed-XXXXXX");
	fd = mkstemp(c->path);
	CHECK(fd >= 0);
	c->f = fdopen(fd, "w");
	c->ns = 1000000000;
	CHECK(c->f && fwrite(head, sizeof(head), 1, c->f) == 1);
}

/* One UDP packet, 1 us after the one before. */
static inline void capture_add(struct capture *c, const char *addr, uint16_t port, const uint8_t *payload, uint32_t len)
{
	uint32_t total = 42 + len;
	const uint32_t record[4] = { (uint32_t)(c->ns / 1000000000u), (uint32_t)(c->ns % 1000000000u), total, total };
	uint8_t head[42] = { 1, 0, 0x5e };

	c->ns += 1000;
	head[12] = 8;
	head[14] = 0x45;
	head[16] = (uint8_t)((len + 28) >> 8);
	head[17] = (uint8_t)(len + 28);
	head[22] = 1;
	head[23] = 17;
	CHECK(inet_pton(AF_INET, "10.1.2.3", head + 26) == 1 && inet_pton(AF_INET, addr, head + 30) == 1);
	head[36] = (uint8_t)(port >> 8);
	head[37] = (uint8_t)port;
	head[38] = (uint8_t)((len + 8) >> 8);
	head[39] = (uint8_t)(len + 8);
	CHECK(fwrite(record, sizeof(record), 1, c->f) == 1 && fwrite(head, sizeof(head), 1, c->f) == 1 &&
	      fwrite(payload, 1, len, c->f) == len);
}

static inline void capture_end(struct capture *c)
{
	CHECK(fclose(c->f) == 0);
}

/*
 * An ordinary packet of `count` messages from seq on, each with bytes of its own.  A header filled with 0x20 is none of
 * any built-in layout's events.
 */
static inline uint32_t make_packet(const struct mdbus_layout *l, uint64_t seq, uint32_t count, uint8_t *out)
{
	uint32_t len = l->hdr;

	memset(out, 0x20, l->hdr);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t n = 20 + (uint32_t)((seq + i) * 7 % 30);

		memset(out + len, 'a' + (int)((seq + i) % 26), n);
		if (l->msglen.width)
			mdbus_feed_put(l, &l->msglen, out + len, n - (uint32_t)l->msglen.bias);
		if (l->seq.in_message)
			mdbus_feed_put(l, &l->seq, out + len, seq + i);
		len += n;
	}
	if (l->align > 1)
		while (len % l->align)
			out[len++] = 0;
	if (l->pktseq.width)
		mdbus_feed_put(l, &l->pktseq, out, seq);
	mdbus_feed_finish(l, out, len, seq, count);
	return len;
}

/* ---- a run ------------------------------------------------------------------------------------------------------ */

static const volatile sig_atomic_t never;
static uint64_t bed_linger_ns, bed_heartbeat_ns; /* of the next runs */
static bool bed_end_session;

/* Run a source over the wires; lines and pacing as given.  Returns the log's records, to be freed; *n of them. */
static inline struct mdbus_feedlog_record *run_feed(struct mdbus_feed_source *source, const char *const *lines,
                                                    struct mdbus_feed_pace pace, uint64_t seed,
                                                    struct mdbus_feed_result *result, size_t *n)
{
	struct mdbus_feed_line_spec spec[MDBUS_FEED_LINES_MAX];
	struct mdbus_feed_run_config c = {
		.source = source, .spec = spec, .ops = &wire_ops, .pace = pace, .seed = seed, .stop = &never,
		.linger_ns = bed_linger_ns, .heartbeat_ns = bed_heartbeat_ns, .end_session = bed_end_session,
	};
	char path[] = "/tmp/mdbus-feedlog-XXXXXX", err[512];
	struct mdbus_feedlog_record *records;
	struct mdbus_feedlog_hdr hdr;
	int fd = mkstemp(path);
	FILE *f;

	CHECK(fd >= 0);
	close(fd);
	c.log_path = path;
	for (; lines[c.nline]; c.nline++)
		if (mdbus_feed_spec_parse(lines[c.nline], &spec[c.nline], err, sizeof(err)))
			printf("%s\n", err), exit(1);
	if (mdbus_feed_run(&c, result, err, sizeof(err)))
		printf("%s\n", err), exit(1);
	f = fopen(path, "r");
	CHECK(f && fread(&hdr, sizeof(hdr), 1, f) == 1);
	CHECK(memcmp(hdr.magic, MDBUS_FEEDLOG_MAGIC, 8) == 0 && hdr.nlines == c.nline && hdr.nstreams == source->nstream);
	*n = result->log.messages;
	records = calloc(*n + 1, sizeof(*records));
	CHECK(records && fread(records, sizeof(*records), *n, f) == *n && fgetc(f) == EOF);
	fclose(f);
	unlink(path);
	return records;
}

static inline struct mdbus_feed_source *open_capture(const struct capture *c, const struct mdbus_layout *l)
{
	const struct mdbus_feed_pcap_options o = { .path = c->path, .layout = l, .loops = 1 };
	struct mdbus_feed_source *s;
	uint64_t malformed;
	char err[512];

	s = mdbus_feed_pcap_open(&o, &malformed, err, sizeof(err));
	if (!s)
		printf("%s\n", err), exit(1);
	return s;
}

#endif
