/* SPDX-License-Identifier: Apache-2.0
 *
 * unit_seen.c - skipped and late numbers counted against a plain array, at random.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../bus/seen.h"

int main(void)
{
	static uint8_t carried[2000000];
	struct mdbus_seen s;
	uint64_t next = 1, skipped = 0, late = 0, want_skipped = 0, want_late = 0;

	memset(&s, 0xff, sizeof(s));
	memset(carried, 1, 1);
	srand(7);
	while (next < 1900000) {
		uint64_t from = next, first = next + (rand() % 4 == 0 ? (uint64_t)rand() % 40u : 0);
		uint64_t end = first + (uint64_t)rand() % 70u;

		mdbus_seen_advance(&s, from, first, end);
		skipped += first - from;
		for (uint64_t i = from; i < end; i++) {
			carried[i] = i >= first;
			want_skipped += i < first;
		}
		next = end;
		for (int k = rand() % 3; k > 0; k--) {
			uint64_t back = (uint64_t)rand() % MDBUS_SEEN_BITS, a = next > back ? next - back : 0;
			uint64_t b = a + (uint64_t)rand() % 30u;

			late += mdbus_seen_late(&s, next, a, b);
			for (uint64_t i = a; i < b && i < next; i++) {
				want_late += !carried[i] && i > 0;
				carried[i] = 1;
			}
		}
	}
	if (skipped != want_skipped || late != want_late || late == 0) {
		printf("skipped %lu, late %lu; wanted %lu, %lu\n", (unsigned long)skipped, (unsigned long)late,
		       (unsigned long)want_skipped, (unsigned long)want_late);
		return 1;
	}
	printf("%lu skipped, %lu of them came late\n", (unsigned long)skipped, (unsigned long)late);
	return 0;
}
