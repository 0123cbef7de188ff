/* SPDX-License-Identifier: Apache-2.0
 *
 * segment.c - making, mapping and removing segments.
 *
 * Every page of a segment is reserved with fallocate before anybody may see it, so a shortage is an error at creation
 * and never a SIGBUS in the hot path.  Huge pages are a preference: each step down (1 GiB, 2 MiB, THP, 4 KiB) leaves
 * its reason in the caller's buffer.  The NUMA policy is set on the mapping before the pages exist, which both shmem and
 * hugetlbfs keep with the file.
 */
#include "segment.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/mempolicy.h>
#include <mdbus/hook.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define PAGE_4K  (UINT64_C(1) << 12)
#define PAGE_2M  (UINT64_C(1) << 21)
#define PAGE_1G  (UINT64_C(1) << 30)
#define TMP_MARK ".tmp."

struct placing {
	const char *dir;
	uint64_t page;
	enum mdbus_page_kind kind;
};

const char *mdbus_page_kind_name(uint32_t page_kind)
{
	static const char *const name[] = { "4 KiB", "THP", "2 MiB hugetlb", "1 GiB hugetlb" };

	return page_kind < sizeof(name) / sizeof(name[0]) ? name[page_kind] : "unknown";
}

static uint64_t round_up(uint64_t size, uint64_t page)
{
	return (size + page - 1u) & ~(page - 1u);
}

static bool page_fits(uint64_t size, uint64_t page)
{
	return size >= page / 2u;
}

size_t mdbus_segment_footprint(size_t size, bool huge_dir, bool huge_dir_1g, uint32_t *page_kind)
{
	if (huge_dir_1g && page_fits(size, PAGE_1G)) {
		*page_kind = MDBUS_PAGES_1G;
		return round_up(size, PAGE_1G);
	}
	if (page_fits(size, PAGE_2M)) {
		*page_kind = huge_dir ? MDBUS_PAGES_2M : MDBUS_PAGES_THP;
		return round_up(size, PAGE_2M);
	}
	*page_kind = MDBUS_PAGES_4K;
	return round_up(size, PAGE_4K);
}

/* Map so that address and file offset agree modulo `align`: else the kernel cannot map a huge page as one. */
static void *map_aligned(int fd, size_t size, int prot, uint64_t align)
{
	if (align <= PAGE_4K)
		return mmap(NULL, size, prot, MAP_SHARED, fd, 0);

	size_t span = size + align;
	uint8_t *area = mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (area == MAP_FAILED)
		return MAP_FAILED;
	uint8_t *at = (uint8_t *)round_up((uintptr_t)area, align);
	void *base = mmap(at, size, prot, MAP_SHARED | MAP_FIXED, fd, 0);

	if (base == MAP_FAILED) {
		int error = errno;

		munmap(area, span);
		errno = error;
		return MAP_FAILED;
	}
	if (at > area)
		munmap(area, (size_t)(at - area));
	munmap(at + size, (size_t)(area + span - (at + size)));
	return base;
}

static void prefer_node(void *base, size_t size, int node)
{
	unsigned long mask[16] = { 0 };

	if (node < 0 || (size_t)node >= sizeof(mask) * 8u)
		return;
	mask[(size_t)node / (8u * sizeof(mask[0]))] = 1ul << ((size_t)node % (8u * sizeof(mask[0])));
	/* a preference: a host without NUMA refuses it and nothing is lost */
	(void)syscall(SYS_mbind, base, size, MPOL_PREFERRED, mask, sizeof(mask) * 8u, 0);
}

static int reserve(int fd, size_t size)
{
	int rc;

	do {
		rc = fallocate(fd, 0, 0, (off_t)size);
	} while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

static bool tmp_path(char *path, size_t len, const char *dir, const char *name)
{
	int n = snprintf(path, len, "%s/" TMP_MARK "%s.%d", dir, name, (int)getpid());

	return n > 0 && (size_t)n < len;
}

static int open_tmp(const struct mdbus_segment_spec *spec, const char *path)
{
	unlink(path); /* of an earlier process that had our pid */
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return -errno;
	MDBUS_HOOK("segment.create.file");
	if ((spec->gid >= 0 && fchown(fd, (uid_t)-1, (gid_t)spec->gid) < 0) || fchmod(fd, spec->mode) < 0) {
		int rc = -errno;

		close(fd);
		unlink(path);
		return rc;
	}
	return fd;
}

/* Size, map, bind, reserve and touch; on shmem also collapse into huge pages.  *kind gets what was obtained. */
static int fill(const struct mdbus_segment_spec *spec, int fd, size_t size, enum mdbus_page_kind *kind, void **base)
{
	uint64_t align = *kind == MDBUS_PAGES_THP ? PAGE_2M : 0;

	if (ftruncate(fd, (off_t)size) < 0)
		return -errno;
	MDBUS_HOOK("segment.create.sized");
	*base = map_aligned(fd, size, PROT_READ | PROT_WRITE, align);
	if (*base == MAP_FAILED)
		return -errno;
	prefer_node(*base, size, spec->numa);
	int rc = reserve(fd, size);

	if (rc == 0 && madvise(*base, size, MADV_POPULATE_WRITE) < 0 && errno != EINVAL)
		rc = -errno;
	MDBUS_HOOK("segment.create.reserved");
	if (rc == 0 && *kind == MDBUS_PAGES_THP && madvise(*base, size, MADV_COLLAPSE) < 0)
		*kind = MDBUS_PAGES_4K;
	if (rc < 0)
		munmap(*base, size);
	return rc;
}

static int place(const struct mdbus_segment_spec *spec, const struct placing *p, struct mdbus_mapping *map)
{
	size_t size = round_up(spec->size, p->page);
	enum mdbus_page_kind kind = p->kind;
	char path[PATH_MAX];
	void *base = NULL;

	if (!tmp_path(path, sizeof(path), p->dir, spec->name))
		return -ENAMETOOLONG;
	int fd = open_tmp(spec, path);

	if (fd < 0)
		return fd;
	int rc = fill(spec, fd, size, &kind, &base);

	if (rc < 0 || !base) {
		close(fd);
		unlink(path); /* before anything else: a failed fallocate keeps its pages until then */
		return rc;
	}
	struct mdbus_segment_hdr *h = base;

	h->version = MDBUS_ABI_VERSION;
	h->kind = spec->kind;
	h->layout_hash = MDBUS_ABI_LAYOUT;
	h->size = size;
	h->page_size = kind == MDBUS_PAGES_4K ? PAGE_4K : p->page;
	h->index = spec->index;
	h->page_kind = kind;
	snprintf(h->bus, sizeof(h->bus), "%s", spec->bus);
	MDBUS_HOOK("segment.create.header");
	*map = (struct mdbus_mapping){ .base = base, .size = size, .fd = fd };
	return 0;
}

static const char *mend(int rc)
{
	if (rc == -EMFILE)
		return " (raise the limit of descriptors, ulimit -n)";
	return rc == -ENOSPC || rc == -ENOMEM ? " (free memory, enlarge that tmpfs, or lower depth and frames)" : "";
}

static void add_note(char *err, size_t errlen, const char *page, const char *dir, int rc)
{
	size_t used = strlen(err);

	if (used < errlen)
		snprintf(err + used, errlen - used, "%s%s pages in %s: %s", used ? "; " : "", page, dir, strerror(-rc));
}

int mdbus_segment_create(const struct mdbus_segment_spec *spec, struct mdbus_mapping *map, char *err, size_t errlen)
{
	const struct placing huge[] = {
		{ spec->huge_dir_1g, PAGE_1G, MDBUS_PAGES_1G },
		{ spec->huge_dir, PAGE_2M, MDBUS_PAGES_2M },
	};
	struct placing shm = { spec->dir, PAGE_2M, MDBUS_PAGES_THP };
	int rc;

	*map = (struct mdbus_mapping){ .fd = -1 };
	err[0] = '\0';
	if (spec->size < sizeof(struct mdbus_segment_hdr)) {
		snprintf(err, errlen, "%s/%s: %zu bytes cannot hold a header", spec->dir, spec->name, spec->size);
		return -EINVAL;
	}
	for (size_t i = 0; i < sizeof(huge) / sizeof(huge[0]); i++) {
		if (!huge[i].dir || !page_fits(spec->size, huge[i].page))
			continue;
		rc = place(spec, &huge[i], map);
		if (rc == 0)
			return 0;
		add_note(err, errlen, huge[i].page == PAGE_1G ? "1 GiB" : "2 MiB", huge[i].dir, rc);
	}
	if (!page_fits(spec->size, PAGE_2M))
		shm = (struct placing){ spec->dir, PAGE_4K, MDBUS_PAGES_4K };
	rc = place(spec, &shm, map);
	if (rc == 0) {
		const struct mdbus_segment_hdr *h = map->base;

		if (shm.kind == MDBUS_PAGES_THP && h->page_kind == MDBUS_PAGES_4K)
			add_note(err, errlen, "transparent huge", spec->dir, -ENOMEM);
		return 0;
	}
	snprintf(err, errlen, "%s/%s: cannot reserve %zu bytes of shared memory: %s%s", spec->dir, spec->name, spec->size,
	         strerror(-rc), mend(rc));
	return rc;
}

/* DIR/NAME -> HUGE/NAME, replacing what stood there in one step. */
static int link_huge(const struct mdbus_segment_spec *spec, const char *target)
{
	char tmp[PATH_MAX], final[PATH_MAX];
	int n = snprintf(final, sizeof(final), "%s/%s", spec->dir, spec->name);

	if (n < 0 || (size_t)n >= sizeof(final) || !tmp_path(tmp, sizeof(tmp), spec->dir, spec->name))
		return -ENAMETOOLONG;
	unlink(tmp);
	if (symlink(target, tmp) < 0)
		return -errno;
	MDBUS_HOOK("segment.publish.link");
	if (rename(tmp, final) < 0) {
		int rc = -errno;

		unlink(tmp);
		return rc;
	}
	return 0;
}

int mdbus_segment_publish(const struct mdbus_segment_spec *spec, struct mdbus_mapping *map, char *err, size_t errlen)
{
	struct mdbus_segment_hdr *h = map->base;
	const char *dir = h->page_kind == MDBUS_PAGES_1G   ? spec->huge_dir_1g
	                  : h->page_kind == MDBUS_PAGES_2M ? spec->huge_dir
	                                                   : spec->dir;
	char tmp[PATH_MAX], final[PATH_MAX];
	int n = snprintf(final, sizeof(final), "%s/%s", dir, spec->name), rc = 0;

	if (n < 0 || (size_t)n >= sizeof(final) || !tmp_path(tmp, sizeof(tmp), dir, spec->name))
		return -ENAMETOOLONG;
	mdbus_store_release(&h->magic, MDBUS_MAGIC);
	MDBUS_HOOK("segment.publish.magic");
	if (dir != spec->dir)
		rc = link_huge(spec, final);
	MDBUS_HOOK("segment.publish.rename");
	if (rc == 0 && rename(tmp, final) < 0)
		rc = -errno;
	if (rc < 0) {
		unlink(tmp);
		snprintf(err, errlen, "%s: cannot be renamed into place: %s", final, strerror(-rc));
	}
	return rc;
}

int mdbus_segment_attach(int fd, uint32_t kind, bool writable, struct mdbus_mapping *map, char *err, size_t errlen)
{
	struct stat st;
	struct statfs fs;

	*map = (struct mdbus_mapping){ .fd = -1 };
	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0) {
		int rc = -errno;

		snprintf(err, errlen, "segment descriptor: %s", strerror(-rc));
		return rc;
	}
	if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(struct mdbus_segment_hdr)) {
		snprintf(err, errlen, "not a segment: %lld bytes, mode %o", (long long)st.st_size, (unsigned)st.st_mode);
		return -EPROTO;
	}
	size_t size = (size_t)st.st_size;
	bool huge = (unsigned long)fs.f_type == HUGETLBFS_MAGIC;
	void *base = map_aligned(fd, size, writable ? PROT_READ | PROT_WRITE : PROT_READ,
	                         !huge && size % PAGE_2M == 0 ? PAGE_2M : 0);

	if (base == MAP_FAILED) {
		int rc = -errno;

		snprintf(err, errlen, "segment of %zu bytes cannot be mapped: %s", size, strerror(-rc));
		return rc;
	}
	int rc = mdbus_segment_check(base, size, kind, err, errlen);

	if (rc < 0) {
		munmap(base, size);
		return rc;
	}
	(void)madvise(base, size, writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
	*map = (struct mdbus_mapping){ .base = base, .size = size, .fd = fd };
	return 0;
}

int mdbus_segment_attach_path(const char *path, uint32_t kind, bool writable, struct mdbus_mapping *map, char *err,
                              size_t errlen)
{
	char why[256];
	int fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);

	*map = (struct mdbus_mapping){ .fd = -1 };
	if (fd < 0) {
		int rc = -errno;

		snprintf(err, errlen, "%s: %s%s", path, strerror(-rc), mend(rc));
		return rc;
	}
	int rc = mdbus_segment_attach(fd, kind, writable, map, why, sizeof(why));

	if (rc < 0) {
		snprintf(err, errlen, "%s: %s", path, why);
		close(fd);
	}
	return rc;
}

void mdbus_segment_unmap(struct mdbus_mapping *map)
{
	if (map->base)
		munmap(map->base, map->size);
	if (map->fd >= 0)
		close(map->fd);
	*map = (struct mdbus_mapping){ .fd = -1 };
}

int mdbus_segment_remove(const char *dir, const char *name)
{
	char path[PATH_MAX], target[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/%s", dir, name);

	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	ssize_t len = readlink(path, target, sizeof(target) - 1u);

	if (len > 0) {
		target[len] = '\0';
		if (unlink(target) < 0 && errno != ENOENT)
			return -errno;
		MDBUS_HOOK("segment.remove.file");
	}
	int rc = unlink(path) < 0 && errno != ENOENT ? -errno : 0;

	MDBUS_HOOK("segment.remove.name");
	return rc;
}

static void sweep_dir(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;
	struct stat st;

	if (!d)
		return;
	while ((e = readdir(d))) {
		bool tmp = strncmp(e->d_name, TMP_MARK, sizeof(TMP_MARK) - 1u) == 0;
		bool dangling = e->d_type == DT_LNK && fstatat(dirfd(d), e->d_name, &st, 0) < 0 && errno == ENOENT;

		if (!tmp && !dangling)
			continue;
		unlinkat(dirfd(d), e->d_name, 0);
		MDBUS_HOOK("segment.swept");
	}
	closedir(d);
}

void mdbus_segment_sweep(const char *dir, const char *huge_dir)
{
	sweep_dir(dir);
	if (huge_dir)
		sweep_dir(huge_dir);
}
