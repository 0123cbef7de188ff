/* SPDX-License-Identifier: Apache-2.0
 *
 * wire_cost.h - from the wire to a subscriber, in nanoseconds, by each way of receiving.
 */
#ifndef TESTS_WIRE_COST_H
#define TESTS_WIRE_COST_H

#include <jansson.h>

/* Measure, print one line a figure, and append the figures to `report`.  Leaves the process in a network namespace of its own. */
void wire_cost(json_t *report);

#endif
