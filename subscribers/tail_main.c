/* SPDX-License-Identifier: Apache-2.0
 *
 * tail_main.c - mdbus-tail: print what a subscriber sees, record by record.
 *
 * A message is formatted from where it lies in shared memory, straight into the output buffer, and only then asked
 * whether it was whole; if not, the buffer stays where it was.  Everything of a line that does
 * not change from record to record (names, keys) is made once, at the start.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <mdbus/atomics.h>
#include "tool.h"

#define OUT_SIZE     (1u << 20)
#define LINES        16u
#define MESSAGE_MAX  65535u /* ABI bound of a message's length */
#define NAME_BYTES   256u   /* a name of the bus, escaped, with its key */
#define WAIT_NS      100000000u

static const struct mdbus_tool tool = {
	.name = "mdbus-tail",
	.synopsis = "BUS[/CHANNEL]",
	.about = "Prints each record of the bus, or of one channel of it, in the order every subscriber sees.\n"
		 "With --json, one object a line:\n"
		 "  channel, epoch, seq, kind (data|gap|reset|overrun) always;\n"
		 "  data: len, line, rx_ns (when ingest took the packet from its queue, ns since 1970; null: not known),\n"
		 "        payload (hex), and retrans:true for a retransmission, ahead:true for one that did not\n"
		 "        wait for its turn (--unordered);\n"
		 "  gap: count (numbers lost on all lines, from seq on); reset: next (first number of the new epoch);\n"
		 "  overrun: count (records this reader was too slow for).\n"
		 "Ends on SIGINT, SIGTERM, a closed pipe, --count or --until-idle-ms; what was read is always written.\n",
};

static struct {
	int json, spin, until_idle_ms, unordered;
	long long count;
	char *from;
} opt;

static const struct poptOption options[] = {
	{ "json", 'j', POPT_ARG_NONE, &opt.json, 0, "One JSON object per record", NULL },
	{ "from", 'f', POPT_ARG_STRING, &opt.from, 0, "Start at new records (head) or the oldest still there", "head|oldest" },
	{ "count", 'n', POPT_ARG_LONGLONG, &opt.count, 0, "End after N records", "N" },
	{ "unordered", 'u', POPT_ARG_NONE, &opt.unordered, 0, "While a hole is open, print what lies beyond it at once", NULL },
	{ "until-idle-ms", 0, POPT_ARG_INT, &opt.until_idle_ms, 0, "End when no record came for N ms", "N" },
	{ "spin", 0, POPT_ARG_NONE, &opt.spin, 0, "Never sleep: for a core of its own", NULL },
	POPT_TABLEEND
};

/* The unchanging parts of a line of output. */
struct part {
	char text[NAME_BYTES];
	size_t len;
};

struct tail {
	struct mdbus_sub *sub;
	struct mdbus_out out;
	uint64_t wall;
	uint32_t nchannel;
	struct part *channel;      /* {"channel":"x","epoch":   or   x */
	struct part line[LINES];   /* ,"line":"A","rx_ns":      or   A */
};

static void make_channel(struct part *part, const char *name)
{
	char *p = part->text;

	if (opt.json) {
		p = mdbus_put_literal(p, "{\"channel\":");
		p = mdbus_put_json_string(p, name);
		p = mdbus_put_literal(p, ",\"epoch\":");
	} else {
		p = mdbus_put_bytes(p, name, strlen(name));
		*p++ = ' ';
	}
	part->len = (size_t)(p - part->text);
}

static void make_line(struct part *part, const char *name)
{
	char *p = part->text;

	if (opt.json) {
		p = mdbus_put_literal(p, ",\"line\":");
		p = name ? mdbus_put_json_string(p, name) : mdbus_put_literal(p, "null");
		p = mdbus_put_literal(p, ",\"rx_ns\":");
	} else {
		p = mdbus_put_literal(p, " line ");
		p = name ? mdbus_put_bytes(p, name, strlen(name)) : mdbus_put_literal(p, "?");
	}
	part->len = (size_t)(p - part->text);
}

/* A name as long as the buffers allow; names of a bus are shorter (31 bytes), this only bounds a damaged one. */
static const char *bounded(const char *name, char *buf, size_t size)
{
	if (name == NULL)
		return NULL;
	snprintf(buf, size, "%s", name);
	return buf;
}

static int tail_setup(struct tail *t)
{
	char name[32];

	t->wall = mdbus_sub_wall_offset(t->sub);
	t->nchannel = mdbus_sub_channels(t->sub);
	t->channel = calloc(t->nchannel ? t->nchannel : 1u, sizeof(*t->channel));
	if (t->channel == NULL || mdbus_out_open(&t->out, STDOUT_FILENO, OUT_SIZE) != 0)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->nchannel; i++) {
		const char *n = bounded(mdbus_sub_channel_name(t->sub, i), name, sizeof(name));

		make_channel(&t->channel[i], n ? n : "?");
	}
	for (uint32_t i = 0; i < LINES; i++)
		make_line(&t->line[i], bounded(mdbus_sub_line_name(t->sub, i), name, sizeof(name)));
	return 0;
}

static char *put_part(char *p, const struct part *part)
{
	return mdbus_put_bytes(p, part->text, part->len);
}

static const struct part *line_part(const struct tail *t, const struct mdbus_record *r)
{
	return &t->line[r->line < LINES ? r->line : LINES - 1u];
}

/* ---- JSON ------------------------------------------------------------------------------------------------------ */

static char *put_json(const struct tail *t, char *p, const struct mdbus_record *r)
{
	p = put_part(p, &t->channel[r->channel]);
	p = mdbus_put_u64(p, r->epoch);
	p = mdbus_put_literal(p, ",\"seq\":");
	p = mdbus_put_u64(p, r->seq);
	switch (r->kind) {
	case MDBUS_RECORD_DATA:
		p = mdbus_put_literal(p, ",\"kind\":\"data\",\"len\":");
		p = mdbus_put_u64(p, r->len);
		p = put_part(p, line_part(t, r));
		p = r->rx_ns ? mdbus_put_u64(p, r->rx_ns + t->wall) : mdbus_put_literal(p, "null");
		if (r->retrans)
			p = mdbus_put_literal(p, ",\"retrans\":true");
		if (r->ahead)
			p = mdbus_put_literal(p, ",\"ahead\":true");
		p = mdbus_put_literal(p, ",\"payload\":\"");
		p = mdbus_put_hex(p, r->data, r->len);
		return mdbus_put_literal(p, "\"}\n");
	case MDBUS_RECORD_GAP:
		p = mdbus_put_literal(p, ",\"kind\":\"gap\",\"count\":");
		break;
	case MDBUS_RECORD_RESET:
		p = mdbus_put_literal(p, ",\"kind\":\"reset\",\"next\":");
		break;
	default:
		p = mdbus_put_literal(p, ",\"kind\":\"overrun\",\"count\":");
	}
	p = mdbus_put_u64(p, r->count);
	return mdbus_put_literal(p, "}\n");
}

/* ---- text ------------------------------------------------------------------------------------------------------ */

static char *put_clock(char *p, uint64_t wall_ns)
{
	time_t seconds = (time_t)(wall_ns / 1000000000u);
	struct tm tm;
	char text[48];
	int n;

	gmtime_r(&seconds, &tm);
	n = snprintf(text, sizeof(text), " %02d:%02d:%02d.%09u", tm.tm_hour, tm.tm_min, tm.tm_sec,
	             (unsigned)(wall_ns % 1000000000u));
	return mdbus_put_bytes(p, text, (size_t)n);
}

/* Rows of 16 bytes: offset, hex, ASCII. 82 bytes of output a row at most. */
static char *put_dump(char *p, const uint8_t *data, uint32_t len)
{
	for (uint32_t at = 0; at < len; at += 16u) {
		uint32_t n = len - at < 16u ? len - at : 16u;
		const uint8_t offset[2] = { (uint8_t)(at >> 8), (uint8_t)at };

		p = mdbus_put_literal(p, "    ");
		p = mdbus_put_hex(p, offset, 2);
		*p++ = ' ';
		for (uint32_t i = 0; i < 16u; i++) {
			*p++ = ' ';
			p = i < n ? mdbus_put_hex(p, data + at + i, 1) : mdbus_put_literal(p, "  ");
		}
		p = mdbus_put_literal(p, "  ");
		for (uint32_t i = 0; i < n; i++)
			*p++ = data[at + i] >= 0x20u && data[at + i] < 0x7fu ? (char)data[at + i] : '.';
		*p++ = '\n';
	}
	return p;
}

static char *put_text(const struct tail *t, char *p, const struct mdbus_record *r)
{
	p = put_part(p, &t->channel[r->channel]);
	p = mdbus_put_u64(p, r->epoch);
	*p++ = ':';
	p = mdbus_put_u64(p, r->seq);
	switch (r->kind) {
	case MDBUS_RECORD_DATA:
		p = mdbus_put_literal(p, " data ");
		p = mdbus_put_u64(p, r->len);
		p = mdbus_put_literal(p, " bytes");
		p = put_part(p, line_part(t, r));
		if (r->rx_ns)
			p = put_clock(p, r->rx_ns + t->wall);
		if (r->retrans)
			p = mdbus_put_literal(p, " retransmitted");
		if (r->ahead)
			p = mdbus_put_literal(p, " ahead");
		*p++ = '\n';
		return put_dump(p, r->data, r->len);
	case MDBUS_RECORD_GAP:
		p = mdbus_put_literal(p, " GAP, lost on all lines: ");
		break;
	case MDBUS_RECORD_RESET:
		p = mdbus_put_literal(p, " RESET, goes on at ");
		break;
	default:
		p = mdbus_put_literal(p, " OVERRUN, lost to this reader: ");
	}
	p = mdbus_put_u64(p, r->count);
	*p++ = '\n';
	return p;
}

/* ---- the loop -------------------------------------------------------------------------------------------------- */

/* Format a record into the output buffer. False: it was not whole. */
static bool print(struct tail *t, struct mdbus_record *r)
{
	if (r->channel >= t->nchannel || (r->kind == MDBUS_RECORD_DATA && r->len > MESSAGE_MAX))
		return false;
	/* a dump is the longest form: 82 bytes for 16 */
	char *start = mdbus_out_room(&t->out, 2u * NAME_BYTES + 256u + 82u * (size_t)(r->len / 16u + 1u)), *end;

	end = opt.json ? put_json(t, start, r) : put_text(t, start, r);
	if (!mdbus_sub_valid(t->sub, r))
		return false; /* it, or an overrun, comes next */
	t->out.len = (size_t)(end - t->out.buf);
	return true;
}

static void run(struct tail *t)
{
	uint64_t idle_ns = (uint64_t)opt.until_idle_ms * 1000000u, last = mdbus_clock_ns();
	uint64_t wait_ns = idle_ns > 0 && idle_ns / 4u < WAIT_NS ? idle_ns / 4u : WAIT_NS;
	uint32_t misses = 0;
	struct mdbus_record r;

	for (uint64_t n = 0; !mdbus_tool_stopped() && !t->out.broken;) {
		if (mdbus_sub_next(t->sub, &r)) {
			n += print(t, &r);
			misses = 0;
			if (opt.count > 0 && n >= (uint64_t)opt.count)
				return;
			continue;
		}
		if (misses == 0) {
			mdbus_out_flush(&t->out);
			last = mdbus_clock_ns();
		} else if (idle_ns > 0 && mdbus_clock_ns() - last >= idle_ns) {
			return;
		}
		mdbus_tool_idle(t->sub, misses++, opt.spin, wait_ns);
	}
}

int main(int argc, char **argv)
{
	struct tail t = { 0 };
	char *bus;
	int status;

	if (!mdbus_tool_parse(&tool, argc, argv, options, &bus, &status))
		return status;
	if (opt.count < 0 || opt.until_idle_ms < 0) {
		mdbus_tool_error(&tool, "--count and --until-idle-ms take a positive number");
		return MDBUS_TOOL_USAGE;
	}
	mdbus_tool_signals();
	t.sub = mdbus_tool_open(&tool, bus, opt.from, opt.unordered);
	if (t.sub == NULL)
		return MDBUS_TOOL_FAIL;
	status = MDBUS_TOOL_OK;
	if (tail_setup(&t) == 0) {
		run(&t);
	} else {
		mdbus_tool_error(&tool, "out of memory");
		status = MDBUS_TOOL_FAIL;
	}
	mdbus_out_close(&t.out);
	if (t.out.broken && t.out.error != EPIPE && t.out.error != EINTR) {
		mdbus_tool_error(&tool, "cannot write: %s", strerror(t.out.error));
		status = MDBUS_TOOL_FAIL;
	}
	mdbus_sub_close(t.sub);
	free(t.channel);
	free(bus);
	return status;
}
