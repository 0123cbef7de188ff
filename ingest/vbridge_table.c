/* SPDX-License-Identifier: Apache-2.0 */
#include "vbridge_table.h"
#include "vbridge_flow.h"

static uint32_t place(uint64_t mac, uint32_t i)
{
	return ((uint32_t)(mac * UINT64_C(0x9e3779b97f4a7c15) >> 40) + i) % MDBUS_VTABLE_SIZE;
}

void mdbus_vtable_learn(struct mdbus_vtable *t, uint64_t mac, uint32_t port, uint64_t now_ns)
{
	uint32_t oldest = place(mac, 0);

	if (mac == 0 || mdbus_mac_is_group(mac))
		return;
#ifdef MDBUS_MUTANT_vbridge_no_learning
	return;
#endif
	for (uint32_t i = 0; i < MDBUS_VTABLE_PLACES; i++) {
		uint32_t at = place(mac, i);

		if (t->entry[at].mac == mac) {
			oldest = at;
			break;
		}
		if (t->entry[at].heard_ns < t->entry[oldest].heard_ns)
			oldest = at;
	}
	t->entry[oldest].mac = mac;
	t->entry[oldest].port = port;
	t->entry[oldest].heard_ns = now_ns;
}

int mdbus_vtable_find(const struct mdbus_vtable *t, uint64_t mac, uint64_t now_ns)
{
	for (uint32_t i = 0; i < MDBUS_VTABLE_PLACES; i++) {
		uint32_t at = place(mac, i);

		if (t->entry[at].mac == mac && mac != 0)
			return now_ns - t->entry[at].heard_ns < MDBUS_VTABLE_AGE_NS ? (int)t->entry[at].port : -1;
	}
	return -1;
}

uint32_t mdbus_vtable_count(const struct mdbus_vtable *t, uint64_t now_ns)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < MDBUS_VTABLE_SIZE; i++)
		n += t->entry[i].mac && now_ns - t->entry[i].heard_ns < MDBUS_VTABLE_AGE_NS;
	return n;
}
