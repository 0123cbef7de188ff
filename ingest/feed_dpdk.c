/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_dpdk.c - transmit through DPDK: a virtual NIC on the virtual bridge, or another virtual device.
 *
 * Needs no privilege.  Lines may share a device, as flows of one host do.  All devices are in one environment of DPDK's, which
 * is started with the first line and can be started once a process.  What a virtual NIC has taken the bridge delivers, even if
 * the feeder ends at once.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../bus/user_veth.h"
#include "backend_dpdk.h"
#include "feed_frame.h"

#define BUFFERS  1024u
#define TX_RING  1024u
#define RING     2048u /* frames in a virtual NIC's ring */

struct device {
	struct device *next;
	char name[MDBUS_USER_VETH_PATH_MAX + 64];
	uint32_t queue, users;
	uint16_t port;
	bool started, veth;
	struct rte_mempool *pool;
};

struct dpdk_tx {
	struct device *on;
	uint16_t ip_id;
	struct mdbus_feed_frame *dest;
};

static struct device *devices;
static uint32_t probed; /* ever */

/* ---- open ------------------------------------------------------------------------------------------------------ */

static int check(const struct mdbus_feed_tx_config *c, char *err, size_t errlen)
{
	if (!c->dev || (!mdbus_is_user_veth(c->dev) && strncmp(c->dev, "net_", 4) != 0))
		snprintf(err, errlen, "line %s: DPDK needs a virtual device: add dev=user-veth:PORT, PORT being one of mdbus-vbridge's",
		         c->line);
	else if (!c->from)
		snprintf(err, errlen, "line %s: %s has no address of its own: add from=ADDR", c->line, c->dev);
	else if (c->max_payload + MDBUS_FEED_HEADERS > RTE_ETHER_MTU + RTE_ETHER_HDR_LEN)
		snprintf(err, errlen, "line %s: packets of %u bytes do not fit an MTU of %u: use --transport socket", c->line,
		         c->max_payload, (unsigned)RTE_ETHER_MTU);
	else
		return 0;
	return -EINVAL;
}

static struct dpdk_veth veth_of(const struct mdbus_feed_tx_config *c)
{
	return (struct dpdk_veth){ .interface = c->dev, .run_dir = c->run_dir, .queue = c->queue, .ring = RING };
}

static int probe(struct device *d, const struct mdbus_feed_tx_config *c, char *err, size_t errlen)
{
	const struct dpdk_veth v = veth_of(c);
	char text[256], name[64];
	int rc = 0;

	if (mdbus_is_user_veth(c->dev))
		rc = mdbus_dpdk_veth_device(&v, probed, text, sizeof(text));
	else
		snprintf(text, sizeof(text), "%s", c->dev);
	probed++;
	if (rc == 0)
		rc = rte_dev_probe(text);
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(text, ","), text);
	if (rc == 0)
		rc = rte_eth_dev_get_port_by_name(name, &d->port);
	if (rc)
		snprintf(err, errlen, "line %s: DPDK cannot make %s%s: does mdbus-vbridge run, in the same run directory?", c->line,
		         c->dev, mdbus_dpdk_eal_said());
	return rc;
}

static int start_port(struct device *d, const struct mdbus_feed_tx_config *c, char *err, size_t errlen)
{
	const struct dpdk_veth v = veth_of(c);
	struct rte_eth_conf conf = { .rxmode.mtu = RTE_ETHER_MTU };
	char name[32], why[300] = "";
	int rc;

	snprintf(name, sizeof(name), "feed%u", d->port);
	d->pool = rte_pktmbuf_pool_create(name, BUFFERS, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	rc = d->pool ? rte_eth_dev_configure(d->port, 0, 1, &conf) : -rte_errno;
	if (rc == 0)
		rc = rte_eth_tx_queue_setup(d->port, 0, TX_RING, (unsigned)SOCKET_ID_ANY, NULL);
	if (rc == 0 && mdbus_is_user_veth(c->dev))
		rc = mdbus_dpdk_veth_start(d->port, &v, why, sizeof(why));
	else if (rc == 0)
		rc = rte_eth_dev_start(d->port);
	d->started = rc == 0;
	if (rc)
		snprintf(err, errlen, "line %s: %s", c->line, why[0] ? why : strerror(-rc));
	return rc;
}

static void leave(struct device *d)
{
	struct device **link = &devices;

	if (--d->users)
		return;
	while (*link != d)
		link = &(*link)->next;
	*link = d->next;
	if (d->started)
		(void)rte_eth_dev_stop(d->port);
	if (d->port < RTE_MAX_ETHPORTS)
		(void)rte_eth_dev_close(d->port);
	rte_mempool_free(d->pool);
	free(d);
	if (devices == NULL) {
		mdbus_dpdk_veth_release();
		(void)rte_eal_cleanup();
	}
}

/* The device of that line, made if no other line has it. */
static struct device *join(const struct mdbus_feed_tx_config *c, char *err, size_t errlen)
{
	struct device *d = devices;

	while (d && (strcmp(d->name, c->dev) != 0 || d->queue != c->queue))
		d = d->next;
	if (d) {
		d->users++;
		return d;
	}
	if (probed == 0 && mdbus_dpdk_eal_start_feeder(err, errlen))
		return NULL;
	d = calloc(1, sizeof(*d));
	if (d == NULL) {
		snprintf(err, errlen, "line %s: out of memory", c->line);
		return NULL;
	}
	snprintf(d->name, sizeof(d->name), "%s", c->dev);
	d->veth = mdbus_is_user_veth(c->dev);
	d->queue = c->queue;
	d->port = RTE_MAX_ETHPORTS;
	d->users = 1;
	d->next = devices;
	devices = d;
	if (probe(d, c, err, errlen) == 0 && start_port(d, c, err, errlen) == 0)
		return d;
	leave(d);
	return NULL;
}

static int make_destinations(struct dpdk_tx *t, const struct mdbus_feed_tx_config *c, char *err, size_t errlen)
{
	struct rte_ether_addr own;
	int rc = rte_eth_macaddr_get(t->on->port, &own);

	t->dest = calloc(c->ndest, sizeof(*t->dest));
	if (rc || !t->dest) {
		snprintf(err, errlen, "line %s: %s", c->line, strerror(rc ? -rc : ENOMEM));
		return rc ? rc : -ENOMEM;
	}
	for (uint32_t i = 0; i < c->ndest; i++) {
		struct in_addr to = { c->dest[i].addr };
		uint8_t mac[6];

		if (!mdbus_feed_frame_mac(c, to.s_addr, mac)) {
			snprintf(err, errlen, "line %s: no MAC address known for %s: give mac=", c->line, inet_ntoa(to));
			return -EHOSTUNREACH;
		}
		mdbus_feed_frame_prepare(&t->dest[i], own.addr_bytes, mac, c->from, &c->dest[i]);
	}
	return 0;
}

static void dpdk_close(void *self)
{
	struct dpdk_tx *t = self;

	if (t->on)
		leave(t->on);
	free(t->dest);
	free(t);
}

static void *dpdk_open(const struct mdbus_feed_tx_config *c, char *err, size_t errlen)
{
	struct dpdk_tx *t;

	if (check(c, err, errlen))
		return NULL;
	t = calloc(1, sizeof(*t));
	if (!t) {
		snprintf(err, errlen, "line %s: out of memory", c->line);
		return NULL;
	}
	t->on = join(c, err, errlen);
	if (t->on && make_destinations(t, c, err, errlen) == 0)
		return t;
	dpdk_close(t);
	return NULL;
}

/* ---- packets --------------------------------------------------------------------------------------------------- */

static int dpdk_send(void *self, const struct mdbus_feed_tx_packet *packets, uint32_t n)
{
	struct dpdk_tx *t = self;
	struct rte_mbuf *buf[MDBUS_FEED_BATCH];
	uint16_t sent;

	if (rte_pktmbuf_alloc_bulk(t->on->pool, buf, n) != 0)
		return 0;
	for (uint32_t i = 0; i < n; i++) {
		uint8_t *frame = rte_pktmbuf_mtod(buf[i], uint8_t *);

		buf[i]->data_len = (uint16_t)mdbus_feed_frame_build(&t->dest[packets[i].dest], frame, &packets[i], t->ip_id++);
		buf[i]->pkt_len = buf[i]->data_len;
	}
	sent = rte_eth_tx_burst(t->on->port, 0, buf, (uint16_t)n);
	rte_pktmbuf_free_bulk(buf + sent, n - sent);
	return sent == 0 && t->on->veth && !mdbus_dpdk_veth_still_up(t->on->port) ? -ENETDOWN : sent;
}

extern const struct mdbus_feed_tx_ops mdbus_feed_tx_dpdk __attribute__((visibility("default")));
const struct mdbus_feed_tx_ops mdbus_feed_tx_dpdk = {
	.name = "dpdk",
	.open = dpdk_open,
	.send = dpdk_send,
	.close = dpdk_close,
};
