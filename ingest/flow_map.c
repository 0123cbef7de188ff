/* SPDX-License-Identifier: Apache-2.0 */
#include "flow_map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint32_t hash(uint32_t addr, uint16_t port)
{
	return (uint32_t)(((uint64_t)addr << 16 | port) * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

int32_t mdbus_flow_map_find(const struct mdbus_flow_map *m, uint32_t addr, uint16_t port)
{
	for (uint32_t i = hash(addr, port);; i++) {
		int32_t f = m->table[i & m->mask];

		if (f < 0 || (m->flow[f].addr == addr && m->flow[f].port == port))
			return f;
	}
}

bool mdbus_flow_map_has_addr(const struct mdbus_flow_map *m, uint32_t addr)
{
	for (uint32_t f = 0; f < m->nflow; f++)
		if (m->flow[f].addr == addr)
			return true;
	return false;
}

static void insert(struct mdbus_flow_map *m, const struct mdbus_flow_desc *d)
{
	uint32_t i = hash(d->addr, d->port);

	if (mdbus_flow_map_find(m, d->addr, d->port) >= 0)
		return;
	while (m->table[i & m->mask] >= 0)
		i++;
	m->table[i & m->mask] = (int32_t)m->nflow;
	m->flow[m->nflow++] = (struct mdbus_flow){ .addr = d->addr, .source = d->source, .port = d->port };
}

/* Each channel is a flow of its own number.  False: the line carries none. */
static bool insert_channels(struct mdbus_flow_map *m)
{
	bool any = false;

	m->nflow = m->dir->nchannel;
	for (uint32_t c = 0; c < m->nflow; c++) {
		m->channel[c] = c;
		m->first[c + 1u] = c + 1u;
		any |= m->dir->channel[c].line_mask >> m->line & 1u;
	}
	return any;
}

int mdbus_flow_map_init(struct mdbus_flow_map *m, const struct mdbus_bus_hdr *dir, uint32_t line)
{
	uint32_t size = 16, n = 0;

	while (size < dir->nchannel * 2u)
		size *= 2;
	*m = (struct mdbus_flow_map){
		.flow = calloc(dir->nchannel, sizeof(*m->flow)),
		.first = calloc(dir->nchannel + 1u, sizeof(*m->first)),
		.channel = calloc(dir->nchannel, sizeof(*m->channel)),
		.table = malloc(size * sizeof(*m->table)),
		.mask = size - 1u,
		.line = line,
		.dir = dir,
	};
	if (!m->flow || !m->first || !m->channel || !m->table) {
		mdbus_flow_map_free(m);
		return -ENOMEM;
	}
	memset(m->table, 0xff, size * sizeof(*m->table));
	if (dir->line[line].from_mask != 0) {
		if (insert_channels(m))
			return 0;
		mdbus_flow_map_free(m);
		return -ENOENT;
	}
	for (uint32_t c = 0; c < dir->nchannel; c++)
		if (dir->channel[c].flow[line].addr != 0)
			insert(m, &dir->channel[c].flow[line]);
	for (uint32_t f = 0; f < m->nflow; f++) {
		m->first[f] = n;
		for (uint32_t c = 0; c < dir->nchannel; c++) {
			const struct mdbus_flow_desc *d = &dir->channel[c].flow[line];

			if (d->addr == m->flow[f].addr && d->port == m->flow[f].port)
				m->channel[n++] = c;
		}
	}
	m->first[m->nflow] = n;
	if (m->nflow == 0) {
		mdbus_flow_map_free(m);
		return -ENOENT;
	}
	return 0;
}

void mdbus_flow_map_free(struct mdbus_flow_map *m)
{
	free(m->flow);
	free(m->first);
	free(m->channel);
	free(m->table);
	*m = (struct mdbus_flow_map){ 0 };
}

uint32_t mdbus_flow_map_channel(const struct mdbus_flow_map *m, int32_t flow, const uint8_t *payload, uint32_t len)
{
	uint8_t key[MDBUS_SESSION_MAX];

	for (uint32_t i = m->first[flow]; i < m->first[flow + 1]; i++) {
		const struct mdbus_channel_desc *c = &m->dir->channel[m->channel[i]];
		const struct mdbus_flow_desc *d = &c->flow[m->line];

		if (d->key_len == 0)
			return m->channel[i];
		if (mdbus_layout_key(&c->layout, payload, len, key) >= (int)d->key_len &&
		    memcmp(key, d->key, d->key_len) == 0)
			return m->channel[i];
	}
	return MDBUS_NO_CHANNEL;
}
