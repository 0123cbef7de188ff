/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_wire - from the wire to a subscriber, beside a plain program on the same wire.
 */
#include "bench.h"
#include "wire_cost.h"

int main(void)
{
	bench_report(wire_cost);
	return 0;
}
