/* SPDX-License-Identifier: Apache-2.0
 *
 * early_cost.h - nanoseconds of the XDP program for a packet, without early drop and with it.
 */
#ifndef TESTS_EARLY_COST_H
#define TESTS_EARLY_COST_H

#include <jansson.h>

/* Measure, print one line a figure, and append the figures to `report`. */
void early_cost(json_t *report);

#endif
