/* SPDX-License-Identifier: Apache-2.0
 *
 * config_handed.c - see config_handed.h.
 *
 * A line that is handed packets has no queue and no flows of its own.  It belongs to the same line as its givers, as another queue
 * would: so they must be of one line, and the gap rule counts all of them as one.
 */
#include "config_handed.h"
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define RING_MAX 4096u

/* What is the givers', or follows from them; and not named as a mistake elsewhere. */
static const char *const givers_keys[] = { "interface", "queue", "frame_size", "rx_ring", "fill_ring", "xdp_mode",
	                                   "xdp_copy", "busy_poll_us" };

bool mdbus_config_is_handed(const struct mdbus_line_desc *l)
{
	return strcmp(l->backend, "handed") == 0;
}

static const config_setting_t *member(const config_setting_t *s, const char *name)
{
	return config_setting_is_group(s) ? config_setting_get_member(s, name) : NULL;
}

void mdbus_config_handed_line(struct config_reader *r, const config_setting_t *s, const struct mdbus_line_desc *l)
{
	const config_setting_t *from = member(s, "from");

	if (!mdbus_config_is_handed(l)) {
		if (from)
			mdbus_config_mistake(r, from, "from: only for backend = \"handed\"");
		return;
	}
	if (!from)
		mdbus_config_mistake(r, s, "from is missing: backend handed needs the line that hands it packets, from = \"A\";");
	for (size_t i = 0; i < COUNT(givers_keys); i++) {
		const config_setting_t *k = member(s, givers_keys[i]);

		if (k)
			mdbus_config_mistake(r, k, "%s: not for backend = \"handed\", which has no queue; set it on the line it "
			                     "is from", givers_keys[i]);
	}
}

/* May line i be handed packets by line `from`? */
static bool check_giver(struct config_reader *r, const config_setting_t *at, const struct mdbus_config_bus *b, uint32_t i,
                        uint32_t from)
{
	const struct mdbus_line_desc *l = &b->line[i], *g = &b->line[from];

	if (from == i)
		mdbus_config_mistake(r, at, "from = \"%s\": is this line itself; name the one that has the queue", g->name);
	else if (mdbus_config_is_handed(g))
		mdbus_config_mistake(r, at, "from = \"%s\": is handed packets itself; name the line that has the queue", g->name);
	else if (g->recovery)
		mdbus_config_mistake(r, at, "from = \"%s\": is a recovery line, which has nothing to hand over", g->name);
	else if (l->from_mask >> from & 1u)
		mdbus_config_mistake(r, at, "from = \"%s\": is named twice", g->name);
	else if (l->from_mask != 0 && g->group != l->group)
		mdbus_config_mistake(r, at, "from = \"%s\": is not part of the same line as \"%s\"; two lines are only worth it if "
		                     "one can fail without the other", g->name, b->line[l->group].name);
	else if (l->cpu >= 0 && l->cpu == g->cpu)
		mdbus_config_mistake(r, at, "cpu = %d: line %s, which hands packets over to this one, is pinned there; choose "
		                     "another core, or -1 for none", l->cpu, g->name);
	else
		return true;
	return false;
}

static void add_giver(struct config_reader *r, const config_setting_t *at, struct mdbus_config_bus *b, uint32_t i)
{
	const char *name = config_setting_type(at) == CONFIG_TYPE_STRING ? config_setting_get_string(at) : NULL;
	struct mdbus_line_desc *l = &b->line[i];
	uint32_t from = 0;
	char hint[96];

	if (!name) {
		mdbus_config_mistake(r, at, "from: needs the name of a line, \"A\", or several, (\"A\", \"A2\")");
		return;
	}
	while (from < b->nline && strcmp(b->line[from].name, name) != 0)
		from++;
	if (from == b->nline) {
		mdbus_config_mistake(r, at, "from = \"%s\": this bus has no such line%s", name,
		                     mdbus_config_suggest(name, b->line[0].name, b->nline, sizeof(b->line[0]), false, hint,
		                                          sizeof(hint)));
	} else if (check_giver(r, at, b, i, from)) {
		l->group = b->line[from].group;
		l->from_mask |= 1u << from;
		b->line[from].to_mask |= 1u << i;
	}
}

void mdbus_config_handed_from(struct config_reader *r, const config_setting_t *s, struct mdbus_config_bus *b, uint32_t i)
{
	const config_setting_t *from = member(s, "from");

	if (!from || !mdbus_config_is_handed(&b->line[i]))
		return;
	if (!config_setting_is_list(from) && !config_setting_is_array(from)) {
		add_giver(r, from, b, i);
		return;
	}
	if (config_setting_length(from) == 0)
		mdbus_config_mistake(r, from, "from: names no line");
	for (int k = 0; k < config_setting_length(from); k++)
		add_giver(r, config_setting_get_elem(from, (unsigned)k), b, i);
}

/* At most a quarter of a giver's frames are away. */
void mdbus_config_handed_rings(struct mdbus_config_bus *b)
{
	for (uint32_t i = 0; i < b->nline; i++) {
		struct mdbus_line_desc *l = &b->line[i];
		uint32_t n = (uint32_t)__builtin_popcount(l->to_mask);

		if (n == 0)
			continue;
		for (l->hand_size = RING_MAX; l->hand_size > 2u && l->hand_size * n > l->frames / 4u;)
			l->hand_size /= 2u;
	}
}

void mdbus_config_handed_flows(const struct mdbus_config_bus *b, struct mdbus_channel_desc *c)
{
	for (uint32_t l = 0; l < b->nline; l++) {
		uint32_t givers = b->line[l].from_mask & c->line_mask;

		if (givers == 0)
			continue;
		c->flow[l] = c->flow[__builtin_ctz(givers)];
		c->flow[l].key_len = 0; /* who hands a packet over says which channel it is of */
		c->line_mask |= 1u << l;
	}
}
