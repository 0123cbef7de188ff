/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_arbitration - what a message costs the ingest process: decoded, arbitrated, counted and published or refused.
 */
#include "arbitration_cost.h"
#include "bench.h"

int main(void)
{
	json_t *report = json_array(), *figure;
	size_t i;

	bed_pin(0);
	arbitration_cost(report);
	json_array_foreach(report, i, figure) {
		char *line = json_dumps(figure, JSON_COMPACT);

		bench_json("%s", line);
		free(line);
	}
	json_decref(report);
	return 0;
}
