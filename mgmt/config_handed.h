/* SPDX-License-Identifier: Apache-2.0
 *
 * config_handed.h - lines whose process is handed packets by those of other lines: which, and how many at a time.
 */
#ifndef MDBUS_MGMT_CONFIG_HANDED_H
#define MDBUS_MGMT_CONFIG_HANDED_H

#include "config_read.h"

bool mdbus_config_is_handed(const struct mdbus_line_desc *l);

/* After a line's group was read: what a line of its backend cannot have is a mistake. */
void mdbus_config_handed_line(struct config_reader *r, const config_setting_t *s, const struct mdbus_line_desc *l);

/* from = "LINE" or ("LINE", ...) of line i, when all lines are known: these, its group, and its place among their takers. */
void mdbus_config_handed_from(struct config_reader *r, const config_setting_t *s, struct mdbus_config_bus *b, uint32_t i);

/* When all of `from` is known: the size of the rings. */
void mdbus_config_handed_rings(struct mdbus_config_bus *b);

/* A channel's flows are known: lines that are handed packets carry what their givers carry. */
void mdbus_config_handed_flows(const struct mdbus_config_bus *b, struct mdbus_channel_desc *c);

#endif
