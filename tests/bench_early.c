/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_early - what early drop costs in the driver, beside the XDP program without it.
 */
#include "bench.h"
#include "early_cost.h"

int main(void)
{
	json_t *report = json_array(), *figure;
	size_t i;

	bed_pin(0);
	early_cost(report);
	json_array_foreach(report, i, figure) {
		char *line = json_dumps(figure, JSON_COMPACT);

		bench_json("%s", line);
		free(line);
	}
	json_decref(report);
	return 0;
}
