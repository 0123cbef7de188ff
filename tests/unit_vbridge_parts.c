/* SPDX-License-Identifier: Apache-2.0
 *
 * unit_vbridge_parts.c - the virtual bridge's table of stations, and the words it is told its ports by.
 */
#include <stdio.h>
#include <stdlib.h>
#ifndef MDBUS_HAVE_DPDK
int main(void)
{
	puts("built without DPDK");
	return 77;
}
#else
#include "../ingest/vbridge.h"
#include "guard.h"

static struct mdbus_vbridge bridge;

/* More stations than there is room for: those last heard of are known. */
static void test_many_stations(void)
{
	uint64_t now = 1000;

	memset(&bridge, 0, sizeof(bridge));
	for (uint64_t i = 1; i <= 100000; i++) {
		mdbus_vtable_learn(&bridge.table, UINT64_C(0x020000000000) + i, (uint32_t)i % 7, now++);
		CHECK(mdbus_vtable_find(&bridge.table, UINT64_C(0x020000000000) + i, now) == (int)(i % 7));
	}
	CHECK(mdbus_vtable_count(&bridge.table, now) <= MDBUS_VTABLE_SIZE);
}

static void test_specs(void)
{
	static const char *const bad[][2] = {
		{ "", "names no port" }, { "a.1", "names no port" }, { "a/b", "names no port" }, { "a,queues=0", "queues" },
		{ "a,queues=17", "queues" }, { "a,queues=2x", "queues" }, { "a,queues=-1", "queues" }, { "a,group=10.0.0.1", "group" },
		{ "a,group=", "group" }, { "a,net=", "net=" }, { "a,speed=9", "unknown" }, { "x", "two ports" },
	};
	char err[512];

	memset(&bridge, 0, sizeof(bridge));
	CHECK(mdbus_vbridge_add(&bridge, "x,queues=16,group=239.1.1.1", err, sizeof(err)) == 0);
	for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		CHECK(mdbus_vbridge_add(&bridge, bad[i][0], err, sizeof(err)) < 0);
		CHECK(strstr(err, bad[i][1]) && bridge.nport == 1);
	}
}

int main(void)
{
	test_many_stations();
	test_specs();
	return 0;
}
#endif
