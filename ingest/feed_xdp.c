/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_xdp.c - transmit through an AF_XDP socket.
 *
 * About three times as fast as sockets, because a packet needs no skb of its own making and no route: the frame is built
 * here, headers and checksums included.  A frame of the UMEM is free, or in the TX or completion ring; with as many
 * frames as TX descriptors nothing can run over.  Needs CAP_NET_RAW, and the queue must not be taken by another AF_XDP socket.
 * The kernel frees everything when the process ends, however it ends; no XDP program is loaded.
 */
#include "feed_frame.h"
#include <arpa/inet.h>
#include <errno.h>
#include <mdbus/atomics.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <xdp/xsk.h>

#define RING       2048u
#define DRAIN_NS   200000000u
#define KICKS      16u
#define BUSY_TRIES 1000u /* a queue just given back is busy for some ms */

struct xdp_tx {
	struct xsk_umem *umem;
	struct xsk_socket *xsk;
	struct xsk_ring_prod tx, fill;
	struct xsk_ring_cons done;
	uint8_t *area;
	size_t area_len;
	uint32_t frame_size;
	uint64_t free[RING]; /* frame addresses */
	uint32_t nfree;
	uint16_t ip_id;
	struct mdbus_feed_frame *dest;
};

/* ---- addresses ---- */

static int interface_request(const char *dev, unsigned long what, struct ifreq *req)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc;

	memset(req, 0, sizeof(*req));
	snprintf(req->ifr_name, sizeof(req->ifr_name), "%s", dev);
	rc = fd < 0 || ioctl(fd, what, req) < 0 ? -errno : 0;
	if (fd >= 0)
		close(fd);
	return rc;
}

static uint32_t source_address(const struct mdbus_feed_tx_config *c)
{
	struct ifreq req;
	struct sockaddr_in in;

	if (c->from)
		return c->from;
	if (interface_request(c->dev, SIOCGIFADDR, &req))
		return 0;
	memcpy(&in, &req.ifr_addr, sizeof(in));
	return in.sin_addr.s_addr;
}

/* The neighbour table's entry for addr on dev. */
static bool neighbour(const char *dev, uint32_t addr, uint8_t *mac)
{
	char line[256], ip[64], name[64], hw[64];
	FILE *f = fopen("/proc/net/arp", "re");
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f)) {
		struct in_addr in;
		unsigned m[6];

		if (sscanf(line, "%63s %*s %*s %63s %*s %63s", ip, hw, name) != 3 || strcmp(name, dev) != 0 ||
		    inet_pton(AF_INET, ip, &in) != 1 || in.s_addr != addr)
			continue;
		found = sscanf(hw, "%x:%x:%x:%x:%x:%x", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5]) == 6;
		for (int i = 0; found && i < 6; i++)
			mac[i] = (uint8_t)m[i];
	}
	if (f)
		fclose(f);
	return found;
}

static bool destination_mac(const struct mdbus_feed_tx_config *c, uint32_t addr, uint8_t *mac)
{
	return mdbus_feed_frame_mac(c, addr, mac) || neighbour(c->dev, addr, mac);
}

static int make_destinations(struct xdp_tx *t, const struct mdbus_feed_tx_config *c, char *err, size_t errlen)
{
	uint32_t from = source_address(c);
	struct ifreq req;
	int rc = interface_request(c->dev, SIOCGIFHWADDR, &req);

	if (rc) {
		snprintf(err, errlen, "line %s: interface '%s': %s; see `ip link`", c->line, c->dev, strerror(-rc));
		return rc;
	}
	if (!from) {
		snprintf(err, errlen, "line %s: interface '%s' has no IPv4 address; give one with from=ADDR", c->line, c->dev);
		return -EADDRNOTAVAIL;
	}
	t->dest = calloc(c->ndest, sizeof(*t->dest));
	for (uint32_t i = 0; t->dest && i < c->ndest; i++) {
		struct in_addr to = { c->dest[i].addr };
		uint8_t mac[6];

		if (!destination_mac(c, to.s_addr, mac)) {
			snprintf(err, errlen, "line %s: no MAC address known for %s on %s; ping it first, or give mac=", c->line,
			         inet_ntoa(to), c->dev);
			return -EHOSTUNREACH;
		}
		mdbus_feed_frame_prepare(&t->dest[i], (const uint8_t *)req.ifr_hwaddr.sa_data, mac, from, &c->dest[i]);
	}
	return t->dest ? 0 : -ENOMEM;
}

/* ---- the socket ---- */

static int check_size(const struct mdbus_feed_tx_config *c, char *err, size_t errlen)
{
	struct ifreq req;
	int rc = interface_request(c->dev, SIOCGIFMTU, &req);

	if (!rc && c->max_payload + MDBUS_FEED_HEADERS - 14 > (uint32_t)req.ifr_mtu) {
		snprintf(err, errlen, "line %s: packets of %u bytes do not fit %s's MTU of %d; raise it, or use "
		         "--transport socket, which fragments", c->line, c->max_payload, c->dev, req.ifr_mtu);
		rc = -EMSGSIZE;
	} else if (rc) {
		snprintf(err, errlen, "line %s: interface '%s': %s; see `ip link`", c->line, c->dev, strerror(-rc));
	} else if (c->max_payload + MDBUS_FEED_HEADERS > 4096) {
		snprintf(err, errlen, "line %s: packets of %u bytes are too large for AF_XDP; use --transport socket",
		         c->line, c->max_payload);
		rc = -EMSGSIZE;
	}
	return rc;
}

static int make_umem(struct xdp_tx *t, const struct mdbus_feed_tx_config *c)
{
	struct xsk_umem_config config = {
		.fill_size = 64, /* nothing is received, but the kernel wants the ring */
		.comp_size = RING,
	};

	t->frame_size = c->max_payload + MDBUS_FEED_HEADERS <= 2048 ? 2048 : 4096;
	config.frame_size = t->frame_size;
	t->area_len = (size_t)RING * t->frame_size;
	t->area = mmap(NULL, t->area_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (t->area == MAP_FAILED) {
		t->area = NULL;
		return -errno;
	}
	for (uint32_t i = 0; i < RING; i++)
		t->free[t->nfree++] = (uint64_t)i * t->frame_size;
	return xsk_umem__create(&t->umem, t->area, t->area_len, &t->fill, &t->done, &config);
}

static int make_socket(struct xdp_tx *t, const struct mdbus_feed_tx_config *c)
{
	struct xsk_socket_config config = {
		.tx_size = RING,
		.libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
		.bind_flags = XDP_USE_NEED_WAKEUP,
	};
	int rc;

	for (unsigned i = 0; i < BUSY_TRIES; i++) {
		rc = xsk_socket__create(&t->xsk, c->dev, c->queue, t->umem, NULL, &t->tx, &config);
		if (rc != -EBUSY)
			return rc;
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	return rc;
}

/* In copy mode one call sends only some 32 packets, so it is repeated until the ring is empty, or the device will not. */
static void kick(struct xdp_tx *t)
{
	for (unsigned i = 0; i < KICKS && xsk_prod_nb_free(&t->tx, RING) < RING; i++)
		if (xsk_ring_prod__needs_wakeup(&t->tx))
			(void)sendto(xsk_socket__fd(t->xsk), NULL, 0, MSG_DONTWAIT, NULL, 0);
}

static void reclaim(struct xdp_tx *t)
{
	uint32_t at, n = xsk_ring_cons__peek(&t->done, RING, &at);

	for (uint32_t i = 0; i < n; i++)
		t->free[t->nfree++] = *xsk_ring_cons__comp_addr(&t->done, at + i);
	if (n)
		xsk_ring_cons__release(&t->done, n);
}

static void xdp_close(void *self)
{
	struct xdp_tx *t = self;
	uint64_t until = mdbus_clock_ns() + DRAIN_NS;

	while (t->xsk && t->nfree < RING && mdbus_clock_ns() < until) {
		kick(t);
		reclaim(t);
	}
	if (t->xsk)
		xsk_socket__delete(t->xsk);
	if (t->umem)
		xsk_umem__delete(t->umem);
	if (t->area)
		munmap(t->area, t->area_len);
	free(t->dest);
	free(t);
}

static void *xdp_open(const struct mdbus_feed_tx_config *c, char *err, size_t errlen)
{
	struct xdp_tx *t = calloc(1, sizeof(*t));
	int rc = t ? 0 : -ENOMEM;

	if (!c->dev) {
		snprintf(err, errlen, "line %s: AF_XDP needs the interface; add dev=IFACE", c->line);
		free(t);
		return NULL;
	}
	snprintf(err, errlen, "line %s: out of memory", c->line);
	if (!rc)
		rc = check_size(c, err, errlen);
	if (!rc)
		rc = make_destinations(t, c, err, errlen);
	if (!rc) {
		rc = make_umem(t, c);
		if (!rc)
			rc = make_socket(t, c);
		if (rc == -EPERM || rc == -EACCES)
			snprintf(err, errlen, "line %s: AF_XDP needs CAP_NET_RAW; run as root, or use --transport socket",
			         c->line);
		else if (rc == -EBUSY)
			snprintf(err, errlen, "line %s: queue %u of %s is taken by another AF_XDP socket; use queue=, or the "
			         "other end of the veth", c->line, c->queue, c->dev);
		else if (rc)
			snprintf(err, errlen, "line %s: AF_XDP on %s queue %u: %s", c->line, c->dev, c->queue, strerror(-rc));
	}
	if (!rc)
		return t;
	if (t)
		xdp_close(t);
	return NULL;
}

static int xdp_send(void *self, const struct mdbus_feed_tx_packet *packets, uint32_t n)
{
	struct xdp_tx *t = self;
	uint32_t at;

	reclaim(t);
	if (n > t->nfree)
		n = t->nfree;
	if (n && xsk_ring_prod__reserve(&t->tx, n, &at) == n) {
		for (uint32_t i = 0; i < n; i++) {
			struct xdp_desc *desc = xsk_ring_prod__tx_desc(&t->tx, at + i);

			desc->addr = t->free[--t->nfree];
			desc->len = mdbus_feed_frame_build(&t->dest[packets[i].dest], t->area + desc->addr, &packets[i], t->ip_id++);
			desc->options = 0;
		}
		xsk_ring_prod__submit(&t->tx, n);
	} else {
		n = 0;
	}
	kick(t);
	return (int)n;
}

const struct mdbus_feed_tx_ops mdbus_feed_tx_xdp = {
	.name = "af_xdp",
	.open = xdp_open,
	.send = xdp_send,
	.close = xdp_close,
};
