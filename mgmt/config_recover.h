/* SPDX-License-Identifier: Apache-2.0
 *
 * config_recover.h - recovery lines: their servers and limits, and the channels they ask for.
 */
#ifndef MDBUS_MGMT_CONFIG_RECOVER_H
#define MDBUS_MGMT_CONFIG_RECOVER_H

#include "config_read.h"

/* After a line's group was read: what has other defaults on a recovery line.  Leaves other lines alone. */
void mdbus_config_recover_defaults(const config_setting_t *s, struct mdbus_line_desc *l);

/* Read and check "servers" and the limits; on a line of another backend they are mistakes. */
void mdbus_config_recover_line(struct config_reader *r, const config_setting_t *s, struct mdbus_line_desc *l);

/*
 * flows = { LINE = true; } of channel number `channel`, where LINE is a recovery line.  layout: the channel's is known.
 * False: a mistake, or the value is false.
 */
bool mdbus_config_recover_flow(struct config_reader *r, const config_setting_t *s, const struct mdbus_channel_desc *c,
                               bool layout, uint32_t channel, struct mdbus_flow_desc *f);

/* A channel that is recovered must come in on some other line. */
void mdbus_config_recover_channel(struct config_reader *r, const config_setting_t *at, const struct mdbus_config_bus *b,
                                  const struct mdbus_channel_desc *c);

#endif
