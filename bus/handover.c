/* SPDX-License-Identifier: Apache-2.0 */
#include "handover.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <mdbus/hook.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "shape.h"

#define WAIT_BLIND_NS 100000u /* where the kernel cannot wait for several words */

/* The words are 64 bits wide; a futex looks at the low half. */
static const void *low_half(const uint64_t *word)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	return (const uint32_t *)(const void *)word + 1;
#else
	return word;
#endif
}

static struct mdbus_taker_words *words_of(const struct mdbus_bus *bus, uint32_t line)
{
	return &mdbus_bus_arena(bus, line)->taker;
}

/* ---- giver -------------------------------------------------------------------------------------------------------- */

int mdbus_giver_init(struct mdbus_giver *g, const struct mdbus_bus *bus, uint32_t line, uint32_t to)
{
	const struct mdbus_line_desc *d = &bus->dir->line[line];
	struct mdbus_hand_ring *ring = mdbus_shape_hand_ring(bus, line, to);

	if (ring == NULL || bus->arena[to].base == NULL)
		return -EINVAL;
	*g = (struct mdbus_giver){
		.dir = bus->dir,
		.ring = ring,
		.taker = words_of(bus, to),
		.line = line,
		.to = to,
		.size = d->hand_size,
		.patience_ns = UINT64_MAX,
		.head = mdbus_load_relaxed(&ring->head),
		.floor = mdbus_load_relaxed(&ring->floor),
	};
	uint64_t tail = mdbus_load_acquire(&g->taker->from[line].tail);

	g->tail = tail > g->floor && tail <= g->head ? tail : g->floor;
	if (g->head - g->tail > g->size) { /* damaged: nothing in it can be believed */
		g->head = g->head > g->floor ? g->head : g->floor;
		g->tail = g->floor = g->head;
	}
#ifdef MDBUS_MUTANT_handed_forgotten
	g->tail = g->floor = g->head;
#endif
	return 0;
}

static uint32_t lease_of(const struct mdbus_giver *g)
{
	return mdbus_load_relaxed(&g->dir->line[g->to].lease.id);
}

uint64_t mdbus_giver_look(struct mdbus_giver *g, uint64_t now_ns)
{
	uint64_t tail = mdbus_load_acquire(&g->taker->from[g->line].tail);

	if (g->head == g->tail)
		g->moved_ns = now_ns;
	if (tail == g->tail || tail < g->floor)
		return g->tail;
#ifndef MDBUS_MUTANT_tail_believed
	if (tail > mdbus_load_relaxed(&g->ring->head) || tail < g->tail) {
		if (g->barred != lease_of(g))
			g->bad++;
		g->barred = lease_of(g);
		return g->tail;
	}
#endif
	g->moved_ns = now_ns;
	return tail;
}

/* The taker's lease is one that it takes under, and its process lives as far as mdbusd knows. */
static bool is_there(const struct mdbus_giver *g)
{
	uint32_t lease = lease_of(g);

	return mdbus_load_acquire(&g->dir->line_state[g->to]) == MDBUS_LINE_UP &&
	       mdbus_load_acquire(&g->taker->ready) == lease && lease != 0 && lease != g->barred;
}

enum mdbus_giver_state mdbus_giver_state(const struct mdbus_giver *g, uint64_t now_ns)
{
	if (!is_there(g))
		return MDBUS_GIVER_DOWN;
	if (mdbus_load_acquire(&g->taker->from[g->line].tail) < g->floor)
		return MDBUS_GIVER_LATE;
	return g->head != g->tail && now_ns - g->moved_ns > g->patience_ns ? MDBUS_GIVER_LATE : MDBUS_GIVER_UP;
}

void mdbus_giver_put(struct mdbus_giver *g, const struct mdbus_hand_entry *e)
{
	*mdbus_giver_entry(g, g->head++) = *e;
	MDBUS_HOOK("hand.entry");
}

bool mdbus_giver_show(struct mdbus_giver *g, uint64_t now_ns)
{
	uint64_t shown = mdbus_load_relaxed(&g->ring->head);

	if (shown == g->head)
		return false;
	if (shown == g->tail)
		g->moved_ns = now_ns;
	MDBUS_HOOK("hand.head.before");
	mdbus_store_release(&g->ring->head, g->head);
	MDBUS_HOOK("hand.head.after");
	return true;
}

void mdbus_giver_take_back(struct mdbus_giver *g)
{
	mdbus_store_release(&g->ring->head, g->head);
	MDBUS_HOOK("hand.floor.before");
	g->floor = g->head;
#ifndef MDBUS_MUTANT_floor_unsaid
	mdbus_store_release(&g->ring->floor, g->floor);
#endif
	MDBUS_HOOK("hand.floor.after");
	mdbus_fence_release(); /* before anything is written to the frames */
}

void mdbus_giver_wake(const struct mdbus_giver *g)
{
	/* between the store of head, and this load */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (mdbus_load_relaxed(&g->taker->sleeping) != 0)
		syscall(SYS_futex, low_half(&g->ring->head), FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* ---- taker ------------------------------------------------------------------------------------------------------ */

int mdbus_taker_init(struct mdbus_taker *t, const struct mdbus_bus *bus, uint32_t line, uint32_t from)
{
	const struct mdbus_line_desc *d = &bus->dir->line[from];
	const struct mdbus_hand_ring *ring = mdbus_shape_hand_ring(bus, from, line);

	if (ring == NULL || bus->arena[line].base == NULL)
		return -EINVAL;
	*t = (struct mdbus_taker){
		.ring = ring,
		.arena = bus->arena[from].base,
		.tail = &words_of(bus, line)->from[from].tail,
		.size = d->hand_size,
		.nframes = d->frames,
		.frame_shift = (uint32_t)__builtin_ctz(d->frame_size),
		.frames_off = mdbus_shape_frames_off(d, bus->dir->nchannel),
	};
	t->next = mdbus_load_relaxed(t->tail);
	uint64_t head = mdbus_load_acquire(&ring->head);

	if (head - t->next > t->size && mdbus_taker_still(t) <= t->next) { /* one of the arenas is damaged */
		t->bad++;
		t->next = head;
	}
	return 0;
}

uint32_t mdbus_taker_look(struct mdbus_taker *t)
{
	uint64_t floor = mdbus_load_acquire(&t->ring->floor), head = mdbus_load_acquire(&t->ring->head);

	if (t->next < floor)
		t->next = floor;
	if (head - t->next <= t->size)
		return (uint32_t)(head - t->next);
	if (head > t->next)
		t->bad++;
	return 0;
}

bool mdbus_taker_copy(struct mdbus_taker *t, uint64_t n, struct mdbus_hand_entry *e, uint8_t *to)
{
	const struct mdbus_hand_entry *at = &t->ring->entry[n & (t->size - 1u)];
	uint32_t frame_size = 1u << t->frame_shift;

	*e = (struct mdbus_hand_entry){
		.frame = mdbus_load_relaxed(&at->frame),
		.channel = mdbus_load_relaxed(&at->channel),
		.off = mdbus_load_relaxed(&at->off),
		.len = mdbus_load_relaxed(&at->len),
		.rx_ns = mdbus_load_relaxed(&at->rx_ns),
		.wire_ns = mdbus_load_relaxed(&at->wire_ns),
	};
#ifndef MDBUS_MUTANT_entry_believed
	if (e->frame >= t->nframes || e->off < MDBUS_FRAME_META || e->off > frame_size || e->len > frame_size - e->off) {
		t->bad++;
		return false;
	}
#endif
	memcpy(to, t->arena + t->frames_off + ((uint64_t)e->frame << t->frame_shift) + e->off, e->len);
	return true;
}

uint64_t mdbus_taker_still(const struct mdbus_taker *t)
{
	mdbus_fence_acquire(); /* after the copies */
#ifdef MDBUS_MUTANT_floor_ignored
	return 0;
#endif
	return mdbus_load_relaxed(&t->ring->floor);
}

void mdbus_taker_done(struct mdbus_taker *t)
{
	if (mdbus_load_relaxed(t->tail) == t->next)
		return;
	MDBUS_HOOK("hand.tail.before");
	mdbus_store_release(t->tail, t->next);
	MDBUS_HOOK("hand.tail.after");
}

void mdbus_taker_ready(const struct mdbus_bus *bus, uint32_t lease)
{
	MDBUS_HOOK("hand.ready.before");
	mdbus_store_relaxed(&words_of(bus, bus->index)->sleeping, 0u);
	mdbus_store_release(&words_of(bus, bus->index)->ready, lease);
	MDBUS_HOOK("hand.ready.after");
}

/* The kernel compares each word with what it was when there was nothing, so that no wake can be missed. */
static void wait_for_heads(const struct mdbus_taker *t, uint32_t n, uint32_t timeout_us)
{
	struct timespec until = { .tv_sec = timeout_us / 1000000u, .tv_nsec = (long)(timeout_us % 1000000u) * 1000 };
	struct futex_waitv words[MDBUS_LINES_MAX] = { 0 };
	uint64_t end = mdbus_clock_ns() + timeout_us * UINT64_C(1000);

	for (uint32_t i = 0; i < n; i++) {
		uint64_t head = mdbus_load_acquire(&t[i].ring->head);

		if (head != t[i].next)
			return;
		words[i] = (struct futex_waitv){
			.val = (uint32_t)head, .uaddr = (uintptr_t)low_half(&t[i].ring->head), .flags = FUTEX_32,
		};
	}
	if (n == 1u) {
		syscall(SYS_futex, (uintptr_t)words[0].uaddr, FUTEX_WAIT, (uint32_t)words[0].val, &until, NULL, 0);
		return;
	}
	until = (struct timespec){ (time_t)(end / 1000000000u), (long)(end % 1000000000u) };
	if (syscall(SYS_futex_waitv, words, n, 0, &until, CLOCK_MONOTONIC) < 0 && errno == ENOSYS)
		nanosleep(&(struct timespec){ 0, WAIT_BLIND_NS }, NULL);
}

void mdbus_taker_wait(const struct mdbus_bus *bus, const struct mdbus_taker *t, uint32_t n, uint32_t timeout_us)
{
	uint32_t *sleeping = &words_of(bus, bus->index)->sleeping;

	mdbus_store_relaxed(sleeping, 1u);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	MDBUS_HOOK("hand.sleeping");
	wait_for_heads(t, n, timeout_us);
	mdbus_store_relaxed(sleeping, 0u);
	MDBUS_HOOK("hand.awake");
}
