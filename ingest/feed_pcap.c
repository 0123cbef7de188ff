/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_pcap.c - a capture as a source.
 *
 * The file is read whole and worked out before the first packet is sent: which stream, which messages, which epoch, and
 * which packets are the last of theirs.  Only so can the feeder promise that the end of an epoch is never lost, and sending
 * costs no decoding.
 */
#include "feed_source.h"
#include "feed_track.h"
#include "pcap_read.h"
#include <arpa/inet.h>
#include <errno.h>
#include <mdbus/feedlog.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STREAMS_MAX 65535u
#define MESSAGES_MAX 65536u

struct stream {
	uint32_t addr;
	uint16_t port;
	uint8_t nkey;
	uint8_t key[MDBUS_SESSION_MAX];
	struct mdbus_feed_track track;
	uint64_t arrivals;
	uint64_t in_epoch;  /* packets with messages so far */
	int64_t last;       /* item that last carried messages, -1: none */
	char name[32 + 3 * MDBUS_SESSION_MAX];
};

struct item {
	uint64_t ts, next, session, msg;
	uint64_t off;
	uint32_t len, nmsg, epoch, session_no;
	uint16_t stream;
	uint8_t flags, log_flags;
};

/* An array that grows. */
struct vec {
	void *data;
	size_t n, cap;
};

struct pcap_source {
	struct mdbus_feed_source s;
	struct mdbus_feed_pcap_options o;
	struct vec bytes, items, msgs;
	struct stream **stream;
	uint64_t malformed;
	uint64_t first_ts, last_ts, cut; /* while reading: file time, and how much of it was left out */
	/* while playing */
	size_t at;
	uint32_t loop;
	uint64_t sent, loop_ts;
};

static void *vec_add(struct vec *v, size_t n, size_t width)
{
	if (v->n + n >= v->cap) {
		size_t cap = 2 * (v->n + n) + 1024;
		void *data = realloc(v->data, cap * width);

		if (!data)
			return NULL;
		v->data = data;
		v->cap = cap;
	}
	v->n += n;
	return (uint8_t *)v->data + (v->n - n) * width;
}

static struct item *items(const struct pcap_source *p)
{
	return p->items.data;
}

/* Key fields that do not also name the session: those tell streams apart; a new session is the same stream. */
static uint8_t stream_key(const struct mdbus_layout *l, const uint8_t *payload, uint32_t len, uint8_t *out)
{
	uint8_t n = 0;

	if (len < l->hdr)
		return 0;
	for (unsigned i = 0; i < l->nkey; i++) {
		const struct mdbus_layout_field *f = &l->key[i];
		bool session = false;

		for (unsigned k = 0; k < l->nsession; k++)
			session |= f->offset < l->session[k].offset + l->session[k].width &&
			           l->session[k].offset < f->offset + f->width;
		if (session)
			continue;
		memcpy(out + n, payload + f->offset, f->width);
		n = (uint8_t)(n + f->width);
	}
	return n;
}

static void name_stream(struct stream *st)
{
	char addr[INET_ADDRSTRLEN];
	size_t n;

	inet_ntop(AF_INET, &st->addr, addr, sizeof(addr));
	n = (size_t)snprintf(st->name, sizeof(st->name), "%s:%u%s", addr, st->port, st->nkey ? "|" : "");
	for (unsigned i = 0; i < st->nkey; i++)
		n += (size_t)snprintf(st->name + n, sizeof(st->name) - n, "%02x", st->key[i]);
}

static struct stream *find_stream(struct pcap_source *p, const struct mdbus_udp *udp, const uint8_t *payload,
                                  uint16_t *index)
{
	uint8_t key[MDBUS_SESSION_MAX * 2];
	uint8_t nkey = stream_key(p->o.layout, payload, udp->len, key);
	struct stream **grown, *st;

	for (uint32_t i = 0; i < p->s.nstream; i++) {
		st = p->stream[i];
		*index = (uint16_t)i;
		if (st->addr == udp->dst && st->port == udp->dst_port && st->nkey == nkey &&
		    memcmp(st->key, key, nkey) == 0)
			return st;
	}
	if (p->s.nstream == STREAMS_MAX)
		return NULL;
	grown = realloc(p->stream, (p->s.nstream + 1) * sizeof(*grown));
	if (!grown)
		return NULL;
	p->stream = grown;
	st = calloc(1, sizeof(*st));
	if (!st)
		return NULL;
	st->addr = udp->dst;
	st->port = udp->dst_port;
	st->nkey = nkey;
	memcpy(st->key, key, nkey);
	st->last = -1;
	name_stream(st);
	*index = (uint16_t)p->s.nstream;
	p->stream[p->s.nstream++] = st;
	return st;
}

/* Place a well-formed packet in its stream's numbering. */
static void number_item(struct pcap_source *p, struct stream *st, struct item *it, const struct mdbus_packet *d,
                        const uint8_t *payload, const struct mdbus_message *msg)
{
	uint64_t first = it->nmsg ? msg[0].seq : d->next_seq;
	enum mdbus_feed_step step;

	it->session = d->session;
	if (d->event != MDBUS_EVENT_NONE || d->retrans)
		it->flags |= MDBUS_FEED_WHOLE;
	if (d->retrans)
		it->log_flags |= MDBUS_FEEDLOG_RETRANS;
	if (d->event == MDBUS_EVENT_UNSEQ)
		it->log_flags |= MDBUS_FEEDLOG_UNSEQ;
	if (d->retrans || d->event == MDBUS_EVENT_UNSEQ || !(it->nmsg || d->has_next))
		return;
	step = mdbus_feed_track_step(&st->track, d->session, first, d->has_next ? d->next_seq : first + it->nmsg,
	                             it->nmsg ? mdbus_feedlog_hash(payload + msg[0].off, msg[0].len) : 0);
	if (step == MDBUS_FEED_STEP_REPEAT)
		it->log_flags |= MDBUS_FEEDLOG_REPEAT;
	else
		it->flags |= MDBUS_FEED_NUMBERED;
	if (step == MDBUS_FEED_STEP_RESTART) {
		if (st->last >= 0)
			items(p)[st->last].flags |= MDBUS_FEED_EPOCH_END;
		st->last = -1;
		st->in_epoch = 0;
	}
}

static int read_messages(struct pcap_source *p, struct stream *st, struct item *it, const uint8_t *payload,
                         struct mdbus_message *scratch)
{
	const struct mdbus_layout *l = p->o.layout;
	struct mdbus_message *msg;
	struct mdbus_packet d;
	uint32_t n = 0;

	if (mdbus_layout_decode(l, payload, it->len, &d) != MDBUS_DECODE_OK ||
	    mdbus_layout_messages(l, payload, it->len, &d, scratch, MESSAGES_MAX, &n) != MDBUS_DECODE_OK) {
		it->flags |= MDBUS_FEED_WHOLE;
		p->malformed++;
		return 0;
	}
	it->nmsg = n;
	it->msg = p->msgs.n;
	msg = vec_add(&p->msgs, n, sizeof(*msg));
	if (n && !msg)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		msg[i] = scratch[i];
		if (l->unit == MDBUS_UNIT_ARRIVAL)
			msg[i].seq = ++st->arrivals;
		else if (d.event == MDBUS_EVENT_UNSEQ)
			msg[i].seq = 0;
	}
	number_item(p, st, it, &d, payload, msg);
	return 0;
}

static uint64_t file_time(struct pcap_source *p, uint64_t ts)
{
	uint64_t pause;

	if (p->items.n == 0)
		p->first_ts = p->last_ts = ts;
	ts = ts > p->last_ts ? ts : p->last_ts;
	pause = ts - p->last_ts;
	if (p->o.idle_max_ns && pause > p->o.idle_max_ns)
		p->cut += pause - p->o.idle_max_ns;
	p->last_ts = ts;
	return ts - p->first_ts - p->cut;
}

static int add_packet(struct pcap_source *p, const struct mdbus_pcap_packet *packet, const struct mdbus_udp *udp,
                      struct mdbus_message *scratch)
{
	const uint8_t *payload = packet->frame + udp->off;
	struct item it = { .ts = file_time(p, packet->ts_ns), .off = p->bytes.n, .len = udp->len };
	struct stream *st = find_stream(p, udp, payload, &it.stream);
	uint8_t *copy = vec_add(&p->bytes, udp->len, 1);
	struct item *slot;
	int rc;

	if (!st || !copy)
		return -ENOMEM;
	memcpy(copy, payload, udp->len);
	rc = read_messages(p, st, &it, payload, scratch);
	if (rc)
		return rc;
	it.epoch = st->track.epoch ? st->track.epoch : 1;
	it.session_no = st->track.session_no ? (uint32_t)st->track.session_no : 1;
	it.next = st->track.next;
	if (it.nmsg && !it.log_flags) {
		st->last = (int64_t)p->items.n;
		if (st->in_epoch++ < p->o.protect_first)
			it.flags |= MDBUS_FEED_PROTECT;
	}
	slot = vec_add(&p->items, 1, sizeof(*slot));
	if (!slot)
		return -ENOMEM;
	*slot = it;
	if (it.len > p->s.max_payload)
		p->s.max_payload = it.len;
	return 0;
}

/* Mark the ends of the last epochs, and the packets before each end that are to be safe. */
static int mark_ends(struct pcap_source *p)
{
	uint32_t *left = calloc(p->s.nstream + 1u, sizeof(*left));

	if (!left)
		return -ENOMEM;
	for (uint32_t i = 0; i < p->s.nstream; i++)
		if (p->stream[i]->last >= 0)
			items(p)[p->stream[i]->last].flags |= MDBUS_FEED_EPOCH_END;
	for (size_t i = p->items.n; i-- > 0;) {
		struct item *it = &items(p)[i];

		if (it->flags & MDBUS_FEED_EPOCH_END)
			left[it->stream] = p->o.protect_last;
		if (it->nmsg && left[it->stream]) {
			it->flags |= MDBUS_FEED_PROTECT;
			left[it->stream]--;
		}
	}
	free(left);
	return 0;
}

static int read_file(struct pcap_source *p, char *err, size_t errlen)
{
	struct mdbus_message *scratch = malloc(MESSAGES_MAX * sizeof(*scratch));
	struct mdbus_pcap_packet packet;
	struct mdbus_pcap *file;
	struct mdbus_udp udp;
	int rc, got = 0;

	rc = mdbus_pcap_open(p->o.path, &file, err, errlen);
	if (rc) {
		free(scratch);
		return rc;
	}
	rc = scratch ? 0 : -ENOMEM;
	while (!rc && (got = mdbus_pcap_next(file, &packet)) > 0)
		if (mdbus_pcap_udp(file, &packet, &udp) == MDBUS_FRAME_UDP)
			rc = add_packet(p, &packet, &udp, scratch);
	if (!rc && got < 0) {
		snprintf(err, errlen, "%s", mdbus_pcap_error(file));
		rc = got;
	} else if (!rc && p->items.n == 0) {
		snprintf(err, errlen, "%s: no UDP packet in it; nothing to send", p->o.path);
		rc = -ENODATA;
	} else if (!rc) {
		rc = mark_ends(p);
	}
	if (rc == -ENOMEM)
		snprintf(err, errlen, "%s: too large for memory, or more than %u streams", p->o.path, STREAMS_MAX);
	mdbus_pcap_close(file);
	free(scratch);
	return rc;
}

static bool pcap_peek(struct mdbus_feed_source *s, struct mdbus_feed_when *when)
{
	struct pcap_source *p = (struct pcap_source *)s;

	if (p->at == p->items.n) {
		if (p->items.n == 0 || ++p->loop >= p->o.loops)
			return false;
		p->loop_ts += items(p)[p->items.n - 1].ts + 1000000;
		p->at = 0;
	}
	when->message = p->sent;
	when->ts_ns = p->loop_ts + items(p)[p->at].ts;
	return true;
}

static void pcap_take(struct mdbus_feed_source *s, struct mdbus_feed_packet *out)
{
	struct pcap_source *p = (struct pcap_source *)s;
	const struct item *it = &items(p)[p->at++];
	const struct mdbus_feed_track *t = &p->stream[it->stream]->track;

	*out = (struct mdbus_feed_packet){
		.data = (const uint8_t *)p->bytes.data + it->off,
		.len = it->len,
		.stream = it->stream,
		.flags = it->flags,
		.log_flags = it->log_flags,
		.epoch = it->epoch + p->loop * t->epoch,
		.nmsg = it->nmsg,
		.session_no = it->session_no + (t->session_no > 1 ? p->loop * t->session_no : 0),
		.session = it->session,
		.next = it->next,
		.msg = (const struct mdbus_message *)p->msgs.data + it->msg,
	};
	p->sent += it->nmsg;
}

static const char *pcap_stream_name(const struct mdbus_feed_source *s, uint32_t stream)
{
	return ((const struct pcap_source *)s)->stream[stream]->name;
}

static bool pcap_stream_addr(const struct mdbus_feed_source *s, uint32_t stream, uint32_t *addr, uint16_t *port)
{
	const struct stream *st = ((const struct pcap_source *)s)->stream[stream];

	*addr = st->addr;
	*port = st->port;
	return true;
}

static void pcap_drop(struct mdbus_feed_source *s, uint32_t stream)
{
	struct pcap_source *p = (struct pcap_source *)s;
	size_t n = 0;

	for (size_t i = 0; i < p->items.n; i++)
		if (items(p)[i].stream != stream)
			items(p)[n++] = items(p)[i];
	p->items.n = n;
}

static void pcap_close(struct mdbus_feed_source *s)
{
	struct pcap_source *p = (struct pcap_source *)s;

	for (uint32_t i = 0; i < p->s.nstream; i++)
		free(p->stream[i]);
	free(p->stream);
	free(p->bytes.data);
	free(p->items.data);
	free(p->msgs.data);
	free(p);
}

struct mdbus_feed_source *mdbus_feed_pcap_open(const struct mdbus_feed_pcap_options *options, uint64_t *malformed,
                                               char *err, size_t errlen)
{
	struct pcap_source *p = calloc(1, sizeof(*p));

	if (!p) {
		snprintf(err, errlen, "out of memory");
		return NULL;
	}
	p->o = *options;
	p->s = (struct mdbus_feed_source){
		.layout = options->layout,
		.peek = pcap_peek,
		.take = pcap_take,
		.stream_name = pcap_stream_name,
		.stream_addr = pcap_stream_addr,
		.drop = pcap_drop,
		.close = pcap_close,
	};
	if (read_file(p, err, errlen)) {
		pcap_close(&p->s);
		return NULL;
	}
	*malformed = p->malformed;
	return &p->s;
}
