/* SPDX-License-Identifier: Apache-2.0
 *
 * The text form of layouts: what is accepted, what is refused in which words, and that a layout damaged in memory is
 * either refused or harmless.
 */
#include "layout_bed.h"

#define NBUILTIN 17

static struct mdbus_layout layout;
static char err[512];

/* Single quotes stand for double ones. */
static const char *json(const char *text)
{
	static char out[4096];
	size_t i;

	for (i = 0; text[i]; i++)
		out[i] = text[i] == '\'' ? '"' : text[i];
	out[i] = 0;
	return out;
}

static void accept(const char *text, const char *name)
{
	if (mdbus_layout_parse(json(text), name, &layout, err, sizeof(err))) {
		printf("refused: %s\n%s\n", text, err);
		exit(1);
	}
	CHECK(mdbus_layout_check(&layout) == 0);
}

static void refuse(const char *text, const char *name, const char *why)
{
	err[0] = 0;
	if (mdbus_layout_parse(json(text), name, &layout, err, sizeof(err)) != -EINVAL || !strstr(err, why)) {
		printf("%s\nsaid: '%s'\nnot:  '%s'\n", text, err, why);
		exit(1);
	}
}

/* A layout that is right but for the members given. */
#define BASE "{'e':'be','hdr':20,\n'unit':'msg','seq':['h',10,8],'count':['h',18,2],'msglen':[0,2,2]"
static void refuse_with(const char *members, const char *why)
{
	char text[2048];

	snprintf(text, sizeof(text), BASE ",\n%s}", members);
	refuse(text, "x", why);
}

static void builtins(void)
{
	const struct mdbus_layout *l;
	size_t n = 0;

	for (; (l = mdbus_layout_builtin_at(n)); n++) {
		CHECK(mdbus_layout_check(l) == 0);
		CHECK(mdbus_layout_builtin(l->name) == l);
	}
	CHECK_U64(n, NBUILTIN);
	CHECK(mdbus_layout_builtin("no such feed") == NULL);
}

static void accepted(void)
{
	accept(BASE "}", "x");
	CHECK(!strcmp(layout.name, "x") && layout.big_endian && layout.end_count && layout.hdr == 20 &&
	      layout.msg_min == 2);
	accept(BASE ",'rules':null,'key':null,'wrap':null,'time':null,'note':'text'}", "x");
	accept("{'a':" BASE "}}", NULL);
	CHECK(!strcmp(layout.name, "a"));
	accept("{'a':" BASE "},'b':" BASE ",'end':'payload','align':4}}", "b");
	CHECK(!strcmp(layout.name, "b") && !layout.end_count && layout.align == 4);
	accept("{'e':'le','hdr':3,'unit':'pkt','seq':['h',0,3]}", "three bytes");
	accept("{'e':'le','hdr':0,'unit':'msg','seq':['m',4,4],'msglen':[0,4,-4]}", "no header");
	CHECK_U64(layout.msg_min, 8);
	accept("{'e':'be','hdr':16,'unit':'pkt','seq':['h',8,4],'session':[['h',0,4,4294967295],['h',4,9]],"
	       "'key':[['h',12,2,14],['h',14,1]],'rules':[{'if':[['h',12,1,'&',1]],'act':'opaque'}]}", "masked");
	CHECK(layout.session[0].mask == UINT32_MAX && layout.session[1].mask == 0 && layout.session_bytes == 13);
	CHECK(layout.key[0].mask == 14 && layout.key[1].mask == 0 && layout.key_bytes == 3);
	CHECK(layout.rule[0].opaque && !layout.rule[0].retrans && layout.rule[0].event == MDBUS_EVENT_NONE);
}

static void refused(void)
{
	refuse("{'e':", "x", "line 1: not JSON");
	refuse("[]", "x", "line 1: must be an object");
	refuse("{\n'a':{},\n'b':{}}", NULL, "2 layouts, so one must be named: a, b");
	refuse("{\n'a':{},\n'b':{}}", "c", "no layout \"c\" here, but: a, b");
	refuse("{\n'a':5}", "a", "line 2: layout \"a\": must be an object");
	refuse("{\n\n'a':{'e':'le','unit':'pkt'}}", "a", "line 3: layout \"a\": \"hdr\" is missing");
	refuse(BASE "}", "a name that is longer than any name may be", "its name must have 1 to 31 bytes");
	refuse("{'e':'be','hdr':20,'hdr':20}", "x", "duplicate object key");
	refuse_with("'sequence':1", "line 3: layout \"x\": sequence: unknown member");
	refuse_with("'key':\n[['h',0,1],\n['h',20,1]]", "line 5: layout \"x\": key[1]: reaches beyond the header");
	refuse_with("'key':[['m',0,1]]", "key[0]: must be a field of the header");
	refuse_with("'key':[['h',0,20],['h',0,20]]", "key[1]: all fields together have more than 32 bytes");
	refuse_with("'key':[['h',0,1],['h',0,1],['h',0,1],['h',0,1],['h',0,1]]",
	            "key: must be a list of at most 4 fields");
	refuse_with("'session':[['h',0]]", "session[0]: must be [where, offset, width]");
	refuse_with("'session':[['h',0,2,1,1]]",
	            "session[0]: must be [where, offset, width] or [where, offset, width, mask]");
	refuse_with("'session':[['h',0,2,0]]", "mask must be a whole number from 1");
	refuse_with("'session':[['h',0,2,65536]]", "session[0]: the mask has bits that the field has not");
	refuse_with("'key':[['h',0,1],['h',0,5,1]]", "key[1]: a field with a mask has 1 to 4 bytes");
	refuse_with("'time':['h',0,4,1]", "time: must be [where, offset, width]");
	refuse_with("'rules':[{'if':[['h',0,1,'==',1]],'act':'opaque'}]", "rules[0]: \"opaque\" needs \"unit\"");
	refuse_with("'session':[['x',0,1]]", "session[0]: must be one of \"h\", \"m\"");
	refuse_with("'session':[['h',-1,1]]", "offset must be a whole number from 0");
	refuse_with("'session':[['h',0,0]]", "width must be a whole number from 1");
	refuse_with("'session':[['h',0.5,1]]", "offset must be a whole number");
	refuse_with("'pktlen':['h',0,8]", "pktlen: a length or count has 1 to 4 bytes");
	refuse_with("'pktlen':['h',0,2,70000]", "pktlen: the bias must lie within");
	refuse_with("'time':['h',0,9]", "time: a number has 1 to 8 bytes");
	refuse_with("'align':-2", "align: it must be a whole number from 0 to 64");
	refuse_with("'end':'size'", "end: must be one of \"payload\", \"count\"");
	refuse_with("'wrap':''", "wrap: must be one of \"max->1\", \"reset\"");
	refuse_with("'note':1", "note: must be text");
	refuse_with("'rules':{}", "rules: must be a list of at most 8 rules");
	refuse_with("'rules':[{},{},{},{},{},{},{},{},{}]", "rules: must be a list of at most 8 rules");
	refuse_with("'rules':[5]", "rules[0]: must be an object");
	refuse_with("'rules':[{'act':'eos'}]", "rules[0]: \"if\" has 1 to 4 conditions");
	refuse_with("'rules':[{'if':[]}]", "rules[0].if: must be a list of 1 to 4 conditions");
	refuse_with("'rules':[\n{'if':[['h',0,1,'==',1]],'act':'eos'},\n{'if':[['h',0,1,'==',1]]}]",
	            "line 5: layout \"x\": rules[1]: \"act\" must say");
	refuse_with("'rules':[{'if':[['h',0,1,'==',1]],'act':'end'}]", "rules[0].act: must be one of \"heartbeat\"");
	refuse_with("'rules':[{'if':[['h',0,1,'==',1]],'act':'eos','seq':'field'}]", "\"field\" needs \"field\"");
	refuse_with("'rules':[{'if':[['h',0,1,'==',1]],'act':'eos','nomsg':1}]",
	            "rules[0].nomsg: must be true or false");
	refuse_with("'rules':[{'if':[['h',0,1,'==',1]],'then':1}]", "rules[0].then: unknown member");
	refuse_with("'rules':[{'act':'eos','if':[['h',0,1,'==',1],\n['h',0,1,'<',1]]}]",
	            "line 4: layout \"x\": rules[0].if[1]: must be one");
	refuse_with("'rules':[{'act':'eos','if':[['h',0,1,'==',[1]]]}]", "only \"in\" takes a list");
	refuse_with("'rules':[{'act':'eos','if':[['h',0,1,'in',1]]}]", "only \"in\" takes a list");
	refuse_with("'rules':[{'act':'eos','if':[['h',0,1,'in',[]]]}]", "takes 1 to 16 values");
	refuse_with("'rules':[{'act':'eos','if':[['h',0,1,'==',-1]]}]", "value must be a whole number from 0");
	refuse_with("'rules':[{'act':'eos','if':[['h',20,1,'==',1]]}]", "rules[0]: reaches beyond the header");
	refuse_with("'rules':[{'act':'eos','if':[['m',2000,1,'==',1]]}]", "rules[0]: reaches too far into a message");
	refuse("{'e':'be','hdr':8,'unit':'msg','seq':['h',0,8]}", "x", "msglen: is needed");
	refuse("{'e':'be','hdr':8,'unit':'pkt'}", "x", "seq: is needed");
	refuse("{'e':'be','hdr':8,'unit':'pkt','seq':['m',0,8],'msglen':[0,2,0]}", "x",
	       "seq: can stand within a message only if");
	refuse("{'e':'be','hdr':8,'unit':'pkt','seq':['h',0,4],'rules':[{'act':'eos','if':[['m',0,1,'==',1]]}]}", "x",
	       "lies within a message, but there is no \"msglen\"");
	refuse("{'e':'be','hdr':8,'unit':'arrival'}", "x", "key: is needed");
	refuse("{'e':'be','hdr':8,'unit':'msg','seq':['h',0,8],'msglen':[0,2,0],'end':'count'}", "x",
	       "\"count\" needs a \"count\"");
}

/* Every condition in both forms it is evaluated in says the same: compared as it lies, and as a number. */
static void conditions(void)
{
	static const char *const ops[] = { "==", "!=", "&" };
	char text[512];
	uint8_t b[16];

	for (unsigned i = 0; i < 2 * 3 * 8 * 8; i++) {
		unsigned big = i % 2, op = i / 2 % 3, width = i / 6 % 8 + 1, off = i / 48;
		uint64_t field = 0, values[4], v;

		for (unsigned k = 0; k < sizeof(b); k++)
			b[k] = (uint8_t)(0x11 * (k + 1));
		for (unsigned k = 0; k < width; k++)
			field = field << 8 | b[off + (big ? k : width - 1 - k)];
		values[0] = field & INT64_MAX, values[1] = field ^ 1, values[2] = ~field & 0x7f,
		values[3] = UINT64_C(1) << 62;
		for (unsigned k = 0; k < 4; k++) {
			struct mdbus_packet p;
			bool holds;

			v = values[k] & INT64_MAX;
			snprintf(text, sizeof(text),
			         "{'e':'%s','hdr':16,'unit':'pkt','seq':['h',0,1],'rules':[{'act':'reset',"
			         "'if':[['h',%u,%u,'%s',%llu]]}]}",
			         big ? "be" : "le", off, width, ops[op], (unsigned long long)v);
			accept(text, "x");
			holds = op == 0 ? field == v : op == 1 ? field != v : (field & v) != 0;
			CHECK(mdbus_layout_decode(&layout, guard_put(b, 16), 16, &p) == MDBUS_DECODE_OK);
			CHECK_U64(p.event, holds ? MDBUS_EVENT_RESET : MDBUS_EVENT_NONE);
		}
	}
}

/* The messages of a feed that does not count them, up to the pad at the packet's end. */
static void padded(void)
{
	struct packet p = { .big = true };
	struct mdbus_packet d;
	uint32_t walked;

	accept("{'e':'be','hdr':4,'unit':'msg','seq':['h',0,4],'msglen':[0,1,0],'align':4,'wrap':null}", "padded");
	put(&p, 4, 10);
	for (unsigned i = 0; i < 3; i++) {
		put(&p, 1, 5);
		fill(&p, 4, 0);
	}
	for (unsigned pad = 0; pad < 6; pad++, fill(&p, 1, 0)) {
		const uint8_t *payload = guard_put(p.b, p.n);

		CHECK(mdbus_layout_decode(&layout, payload, p.n, &d) == MDBUS_DECODE_OK);
		CHECK_U64(d.count, 3);
		CHECK_U64(d.next_seq, 13);
		CHECK_U64(mdbus_layout_messages(&layout, payload, p.n, &d, msg, MESSAGES, &walked),
		          pad < 4 ? MDBUS_DECODE_OK : MDBUS_DECODE_BAD_LENGTH);
		CHECK_U64(walked, 3);
	}
}

static void files(void)
{
	char path[] = "/tmp/mdbus-layout.XXXXXX";
	int fd = mkstemp(path);
	const char *text = json("{'b3':" BASE "},\n'pitch':" BASE ",'unit':5}}");

	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	CHECK(mdbus_layout_load(path, "b3", &layout, err, sizeof(err)) == -EINVAL); /* "unit" twice */
	CHECK(strstr(err, path) == err && strstr(err, ":4: not JSON: duplicate"));
	text = json("{'b3':" BASE "},\n'pitch':" BASE ",\n'wrap':5}}");
	CHECK(pwrite(fd, text, strlen(text), 0) == (ssize_t)strlen(text) && ftruncate(fd, (off_t)strlen(text)) == 0);
	CHECK(mdbus_layout_load(path, "b3", &layout, err, sizeof(err)) == 0);
	CHECK(mdbus_layout_load(path, "pitch", &layout, err, sizeof(err)) == -EINVAL);
	CHECK(strstr(err, path) == err && strstr(err, ":5: layout \"pitch\": wrap: must be one of"));
	CHECK(mdbus_layout_load(path, "pitch", &layout, err, 10) == -EINVAL && strlen(err) < 10);
	CHECK(ftruncate(fd, 2 << 20) == 0);
	CHECK(mdbus_layout_load(path, "b3", &layout, err, sizeof(err)) == -EFBIG);
	close(fd);
	unlink(path);
	CHECK(mdbus_layout_load(path, NULL, &layout, err, sizeof(err)) == -ENOENT && strstr(err, path) == err);
}

/* Each byte of each layout damaged: refused, or the decoder stays inside the packet all the same. */
static void damaged(void)
{
	static const uint8_t forged[] = { 0, 1, 3, 9, 0x80, 0xff };
	const struct mdbus_layout *l;
	unsigned kept = 0;
	uint8_t b[64];

	for (unsigned i = 0; i < sizeof(b); i++)
		b[i] = (uint8_t)(i % 5);
	for (size_t n = 0; (l = mdbus_layout_builtin_at(n)); n++) {
		for (size_t i = 0; i < sizeof(layout); i++) {
			layout = *l;
			((uint8_t *)&layout)[i] = forged[(i + n) % sizeof(forged)];
			if (mdbus_layout_check(&layout))
				continue;
			kept++;
			for (uint32_t len = 0; len <= sizeof(b); len += 16)
				check_any(&layout, b, len);
		}
	}
	CHECK(kept > 0);
}

static void noise(void)
{
	uint64_t x = 88172645463325252u;
	const struct mdbus_layout *l;
	uint8_t b[96];

	for (unsigned round = 0; round < 20000; round++) {
		for (unsigned i = 0; i < sizeof(b); i++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			b[i] = round % 2 ? (uint8_t)x : (uint8_t)(x % 24);
		}
		l = mdbus_layout_builtin_at(round % NBUILTIN);
		check_any(l, b, (uint32_t)(x >> 32) % (sizeof(b) + 1));
	}
}

int main(void)
{
	builtins();
	accepted();
	refused();
	conditions();
	padded();
	files();
	damaged();
	noise();
	return 0;
}
