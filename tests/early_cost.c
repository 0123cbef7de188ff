/* SPDX-License-Identifier: Apache-2.0
 *
 * early_cost.c - the same packet over and over through the XDP program, as the kernel times it (BPF_PROG_TEST_RUN):
 *
 *   bare     no channel of the queue wants early drop: looked up and redirected
 *   dropped  found to be in the ring already, noted and dropped
 *   kept     looked at and redirected: not in the ring yet
 *
 * the last two also for a flow without an order, by key.
 *
 * They take turns, so that a slow second is a slow one for all; a figure is the median, its difference to bare that of
 * the turns' differences.
 */
#include "early_cost.h"

#ifndef MDBUS_HAVE_XDP
void early_cost(json_t *report)
{
	(void)report;
	printf("XDP program: built without AF_XDP\n");
}
#else
#include "early_bed.h"

#define TURNS  41u
#define REPEAT 200000u
#define FROM   5000u
#define TO     6000u

enum { BARE, DROPPED, KEPT, KEY_DROPPED, KEY_KEPT, CASES };

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Sorts v. */
static double quantile(double *v, double q)
{
	qsort(v, TURNS, sizeof(*v), ascending);
	return v[(size_t)((TURNS - 1u) * q)];
}

static double run(const struct mdbus_xdp_prog *prog, const struct frame *f, uint32_t want)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = f->bytes, .data_size_in = HEADERS + f->len, .repeat = (int)REPEAT);

	CHECK(bpf_prog_test_run_opts(prog->prog, &opts) == 0);
	CHECK(opts.retval == want);
	return opts.duration;
}

static void packet(struct frame *f, uint64_t seq)
{
	struct bed_mold m = { .session = "SESSION001", .seq = seq, .count = 1 };

	f->len = bed_mold_build(&m, f->bytes + HEADERS, sizeof(f->bytes) - HEADERS);
	wrap(f);
}

static void key_packet(struct frame *f, uint32_t key)
{
	f->len = OPTIQ_LEN;
	optiq_bytes(key, f->bytes + HEADERS);
	wrap(f);
}

static void share_key(struct rig *r, uint32_t key)
{
	const char *why;

	rig_share(r);
	rig_share_window(r);
	CHECK(mdbus_fixed_find_key(mdbus_layout_builtin("optiq_key"), &r->at->fixed, &why) == 0);
	r->at->by_key = 1;
	r->at->age_ns = UINT64_C(3600000000000);
	rig_put_key(r, key, mdbus_clock_ns());
}

static void tell(json_t *report, const char *what, double (*ns)[TURNS], unsigned i)
{
	double own[TURNS], more[TURNS], median, spread, cost;

	for (unsigned t = 0; t < TURNS; t++) {
		own[t] = ns[i][t];
		more[t] = ns[i][t] - ns[BARE][t];
	}
	median = quantile(own, 0.5);
	spread = quantile(own, 0.9) - quantile(own, 0.1);
	cost = quantile(more, 0.5);
	printf("XDP program, %-14s %5.0f ns a packet, %+4.0f ns on bare (10 to 90 %%: %.0f ns)\n", what, median, cost, spread);
	json_array_append_new(report, json_pack("{s:s, s:s, s:f, s:f, s:f}", "bench", "early_drop", "case", what, "ns", median,
	                                        "over_bare_ns", cost, "spread_ns", spread));
}

void early_cost(json_t *report)
{
	static double ns[CASES][TURNS];
	const struct mdbus_layout *l = mdbus_layout_builtin("moldudp64");
	struct rig bare, early, by_key;
	struct frame old, young, old_key, young_key;
	const char *why;

	if (geteuid() != 0) {
		printf("XDP program: its cost is measured by root only\n");
		return;
	}
	rig_load(&bare);
	rig_start(&bare);
	rig_load(&early);
	rig_share(&early);
	CHECK(mdbus_fixed_find(l, &early.at->fixed, &why) == 0);
	mdbus_fixed_session(l, &early.at->fixed, (const unsigned char *)S1);
	early.at->from = FROM;
	early.at->to = TO;
	rig_start(&early);
	rig_load(&by_key);
	share_key(&by_key, 1);
	rig_start(&by_key);
	key_packet(&old_key, 1);
	key_packet(&young_key, 2);
	packet(&old, FROM);
	packet(&young, TO);
	for (unsigned t = 0; t < TURNS; t++) {
		early.at->seen = by_key.at->seen = 0;
		ns[BARE][t] = run(&bare.prog, &old, XDP_REDIRECT);
		ns[DROPPED][t] = run(&early.prog, &old, REPEAT % LINE_XDP_SAMPLE ? XDP_DROP : XDP_REDIRECT);
		ns[KEPT][t] = run(&early.prog, &young, XDP_REDIRECT);
		ns[KEY_DROPPED][t] = run(&by_key.prog, &old_key, REPEAT % LINE_XDP_SAMPLE ? XDP_DROP : XDP_REDIRECT);
		ns[KEY_KEPT][t] = run(&by_key.prog, &young_key, XDP_REDIRECT);
	}
	tell(report, "bare", ns, BARE);
	tell(report, "dropped", ns, DROPPED);
	tell(report, "kept", ns, KEPT);
	tell(report, "dropped by key", ns, KEY_DROPPED);
	tell(report, "kept by key", ns, KEY_KEPT);
	rig_close(&bare);
	rig_close(&early);
	rig_close(&by_key);
}
#endif
