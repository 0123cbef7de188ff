/* SPDX-License-Identifier: Apache-2.0
 *
 * The configuration: what a good file means, and every mistake of a bad one named by file:line.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <unistd.h>
#include "../mgmt/config.h"
#include "guard.h"

static char dir[64], path[128];
static struct mdbus_config config;

/* Load text; the mistakes are in the result, to be freed. */
static char *load(const char *text, int *rc)
{
	char *mistakes = NULL;
	size_t size;
	FILE *f = fopen(path, "w"), *m = open_memstream(&mistakes, &size);

	CHECK(f && m && fputs(text, f) >= 0 && fclose(f) == 0);
	mdbus_config_free(&config);
	*rc = mdbus_config_load(path, &config, m);
	fclose(m);
	return mistakes;
}

static void good(const char *text)
{
	int rc;
	char *mistakes = load(text, &rc);

	if (rc != 0)
		printf("refused:\n%s---- of\n%s\n", mistakes, text);
	CHECK(rc == 0 && mistakes[0] == '\0');
	free(mistakes);
}

/* Exactly one mistake, at this line, saying this. */
static void bad(unsigned line, const char *says, const char *text)
{
	char at[160];
	int rc;
	char *mistakes = load(text, &rc);

	snprintf(at, sizeof(at), "%s:%u: ", path, line);
	bool ok = rc != 0 && strncmp(mistakes, at, strlen(at)) == 0 && strstr(mistakes, says) &&
	          strchr(mistakes, '\n') == mistakes + strlen(mistakes) - 1u;

	if (!ok)
		printf("expected line %u: ...%s...\ngot %d:\n%s---- of\n%s\n", line, says, rc, mistakes, text);
	CHECK(ok);
	free(mistakes);
}

/* One mistake each in an otherwise good file: `line` or `channel` stands alone on line 3 or 5. */
#define FILE_OF(head, line, channel)                                                    \
	head "buses = ( { name = \"b\"; " "\n"                                        \
	"lines = (\n"                                                                  \
	line "\n"                                                                      \
	"); channels = (\n"                                                            \
	channel "\n"                                                                   \
	"); } );\n"
#define LINE_A    "{ name = \"A\"; backend = \"kernel\"; }"
#define CHANNEL_C "{ name = \"c\"; layout = \"moldudp64\"; flows = { A = \"239.0.0.1:1000\"; }; }"
#define LINE(members)    FILE_OF("", "{ name = \"A\"; backend = \"kernel\"; " members " }", CHANNEL_C)
#define CH(name, layout, flow, members) \
	"{ name = \"" name "\"; layout = \"" layout "\"; flows = { " flow " }; " members " }"
#define TO_A             "A = \"1.2.3.4:5\";"
#define CHANNEL(members) FILE_OF("", LINE_A, CH("c", "moldudp64", "A = \"239.0.0.1:1000\";", members))
#define FLOW(flow)       FILE_OF("", LINE_A, CH("c", "cboe_pitch", flow, ""))

static void test_defaults(void)
{
	good(FILE_OF("", "{ name = \"A\"; backend = \"kernel\"; }", CHANNEL_C));
	CHECK_U64(config.nbus, 1);
	const struct mdbus_config_bus *b = &config.bus[0];
	const struct mdbus_line_desc *l = &b->line[0];
	const struct mdbus_channel_desc *c = &b->channel[0];

	CHECK(strcmp(b->name, "b") == 0 && b->nline == 1 && b->nchannel == 1 && b->nseat == 64);
	CHECK(l->cpu == -1 && l->numa == -1 && l->batch == 64 && l->frames == 16384 && l->idle_spins == 1000);
	CHECK(l->poll_timeout_us == 1000 && l->stale_ms == 1000 && l->stuck_kill_ms == 0 && l->rx_ring == 8192 && l->fill_ring == 1024);
	CHECK(l->group == 0);
	CHECK(strcmp(l->xdp_mode, "auto") == 0 && strcmp(l->xdp_copy, "auto") == 0);
	CHECK(c->depth == 65536 && c->slot_size == 128 && c->timed == 1 && c->ordered == 1 && c->window == 32768);
	CHECK(c->reorder_window == 64 && c->gap_timeout_ns == 10000000 && c->agree_packets == 3 && c->compare_every == 64);
	CHECK(c->line_mask == 1 && c->flow[0].port == 1000 && c->flow[0].addr == inet_addr("239.0.0.1"));
	CHECK(strcmp(c->layout.name, "moldudp64") == 0);
	CHECK(config.subscriber_gid == -1 && config.pages == MDBUS_CONFIG_PAGES_AUTO);
}

static void test_meaning(void)
{
	good("hugepages = \"1G\"; groups = { subscriber = \"root\"; };\n"
	     "buses = ( { name = \"b\"; seats = 3; lines = (\n"
	     "{ name = \"A\"; backend = \"kernel\"; interface = \"lo\"; cpu = 0; batch = 7; frame_size = 4096; },\n"
	     "{ name = \"P\"; backend = \"pcap\"; file = \"x.pcap\"; speed = 0.5; } );\n"
	     "channels = (\n"
	     "{ name = \"p\"; layout = \"cboe_pitch\"; depth = 1024; window = 100; timed = false; flows = {\n"
	     "  A = { to = \"239.1.2.3:65535\"; source = \"10.0.0.1\"; key = \"0b\"; }; }; },\n"
	     "{ name = \"q\"; layout = \"cboe_pitch\"; gap_timeout_us = 5; flows = {\n"
	     "  A = { to = \"239.1.2.3:65535\"; key = \"0C\"; }; }; },\n"
	     "{ name = \"o\"; layout = \"optiq\"; ordered = false; key_age_ms = 3; flows = { P = \"1.2.3.4:5\"; }; } ); } );\n");
	const struct mdbus_config_bus *b = &config.bus[0];

	CHECK(config.pages == MDBUS_CONFIG_PAGES_1G && config.subscriber_gid == 0 && config.ingest_gid == -1);
	CHECK(b->nseat == 3 && b->line[0].idle_spins == 0 && b->line[0].batch == 7 && b->line[0].frame_size == 4096);
	CHECK(b->line[1].pcap_speed_x1000 == 500 && b->line[1].file[0] == '/' && strstr(b->line[1].file, "/x.pcap"));
	CHECK(b->channel[0].window == 100 && b->channel[0].timed == 0 && b->channel[0].flow[0].key[0] == 0x0b);
	CHECK(b->channel[0].flow[0].source == inet_addr("10.0.0.1") && b->channel[0].flow[0].key_len == 1);
	CHECK(b->channel[1].flow[0].key[0] == 0x0c && b->channel[1].gap_timeout_ns == 5000);
	CHECK(b->channel[2].ordered == 0 && b->channel[2].layout.unit == MDBUS_UNIT_ARRIVAL);
}

/* The hash tells buses apart by everything that is in them, and by nothing else. */
static void test_hash(void)
{
	good(FILE_OF("", LINE_A, CHANNEL_C));
	uint64_t first = config.bus[0].hash;

	good(FILE_OF("# a comment\nhugepages = \"never\";\n", LINE_A, CHANNEL_C));
	CHECK_U64(config.bus[0].hash, first);
	good(CHANNEL("depth = 32768;"));
	CHECK(config.bus[0].hash != first);
	good(LINE("queue = 1;"));
	CHECK(config.bus[0].hash != first);
}

static void test_values(void)
{
	bad(3, "unknown key interfac, did you mean interface?", LINE("interfac = \"lo\";"));
	bad(3, "batch = 0: must be from 1 to 1024", LINE("batch = 0;"));
	bad(3, "batch: needs a whole number", LINE("batch = \"64\";"));
	bad(3, "rx_ring = 1000: must be a power of two, such as 1024", LINE("rx_ring = 1000;"));
	bad(3, "frames = 1024: must be at least rx_ring (2048)", LINE("frames = 1024; rx_ring = 2048;"));
	bad(3, "frames = 1024: must be at least rx_ring (1024) and fill_ring (2048)", LINE("frames = 1024; fill_ring = 2048;"));
	good(LINE("frames = 3000;"));
	CHECK(config.bus[0].line[0].rx_ring == 2048 && config.bus[0].line[0].fill_ring == 1024);
	good(FILE_OF("", "{ name = \"A\"; backend = \"pcap\"; file = \"x.pcap\"; }", CHANNEL_C));
	CHECK(config.bus[0].line[0].rx_ring == 8192 && config.bus[0].line[0].fill_ring == 8192);
	bad(3, "cpu = 4000: this host has cores", LINE("cpu = 4000;"));
	bad(3, "did you mean kernel?", FILE_OF("", "{ name = \"A\"; backend = \"kernal\"; }", CHANNEL_C));
	bad(3, "at most 15 characters", LINE("interface = \"0123456789abcdef\";"));
	bad(3, "only for backend = \"pcap\"", LINE("file = \"x\";"));
	bad(3, "file is missing", FILE_OF("", "{ name = \"A\"; backend = \"pcap\"; }", CHANNEL_C));
	bad(3, "name is missing", FILE_OF("", LINE_A ", { backend = \"kernel\"; }", CHANNEL_C));
	bad(3, "a name is letters", FILE_OF("", LINE_A ", { name = \"a/b\"; backend = \"kernel\"; }", CHANNEL_C));
	bad(3, "line 1 has this name already", FILE_OF("", LINE_A ", " LINE_A, CHANNEL_C));
	bad(5, "depth = 1000: must be a power of two", CHANNEL("depth = 1000;"));
	bad(5, "slot_size = 4096: must be from 64 to 2048", CHANNEL("slot_size = 4096;"));
	bad(5, "window = 40000: must be at most half of depth, 32768", CHANNEL("window = 40000;"));
	bad(5, "reorder_window = 600: must be less than window", CHANNEL("depth = 1024; reorder_window = 600;"));
	bad(5, "timed: must be true or false", CHANNEL("timed = 1;"));
	bad(5, "key_window: only for a channel with ordered = false", CHANNEL("key_window = 128;"));
	bad(5, "ordered = false: layout moldudp64", CHANNEL("ordered = false;"));
	bad(5, "channel 1 has this name", FILE_OF("", LINE_A, CHANNEL_C ", " CH("c", "optiq", TO_A, "")));
	bad(5, "did you mean moldudp64?", FILE_OF("", LINE_A, CH("c", "moldudp46", TO_A, "")));
	bad(5, "layout is missing", FILE_OF("", LINE_A, "{ name = \"c\"; flows = { A = \"1.2.3.4:5\"; }; }"));
	bad(5, "has no sequence numbers", FILE_OF("", LINE_A, CH("c", "optiq_key", TO_A, "ordered = true;")));
	bad(1, "seats = 257: must be from 1 to 256", 
	    "buses = ( { name = \"b\"; seats = 257; lines = ( " LINE_A " ); channels = ( " CHANNEL_C " ); } );");
	bad(1, "no such group on this host", FILE_OF("groups = { subscriber = \"no-such-group-here\"; }; ", LINE_A, CHANNEL_C));
	bad(1, "hugepages = \"2G\": must be one of", FILE_OF("hugepages = \"2G\"; ", LINE_A, CHANNEL_C));
}

static void test_flows(void)
{
	good(FLOW("A = { to = \"1.2.3.4:5\"; key = \"0b\"; };"));
	bad(5, "there is no line B", FLOW("A = \"1.2.3.4:5\"; B = \"1.2.3.4:6\";"));
	bad(5, "needs at least one line", FLOW(""));
	bad(5, "is not ADDRESS:PORT", FLOW("A = \"1.2.3.4\";"));
	bad(5, "is not ADDRESS:PORT", FLOW("A = \"1.2.3.4:0\";"));
	bad(5, "is not ADDRESS:PORT", FLOW("A = \"1.2.3.4:65536\";"));
	bad(5, "is not ADDRESS:PORT", FLOW("A = \"1.2.3.4:5x\";"));
	bad(5, "is not ADDRESS:PORT", FLOW("A = \"0.0.0.0:5\";"));
	bad(5, "is not ADDRESS:PORT", FLOW("A = { key = \"0b\"; };"));
	bad(5, "is not an IPv4 address", FLOW("A = { to = \"1.2.3.4:5\"; source = \"x\"; };"));
	bad(5, "two hex digits each", FLOW("A = { to = \"1.2.3.4:5\"; key = \"0\"; };"));
	bad(5, "key: 2 bytes, but the key of layout cboe_pitch has 1", FLOW("A = { to = \"1.2.3.4:5\"; key = \"0b0c\"; };"));
	bad(5, "unknown key kye, did you mean key?", FLOW("A = { to = \"1.2.3.4:5\"; kye = \"0b\"; };"));
	bad(5, "layout optiq has no key fields", 
	    FILE_OF("", LINE_A, CH("c", "optiq", "A = { to = \"1.2.3.4:5\"; key = \"0b\"; };", "")));
#define KEYED(key) "A = { to = \"1.2.3.4:5\"; " key " };"
#define TWO(a, b)  FILE_OF("", LINE_A, CH("c", "cboe_pitch", KEYED(a), "") ", " CH("d", "cboe_pitch", KEYED(b), ""))
	good(TWO("key = \"01\";", "key = \"02\";"));
	bad(5, "channel c of this line has the same address and port", TWO("key = \"01\";", "key = \"01\";"));
	bad(5, "channel c of this line has the same address and port", TWO("", "key = \"01\";"));
	bad(5, "channel c of this line has the same address and port", TWO("", ""));
}

static void test_counts(void)
{
	int rc;
	char *m = load("buses = ( { name = \"b\";\n\nlines = ( {}, {}, {}, {}, {}, {}, {}, {}, {} ); channels = ( ); } );", &rc);

	CHECK(rc != 0 && strstr(m, ":3: bus b: lines: 9 given, must be from 1 to 8"));
	CHECK(strstr(m, ":3: bus b: channels: 0 given, must be from 1 to 1024"));
	free(m);
}

#ifdef MDBUS_HAVE_XDP
static void test_queues(void)
{
#define XDP(name, queue) "{ name = \"" name "\"; backend = \"af_xdp\"; interface = \"eth9\"; queue = " queue "; }"
	good(FILE_OF("", XDP("A", "0") ", " XDP("B", "1"), CHANNEL_C));
	bad(3, "queue 1 of interface eth9 is taken by line A", FILE_OF("", XDP("A", "1") ", " XDP("B", "1"), CHANNEL_C));
	bad(3, "interface is missing", FILE_OF("", "{ name = \"A\"; backend = \"af_xdp\"; }", CHANNEL_C));
}

/* A line that is another queue of a line: of its group, with its flows unless it names others. */
static void test_part_of(void)
{
#define PART(name, queue, of) \
	"{ name = \"" name "\"; backend = \"af_xdp\"; interface = \"eth9\"; queue = " queue "; part_of = \"" of "\"; }"
#define FLOWS(name, flows) "{ name = \"" name "\"; layout = \"moldudp64\"; flows = { " flows " }; }"
	const struct mdbus_config_bus *b = &config.bus[0];

	good(FILE_OF("", PART("A2", "1", "A") ", " XDP("A", "0") ", " XDP("B", "2") ", " PART("A3", "3", "A"),
	             FLOWS("c", "A = \"239.0.0.1:1000\"; B = \"239.0.0.2:1000\";") ", "
	             FLOWS("d", "A = \"239.0.0.1:1001\"; A2 = \"239.0.0.3:1001\";") ", "
	             FLOWS("e", "A3 = \"239.0.0.1:1002\";")));
	CHECK(b->line[0].group == 1 && b->line[1].group == 1 && b->line[2].group == 2 && b->line[3].group == 1);
	CHECK(b->channel[0].line_mask == 0xf && b->channel[1].line_mask == 0xb && b->channel[2].line_mask == 0x8);
	CHECK(b->channel[0].flow[0].addr == inet_addr("239.0.0.1") && b->channel[0].flow[0].port == 1000);
	CHECK(b->channel[0].flow[3].port == 1000 && b->channel[0].flow[2].addr == inet_addr("239.0.0.2"));
	CHECK(b->channel[1].flow[0].addr == inet_addr("239.0.0.3") && b->channel[1].flow[3].addr == inet_addr("239.0.0.1"));
	bad(3, "part_of = \"a\": there is no such line", FILE_OF("", XDP("A", "0") ", " PART("A2", "1", "a"), CHANNEL_C));
	bad(3, "must name a line that is not part of one itself", FILE_OF("", XDP("A", "0") ", " PART("A2", "1", "A2"), CHANNEL_C));
	bad(3, "must name a line that is not part of one itself",
	    FILE_OF("", XDP("A", "0") ", " PART("A2", "1", "A") ", " PART("A3", "2", "A2"), CHANNEL_C));
	bad(3, "that line is on interface eth8, this one on eth9",
	    FILE_OF("", "{ name = \"A\"; backend = \"af_xdp\"; interface = \"eth8\"; }, " PART("A2", "1", "A"), CHANNEL_C));
	bad(3, "both lines must have backend = \"af_xdp\"", FILE_OF("", LINE_A ", " PART("A2", "1", "A"), CHANNEL_C));
	bad(3, "queue 0 of interface eth9 is taken by line A", FILE_OF("", XDP("A", "0") ", " PART("A2", "0", "A"), CHANNEL_C));
	bad(5, "flow A2: channel c of this line has the same address and port", FILE_OF("", XDP("A", "0") ", " PART("A2", "1", "A"),
	    FLOWS("c", "A2 = \"239.0.0.1:1000\";") ", " FLOWS("d", "A = \"239.0.0.1:1000\";")));
}
#else
static void test_part_of(void)
{
}

static void test_queues(void)
{
	bad(3, "built without libxdp", FILE_OF("", "{ name = \"A\"; backend = \"af_xdp\"; interface = \"x\"; }", CHANNEL_C));
}
#endif

/* A DPDK line is on a PCI device or a virtual one, whatever that is called. */
static void test_dpdk(void)
{
#define DPDK(members) FILE_OF("", "{ name = \"A\"; backend = \"dpdk\"; " members " }", CHANNEL_C)
#ifdef MDBUS_HAVE_DPDK
	good(DPDK("interface = \"0000:01:00.0\";"));
	good(DPDK("interface = \"net_af_packet0,iface=eth1,framecnt=8192\";"));
	CHECK(strcmp(config.bus[0].line[0].interface, "net_af_packet0,iface=eth1,framecnt=8192") == 0);
	bad(3, "interface is missing", DPDK(""));
	bad(3, "its queue is 0", DPDK("interface = \"net_null0\"; queue = 1;"));
#else
	bad(3, "built without libdpdk", DPDK("interface = \"net_null0\";"));
#endif
}

/* Several mistakes in one file are all named, in the order of its lines. */
static void test_all_at_once(void)
{
	int rc;
	char *m = load("buss = 1;\nbuses = ( { name = \"b\";\nlines = ( { name = \"A\"; backend = \"kernel\"; batch = 0; } );\n"
	               "channels = ( { name = \"c\"; layout = \"moldudp64\"; depth = 3;\n"
	               " flows = { Z = \"1.2.3.4:5\"; }; } ); } );\n",
	               &rc);
	const char *const says[] = { ":1: unknown key buss, did you mean buses?", ":3: bus b, line A: batch = 0",
		                     ":4: bus b, channel c: depth = 3", ":5: bus b, channel c: flows: there is no line Z" };
	const char *at = m;

	CHECK(rc != 0);
	for (size_t i = 0; i < sizeof(says) / sizeof(says[0]); i++) {
		at = strstr(at, says[i]);
		if (!at)
			printf("not in order or not there: %s in\n%s", says[i], m);
		CHECK(at);
	}
	free(m);
}

static void test_files(void)
{
	char layouts[160];
	int rc;
	char *m;

	bad(2, "syntax error", "buses = (\n{ name = }\n);");
	m = load("", &rc);
	CHECK(rc != 0 && strstr(m, "buses is missing"));
	free(m);
	snprintf(layouts, sizeof(layouts), "%s/l.json", dir);
	FILE *f = fopen(layouts, "w");

	CHECK(f && fputs("{ \"mine\": { \"e\": \"be\", \"hdr\": 8, \"unit\": \"pkt\", \"seq\": [\"h\", 0, 8] } }", f) >= 0);
	fclose(f);
#define MINE(name) FILE_OF("layouts = \"l.json\"; ", LINE_A, CH("c", name, TO_A, ""))
	good(MINE("mine"));
	CHECK(config.bus[0].channel[0].layout.hdr == 8 && config.bus[0].channel[0].layout.big_endian == 1);
	good(MINE("moldudp64"));
	bad(5, "l.json", MINE("mime"));
	unlink(layouts);
	mdbus_config_free(&config);
	CHECK(mdbus_config_load("/nonexistent.conf", &config, stdout) == -2);
	mdbus_config_free(&config);
	CHECK(mdbus_config_load(dir, &config, stdout) != 0);
}

static void clean(void)
{
	unlink(path);
	rmdir(dir);
}

/* Lines that are handed packets: what they are then, and what they cannot be. */
static void test_handed(void)
{
	const char *channel = CH("c", "cboe_pitch", "A = { to = \"239.0.0.1:1000\"; key = \"01\"; };", "");
	char text[2048];

	good(FILE_OF("", "{ name = \"A\"; backend = \"kernel\"; frames = 1024; }, { name = \"H\"; backend = \"handed\"; "
	             "from = \"A\"; }, { name = \"I\"; backend = \"handed\"; from = (\"A\"); }", CHANNEL_C));
	const struct mdbus_line_desc *l = config.bus[0].line;
	const struct mdbus_channel_desc *c = config.bus[0].channel;

	CHECK(l[0].to_mask == 6 && l[1].from_mask == 1 && l[2].from_mask == 1 && l[0].from_mask == 0 && l[1].to_mask == 0);
	CHECK(l[1].group == 0 && l[2].group == 0 && l[0].hand_size == 128 && c->line_mask == 7);
	CHECK(c->flow[1].addr == c->flow[0].addr && c->flow[2].port == 1000);
	snprintf(text, sizeof(text), "buses = ( { name = \"b\"; lines = (\n" LINE_A ", { name = \"H\"; backend = \"handed\"; "
	         "from = \"A\"; }\n); channels = (\n%s\n); } );\n", channel);
	good(text);
	CHECK(config.bus[0].channel->flow[0].key_len == 1 && config.bus[0].channel->flow[1].key_len == 0);
#define HANDED(members) FILE_OF("", LINE_A ",\n{ name = \"H\"; backend = \"handed\"; " members " }", CHANNEL_C)
	bad(4, "from is missing", HANDED(""));
	bad(4, "from = \"X\": this bus has no such line", HANDED("from = \"X\";"));
	bad(4, "is this line itself", HANDED("from = \"H\";"));
	bad(4, "needs the name of a line", HANDED("from = 1;"));
	bad(4, "names no line", HANDED("from = ();"));
	bad(4, "is named twice", HANDED("from = (\"A\", \"A\");"));
	bad(4, "queue: not for backend", HANDED("from = \"A\"; queue = 1;"));
	bad(4, "part_of = \"A\": both lines must", HANDED("from = \"A\"; part_of = \"A\";"));
	bad(4, "frame_size: not for backend", HANDED("from = \"A\"; frame_size = 4096;"));
	bad(4, "file: only for backend", HANDED("from = \"A\"; file = \"x\";"));
	bad(3, "from: only for backend = \"handed\"", LINE("from = \"A\";"));
	bad(5, "is handed packets itself", FILE_OF("", LINE_A ",\n{ name = \"H\"; backend = \"handed\"; from = \"A\"; },\n"
	                                              "{ name = \"I\"; backend = \"handed\"; from = \"H\"; }", CHANNEL_C));
	bad(4, "is a recovery line", FILE_OF("", LINE_A ", { name = \"R\"; backend = \"recover\"; servers = (\"1.2.3.4:5\"); },\n"
	                                        "{ name = \"H\"; backend = \"handed\"; from = \"R\"; }", CHANNEL_C));
	bad(4, "not part of the same line", FILE_OF("", LINE_A ", { name = \"B\"; backend = \"kernel\"; },\n{ name = \"H\"; "
	                                               "backend = \"handed\"; from = (\"A\", \"B\"); }",
	                                               CH("c", "moldudp64", TO_A " B = \"1.2.3.4:6\";", "")));
	bad(6, "leave it out", FILE_OF("", LINE_A ",\n{ name = \"H\"; backend = \"handed\"; from = \"A\"; }",
	                                 CH("c", "moldudp64", TO_A " H = \"1.2.3.4:6\";", "")));
	bad(4, "is pinned there", FILE_OF("", "{ name = \"A\"; backend = \"kernel\"; cpu = 0; },\n{ name = \"H\"; backend = "
	                                     "\"handed\"; from = \"A\"; cpu = 0; }", CHANNEL_C));
}

int main(void)
{
	snprintf(dir, sizeof(dir), "/tmp/mdbus-config.XXXXXX");
	CHECK(mkdtemp(dir) != NULL);
	snprintf(path, sizeof(path), "%s/t.conf", dir);
	atexit(clean);
	test_defaults();
	test_meaning();
	test_hash();
	test_values();
	test_flows();
	test_counts();
	test_queues();
	test_part_of();
	test_handed();
	test_dpdk();
	test_all_at_once();
	test_files();
	mdbus_config_free(&config);
	return 0;
}
