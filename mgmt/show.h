/* SPDX-License-Identifier: Apache-2.0
 *
 * show.h - mdbusd's answers as tables for people.
 */
#ifndef MDBUS_MGMT_SHOW_H
#define MDBUS_MGMT_SHOW_H

#include <jansson.h>
#include <stdbool.h>

/* answer: as query.c describes.  all: every counter with its meaning instead of a table. */
void mdbus_show_status(const json_t *answer, bool all);
void mdbus_show_lines(const json_t *answer, bool all);
void mdbus_show_channels(const json_t *answer, bool all);
void mdbus_show_subscribers(const json_t *answer, bool all);
void mdbus_show_leases(const json_t *answer, bool all);
void mdbus_show_queues(const json_t *answer, bool all);
void mdbus_show_rules(const json_t *answer, bool all);
void mdbus_show_memory(const json_t *answer, bool all);
void mdbus_show_events(const json_t *answer, bool all);

void mdbus_show_event(const json_t *event);

#endif
