/* SPDX-License-Identifier: Apache-2.0
 *
 * peer_report - medians and quartiles of the turns, those with near cores and those with far cores apart.
 *
 * Which is which the floors themselves say: sorted, they fall into two heaps with a gap between them, or they do not.
 */
#include "peer_report.h"

#define TURNS_MAX 8192u
#define GAP       1.35 /* between the floors of near and of far cores, at least so many times */

/* The floors of a heap of turns: lo <= floor <= hi. */
struct heap {
	const char *name;
	double lo, hi;
};

/* What is said of a peer at one size. */
struct figure {
	size_t n, all; /* turns that count, and that were taken */
	double floor, value, low, high; /* medians; quartiles of value.  Hop: in floors */
	double p99, ns; /* hop: p99 in floors, median in ns */
	uint64_t switches;
};

static struct turn turns[TURNS_MAX];
static size_t nturn;

void report_turn(const struct turn *t)
{
	if (nturn < TURNS_MAX)
		turns[nturn++] = *t;
}

void report_absent(const struct peer *p, const char *why)
{
	printf("not measured: %s: %s\n", p->name, why);
	bench_json("{\"figure\":\"peer_absent\",\"peer\":\"%s\",\"why\":\"%s\"}", p->name, why);
}

/* One heap, or near and far, where at least a twentieth of the turns lies on either side of the gap. */
static unsigned heaps(struct heap *h)
{
	static double floors[TURNS_MAX];
	size_t n = 0, at = 0;
	double widest = GAP;

	for (size_t i = 0; i < nturn; i++)
		if (turns[i].steady)
			floors[n++] = turns[i].floor;
	if (n == 0)
		return 0;
	qsort(floors, n, sizeof(*floors), bench_ascending);
	for (size_t i = n / 20u + 1u; i + n / 20u < n; i++) {
		if (floors[i] / floors[i - 1u] > widest) {
			widest = floors[i] / floors[i - 1u];
			at = i;
		}
	}
	h[0] = (struct heap){ at ? "cores near" : "all turns", floors[0], floors[at ? at - 1u : n - 1u] };
	if (at == 0)
		return 1;
	h[1] = (struct heap){ "cores far", floors[at], floors[n - 1u] };
	return 2;
}

static struct figure figure_of(const struct peer *p, uint32_t len, bool hop, const struct heap *h)
{
	static double value[TURNS_MAX], p99[TURNS_MAX], floors[TURNS_MAX], ns[TURNS_MAX];
	struct figure f = { 0 };

	for (size_t i = 0; i < nturn; i++) {
		const struct turn *t = &turns[i];

		if (t->peer != p || t->len != len || t->hop != hop)
			continue;
		f.all++;
		if (!t->steady || t->floor < h->lo || t->floor > h->hi)
			continue;
		value[f.n] = hop ? t->value / t->floor : t->value;
		p99[f.n] = t->p99 / t->floor;
		ns[f.n] = t->value;
		floors[f.n++] = t->floor;
		f.switches += t->switches;
	}
	f.value = bench_quantile(value, f.n, 0.5);
	f.low = bench_quantile(value, f.n, 0.25);
	f.high = bench_quantile(value, f.n, 0.75);
	f.floor = bench_quantile(floors, f.n, 0.5);
	f.p99 = bench_quantile(p99, f.n, 0.5);
	f.ns = bench_quantile(ns, f.n, 0.5);
	return f;
}

static void json_of(const struct peer *p, uint32_t len, bool hop, const struct heap *h, const struct figure *f)
{
	if (f->n == 0)
		return;
	if (hop)
		bench_json("{\"figure\":\"peer_hop\",\"peer\":\"%s\",\"bytes\":%u,\"cores\":\"%s\",\"floor_ns\":%.1f,"
		           "\"p50_ns\":%.1f,\"p50_floors\":%.3f,\"p50_floors_q1\":%.3f,\"p50_floors_q3\":%.3f,"
		           "\"p99_floors\":%.3f,\"windows\":%zu,\"of\":%zu,\"involuntary_switches\":%lu}", p->name, len, h->name,
		           f->floor, f->ns, f->value, f->low, f->high, f->p99, f->n, f->all, (unsigned long)f->switches);
	else
		bench_json("{\"figure\":\"peer_rate\",\"peer\":\"%s\",\"bytes\":%u,\"cores\":\"%s\",\"floor_ns\":%.1f,"
		           "\"msg_per_s\":%.0f,\"msg_per_s_q1\":%.0f,\"msg_per_s_q3\":%.0f,\"windows\":%zu,\"of\":%zu,"
		           "\"involuntary_switches\":%lu}", p->name, len, h->name, f->floor, f->value * 1e6, f->low * 1e6,
		           f->high * 1e6, f->n, f->all, (unsigned long)f->switches);
}

static void row(const struct peer *p, const struct figure *hop, const struct figure *rate)
{
	char spread[32];

	printf("  %-17s", p->name);
	if (hop->n > 0) {
		snprintf(spread, sizeof(spread), "(%.2f..%.2f)", hop->low, hop->high);
		printf(" %7.2f %-15s %8.2f %7.0f", hop->value, spread, hop->p99, hop->ns);
	} else {
		printf(" %7s %-15s %8s %7s", "-", "", "-", "-");
	}
	snprintf(spread, sizeof(spread), "(%.2f..%.2f)", rate->low, rate->high);
	if (rate->n > 0)
		printf("  | %8.2f %-17s", rate->value, spread);
	else
		printf("  | %8s %-17s", "-", "");
	printf(" | %5lu   %zu, %zu of %zu, %zu\n", (unsigned long)(hop->switches + rate->switches), hop->n, rate->n, hop->all,
	       rate->all);
}

/* "hop: best peer rte_ring 1; mdbus, any line 1.10 x; mdbus, one line 0.95 x" */
static void best(const char *what, const struct peer *const *peers, unsigned npeer, const struct figure *f, bool less)
{
	unsigned b = npeer;

	for (unsigned i = 0; i < npeer; i++)
		if (!peers[i]->ours && f[i].n > 0 && (b == npeer || (less ? f[i].value < f[b].value : f[i].value > f[b].value)))
			b = i;
	if (b == npeer)
		return;
	printf("    %s: best peer %s", what, peers[b]->name);
	for (unsigned i = 0; i < npeer; i++)
		if (peers[i]->ours && f[i].n > 0)
			printf("; %s %.2f x its %s", peers[i]->name, f[i].value / f[b].value, what);
	putchar('\n');
}

static void table(const struct heap *h, const struct peer *const *peers, unsigned npeer, uint32_t len)
{
	struct figure hop[32], rate[32];
	double floors = 0;
	size_t n = 0;

	for (unsigned i = 0; i < npeer && i < 32u; i++) {
		hop[i] = figure_of(peers[i], len, true, h);
		rate[i] = figure_of(peers[i], len, false, h);
		json_of(peers[i], len, true, h, &hop[i]);
		json_of(peers[i], len, false, h, &rate[i]);
		floors += hop[i].floor * (double)hop[i].n + rate[i].floor * (double)rate[i].n;
		n += hop[i].n + rate[i].n;
	}
	if (n == 0)
		return;
	printf("\n%u bytes, %s, floor %.0f ns\n", len, h->name, floors / (double)n);
	printf("  %-17s %7s %-15s %8s %7s  | %8s %-17s | %s\n", "", "hop p50", "(quartiles)", "p99", "p50 ns", "rate",
	       "(quartiles)", "switches, turns that count");
	for (unsigned i = 0; i < npeer; i++)
		if (hop[i].n + rate[i].n > 0)
			row(peers[i], &hop[i], &rate[i]);
	best("hop", peers, npeer, hop, true);
	best("rate", peers, npeer, rate, false);
}

void report_all(const struct peer *const *peers, unsigned npeer, const uint32_t *sizes, unsigned nsize)
{
	struct heap h[2];
	unsigned n = heaps(h);

	printf("hop: publish to read, in floors, then ns; rate: million messages/s, one process to one other; medians of turns\n");
	for (unsigned k = 0; k < n; k++)
		printf("%s: floor %.0f to %.0f ns\n", h[k].name, h[k].lo, h[k].hi);
	for (unsigned k = 0; k < n; k++)
		for (unsigned i = 0; i < nsize; i++)
			table(&h[k], peers, npeer, sizes[i]);
}
