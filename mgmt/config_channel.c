/* SPDX-License-Identifier: Apache-2.0
 *
 * config_channel.c - the channels of one bus: layouts, rings, flows.
 *
 * A flow says where a channel arrives on one line.  Lines never identify themselves in the payload, so (address, port) and,
 * where several channels share those, the layout's key bytes must name exactly one channel of each line.  A line that is
 * another queue of a line (part_of) has that line's flows where it has none of its own; one that is handed packets has those of the
 * lines it is handed them by.
 */
#include "config_channel.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "../bus/fixed.h"
#include "config_handed.h"
#include "config_recover.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define AT(type, member) offsetof(type, member), sizeof(((type *)0)->member)

#define UNSEQ_SUFFIX ".unseq"
#define KEY_AGE_MIN  50000000u /* ns, for early drop: several ticks of the clock that the XDP program reads */

/* A channel as it stands in the file. */
struct channel_text {
	struct mdbus_channel_desc desc;
	char layout[MDBUS_LAYOUT_NAME_MAX];
};

struct flow_text {
	char to[64], source[64], key[64];
};

static const struct config_key channel_keys[] = {
	{ "name", CONFIG_NAME, AT(struct channel_text, desc.name), 0, 0, 0, NULL },
	{ "layout", CONFIG_TEXT, AT(struct channel_text, layout), 0, 0, 0, NULL },
	{ "depth", CONFIG_POWER, AT(struct channel_text, desc.depth), 64, 1 << 26, 0, NULL },
	{ "slot_size", CONFIG_POWER, AT(struct channel_text, desc.slot_size), MDBUS_SLOT_SIZE_MIN, MDBUS_SLOT_SIZE_MAX, 0,
	  NULL },
	{ "timed", CONFIG_FLAG, AT(struct channel_text, desc.timed), 0, 0, 0, NULL },
	{ "ordered", CONFIG_FLAG, AT(struct channel_text, desc.ordered), 0, 0, 0, NULL },
	{ "window", CONFIG_NUMBER, AT(struct channel_text, desc.window), 1, 1 << 25, 0, NULL },
	{ "reorder_window", CONFIG_NUMBER, AT(struct channel_text, desc.reorder_window), 0, 1 << 25, 0, NULL },
	{ "gap_timeout_us", CONFIG_NUMBER, AT(struct channel_text, desc.gap_timeout_ns), 1, 600000000, 1000, NULL },
	{ "agree_packets", CONFIG_NUMBER, AT(struct channel_text, desc.agree_packets), 1, 1000000, 0, NULL },
	{ "compare_every", CONFIG_NUMBER, AT(struct channel_text, desc.compare_every), 0, 1000000000, 0, NULL },
	{ "key_window", CONFIG_NUMBER, AT(struct channel_text, desc.key_window), 64, 1 << 26, 0, NULL },
	{ "key_age_ms", CONFIG_NUMBER, AT(struct channel_text, desc.key_age_ns), 0, 86400000, 1000000, NULL },
	{ "early_drop", CONFIG_FLAG, AT(struct channel_text, desc.early_drop), 0, 0, 0, NULL },
	{ "unsequenced", CONFIG_FLAG, AT(struct channel_text, desc.unseq_of), 0, 0, 0, NULL },
	{ "flows", CONFIG_OTHER, 0, 0, 0, 0, 0, NULL },
};

static const struct config_key flow_keys[] = {
	{ "to", CONFIG_TEXT, AT(struct flow_text, to), 0, 0, 0, NULL },
	{ "source", CONFIG_TEXT, AT(struct flow_text, source), 0, 0, 0, NULL },
	{ "key", CONFIG_TEXT, AT(struct flow_text, key), 0, 0, 0, NULL },
};

static const config_setting_t *blame(const config_setting_t *s, const char *name)
{
	const config_setting_t *m = config_setting_get_member(s, name);

	return m ? m : s;
}

/* ---- layouts ------------------------------------------------------------------------------------------------- */

static bool file_has_layout(const char *path, const char *name)
{
	json_t *root = path[0] ? json_load_file(path, 0, NULL) : NULL;
	bool found = json_object_get(root, name) != NULL;

	json_decref(root);
	return found;
}

static void unknown_layout(struct config_reader *r, const config_setting_t *at, const char *name, const char *layouts)
{
	char names[64][MDBUS_LAYOUT_NAME_MAX], list[1024] = "", hint[96];
	size_t n = 0;

	for (const struct mdbus_layout *l; n < COUNT(names) && (l = mdbus_layout_builtin_at(n)); n++) {
		memcpy(names[n], l->name, sizeof(names[n]));
		snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s", n ? ", " : "", l->name);
	}
	mdbus_config_mistake(r, at, "layout = \"%s\": neither built in (%s) nor in %s%s", name, list,
	                     layouts[0] ? layouts : "a file that layouts = \"FILE\" names",
	                     mdbus_config_suggest(name, names, n, sizeof(names[0]), false, hint, sizeof(hint)));
}

static bool find_layout(struct config_reader *r, const config_setting_t *at, const char *name, const char *layouts,
                        struct mdbus_layout *out)
{
	const struct mdbus_layout *builtin = mdbus_layout_builtin(name);
	char err[512];

	if (file_has_layout(layouts, name)) {
		if (mdbus_layout_load(layouts, name, out, err, sizeof(err)) == 0)
			return true;
		mdbus_config_mistake(r, at, "layout = \"%s\": %s", name, err);
		return false;
	}
	if (!builtin) {
		unknown_layout(r, at, name, layouts);
		return false;
	}
	*out = *builtin;
	return true;
}

/* A name stands for its twin NAME_key where the channel has no order and NAME itself has one. */
static bool read_layout(struct config_reader *r, const config_setting_t *s, struct channel_text *t, const char *layouts)
{
	const config_setting_t *at = blame(s, "layout");
	struct mdbus_layout *l = &t->desc.layout;
	char twin[MDBUS_LAYOUT_NAME_MAX + 4];

	if (t->layout[0] == '\0') {
		if (at == s)
			mdbus_config_mistake(r, s, "layout is missing");
		return false;
	}
	if (!find_layout(r, at, t->layout, layouts, l))
		return false;
	snprintf(twin, sizeof(twin), "%s_key", t->layout);
	if (!t->desc.ordered && l->unit != MDBUS_UNIT_ARRIVAL && mdbus_layout_builtin(twin))
		*l = *mdbus_layout_builtin(twin);
	if (!config_setting_get_member(s, "ordered"))
		t->desc.ordered = l->unit != MDBUS_UNIT_ARRIVAL;
	if (t->desc.ordered && l->unit == MDBUS_UNIT_ARRIVAL)
		mdbus_config_mistake(r, blame(s, "ordered"),
		                     "ordered = true: layout %s has no sequence numbers (\"unit\": \"arrival\")", l->name);
	if (!t->desc.ordered && (l->unit != MDBUS_UNIT_ARRIVAL || l->nkey == 0))
		mdbus_config_mistake(r, blame(s, "ordered"), "ordered = false: layout %s must have \"unit\": \"arrival\" and "
		                     "key fields to tell a copy from a new message", l->name);
	return true;
}

/* ---- flows --------------------------------------------------------------------------------------------------- */

static bool parse_address(const char *text, size_t len, uint32_t *addr)
{
	char host[64];
	struct in_addr in;

	if (len >= sizeof(host))
		return false;
	memcpy(host, text, len);
	host[len] = '\0';
	if (inet_pton(AF_INET, host, &in) != 1 || in.s_addr == INADDR_ANY || in.s_addr == INADDR_BROADCAST)
		return false;
	*addr = in.s_addr;
	return true;
}

bool mdbus_config_endpoint(const char *text, uint32_t *addr, uint16_t *port)
{
	const char *colon = strrchr(text, ':');
	char *end;

	if (!colon || !isdigit((unsigned char)colon[1]) || !parse_address(text, (size_t)(colon - text), addr))
		return false;
	unsigned long n = strtoul(colon + 1, &end, 10);

	*port = (uint16_t)n;
	return *end == '\0' && n >= 1 && n <= UINT16_MAX;
}

static int hex_digit(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10 : -1;
}

static bool parse_key(const char *text, struct mdbus_flow_desc *f)
{
	size_t n = strlen(text);

	if (n == 0 || n % 2u != 0 || n / 2u > sizeof(f->key))
		return false;
	for (size_t i = 0; i < n; i += 2u) {
		int high = hex_digit(text[i]), low = hex_digit(text[i + 1u]);

		if (high < 0 || low < 0)
			return false;
		f->key[i / 2u] = (uint8_t)(high << 4 | low);
	}
	f->key_len = (uint16_t)(n / 2u);
	return true;
}

static void check_key(struct config_reader *r, const config_setting_t *at, const struct mdbus_channel_desc *c,
                      const struct mdbus_flow_desc *f)
{
	const struct mdbus_layout *l = &c->layout;

	if (!c->ordered)
		mdbus_config_mistake(r, at, "key: a channel with ordered = false deduplicates by its layout's key and takes all "
		                     "of them");
	else if (l->nkey == 0)
		mdbus_config_mistake(r, at, "key: layout %s has no key fields", l->name);
	else if (f->key_len != l->key_bytes)
		mdbus_config_mistake(r, at, "key: %u bytes, but the key of layout %s has %u (two hex digits a byte)", f->key_len,
		                     l->name, l->key_bytes);
}

/* flows = { LINE = "ADDR:PORT"; LINE = { to = "ADDR:PORT"; source = "ADDR"; key = "HEX"; }; } */
static bool read_flow(struct config_reader *r, const config_setting_t *s, const struct mdbus_channel_desc *c, bool layout,
                      struct mdbus_flow_desc *f)
{
	const char *line = config_setting_name(s);
	struct flow_text t = { "", "", "" };
	unsigned before = r->nmistake;

	if (config_setting_type(s) == CONFIG_TYPE_STRING && strlen(config_setting_get_string(s)) < sizeof(t.to))
		memcpy(t.to, config_setting_get_string(s), strlen(config_setting_get_string(s)));
	else if (config_setting_is_group(s))
		mdbus_config_group(r, s, flow_keys, COUNT(flow_keys), &t);
	else
		mdbus_config_mistake(r, s, "flow %s: needs \"ADDRESS:PORT\" or { to = \"ADDRESS:PORT\"; ... }", line);
	if (r->nmistake != before)
		return false;
	if (!mdbus_config_endpoint(t.to, &f->addr, &f->port))
		mdbus_config_mistake(r, blame(s, "to"), "flow %s: \"%s\" is not ADDRESS:PORT, such as 233.54.12.111:26477", line,
		                     t.to);
	if (t.source[0] && !parse_address(t.source, strlen(t.source), &f->source))
		mdbus_config_mistake(r, blame(s, "source"), "flow %s: source = \"%s\" is not an IPv4 address", line, t.source);
	if (t.key[0] && !parse_key(t.key, f))
		mdbus_config_mistake(r, blame(s, "key"), "flow %s: key = \"%s\": needs 1 to %zu bytes, two hex digits each", line,
		                     t.key, sizeof(f->key));
	else if (t.key[0] && layout)
		check_key(r, blame(s, "key"), c, f);
	return r->nmistake == before;
}

/* Another channel of this line with the same packets, or -1. */
static int flow_owner(const struct mdbus_config_bus *b, uint32_t channel, uint32_t line)
{
	const struct mdbus_flow_desc *f = &b->channel[channel].flow[line];

	for (uint32_t i = 0; i < channel; i++) {
		const struct mdbus_flow_desc *o = &b->channel[i].flow[line];

		if (o->addr != f->addr || o->port != f->port)
			continue;
		if (o->key_len != f->key_len || memcmp(o->key, f->key, f->key_len) == 0 ||
		    memcmp(&b->channel[i].layout, &b->channel[channel].layout, sizeof(b->channel[i].layout)) != 0)
			return (int)i;
	}
	return -1;
}

static void check_owner(struct config_reader *r, const config_setting_t *at, const struct mdbus_config_bus *b,
                        uint32_t channel, uint32_t line)
{
	int owner = flow_owner(b, channel, line);

	if (owner >= 0)
		mdbus_config_mistake(r, at, "flow %s: channel %s of this line has the same address and port; give each "
		                     "channel of one layout its own key", b->line[line].name, b->channel[owner].name);
}

static void inherit_flows(struct config_reader *r, const config_setting_t *at, struct mdbus_config_bus *b, uint32_t channel)
{
	struct mdbus_channel_desc *c = &b->channel[channel];

	for (uint32_t l = 0; l < b->nline; l++) {
		uint32_t first = b->line[l].group;

		if (b->line[l].from_mask != 0 || c->line_mask >> l & 1u || !(c->line_mask >> first & 1u))
			continue;
		c->flow[l] = c->flow[first];
		c->line_mask |= 1u << l;
		check_owner(r, at, b, channel, l);
	}
	mdbus_config_handed_flows(b, c);
}

static void read_flows(struct config_reader *r, const config_setting_t *s, struct mdbus_config_bus *b, uint32_t channel,
                       bool layout)
{
	const config_setting_t *flows = config_setting_get_member(s, "flows");
	struct mdbus_channel_desc *c = &b->channel[channel];
	char hint[96];

	if (!flows || !config_setting_is_group(flows) || config_setting_length(flows) == 0) {
		mdbus_config_mistake(r, flows ? flows : s, "flows: needs at least one line, flows = { LINE = \"ADDRESS:PORT\"; };");
		return;
	}
	for (int i = 0; i < config_setting_length(flows); i++) {
		const config_setting_t *f = config_setting_get_elem(flows, (unsigned)i);
		const char *name = config_setting_name(f);
		uint32_t l = 0;

		while (l < b->nline && strcmp(b->line[l].name, name) != 0)
			l++;
		if (l == b->nline) {
			mdbus_config_mistake(r, f, "flows: there is no line %s%s", name,
			                     mdbus_config_suggest(name, b->line[0].name, b->nline, sizeof(b->line[0]), false,
			                                          hint, sizeof(hint)));
			continue;
		}
		if (mdbus_config_is_handed(&b->line[l])) {
			mdbus_config_mistake(r, f, "flow %s: this line is handed what the lines it is `from` receive: leave it out",
			                     name);
			continue;
		}
		if (!(b->line[l].recovery ? mdbus_config_recover_flow(r, f, c, layout, channel, &c->flow[l]) :
		                            read_flow(r, f, c, layout, &c->flow[l])))
			continue;
		c->line_mask |= 1u << l;
		check_owner(r, f, b, channel, l);
	}
	inherit_flows(r, flows, b, channel);
}

/* ---- channels ------------------------------------------------------------------------------------------------ */

static void channel_defaults(struct mdbus_channel_desc *c)
{
	c->depth = 65536;
	c->slot_size = 128;
	c->timed = 1;
	c->ordered = 1;
	c->reorder_window = 64;
	c->gap_timeout_ns = 10000000;
	c->agree_packets = 3;
	c->compare_every = 64;
	c->key_window = 65536;
	c->key_age_ns = 1000000000;
}

static void check_channel(struct config_reader *r, const config_setting_t *s, struct mdbus_channel_desc *c)
{
	static const char *const keyed[] = { "key_window", "key_age_ms" };

	if (!config_setting_get_member(s, "window"))
		c->window = c->depth / 2u;
	if (c->window > c->depth / 2u)
		mdbus_config_mistake(r, blame(s, "window"), "window = %llu: must be at most half of depth, %llu",
		                     (unsigned long long)c->window, (unsigned long long)c->depth / 2u);
	else if (c->reorder_window >= c->window)
		mdbus_config_mistake(r, blame(s, "reorder_window"), "reorder_window = %u: must be less than window, %llu",
		                     c->reorder_window, (unsigned long long)c->window);
	for (size_t i = 0; i < COUNT(keyed) && c->ordered; i++) {
		if (config_setting_get_member(s, keyed[i]))
			mdbus_config_mistake(r, blame(s, keyed[i]), "%s: only for a channel with ordered = false", keyed[i]);
	}
}

/* What early drop asks of a channel without an order. */
static void check_early_drop_by_key(struct config_reader *r, const config_setting_t *at, const struct mdbus_channel_desc *c)
{
	if (!c->timed)
		mdbus_config_mistake(r, at, "early_drop = true: a channel with ordered = false also needs timed = true");
	if (c->key_age_ns != 0 && c->key_age_ns < KEY_AGE_MIN)
		mdbus_config_mistake(r, at, "early_drop = true: not with key_age_ms = %llu: the driver's clock is too coarse; at "
		                     "least %u, or 0", (unsigned long long)(c->key_age_ns / 1000000u), KEY_AGE_MIN / 1000000u);
}

/* The XDP program must be able to tell a duplicate by constant places of the packet, and the channel by address and port. */
static void check_early_drop(struct config_reader *r, const config_setting_t *s, const struct mdbus_channel_desc *c)
{
	const config_setting_t *at = blame(s, "early_drop");
	struct mdbus_fixed fixed;
	const char *why;

	if (!c->ordered)
		check_early_drop_by_key(r, at, c);
	if ((c->ordered ? mdbus_fixed_find : mdbus_fixed_find_key)(&c->layout, &fixed, &why) != 0)
		mdbus_config_mistake(r, at, "early_drop = true: not with layout %s: %s", c->layout.name, why);
	for (uint32_t l = 0; l < MDBUS_LINES_MAX; l++) {
		if (!(c->line_mask >> l & 1u) || c->flow[l].key_len == 0)
			continue;
		mdbus_config_mistake(r, at, "early_drop = true: not for a channel that shares its address and port by a key");
		return;
	}
}

static void read_channel(struct config_reader *r, const config_setting_t *s, struct mdbus_config_bus *b, uint32_t i,
                         const char *layouts, const char *bus)
{
	struct mdbus_channel_desc *c = &b->channel[i];
	struct channel_text t;

	mdbus_config_where(r, bus, "channel", i, s);
	memset(&t, 0, sizeof(t));
	channel_defaults(&t.desc);
	mdbus_config_group(r, s, channel_keys, COUNT(channel_keys), &t);
	if (!config_setting_is_group(s))
		return;
	if (!config_setting_get_member(s, "name"))
		mdbus_config_mistake(r, s, "name is missing");
	for (uint32_t k = 0; k < i && t.desc.name[0]; k++) {
		if (strcmp(b->channel[k].name, t.desc.name) == 0)
			mdbus_config_mistake(r, blame(s, "name"), "name = \"%s\": channel %u has this name already", t.desc.name,
			                     k + 1u);
	}
	bool layout = read_layout(r, s, &t, layouts);
	unsigned before;

	check_channel(r, s, &t.desc);
	*c = t.desc;
	before = r->nmistake;
	read_flows(r, s, b, i, layout);
	if (r->nmistake == before)
		mdbus_config_recover_channel(r, blame(s, "flows"), b, c);
	if (c->early_drop && layout && r->nmistake == before)
		check_early_drop(r, s, c);
}

/* A channel with unsequenced = true has a second one beside it, NAME.unseq, for its messages without a number. */
static void add_unsequenced(struct config_reader *r, const config_setting_t *list, struct mdbus_config_bus *b)
{
	for (uint32_t i = 0, n = b->nchannel; i < n; i++) {
		struct mdbus_channel_desc *c = &b->channel[i], *twin = &b->channel[b->nchannel];
		const config_setting_t *s = config_setting_get_elem(list, i);

		if (!c->unseq_of)
			continue;
		c->unseq_of = 0;
		if (!c->ordered || strlen(c->name) + sizeof(UNSEQ_SUFFIX) > sizeof(c->name)) {
			mdbus_config_mistake(r, blame(s, "unsequenced"), "unsequenced = true: only for a channel with "
			                     "ordered = true and a name of at most %zu letters",
			                     sizeof(c->name) - sizeof(UNSEQ_SUFFIX));
			continue;
		}
		if (b->nchannel == MDBUS_CHANNELS_MAX) {
			mdbus_config_mistake(r, blame(s, "unsequenced"), "unsequenced = true: the channel beside it would "
			                     "be one more than the %u a bus may have", MDBUS_CHANNELS_MAX);
			return;
		}
		*twin = *c;
		memcpy(twin->name + strlen(c->name), UNSEQ_SUFFIX, sizeof(UNSEQ_SUFFIX));
		twin->ordered = 0;
		twin->early_drop = 0;
		twin->unseq_of = i + 1u;
		memset(twin->flow, 0, sizeof(twin->flow));
		b->nchannel++;
	}
}

void mdbus_config_channels(struct config_reader *r, const config_setting_t *s, struct mdbus_config_bus *b,
                           const char *layouts)
{
	const config_setting_t *list = mdbus_config_list(r, s, "channels", 1, (int)MDBUS_CHANNELS_MAX);
	uint32_t n = list ? (uint32_t)config_setting_length(list) : 0;
	char bus[sizeof(r->where)];

	memcpy(bus, r->where, sizeof(bus));
	b->channel = n > 0 ? calloc(2u * n, sizeof(b->channel[0])) : NULL; /* each may have a second one beside it */
	b->nchannel = b->channel ? n : 0;
	for (uint32_t i = 0; i < b->nchannel; i++)
		read_channel(r, config_setting_get_elem(list, i), b, i, layouts, bus);
	if (b->nchannel > 0)
		add_unsequenced(r, list, b);
}
