/* SPDX-License-Identifier: Apache-2.0
 *
 * peer_report.h - what bench_peers found: kept turn by turn, told in the end as tables and as lines of JSON.
 */
#ifndef MDBUS_TESTS_PEER_REPORT_H
#define MDBUS_TESTS_PEER_REPORT_H

#include "peer.h"

/* One turn of one peer. */
struct turn {
	const struct peer *peer;
	uint32_t len;
	bool hop;          /* else rate */
	bool steady;       /* the floor before and after it were the same, nearly */
	double floor;      /* ns */
	double value;      /* hop: median, ns; rate: M messages/s */
	double p99;        /* hop, ns */
	uint64_t switches; /* involuntary context switches of both sides */
};

void report_turn(const struct turn *t);
void report_absent(const struct peer *p, const char *why);
void report_all(const struct peer *const *peers, unsigned npeer, const uint32_t *sizes, unsigned nsize);

#endif
