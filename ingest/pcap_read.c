/* SPDX-License-Identifier: Apache-2.0
 *
 * pcap_read.c - see pcap_read.h.  A link type comes down to how many bytes stand before the network header and where
 * an EtherType stands in them.
 */
#include <errno.h>
#include <pcap/pcap.h>
#include <stdio.h>
#include <stdlib.h>

#include "pcap_read.h"

struct mdbus_pcap {
	pcap_t *pcap;
	char *path;
	uint64_t count;
	int link;
	char error[PCAP_ERRBUF_SIZE + 256];
};

static bool link_known(int link)
{
	switch (link) {
	case DLT_EN10MB:
	case DLT_RAW:
	case DLT_IPV4:
	case DLT_NULL:
	case DLT_LOOP:
	case DLT_LINUX_SLL:
	case DLT_LINUX_SLL2:
		return true;
	default:
		return false;
	}
}

static int fail(struct mdbus_pcap *p, char *err, size_t errlen, int code, const char *what)
{
	snprintf(err, errlen, "%s: %s", p->path, what);
	mdbus_pcap_close(p);
	return code;
}

int mdbus_pcap_open(const char *path, struct mdbus_pcap **out, char *err, size_t errlen)
{
	char why[PCAP_ERRBUF_SIZE] = "";
	struct mdbus_pcap *p = calloc(1, sizeof(*p));
	FILE *file;

	if (!p || !(p->path = strdup(path))) {
		free(p);
		snprintf(err, errlen, "%s: out of memory", path);
		return -ENOMEM;
	}
	file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
	if (!file) {
		int error = errno;

		return fail(p, err, errlen, -error, strerror(error));
	}
	p->pcap = pcap_fopen_offline_with_tstamp_precision(file, PCAP_TSTAMP_PRECISION_NANO, why);
	if (!p->pcap) {
		if (file != stdin)
			fclose(file);
		return fail(p, err, errlen, -EINVAL, why);
	}
	p->link = pcap_datalink(p->pcap);
	if (!link_known(p->link)) {
		const char *name = pcap_datalink_val_to_name(p->link);

		snprintf(why, sizeof(why),
		         "link type %d (%s) is none that mdbus reads: Ethernet, raw IP, loopback or Linux cooked",
		         p->link, name ? name : "unknown");
		return fail(p, err, errlen, -ENOTSUP, why);
	}
	*out = p;
	return 0;
}

int mdbus_pcap_next(struct mdbus_pcap *p, struct mdbus_pcap_packet *packet)
{
	struct pcap_pkthdr *h;
	const u_char *data;
	int rc = pcap_next_ex(p->pcap, &h, &data);

	if (rc == PCAP_ERROR_BREAK)
		return 0;
	if (rc != 1) {
		snprintf(p->error, sizeof(p->error), "%s: after packet %llu: %s", p->path, (unsigned long long)p->count,
		         pcap_geterr(p->pcap));
		return -EIO;
	}
	*packet = (struct mdbus_pcap_packet){
		.index = p->count++,
		.ts_ns = (uint64_t)h->ts.tv_sec * 1000000000u + (uint64_t)h->ts.tv_usec, /* tv_usec holds ns here */
		.frame = data,
		.len = h->caplen,
		.wire_len = h->len,
	};
	return 1;
}

enum mdbus_frame_verdict mdbus_pcap_udp(const struct mdbus_pcap *p, const struct mdbus_pcap_packet *packet,
                                        struct mdbus_udp *out)
{
	const uint8_t *f = packet->frame;
	const uint32_t len = packet->len;

	out->nvlan = 0;
	switch (p->link) {
	case DLT_EN10MB:
		return mdbus_frame_parse(f, len, out);
	case DLT_LINUX_SLL:
		if (len < 16)
			return MDBUS_FRAME_BAD;
		return mdbus_frame_parse_ethertype(f, len, 16, mdbus_frame_be16(f + 14), out);
	case DLT_LINUX_SLL2:
		if (len < 20)
			return MDBUS_FRAME_BAD;
		return mdbus_frame_parse_ethertype(f, len, 20, mdbus_frame_be16(f), out);
	case DLT_NULL: /* a 4-byte address family in the writer's byte order: the IP version nibble says as much */
	case DLT_LOOP:
		if (len < 5)
			return MDBUS_FRAME_BAD;
		return f[4] >> 4 == 6 ? MDBUS_FRAME_NOT_FEED : mdbus_frame_parse_ipv4(f, len, 4, out);
	default:
		if (len < 1)
			return MDBUS_FRAME_BAD;
		return f[0] >> 4 == 6 ? MDBUS_FRAME_NOT_FEED : mdbus_frame_parse_ipv4(f, len, 0, out);
	}
}

bool mdbus_pcap_is_ethernet(const struct mdbus_pcap *p)
{
	return p->link == DLT_EN10MB;
}

const char *mdbus_pcap_error(const struct mdbus_pcap *p)
{
	return p->error;
}

void mdbus_pcap_close(struct mdbus_pcap *p)
{
	if (!p)
		return;
	if (p->pcap)
		pcap_close(p->pcap);
	free(p->path);
	free(p);
}
