/* SPDX-License-Identifier: Apache-2.0
 *
 * config_recover.c - see config_recover.h.
 *
 * A recovery line is sent nothing, so its flows name no address: a channel says only that it wants to be recovered
 * there.
 */
#include "config_recover.h"
#include <arpa/inet.h>
#include <string.h>
#include "../bus/mold.h"
#include "config_channel.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const char *const own_keys[] = { "servers", "request_rate", "request_max", "retry_ms", "backoff_max_ms" };
static const char *const others_keys[] = { "interface", "queue", "part_of", "xdp_mode", "xdp_copy", "rx_ring",
	                                   "fill_ring", "busy_poll_us" };

static bool is_recovery(const struct mdbus_line_desc *l)
{
	return strcmp(l->backend, "recover") == 0;
}

static const config_setting_t *member(const config_setting_t *s, const char *name)
{
	return config_setting_is_group(s) ? config_setting_get_member(s, name) : NULL;
}

static void set(const config_setting_t *s, const char *name, uint32_t *to, uint32_t value)
{
	if (!member(s, name))
		*to = value;
}

void mdbus_config_recover_defaults(const config_setting_t *s, struct mdbus_line_desc *l)
{
	if (!is_recovery(l))
		return;
	l->recovery = 1;
	set(s, "frames", &l->frames, 2048);
	set(s, "idle_spins", &l->idle_spins, 1); /* it has nothing to hurry for */
	set(s, "stale_ms", &l->stale_ms, 0);     /* and silence is its good news */
	set(s, "request_rate", &l->request_rate, 1000);
	set(s, "request_max", &l->request_max, 256);
	set(s, "retry_ms", &l->retry_ms, 20);
	set(s, "backoff_max_ms", &l->backoff_max_ms, l->retry_ms > 1000 ? l->retry_ms : 1000);
}

static void read_servers(struct config_reader *r, const config_setting_t *s, struct mdbus_line_desc *l)
{
	const config_setting_t *list = mdbus_config_list(r, s, "servers", 1, (int)MDBUS_SERVERS_MAX);
	int n = list ? config_setting_length(list) : 0;

	for (int i = 0; i < n; i++) {
		const config_setting_t *e = config_setting_get_elem(list, (unsigned)i);
		const char *text = config_setting_type(e) == CONFIG_TYPE_STRING ? config_setting_get_string(e) : "";
		struct mdbus_server_desc *d = &l->server[l->nserver];

		if (mdbus_config_endpoint(text, &d->addr, &d->port))
			l->nserver++;
		else
			mdbus_config_mistake(r, e, "servers: \"%s\" is not \"ADDRESS:PORT\", such as \"192.0.2.1:9100\"", text);
	}
}

void mdbus_config_recover_line(struct config_reader *r, const config_setting_t *s, struct mdbus_line_desc *l)
{
	const config_setting_t *k;

	if (!is_recovery(l)) {
		for (size_t i = 0; i < COUNT(own_keys); i++)
			if ((k = member(s, own_keys[i])))
				mdbus_config_mistake(r, k, "%s: only for backend = \"recover\"", own_keys[i]);
		return;
	}
	for (size_t i = 0; i < COUNT(others_keys); i++)
		if ((k = member(s, others_keys[i])))
			mdbus_config_mistake(r, k, "%s: not for backend = \"recover\", which asks its servers by the host's routes",
			                     others_keys[i]);
	read_servers(r, s, l);
	if (l->backoff_max_ms < l->retry_ms) {
		k = member(s, "backoff_max_ms");
		mdbus_config_mistake(r, k ? k : s, "backoff_max_ms = %u: must be at least retry_ms, %u", l->backoff_max_ms,
		                     l->retry_ms);
	}
}

bool mdbus_config_recover_flow(struct config_reader *r, const config_setting_t *s, const struct mdbus_channel_desc *c,
                               bool layout, uint32_t channel, struct mdbus_flow_desc *f)
{
	if (config_setting_type(s) != CONFIG_TYPE_BOOL) {
		mdbus_config_mistake(r, s, "flow %s: this line asks its servers: write %s = true", config_setting_name(s),
		                     config_setting_name(s));
		return false;
	}
	if (!config_setting_get_bool(s))
		return false;
	if (layout && (!c->ordered || !mdbus_mold_layout(&c->layout))) {
		mdbus_config_mistake(r, s, "flow %s: request servers speak MoldUDP64, and layout %s is not that",
		                     config_setting_name(s), c->layout.name);
		return false;
	}
	f->addr = htonl(INADDR_BROADCAST);
	f->port = (uint16_t)(channel + 1u);
	return true;
}

void mdbus_config_recover_channel(struct config_reader *r, const config_setting_t *at, const struct mdbus_config_bus *b,
                                  const struct mdbus_channel_desc *c)
{
	for (uint32_t l = 0; l < b->nline; l++)
		if (c->line_mask >> l & 1u && !b->line[l].recovery)
			return;
	mdbus_config_mistake(r, at, "flows: needs a line that the feed comes in on; a recovery line only fills its gaps");
}
