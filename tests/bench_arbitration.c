/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_arbitration - what a message costs the ingest process: decoded, arbitrated, counted and published or refused.
 */
#include "arbitration_cost.h"
#include "bench.h"

int main(void)
{
	bed_pin(0);
	bench_report(arbitration_cost);
	return 0;
}
