/* SPDX-License-Identifier: Apache-2.0
 *
 * mdbus-decode - what a layout makes of a capture file, packet by packet.
 *
 * It runs the very decoder that the lines run, so it answers two questions: does this layout describe that feed, and
 * what did the feed do.  JSON is printed by hand: every value is a number, an address or hex, nothing needs escaping,
 * and sequence numbers have all 64 bits, which jansson's integers do not.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <popt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <mdbus/layout.h>
#include "pcap_read.h"

#define MESSAGES_MAX 65536 /* a UDP payload is shorter than this, so it cannot hold more */

struct totals {
	uint64_t udp, messages, malformed, fragments, other;
};

struct decoded {
	struct mdbus_pcap_packet packet;
	struct mdbus_udp udp;
	const uint8_t *payload;
	struct mdbus_packet info;
	enum mdbus_decode_error error;
	uint32_t nmsg;
	struct mdbus_message msg[MESSAGES_MAX];
};

static void print_hex(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		printf("%02x", p[i]);
}

static void print_addr(uint32_t addr, uint16_t port)
{
	char text[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &addr, text, sizeof(text));
	printf("%s:%u", text, port);
}

/* group:port and the key bytes, "|" between them: what tells this stream from others. */
static void print_stream(const struct mdbus_layout *l, const struct decoded *d)
{
	uint8_t key[MDBUS_SESSION_MAX], *p = key;

	mdbus_layout_key(l, d->payload, d->udp.len, key);
	print_addr(d->udp.dst, d->udp.dst_port);
	for (unsigned i = 0; i < l->nkey; p += l->key[i++].width) {
		putchar('|');
		print_hex(p, l->key[i].width);
	}
}

/* The packet is a message, but what is inside cannot be told (compressed). */
static bool is_opaque(const struct decoded *d)
{
	return d->info.count == 1 && d->info.frames == 0;
}

/* How many bytes of the packet come after its last message. */
static uint32_t pad_of(const struct decoded *d)
{
	const struct mdbus_message *last = &d->msg[d->nmsg ? d->nmsg - 1 : 0];

	return d->nmsg ? d->info.msgs_end - (last->off + last->len) : 0;
}

/* ---- JSON ---- */

static void json_place(const struct decoded *d)
{
	printf("{\"i\":%" PRIu64 ",\"ts_ns\":%" PRIu64, d->packet.index, d->packet.ts_ns);
}

static void json_udp(const struct decoded *d)
{
	printf(",\"src\":\"");
	print_addr(d->udp.src, d->udp.src_port);
	printf("\",\"dst\":\"");
	print_addr(d->udp.dst, d->udp.dst_port);
	printf("\",\"vlan\":[");
	for (unsigned i = 0; i < d->udp.nvlan; i++)
		printf("%s%u", i ? "," : "", d->udp.vlan[i]);
	printf("],\"udp_off\":%u,\"len\":%u", d->udp.off, d->udp.len);
}

static void json_session(const struct mdbus_layout *l, const struct decoded *d)
{
	uint8_t session[MDBUS_SESSION_MAX], *p = session;

	mdbus_layout_session(l, d->payload, d->udp.len, session);
	printf("\",\"session\":[");
	for (unsigned i = 0; i < l->nsession; p += l->session[i++].width) {
		printf("%s\"", i ? "," : "");
		print_hex(p, l->session[i].width);
		putchar('"');
	}
	putchar(']');
}

static void json_name(const char *member, const char *name)
{
	if (name[0])
		printf(",\"%s\":\"%s\"", member, name);
	else
		printf(",\"%s\":null", member);
}

static void json_messages(const struct mdbus_layout *l, const struct decoded *d)
{
	printf(",\"msgs\":[");
	for (uint32_t i = 0; i < d->nmsg; i++)
		printf("%s[%u,%u]", i ? "," : "", d->msg[i].off, d->msg[i].len);
	putchar(']');
	if (!l->seq.in_message)
		return;
	printf(",\"msg_seqs\":[");
	for (uint32_t i = 0; i < d->nmsg; i++)
		printf("%s%" PRIu64, i ? "," : "", d->msg[i].seq);
	putchar(']');
}

static void json_decoded(const struct mdbus_layout *l, const struct decoded *d)
{
	const struct mdbus_packet *p = &d->info;

	printf(",\"stream\":\"");
	print_stream(l, d);
	json_session(l, d);
	printf(",\"seq\":%" PRIu64 ",\"count\":%u", p->seq, d->nmsg);
	json_name("event", mdbus_event_name(p->event));
	json_name("event_seq", mdbus_event_seq_name(p->event_seq));
	printf(",\"heartbeat\":%s,\"retrans\":%s", p->event == MDBUS_EVENT_HEARTBEAT ? "true" : "false",
	       p->retrans ? "true" : "false");
	if (p->has_next && !d->error)
		printf(",\"next_seq\":%" PRIu64, p->next_seq);
	else
		printf(",\"next_seq\":null");
	json_messages(l, d);
	if (l->pktseq.width)
		printf(",\"pktseq\":%" PRIu64, p->pktseq);
	if (is_opaque(d))
		printf(",\"opaque\":true");
	if (pad_of(d) && !d->error)
		printf(",\"pad\":%u", pad_of(d));
}

/* A packet whose header was refused has no decoded members; one whose messages were has those before the bad one. */
static void print_json(const struct mdbus_layout *l, const struct decoded *d, enum mdbus_frame_verdict verdict,
                       bool have_header)
{
	json_place(d);
	if (verdict != MDBUS_FRAME_UDP) {
		printf(",\"error\":\"%s\"}\n", mdbus_frame_verdict_name(verdict));
		return;
	}
	json_udp(d);
	if (have_header)
		json_decoded(l, d);
	if (d->error)
		printf(",\"error\":\"%s\"", mdbus_decode_error_name(d->error));
	printf("}\n");
}

/* ---- for people ---- */

static void text_place(const struct decoded *d)
{
	time_t seconds = (time_t)(d->packet.ts_ns / 1000000000);
	char text[32] = "";
	struct tm tm;

	if (gmtime_r(&seconds, &tm))
		strftime(text, sizeof(text), "%F %T", &tm);
	printf("%6" PRIu64 " %s.%09" PRIu64, d->packet.index, text, d->packet.ts_ns % 1000000000);
}

static void text_session(const struct mdbus_layout *l, const struct decoded *d)
{
	uint8_t session[MDBUS_SESSION_MAX], *p = session;

	mdbus_layout_session(l, d->payload, d->udp.len, session);
	for (unsigned i = 0; i < l->nsession; p += l->session[i++].width) {
		printf(" session ");
		print_hex(p, l->session[i].width);
	}
}

static void text_decoded(const struct mdbus_layout *l, const struct decoded *d)
{
	const struct mdbus_packet *p = &d->info;

	print_stream(l, d);
	text_session(l, d);
	if (l->seq.width)
		printf(" seq %" PRIu64, p->seq);
	if (l->pktseq.width)
		printf(" packet %" PRIu64, p->pktseq);
	if (p->event != MDBUS_EVENT_NONE)
		printf(" %s %s", mdbus_event_name(p->event), mdbus_event_seq_name(p->event_seq));
	if (p->retrans)
		printf(" retransmission");
	if (p->has_next && !d->error)
		printf(" next %" PRIu64, p->next_seq);
	if (is_opaque(d))
		printf(" opaque");
	printf(", %u bytes, %u message%s", d->udp.len, d->nmsg, d->nmsg == 1 ? "" : "s");
	for (uint32_t i = 0; i < d->nmsg; i++)
		printf("%s%u+%u", i ? " " : ": ", d->msg[i].off, d->msg[i].len);
}

static void print_text(const struct mdbus_layout *l, const struct decoded *d, enum mdbus_frame_verdict verdict,
                       bool have_header)
{
	text_place(d);
	putchar(' ');
	if (verdict != MDBUS_FRAME_UDP) {
		printf("MALFORMED: %s\n", mdbus_frame_verdict_name(verdict));
		return;
	}
	print_addr(d->udp.src, d->udp.src_port);
	printf(" > ");
	if (have_header) {
		text_decoded(l, d);
	} else {
		print_addr(d->udp.dst, d->udp.dst_port);
		printf(" %u bytes", d->udp.len);
	}
	if (d->error)
		printf(", MALFORMED: %s", mdbus_decode_error_name(d->error));
	putchar('\n');
}

/* ---- the file ---- */

static void decode_packet(const struct mdbus_layout *l, struct decoded *d, enum mdbus_frame_verdict verdict, int json,
                          struct totals *t)
{
	bool have_header = false;

	d->error = MDBUS_DECODE_OK;
	d->nmsg = 0;
	if (verdict == MDBUS_FRAME_UDP) {
		d->payload = d->packet.frame + d->udp.off;
		d->error = mdbus_layout_decode(l, d->payload, d->udp.len, &d->info);
		have_header = !d->error;
		if (have_header)
			d->error = mdbus_layout_frames(l, d->payload, d->udp.len, &d->info, d->msg, MESSAGES_MAX,
			                               &d->nmsg);
		t->udp++;
		t->messages += d->nmsg;
	}
	t->malformed += verdict == MDBUS_FRAME_BAD || d->error;
	t->fragments += verdict == MDBUS_FRAME_FRAGMENT;
	if (json)
		print_json(l, d, verdict, have_header);
	else
		print_text(l, d, verdict, have_header);
}

static int decode_file(const struct mdbus_layout *l, const char *path, int json)
{
	static struct decoded d;
	struct totals t = { 0 };
	struct mdbus_pcap *pcap;
	char err[512];
	int rc;

	if (mdbus_pcap_open(path, &pcap, err, sizeof(err))) {
		fprintf(stderr, "mdbus-decode: %s\n", err);
		return 1;
	}
	while ((rc = mdbus_pcap_next(pcap, &d.packet)) == 1 && !ferror(stdout)) {
		enum mdbus_frame_verdict verdict = mdbus_pcap_udp(pcap, &d.packet, &d.udp);

		if (verdict == MDBUS_FRAME_NOT_FEED)
			t.other++;
		else
			decode_packet(l, &d, verdict, json, &t);
	}
	if (rc < 0)
		fprintf(stderr, "mdbus-decode: %s\n", mdbus_pcap_error(pcap));
	mdbus_pcap_close(pcap);
	if (!json)
		printf("%" PRIu64 " UDP packets, %" PRIu64 " messages, %" PRIu64 " malformed, %" PRIu64 " IP fragments, "
		       "%" PRIu64 " other frames\n",
		       t.udp, t.messages, t.malformed, t.fragments, t.other);
	else if (t.malformed || t.fragments)
		fprintf(stderr,
		        "mdbus-decode: %s: %" PRIu64 " malformed packets, %" PRIu64 " IP fragments (see \"error\")\n",
		        path, t.malformed, t.fragments);
	return rc < 0;
}

/* ---- arguments ---- */

static void print_builtins(FILE *f, const char *separator)
{
	const struct mdbus_layout *l;

	for (size_t i = 0; (l = mdbus_layout_builtin_at(i)); i++)
		fprintf(f, "%s%s", i ? separator : "", l->name);
	fputc('\n', f);
}

/* A built-in name, a file with one layout, or FILE:NAME. */
static int find_layout(const char *arg, struct mdbus_layout *out)
{
	const struct mdbus_layout *builtin = mdbus_layout_builtin(arg);
	const char *colon = strrchr(arg, ':');
	char err[768], *file;
	int rc;

	if (builtin) {
		*out = *builtin;
		return 0;
	}
	if (access(arg, F_OK) == 0 || !colon) {
		rc = mdbus_layout_load(arg, NULL, out, err, sizeof(err));
	} else {
		file = strndup(arg, (size_t)(colon - arg));
		if (!file)
			return -ENOMEM;
		rc = mdbus_layout_load(file, colon + 1, out, err, sizeof(err));
		free(file);
	}
	if (rc == -ENOENT && !strchr(arg, '/')) {
		fprintf(stderr, "mdbus-decode: no built-in layout and no file \"%s\"; built in are: ", arg);
		print_builtins(stderr, ", ");
	} else if (rc) {
		fprintf(stderr, "mdbus-decode: %s\n", err);
	}
	return rc;
}

static int usage(poptContext pc, const char *text)
{
	fprintf(stderr, "mdbus-decode: %s\n", text);
	poptPrintUsage(pc, stderr, 0);
	return 2;
}

static int run(poptContext pc, const char *layout_arg, int json)
{
	const char *path = poptGetArg(pc);
	struct mdbus_layout layout;

	if (!path || poptPeekArg(pc))
		return usage(pc, "give one capture file (\"-\" is standard input)");
	if (!layout_arg)
		return usage(pc, "--layout is missing: a built-in name (--list shows them), a file, or FILE:NAME");
	if (find_layout(layout_arg, &layout))
		return 1;
	return decode_file(&layout, path, json);
}

int main(int argc, char **argv)
{
	char *layout_arg = NULL;
	int json = 0, list = 0, version = 0, status, rc;
	const struct poptOption options[] = {
		{ "layout", 'l', POPT_ARG_STRING, &layout_arg, 0, "the feed's layout: built in, or described in a file",
		  "NAME|FILE|FILE:NAME" },
		{ "json", 'j', POPT_ARG_NONE, &json, 0, "one JSON object per UDP packet", NULL },
		{ "list", 0, POPT_ARG_NONE, &list, 0, "print the names of the built-in layouts", NULL },
		{ "version", 0, POPT_ARG_NONE, &version, 0, "print the version", NULL },
		POPT_AUTOHELP POPT_TABLEEND
	};
	poptContext pc = poptGetContext("mdbus-decode", argc, (const char **)argv, options, 0);

	poptSetOtherOptionHelp(pc, "--layout NAME|FILE [--json] PCAP");
	rc = poptGetNextOpt(pc);
	if (rc < -1) {
		fprintf(stderr, "mdbus-decode: %s: %s\n", poptBadOption(pc, 0), poptStrerror(rc));
		status = 2;
	} else if (version) {
		printf("mdbus-decode %s\n", MDBUS_VERSION);
		status = 0;
	} else if (list) {
		print_builtins(stdout, "\n");
		status = 0;
	} else {
		status = run(pc, layout_arg, json);
	}
	poptFreeContext(pc);
	free(layout_arg);
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "mdbus-decode: cannot write the output\n");
		return 1;
	}
	return status;
}
