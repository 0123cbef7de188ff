/* SPDX-License-Identifier: Apache-2.0
 *
 * backend_dpdk_pool.c - the arena's frames as DPDK's packet buffers.
 *
 * The frames region of the arena is registered with DPDK as external memory.  A device behind an IOMMU, and every virtual
 * one, uses our addresses (IOVA as VA); one without, as in most virtual machines, or behind one that takes 39 bits, physical
 * ones, which only hugepages keep.
 * Each buffer of the pool is pinned to one frame for good: what a port receives lies in the arena, behind 128 bytes of
 * headroom in which a frame's meta data (MDBUS_FRAME_META) lives, and is published as it is.
 *
 * Who has a frame is decided by the line, not by DPDK's pool: all buffers are taken out of the pool once it is made, and
 * only those of free frames are ever put back, one by one, as the line lends them.  So a frame that the rings still refer
 * to, from this process or from one that was killed, cannot be received into.  The pool is of one producer and one
 * consumer, in the memory of this process.
 */
#include <errno.h>
#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_malloc.h>
#include <rte_memory.h>
#include <rte_mempool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../bus/segment.h"
#include "backend_dpdk.h"

#define CACHE 256u

_Static_assert(RTE_PKTMBUF_HEADROOM >= MDBUS_FRAME_META, "a frame's meta data would lie in its packet");

/* Whole pages around the frames: the mapping consists of such pages. */
static void find_region(struct mdbus_dpdk *x)
{
	const struct mdbus_segment_hdr *s = &x->arena->segment;
	bool huge = s->page_kind == MDBUS_PAGES_2M || s->page_kind == MDBUS_PAGES_1G;
	uintptr_t page = huge ? s->page_size : 4096u, start = (uintptr_t)x->frames;
	uintptr_t end = start + ((uintptr_t)x->nframes << x->frame_shift);

	start &= ~(page - 1);
	end = (end + page - 1) & ~(page - 1);
	x->region = (void *)start;
	x->region_len = end - start;
	x->region_page = (uint32_t)page;
}

/* What a device calls the memory at p, as far as its page goes. */
static rte_iova_t device_address(const void *p)
{
	return rte_eal_iova_mode() == RTE_IOVA_PA ? rte_mem_virt2phy(p) : (rte_iova_t)(uintptr_t)p;
}

/* Physical addresses of pages that the kernel may move would be another's memory one day. */
static int check_pages(const struct mdbus_dpdk *x, struct mdbus_backend_env *env)
{
	if (rte_eal_iova_mode() != RTE_IOVA_PA ||
	    (x->region_page > 4096u && device_address(x->frames) != (rte_iova_t)RTE_BAD_IOVA))
		return 0;
	snprintf(env->error, sizeof(env->error), "%s is not behind an IOMMU that reaches all addresses, so the line's memory must be on "
	         "hugepages, and this process privileged: set hugepages = \"2M\", see mdbusctl status", x->line->interface);
	return -EOPNOTSUPP;
}

static void unmap_device(struct mdbus_dpdk *x)
{
	while (x->nmapped > 0) {
		uint8_t *page = (uint8_t *)x->region + (size_t)--x->nmapped * x->map_step;

		(void)rte_dev_dma_unmap(x->info.device, page, device_address(page), x->map_step);
	}
}

/*
 * A device behind an IOMMU must be told of memory that is not DPDK's: all of it where the IOMMU takes our addresses, else, as
 * it may reach less far than those, page by page at physical ones.  What is bound to no IOMMU cannot be told, nor has to be.
 */
static int map_device(struct mdbus_dpdk *x, struct mdbus_backend_env *env)
{
	bool physical = rte_eal_iova_mode() == RTE_IOVA_PA;
	int rc;

	if (strcmp(rte_bus_name(rte_dev_bus(x->info.device)), "pci") != 0)
		return 0;
	x->map_step = physical ? x->region_page : x->region_len;
	while (x->nmapped < x->region_len / x->map_step) {
		uint8_t *page = (uint8_t *)x->region + (size_t)x->nmapped * x->map_step;

		rte_errno = 0;
		if (rte_dev_dma_map(x->info.device, page, device_address(page), x->map_step) != 0)
			break;
		x->nmapped++;
	}
	if (x->nmapped == x->region_len / x->map_step || (physical && x->nmapped == 0 && rte_errno == ENOTSUP))
		return 0;
	rc = rte_errno ? -rte_errno : -EFAULT;
	snprintf(env->error, sizeof(env->error), "%s cannot reach the line's memory (%s)%s: bind it to vfio-pci with "
	         "the IOMMU on, see dpdk-devbind.py", x->line->interface, strerror(-rc), mdbus_dpdk_eal_said());
	return rc;
}

static int register_region(struct mdbus_dpdk *x, struct mdbus_backend_env *env)
{
	uint32_t n;
	int rc = 0;

	find_region(x);
	rc = check_pages(x, env);
	if (rc)
		return rc;
	n = (uint32_t)(x->region_len / x->region_page);

	rte_iova_t *address = calloc(n, sizeof(*address));

	if (address == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		address[i] = device_address((uint8_t *)x->region + (size_t)i * x->region_page);
	if (rte_extmem_register(x->region, x->region_len, address, n, x->region_page) != 0) {
		rc = -rte_errno;
		snprintf(env->error, sizeof(env->error), "DPDK does not take the line's memory: %s%s", strerror(-rc),
		         mdbus_dpdk_eal_said());
	}
	free(address);
	x->registered = rc == 0;
	return rc ? rc : map_device(x, env);
}

/* The buffer of each frame, out of the pool. */
static int take_all(struct mdbus_dpdk *x)
{
	struct rte_mbuf **all = calloc(x->nframes, sizeof(struct rte_mbuf *));
	int rc = all ? rte_mempool_get_bulk(x->mempool, (void **)all, x->nframes) : -ENOMEM;

	for (uint32_t i = 0; rc == 0 && i < x->nframes; i++) {
		uint64_t frame = (uint64_t)((uint8_t *)all[i]->buf_addr - x->frames) >> x->frame_shift;

		if (frame >= x->nframes || x->mbuf[frame] != NULL)
			rc = -EFAULT;
		else
			x->mbuf[frame] = all[i];
	}
#ifdef MDBUS_MUTANT_dpdk_skip_sweep
	rte_mempool_put_bulk(x->mempool, (void **)all, x->nframes);
	memset(x->lent, 0xff, (x->nframes / 64 + 1) * sizeof(*x->lent));
	x->pool->nfree = 0;
#endif
	free(all);
	return rc;
}

/* The frames page by page, none of which reaches into the next one: pages of a device's memory need not be in order. */
static struct rte_pktmbuf_extmem *list_pages(const struct mdbus_dpdk *x, uint32_t *n)
{
	uint8_t *at = x->frames, *end = at + ((size_t)x->nframes << x->frame_shift);
	struct rte_pktmbuf_extmem *list = calloc(x->region_len / x->region_page, sizeof(*list));

	for (*n = 0; list && at < end; ++*n) {
		size_t len = x->region_page - ((uintptr_t)at & (x->region_page - 1));

		len = len < (size_t)(end - at) ? len : (size_t)(end - at);
		list[*n] = (struct rte_pktmbuf_extmem){
			.buf_ptr = at, .buf_iova = device_address(at), .buf_len = len, .elt_size = (uint16_t)(1u << x->frame_shift),
		};
		at += len;
	}
	return list;
}

int mdbus_dpdk_pool_open(struct mdbus_dpdk *x, struct mdbus_backend_env *env)
{
	struct rte_pktmbuf_extmem *pages;
	uint32_t n;
	int rc = register_region(x, env);

	if (rc)
		return rc;
	pages = list_pages(x, &n);
	if (pages == NULL)
		return -ENOMEM;
	x->mempool = rte_pktmbuf_pool_create_extbuf("frames", x->nframes, CACHE, 0, pages->elt_size, (int)rte_socket_id(), pages, n);
	rc = x->mempool ? take_all(x) : -rte_errno;
	free(pages);
	if (rc)
		snprintf(env->error, sizeof(env->error), "no DPDK pool of %u frames: %s%s", x->nframes, strerror(-rc),
		         mdbus_dpdk_eal_said());
	return rc;
}

void mdbus_dpdk_pool_close(struct mdbus_dpdk *x)
{
	if (x->mempool)
		rte_mempool_free(x->mempool);
	unmap_device(x);
	if (x->registered)
		(void)rte_extmem_unregister(x->region, x->region_len);
}
