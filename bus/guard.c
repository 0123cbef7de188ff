/* SPDX-License-Identifier: Apache-2.0
 *
 * guard.c - a handler for SIGBUS that only loads, compares and maps; see guard.h.
 *
 * A hugetlbfs mapping can only be replaced by whole huge pages, so the sizes are tried in turn.
 */
#include "guard.h"
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>

static const struct mdbus_bus *guarded[MDBUS_GUARDED_MAX];
static uint64_t replaced;

static bool within(const struct mdbus_region *table, uint32_t n, uintptr_t at, const struct mdbus_region **found)
{
	for (uint32_t i = 0; i < n; i++) {
		uintptr_t base = (uintptr_t)table[i].base;

		if (base != 0 && at >= base && at - base < table[i].size) {
			*found = &table[i];
			return true;
		}
	}
	return false;
}

static const struct mdbus_region *region_of(uintptr_t at)
{
	const struct mdbus_region *r = NULL;

	for (uint32_t i = 0; i < MDBUS_GUARDED_MAX; i++) {
		const struct mdbus_bus *b = mdbus_load_acquire(&guarded[i]);

		if (b && (within(b->ring, MDBUS_CHANNELS_MAX, at, &r) || within(b->keys, MDBUS_CHANNELS_MAX, at, &r) ||
		          within(b->arena, MDBUS_LINES_MAX, at, &r) || within(b->seat, MDBUS_SEATS_MAX, at, &r) ||
		          within(&b->dir_region, 1, at, &r)))
			return r;
	}
	return NULL;
}

static void fault(int number, siginfo_t *info, void *context)
{
	static const uintptr_t sizes[] = { 4096, (uintptr_t)1 << 21, (uintptr_t)1 << 30 };
	uintptr_t at = (uintptr_t)info->si_addr;
	const struct mdbus_region *r = region_of(at);
	int saved = errno;

	(void)context;
	for (uint32_t i = 0; r && i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uintptr_t page = at & ~(sizes[i] - 1u), base = (uintptr_t)r->base;

		if (page < base || (i > 0 && page + sizes[i] > base + r->size))
			continue;
		if (mmap((void *)page, sizes[i], PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
		    MAP_FAILED) {
			mdbus_count(&replaced, 1);
			errno = saved;
			return;
		}
	}
	signal(number, SIG_DFL); /* not ours: the access is made again and ends the process */
}

int mdbus_guard_add(const struct mdbus_bus *bus)
{
	struct sigaction act = { .sa_sigaction = fault, .sa_flags = SA_SIGINFO };

	for (uint32_t i = 0; i < MDBUS_GUARDED_MAX; i++) {
		if (guarded[i])
			continue;
		mdbus_store_release(&guarded[i], bus);
		sigemptyset(&act.sa_mask);
#ifdef MDBUS_MUTANT_no_guard
		return 0;
#endif
		return sigaction(SIGBUS, &act, NULL) < 0 ? -errno : 0;
	}
	return -ENOSPC;
}

void mdbus_guard_remove(const struct mdbus_bus *bus)
{
	for (uint32_t i = 0; i < MDBUS_GUARDED_MAX; i++) {
		if (guarded[i] == bus)
			mdbus_store_release(&guarded[i], NULL);
	}
}

uint64_t mdbus_guard_count(void)
{
	return mdbus_load_relaxed(&replaced);
}
