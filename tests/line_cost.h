/* SPDX-License-Identifier: Apache-2.0
 *
 * line_cost.h - nanoseconds of ingest CPU for a packet through the whole loop, over numbers of channels and depths of rings.
 */
#ifndef TESTS_LINE_COST_H
#define TESTS_LINE_COST_H

#include <jansson.h>

/* Measure, print one line a figure, and append the figures to `report`. */
void line_cost(json_t *report);

#endif
