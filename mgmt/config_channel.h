/* SPDX-License-Identifier: Apache-2.0
 *
 * config_channel.h - the channels of one bus: layouts, rings, flows.
 */
#ifndef MDBUS_MGMT_CONFIG_CHANNEL_H
#define MDBUS_MGMT_CONFIG_CHANNEL_H

#include "config_read.h"

/* "ADDRESS:PORT" of IPv4, no name, neither 0.0.0.0 nor broadcast.  addr in network byte order, port in the host's. */
bool mdbus_config_endpoint(const char *text, uint32_t *addr, uint16_t *port);

/*
 * Read "channels" of bus group s into b->channel (allocated here, freed by mdbus_config_free).  b->line is read already.
 * layouts: path of the file with further layouts, or "".
 */
void mdbus_config_channels(struct config_reader *r, const config_setting_t *s, struct mdbus_config_bus *b,
                           const char *layouts);

#endif
