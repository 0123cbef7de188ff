/* SPDX-License-Identifier: Apache-2.0 */
#include "rss.h"

#include <stddef.h>

const uint8_t mdbus_rss_key[MDBUS_RSS_KEY_BYTES] = {
	0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
	0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
};

/* The 32 bits of the key that start at bit `at`, counted from its most significant one. */
static uint32_t key_window(const uint8_t *key, uint32_t at)
{
	uint64_t bits = 0;

	for (uint32_t i = 0; i < 5u; i++)
		bits = bits << 8 | key[at / 8u + i];
	return (uint32_t)(bits >> (8u - at % 8u));
}

void mdbus_rss_init(struct mdbus_rss *rss, const uint8_t *key)
{
	if (key == NULL)
		key = mdbus_rss_key;
	for (uint32_t byte = 0; byte < MDBUS_RSS_BYTES; byte++) {
		for (uint32_t value = 0; value < 256u; value++) {
			uint32_t hash = 0;

			for (uint32_t bit = 0; bit < 8u; bit++)
				if (value >> (7u - bit) & 1u)
					hash ^= key_window(key, byte * 8u + bit);
			rss->part[byte][value] = hash;
		}
	}
}
