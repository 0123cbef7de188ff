/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_early - what early drop costs in the driver, beside the XDP program without it.
 */
#include "bench.h"
#include "early_cost.h"

int main(void)
{
	bed_pin(0);
	bench_report(early_cost);
	return 0;
}
