/* SPDX-License-Identifier: Apache-2.0
 *
 * backend_dpdk_eal.c - DPDK's environment for one line: one core, one device, nothing shared with any other process.
 *
 * Processes that share a pool or a ring of DPDK's can hang each other by dying, so each line is an EAL of its own that
 * knows no secondary process: no shared configuration, no sockets, no hugepage files.  Its memory is for descriptors and the
 * heads of buffers only; the packets are in the line's arena.  It is taken from hugepages if the arena is on some
 * and some are left, as anonymous memory (--in-memory), so that it goes with the process, however that ends; else from
 * ordinary pages (--no-huge).
 *
 * The EAL may be started once a process and prints what it likes.  Here its words are kept, and told when something fails.
 */
#include <ctype.h>
#include <errno.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "../bus/dpdk_files.h"
#include "../bus/segment.h"
#include "backend_dpdk.h"

#define ARGS_MAX 16
#define USER_ADDRESS_BITS 47

/* ---- what DPDK says ---------------------------------------------------------------------------------------- */

static char said[256];
static bool speaks;
static const char *program = "mdbus-ingest";

static ssize_t hear(void *cookie, const char *text, size_t len)
{
	int level = rte_log_cur_msg_loglevel();
	size_t n = len;

	(void)cookie;
	while (n > 0 && isspace((unsigned char)text[n - 1]))
		n--;
	if (n > 0 && level > 0 && level <= (int)RTE_LOG_WARNING) {
		if (speaks)
			fprintf(stderr, "%s: DPDK: %.*s\n", program, (int)n, text);
		else if (level <= (int)RTE_LOG_ERR && said[0] == '\0')
			snprintf(said, sizeof(said), ": DPDK says \"%.*s\"", (int)n, text);
	}
	return (ssize_t)len;
}

const char *mdbus_dpdk_eal_said(void)
{
	return said;
}

void mdbus_dpdk_eal_speak(void)
{
	speaks = true;
}

static int listen_to_dpdk(void)
{
	cookie_io_functions_t io = { .write = hear };
	FILE *f = fopencookie(NULL, "w", io);

	if (f == NULL)
		return -ENOMEM;
	setvbuf(f, NULL, _IOLBF, 0);
	return rte_openlog_stream(f);
}

/* ---- arguments --------------------------------------------------------------------------------------------- */

/* "0000:01:00.0" or "01:00.0", perhaps with options behind a comma. */
bool mdbus_dpdk_is_pci(const char *device)
{
	size_t n = strspn(device, "0123456789abcdefABCDEF:.");

	return (device[n] == '\0' || device[n] == ',') && memchr(device, ':', n) && memchr(device, '.', n);
}

/* Append cores as ranges: "0-3,8". */
static void list_cores(const cpu_set_t *set, char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	for (int first = 0; first < CPU_SETSIZE && used + 16 < size; first++) {
		int last = first;

		if (!CPU_ISSET((size_t)first, set))
			continue;
		while (last + 1 < CPU_SETSIZE && CPU_ISSET((size_t)(last + 1), set))
			last++;
		used += (size_t)snprintf(text + used, size - used, "%s%d-%d", used ? "," : "", first, last);
		first = last;
	}
}

/*
 * One logical core, on the line's core, or wherever this process may run.  The line is pinned already; the threads that
 * the EAL makes for itself take what it may use when it starts, and shall be elsewhere.
 */
static void choose_cores(int cpu, char *text, size_t size)
{
	cpu_set_t set;
	char cores[1024];

	if (cpu >= 0) {
		memset(&set, 0xff, sizeof(set));
		(void)sched_setaffinity(0, sizeof(set), &set);
		snprintf(text, size, "--lcores=0@%d", cpu);
		return;
	}
	CPU_ZERO(&set);
	(void)sched_getaffinity(0, sizeof(set), &set);
	list_cores(&set, cores, sizeof(cores));
	snprintf(text, size, "--lcores=0@(%s)", cores);
}

/* The kernel sets pages aside for a mapping as it is made; those counted as free may be promised to others. */
static bool can_map(size_t len, unsigned page_shift)
{
	size_t page = (size_t)1 << page_shift;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | (int)(page_shift << MAP_HUGE_SHIFT);
	void *at;

	len = (len + page - 1) & ~(page - 1);
	at = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (at == MAP_FAILED)
		return false;
	munmap(at, len);
	return true;
}

/* The configuration says whether there shall be hugepages; the arena shows what came of it. */
static bool can_have_huge(const struct mdbus_arena_hdr *arena, size_t bytes)
{
	uint32_t kind = arena->segment.page_kind;

	if (kind != MDBUS_PAGES_2M && kind != MDBUS_PAGES_1G)
		return false;
	return can_map(bytes, 21) || can_map(bytes, 30);
}

/*
 * True if the card's IOMMU takes fewer bits of address than a process has, as Intel's in desktop machines do.  The EAL places
 * its own memory low enough for those; the line's is where the kernel has put it.
 */
static bool is_iommu_narrow(const char *device)
{
	size_t len = strcspn(device, ",");
	bool whole = strchr(device, ':') != memrchr(device, ':', len);
	char path[128], text[32] = "";
	uint64_t cap;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s%.*s/iommu/intel-iommu/cap", whole ? "" : "0000:", (int)len, device);
	f = fopen(path, "re");
	if (f == NULL)
		return false;
	if (fgets(text, sizeof(text), f) == NULL)
		text[0] = '\0';
	fclose(f);
	cap = strtoull(text, NULL, 16);
	return cap != 0 && (cap >> 16 & 63) + 1 < USER_ADDRESS_BITS;
}

struct arguments {
	int n;
	char *arg[ARGS_MAX + 1];
	char cores[1100], prefix[MDBUS_DPDK_PREFIX_MAX + 16], device[sizeof(((struct mdbus_line_desc *)0)->interface) + 8], mib[16];
};

static void add(struct arguments *a, const char *text)
{
	if (a->n < ARGS_MAX)
		a->arg[a->n++] = (char *)(uintptr_t)text;
	a->arg[a->n] = NULL;
}

static void choose_arguments(struct mdbus_dpdk *x, struct arguments *a, const char *prefix)
{
	uint32_t mib = (uint32_t)(mdbus_dpdk_own_bytes(x->nframes) >> 20);

	x->huge = can_have_huge(x->arena, (size_t)mib << 20);
	choose_cores(x->line->cpu, a->cores, sizeof(a->cores));
	snprintf(a->prefix, sizeof(a->prefix), "--file-prefix=%s", prefix);
	snprintf(a->mib, sizeof(a->mib), "-m%u", mib);
	snprintf(a->device, sizeof(a->device), "-a%s", x->line->interface);
	add(a, program);
	add(a, a->cores);
	add(a, a->prefix);
	if (!mdbus_dpdk_is_pci(x->line->interface))
		add(a, "--iova-mode=va"); /* for a card, the EAL finds out what it is bound to */
	else if (is_iommu_narrow(x->line->interface))
		add(a, "--iova-mode=pa");
	add(a, "--no-telemetry");
	add(a, "--mbuf-pool-ops-name=ring_sp_sc");
	add(a, mdbus_dpdk_is_pci(x->line->interface) ? a->device : "--no-pci");
	if (x->huge) {
		add(a, "--in-memory");
	} else {
		add(a, "--no-huge");
		add(a, "--no-shconf");
		add(a, a->mib);
	}
}

static int start(struct arguments *a, const char *run_dir, const char *prefix, char *err, size_t errlen)
{
	int rc = listen_to_dpdk();

	if (rc == 0)
		rc = setenv("RUNTIME_DIRECTORY", run_dir, 1) < 0 ? -errno : 0;
#ifndef MDBUS_MUTANT_dpdk_files_left
	(void)mdbus_dpdk_files_remove(run_dir, prefix); /* of a process that was killed in here */
#endif
	if (rc == 0 && rte_eal_init(a->n, a->arg) < 0) {
		rc = -rte_errno;
		snprintf(err, errlen, "DPDK does not start: %s%s", strerror(-rc), said);
	}
#ifndef MDBUS_MUTANT_dpdk_files_left
	(void)mdbus_dpdk_files_remove(run_dir, prefix);
#endif
	return rc;
}

int mdbus_dpdk_eal_start(struct mdbus_dpdk *x, struct mdbus_backend_env *env)
{
	struct arguments a = { .n = 0 };
	char prefix[MDBUS_DPDK_PREFIX_MAX];

	mdbus_dpdk_prefix(prefix, sizeof(prefix), env->arena->segment.bus, env->line->name);
	choose_arguments(x, &a, prefix);
	return start(&a, env->run_dir, prefix, env->error, sizeof(env->error));
}

/* Its place among files is one that nobody else knows, and is gone again before this returns. */
int mdbus_dpdk_eal_start_feeder(char *err, size_t errlen)
{
	static const char *const fixed[] = { "--iova-mode=va", "--no-telemetry", "--no-pci", "--no-huge", "--no-shconf", "-m64" };
	struct arguments a = { .n = 0 };
	char place[] = "/tmp/mdbus-feed.XXXXXX";
	int rc;

	program = "mdbus-feed";
	if (mkdtemp(place) == NULL) {
		rc = -errno;
		snprintf(err, errlen, "%s: %s", place, strerror(-rc));
		return rc;
	}
	choose_cores(-1, a.cores, sizeof(a.cores));
	snprintf(a.prefix, sizeof(a.prefix), "--file-prefix=feed");
	add(&a, program);
	add(&a, a.cores);
	add(&a, a.prefix);
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
		add(&a, fixed[i]);
	rc = start(&a, place, "feed", err, errlen);
	(void)rmdir(place);
	return rc;
}
