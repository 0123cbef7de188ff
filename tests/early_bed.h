/* SPDX-License-Identifier: Apache-2.0
 *
 * early_bed.h - what the tests of early drop share: packets, an XDP program on no interface, and its verdicts by
 * BPF_PROG_TEST_RUN.  A test run comes on queue 0 and carries nothing out.
 */
#ifndef MDBUS_TESTS_EARLY_BED_H
#define MDBUS_TESTS_EARLY_BED_H

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <sys/socket.h>
#include <unistd.h>
#include "../ingest/backend_xdp_early.h"
#include "bus_bed.h"
#include "guard.h"

#define GROUP   "233.54.12.111"
#define PORT    26477
#define HEADERS 42u

static uint64_t rng = 7;

static inline uint32_t rnd(uint32_t n)
{
	rng = rng * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return n ? (uint32_t)(rng >> 33) % n : 0;
}

/* ---- packets and verdicts -------------------------------------------------------------------------------------- */

struct frame {
	uint8_t bytes[2048];
	uint32_t len; /* of the payload */
};

static inline void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* Ethernet, IP and UDP before a payload that stands at bytes + HEADERS. */
static inline void wrap(struct frame *f)
{
	memset(f->bytes, 0, HEADERS);
	put16(f->bytes + 12, ETH_P_IP);
	f->bytes[14] = 0x45;
	put16(f->bytes + 16, 28 + f->len);
	f->bytes[23] = IPPROTO_UDP;
	CHECK(inet_pton(AF_INET, GROUP, f->bytes + 30) == 1);
	put16(f->bytes + 36, PORT);
	put16(f->bytes + 38, 8 + f->len);
}

static inline uint32_t verdict(const struct mdbus_xdp_prog *prog, const struct frame *f)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = f->bytes, .data_size_in = HEADERS + f->len);

	CHECK(bpf_prog_test_run_opts(prog->prog, &opts) == 0);
	return opts.retval;
}

static inline uint32_t mold(const struct mdbus_xdp_prog *prog, const char *session, uint64_t seq, uint32_t count)
{
	struct bed_mold m = { .seq = seq, .count = count };
	struct frame f;

	memcpy(m.session, session, 10);
	f.len = bed_mold_build(&m, f.bytes + HEADERS, sizeof(f.bytes) - HEADERS);
	wrap(&f);
	return verdict(prog, &f);
}

struct rig {
	struct mdbus_xdp_prog prog;
	struct mdbus_flow flow;
	int xsk;
	struct line_xdp_early *at; /* of the flow */
	struct line_xdp_window *window;
};

static inline void rig_load(struct rig *r)
{
	char err[512] = "";
	int rc;

	memset(r, 0, sizeof(*r));
	mdbus_xdp_prog_init(&r->prog);
	rc = mdbus_xdp_prog_load(&r->prog, err, sizeof(err));
	if (rc == -EPERM) {
		printf("may not load a program: %s\n", err);
		exit(77);
	}
	if (rc)
		printf("%s\n", err);
	CHECK(rc == 0);
	r->flow.port = PORT;
	CHECK(inet_pton(AF_INET, GROUP, &r->flow.addr) == 1);
	r->xsk = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	CHECK(r->xsk >= 0);
}

static inline void rig_start(struct rig *r)
{
	char err[512] = "";

	CHECK(mdbus_xdp_prog_start(&r->prog, 0, &r->flow, 1, r->xsk, err, sizeof(err)) == 0);
}

static inline void rig_close(struct rig *r)
{
	close(r->xsk);
	mdbus_xdp_prog_close(&r->prog);
}

/* Memory shared with the program, all zeros: n of that size, told to it by `tell`. */
static inline void *rig_memory(struct rig *r, const char *name, uint32_t size, uint32_t n,
                               int (*tell)(const struct mdbus_xdp_prog *prog, uint32_t queue, int fd))
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE);
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, name, 4, size, n, &opts);

	CHECK(fd >= 0);
	void *at = mmap(NULL, (size_t)n * size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	CHECK(at != MAP_FAILED);
	CHECK(tell(&r->prog, 0, fd) == 0);
	close(fd);
	return at;
}

/* What says what may be dropped: nothing. */
static inline void rig_share(struct rig *r)
{
	r->at = rig_memory(r, "early", sizeof(*r->at), LINE_XDP_EARLY, mdbus_xdp_prog_early);
}

/* For its keys, if it has no order. */
static inline void rig_share_window(struct rig *r)
{
	r->window = rig_memory(r, "window", sizeof(*r->window), 1, mdbus_xdp_prog_window);
}

static inline void rig_put_key(struct rig *r, uint64_t key, uint64_t rx_ns)
{
	r->window->at[line_xdp_place(key, 0)] = (struct line_xdp_seen){ key, line_xdp_when(rx_ns, 0) };
}

/* A packet of the optiq feed, whose session id is its key. */
#define OPTIQ_LEN 36u

static inline void optiq_bytes(uint32_t key, uint8_t *p)
{
	memset(p, 0, OPTIQ_LEN);
	p[0] = 1;
	p[1] = OPTIQ_LEN;
	memcpy(p + 4, &key, 4);
	for (uint32_t i = 8; i < OPTIQ_LEN; i++)
		p[i] = (uint8_t)(key * 31u + i);
}

static inline uint32_t optiq(const struct mdbus_xdp_prog *prog, uint32_t key)
{
	struct frame f = { .len = OPTIQ_LEN };

	optiq_bytes(key, f.bytes + HEADERS);
	wrap(&f);
	return verdict(prog, &f);
}

static const char S1[] = "SESSION001", S2[] = "SESSION002";

#endif
