/* SPDX-License-Identifier: Apache-2.0
 *
 * pcap_read.h - capture files, packet by packet, for everything that reads one: mdbus-decode, the pcap backend, the
 * feeder.
 *
 * libpcap reads the file (pcap and pcapng, either byte order, us and ns; "-" is standard input); times always come
 * out in nanoseconds.  Link types: Ethernet, raw IP, BSD loopback, Linux cooked v1 and v2; any other is refused by
 * name.  Not for the hot path (allocates, makes system calls).  One reader belongs to one thread.
 */
#ifndef MDBUS_INGEST_PCAP_READ_H
#define MDBUS_INGEST_PCAP_READ_H

#include <stdbool.h>
#include <stddef.h>
#include "frame_parse.h"

struct mdbus_pcap;

struct mdbus_pcap_packet {
	uint64_t index;       /* in the file, from 0 */
	uint64_t ts_ns;       /* capture time, ns since 1970 */
	const uint8_t *frame; /* valid until the next call on the reader */
	uint32_t len;         /* bytes captured */
	uint32_t wire_len;    /* bytes on the wire, > len if the capture cut the frame */
};

/* Returns 0 and a reader to be closed, or -errno with a message that names the file in err. */
int mdbus_pcap_open(const char *path, struct mdbus_pcap **out, char *err, size_t errlen);

/* 1: *packet is the next one; 0: end of the file; -EIO: the file is damaged, as mdbus_pcap_error says. */
int mdbus_pcap_next(struct mdbus_pcap *p, struct mdbus_pcap_packet *packet);

/* As mdbus_frame_parse, for the file's link type. */
enum mdbus_frame_verdict mdbus_pcap_udp(const struct mdbus_pcap *p, const struct mdbus_pcap_packet *packet,
                                        struct mdbus_udp *out);

/* The frames start with an Ethernet header. */
bool mdbus_pcap_is_ethernet(const struct mdbus_pcap *p);

/* What went wrong, with the file's name. Valid until the reader is closed. */
const char *mdbus_pcap_error(const struct mdbus_pcap *p);

/* Harmless on NULL. */
void mdbus_pcap_close(struct mdbus_pcap *p);

#endif
