/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_wire - from the wire to a subscriber, beside a plain program on the same wire.
 */
#include "bench.h"
#include "wire_cost.h"

int main(void)
{
	json_t *report = json_array(), *figure;
	size_t i;

	wire_cost(report);
	json_array_foreach(report, i, figure) {
		char *line = json_dumps(figure, JSON_COMPACT);

		bench_json("%s", line);
		free(line);
	}
	json_decref(report);
	return 0;
}
