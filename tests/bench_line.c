/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_line - what a packet costs the ingest process, its whole loop, and how flat that is over channels and depths.
 */
#include "bench.h"
#include "line_cost.h"

int main(void)
{
	bed_pin(0);
	bench_claim();
	bench_report(line_cost);
	return 0;
}
