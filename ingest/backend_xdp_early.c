/* SPDX-License-Identifier: Apache-2.0 */
#include "backend_xdp_early.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <mdbus/hook.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "../bus/channel.h"

#define SETTLE_NS 2000000u /* a packet let through is in the socket's ring after this */

/* One flow, which is one channel's alone. */
struct flow {
	struct line_xdp_early *at; /* shared with the program */
	struct mdbus_channel *channel;
	struct line_xdp_window *window; /* so is this, where the channel has no order, with all such; else NULL */
	uint64_t look; /* in the window: the records before this position */
	uint64_t gen;      /* whose numbers may be dropped; 0: none */
	uint64_t runs_gen; /* whose numbers the runs not told yet are */
	/* runs told to the channel: all below `run`, and of that one numbers below `next` if it is begun */
	uint64_t run, next;
	bool begun;
	/* how far the runs went at due_ns - SETTLE_NS */
	uint64_t due_ns, due_run, due_next;
	uint64_t packets, messages; /* told */
	/* something strange: how often when it was noticed, when, and what had been received then */
	uint64_t strange, strange_ns, strange_dry, strange_received;
};

struct mdbus_xdp_early {
	struct line_xdp_early *map;
	uint64_t dry; /* rounds that left the socket's ring empty */
	uint64_t received;
	struct line_xdp_window *window;
	uint32_t nkeyed; /* flows without an order */
	uint32_t nflow;
	struct flow flow[];
};

/* ---- what was dropped ------------------------------------------------------------------------------------------ */

/* Tell the channel the runs up to number stop_next of run stop_run, but only numbers below `below`. */
static void tell_runs(struct flow *f, uint64_t stop_run, uint64_t stop_next, uint64_t below)
{
	uint64_t nrun = mdbus_load_acquire(&f->at->nrun);

	while (f->run < nrun && f->run <= stop_run) {
		const struct line_xdp_run *r = &f->at->run[f->run % LINE_XDP_RUNS];
		bool newest = f->run + 1u == nrun;
		uint64_t next = mdbus_load_acquire(&r->next), first = mdbus_load_relaxed(&r->first), to = next;

		mdbus_fence_acquire();
		if (mdbus_load_relaxed(&f->at->nrun) - f->run >= LINE_XDP_RUNS) { /* overwritten: only the totals tell of it */
			nrun = mdbus_load_acquire(&f->at->nrun);
			f->run = nrun - LINE_XDP_RUNS / 2u;
			f->begun = false;
			continue;
		}
		if (f->run == stop_run && to > stop_next)
			to = stop_next;
		if (to > below)
			to = below;
		if (f->begun)
			first = f->next;
		if (first < to) {
			mdbus_channel_dropped(f->channel, first, to);
			f->next = to;
			f->begun = true;
		}
		if (newest || to < next)
			return;
		f->run++;
		f->begun = false;
	}
}

static void catch_up(void *self, uint64_t before)
{
	struct flow *f = self;

	if (f->runs_gen == f->channel->gen.gen)
		tell_runs(f, UINT64_MAX, UINT64_MAX, before);
}

/* Tell what has been there for a while, and note what there is now. */
static void tell_settled(struct flow *f, uint64_t now)
{
	uint64_t nrun;

	if (now < f->due_ns)
		return;
	if (f->due_ns != 0)
		tell_runs(f, f->due_run, f->due_next, UINT64_MAX);
	nrun = mdbus_load_acquire(&f->at->nrun);
	f->due_ns = now + SETTLE_NS;
	f->due_run = nrun - 1u;
	f->due_next = nrun ? mdbus_load_relaxed(&f->at->run[(nrun - 1u) % LINE_XDP_RUNS].next) : 0;
	if (nrun == 0)
		f->due_ns = 0;
}

static void count_dropped(struct flow *f, uint64_t now)
{
	uint64_t packets = mdbus_load_relaxed(&f->at->packets), messages = mdbus_load_relaxed(&f->at->messages);

	if (packets == f->packets)
		return;
	mdbus_channel_count_dropped(f->channel, packets - f->packets, messages - f->messages);
	mdbus_store_relaxed(&mdbus_bus_arena(f->channel->bus, f->channel->line)->count.last_arrival_ns, now);
	f->packets = packets;
	f->messages = messages;
}

/* ---- what may be dropped --------------------------------------------------------------------------------------- */

/* Nothing may be dropped from here on. */
static void forbid(struct flow *f)
{
	if (f->gen == 0)
		return;
	mdbus_store_release(&f->at->version, f->at->version + 1u);
	MDBUS_HOOK("early.forbidden");
	f->gen = 0;
}

/* The line is in a session of which [from, to) is in the ring. */
static void allow(struct flow *f, uint64_t from, uint64_t to)
{
	struct mdbus_channel *c = f->channel;

	mdbus_fence_release(); /* the program sees the odd version before what follows */
#ifdef MDBUS_MUTANT_early_session_ignored
	f->at->fixed.nsession = 0;
#else
	mdbus_fixed_session(&c->desc.layout, &f->at->fixed, c->mine->session[c->gen.gen % 4u]);
#endif
	mdbus_store_relaxed(&f->at->from, from);
	MDBUS_HOOK("early.half");
	mdbus_store_relaxed(&f->at->to, to);
	f->gen = c->gen.gen;
	if (f->runs_gen != f->gen) {
		f->runs_gen = f->gen;
		f->run = mdbus_load_acquire(&f->at->nrun);
		f->begun = false;
		f->due_ns = 0;
	}
	mdbus_store_release(&f->at->version, f->at->version + 1u);
	MDBUS_HOOK("early.allowed");
}

/* The program waits for this process to have read something strange. */
static void rearm(struct mdbus_xdp_early *e, struct flow *f, uint32_t ring, uint64_t now)
{
	uint64_t strange = mdbus_load_acquire(&f->at->strange);

	if (strange == f->at->armed)
		return;
	if (strange != f->strange) {
		f->strange = strange;
		f->strange_ns = now;
		f->strange_dry = e->dry;
		f->strange_received = e->received;
	} else if (now - f->strange_ns > SETTLE_NS && (e->dry - f->strange_dry > 1u || e->received - f->strange_received > ring)) {
		mdbus_store_release(&f->at->armed, strange);
	}
}

/* ---- by key ---------------------------------------------------------------------------------------------------- */

static void note_key(void *self, uint64_t key, uint64_t rx_ns)
{
	struct flow *f = self;
	struct line_xdp_seen *s = &f->window->at[line_xdp_place(key, f->at->mine)];

	mdbus_store_relaxed(&s->when, 0);
	mdbus_fence_release();
	mdbus_store_relaxed(&s->key, key);
	mdbus_store_release(&s->when, line_xdp_when(rx_ns, f->at->mine));
}

static void round_by_key(struct flow *f, uint64_t now)
{
	count_dropped(f, now);
	mdbus_keyed_committed(f->channel, &f->look, &f->at->fixed.seq, note_key, f);
	if (f->look != 0 && (f->at->version & 1u) != 0)
		mdbus_store_release(&f->at->version, f->at->version + 1u);
}

/* ---- each round ------------------------------------------------------------------------------------------------ */

void mdbus_xdp_early_round(struct mdbus_xdp_early *e, uint32_t n, uint32_t ring)
{
	uint64_t now = mdbus_clock_ns();

	e->received += n;
	e->dry += n == 0;
	for (uint32_t i = 0; i < e->nflow; i++) {
		struct flow *f = &e->flow[i];
		uint64_t from, to;

		if (f->window != NULL) {
			round_by_key(f, now);
			continue;
		}
		bool may = mdbus_channel_committed(f->channel, &from, &to);

		count_dropped(f, now);
		if (!may || f->gen != f->channel->gen.gen)
			forbid(f);
		if (!may)
			continue;
		if (f->gen == 0) {
			allow(f, from, to);
		} else {
			mdbus_store_release(&f->at->to, to);
			MDBUS_HOOK("early.moved");
			mdbus_store_relaxed(&f->at->from, from);
		}
		rearm(e, f, ring, now);
		tell_settled(f, now);
	}
}

/* ---- setting up ------------------------------------------------------------------------------------------------ */

/* The channel that alone has a flow and wants its duplicates dropped; or NULL. */
static struct mdbus_channel *channel_of(const struct mdbus_backend_env *env, const struct mdbus_flow *flow)
{
	const struct mdbus_bus_hdr *dir = env->bus->dir;
	struct mdbus_channel *found = NULL;

	for (uint32_t c = 0; c < dir->nchannel; c++) {
		const struct mdbus_flow_desc *d = &dir->channel[c].flow[env->bus->index];

		if (d->addr != flow->addr || d->port != flow->port)
			continue;
		if (found || !env->channel[c].desc.early_drop)
			return NULL;
		found = &env->channel[c];
	}
	return found;
}

static int find_places(const struct mdbus_channel *c, struct mdbus_fixed *fixed)
{
	const struct mdbus_layout *l = &c->desc.layout;
	const char *why;

	return c->desc.ordered ? mdbus_fixed_find(l, fixed, &why) : mdbus_fixed_find_key(l, fixed, &why);
}

static uint32_t choose_flows(struct mdbus_xdp_early *e, const struct mdbus_backend_env *env)
{
	for (uint32_t i = 0; i < env->nflow && i < LINE_XDP_EARLY; i++) {
		struct mdbus_channel *c = channel_of(env, &env->flows[i]);
		struct mdbus_fixed fixed;

		if (!c || find_places(c, &fixed) != 0)
			continue;
		e->flow[e->nflow++] = (struct flow){ .channel = c, .next = i };
		e->nkeyed += !c->desc.ordered;
	}
	return e->nflow;
}

/* Memory for n of them that the program has, by `tell`, and this process. */
static int map_memory(void **at, const char *name, uint32_t size, uint32_t n, const struct mdbus_xdp_prog *prog,
                      uint32_t queue, int (*tell)(const struct mdbus_xdp_prog *prog, uint32_t queue, int fd))
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE);
	int rc, fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, name, sizeof(uint32_t), size, n, &opts);

	if (fd < 0)
		return fd;
	*at = mmap(NULL, (size_t)n * size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	rc = *at == MAP_FAILED ? -errno : tell(prog, queue, fd);
	close(fd);
	return rc;
}

static int map_all(struct mdbus_xdp_early *e, const struct mdbus_xdp_prog *prog, uint32_t queue)
{
	int rc = map_memory((void **)&e->map, "early", sizeof(*e->map), LINE_XDP_EARLY, prog, queue, mdbus_xdp_prog_early);

	if (rc == 0 && e->nkeyed != 0)
		rc = map_memory((void **)&e->window, "window", sizeof(*e->window), 1, prog, queue, mdbus_xdp_prog_window);
	return rc;
}

/* Nothing may be dropped at first: every version is odd. */
static void first_state(struct mdbus_xdp_early *e)
{
	for (uint32_t i = 0; i < e->nflow; i++) {
		struct flow *f = &e->flow[i];
		const struct mdbus_channel_desc *d = &f->channel->desc;

		f->at = &e->map[f->next];
		f->at->mine = (uint32_t)f->next;
		f->next = 0;
		f->at->version = 1;
		(void)find_places(f->channel, &f->at->fixed);
		if (!d->ordered) {
			f->at->by_key = 1;
			f->at->age_ns = d->key_age_ns != 0 ? d->key_age_ns : UINT64_MAX;
			f->window = e->window;
			continue;
		}
		f->channel->catch_up = catch_up;
		f->channel->catch_up_self = f;
	}
}

int mdbus_xdp_early_open(struct mdbus_xdp_early **early, const struct mdbus_xdp_prog *prog, struct mdbus_backend_env *env)
{
	uint32_t queue = env->line->queue;
	struct mdbus_xdp_early *e;
	int rc = mdbus_xdp_prog_early(prog, queue, -1); /* of a process before this one */

	*early = NULL;
	if (rc == 0)
		rc = mdbus_xdp_prog_window(prog, queue, -1);
	/* a line that hands packets over does not see how their channels go on */
	if (rc == 0 && env->bus && env->channel && env->line->to_mask == 0) {
		e = calloc(1, sizeof(*e) + env->nflow * sizeof(e->flow[0]));
		if (!e)
			rc = -ENOMEM;
		else if (choose_flows(e, env) != 0)
			rc = map_all(e, prog, queue);
		if (e && (rc || e->nflow == 0)) {
			mdbus_xdp_early_close(e);
			e = NULL;
		}
		if (e)
			first_state(e);
		*early = e;
	}
	if (rc)
		snprintf(env->error, sizeof(env->error), "cannot share memory with the XDP program for early_drop: %s",
		         strerror(-rc));
	return rc;
}

void mdbus_xdp_early_close(struct mdbus_xdp_early *e)
{
	if (!e)
		return;
	for (uint32_t i = 0; i < e->nflow; i++)
		e->flow[i].channel->catch_up = NULL;
	if (e->map && e->map != MAP_FAILED)
		munmap(e->map, LINE_XDP_EARLY * sizeof(*e->map));
	if (e->window && e->window != MAP_FAILED)
		munmap(e->window, sizeof(*e->window));
	free(e);
}
