/* SPDX-License-Identifier: Apache-2.0
 *
 * rss.h - which queue a flow belongs to: the hash that network cards spread packets by, in software.
 *
 * A card with several queues hashes addresses and ports of a packet by a secret of 40 bytes (Toeplitz) and looks the low bits
 * up in a table of queues.  The same is done here, with the secret that Microsoft published with its test vectors, which most
 * drivers use and which users of DPDK's rte_softrss take, and with the table that drivers start with, queue i % n in entry i: so
 * what is spread in software lands where such a card would have put it.
 *
 * The hash is linear: it is the exclusive or of what each byte of the input would give alone.  These are worked out once, 256
 * for each of the 12 bytes, and a packet takes 12 loads.  Read-only after mdbus_rss_init; any thread.
 */
#ifndef MDBUS_INGEST_RSS_H
#define MDBUS_INGEST_RSS_H

#include <stdint.h>

#define MDBUS_RSS_KEY_BYTES 40u
#define MDBUS_RSS_TABLE     128u /* entries of the table of queues */
#define MDBUS_RSS_BYTES     12u  /* of addresses and ports */

struct mdbus_rss {
	uint32_t part[MDBUS_RSS_BYTES][256]; /* what each value of each byte of the input gives */
};

extern const uint8_t mdbus_rss_key[MDBUS_RSS_KEY_BYTES]; /* the one published */

/* key: MDBUS_RSS_KEY_BYTES bytes, or NULL for mdbus_rss_key.  Not for the hot path. */
void mdbus_rss_init(struct mdbus_rss *rss, const uint8_t *key);

/* The hash of a UDP or TCP packet.  Addresses and ports in host byte order; src and sport are the sender's. */
static inline uint32_t mdbus_rss_hash(const struct mdbus_rss *rss, uint32_t src, uint32_t dst, uint16_t sport, uint16_t dport)
{
#ifdef MDBUS_MUTANT_rss_ports_swapped
	uint16_t port = sport;

	sport = dport;
	dport = port;
#endif
	return rss->part[0][src >> 24] ^ rss->part[1][src >> 16 & 255u] ^ rss->part[2][src >> 8 & 255u] ^
	       rss->part[3][src & 255u] ^ rss->part[4][dst >> 24] ^ rss->part[5][dst >> 16 & 255u] ^
	       rss->part[6][dst >> 8 & 255u] ^ rss->part[7][dst & 255u] ^ rss->part[8][sport >> 8] ^
	       rss->part[9][sport & 255u] ^ rss->part[10][dport >> 8] ^ rss->part[11][dport & 255u];
}

/* The queue of that hash, of n (at least 1, at most MDBUS_RSS_TABLE). */
static inline uint32_t mdbus_rss_queue(uint32_t hash, uint32_t n)
{
	return hash % MDBUS_RSS_TABLE % n;
}

#endif
