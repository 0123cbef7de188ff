/* SPDX-License-Identifier: Apache-2.0
 *
 * arbitration_cost.h - nanoseconds of ingest CPU for a message that is accepted and for one that is a duplicate.
 */
#ifndef TESTS_ARBITRATION_COST_H
#define TESTS_ARBITRATION_COST_H

#include <jansson.h>

/* Measure, print one line a figure, and append the figures to `report`. */
void arbitration_cost(json_t *report);

#endif
