/* SPDX-License-Identifier: Apache-2.0
 *
 * hugepages.c - where huge pages come from, and giving them back.
 *
 * Root mounts its own hugetlbfs below the run directory, so that modes, sizes and the end of it are in one hand; if the
 * host forbids mounting, or without root, a writable mount that is there already is used.  nr_hugepages is raised by
 * what is missing; asking for too many does not fail, so what counts is what creating the segments finds.  RUN/hugepages
 * remembers what was there and what was added, so that whichever mdbusd comes last can take exactly that off again.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "daemon.h"
#include "rundir.h"

static const struct {
	const char *name, *option;
	unsigned long kib;
} pages[2] = { { "huge", "pagesize=2M,mode=0700", 2048 }, { "huge1g", "pagesize=1G,mode=0700", 1048576 } };

static bool read_number(uint32_t page, const char *what, unsigned long *value)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%lukB/%s", pages[page].kib, what);
	FILE *f = fopen(path, "re");
	bool ok = f && fscanf(f, "%lu", value) == 1;

	if (f)
		fclose(f);
	return ok;
}

static bool write_nr(uint32_t page, unsigned long value)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%lukB/nr_hugepages", pages[page].kib);
	FILE *f = fopen(path, "we");
	bool ok = f && fprintf(f, "%lu\n", value) > 0;

	if (f && fclose(f) != 0)
		ok = false;
	return ok;
}

static bool is_hugetlbfs(const char *path, uint32_t page)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && fs.f_type == HUGETLBFS_MAGIC && (unsigned long)fs.f_bsize == pages[page].kib * 1024;
}

static bool mount_own(struct mdbus_daemon *d, uint32_t page, bool may_mount)
{
	char path[MDBUS_RUN_PATH_MAX];

	snprintf(path, sizeof(path), "%.200s/%s", d->run, pages[page].name);
	if (!is_hugetlbfs(path, page)) { /* mounting twice would stack */
		if (!may_mount || geteuid() != 0 || (mkdir(path, 0700) < 0 && errno != EEXIST))
			return false;
		if (mount("mdbus", path, "hugetlbfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, pages[page].option) < 0) {
			rmdir(path);
			return false;
		}
	}
	memcpy(d->huge[page], path, sizeof(path));
	return true;
}

/* A mount of somebody else: our files go into a directory of our own there. */
static void use_existing(struct mdbus_daemon *d, uint32_t page, bool may_make)
{
	FILE *mounts = setmntent("/proc/mounts", "re");
	struct mntent *m;
	struct stat st;

	while (mounts && d->huge[page][0] == '\0' && (m = getmntent(mounts))) {
		char path[MDBUS_RUN_PATH_MAX];

		if (strcmp(m->mnt_type, "hugetlbfs") != 0 || !is_hugetlbfs(m->mnt_dir, page))
			continue;
		snprintf(path, sizeof(path), "%.200s/mdbus-%016llx", m->mnt_dir, (unsigned long long)mdbus_rundir_hash(d->run));
		if (may_make && mkdir(path, 0700) < 0 && errno != EEXIST)
			continue;
		if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid())
			memcpy(d->huge[page], path, sizeof(path));
	}
	if (mounts)
		endmntent(mounts);
}

void mdbus_huge_open(struct mdbus_daemon *d, uint32_t policy)
{
	for (uint32_t page = 0; page < 2; page++) {
		bool wanted = policy != MDBUS_CONFIG_PAGES_NEVER && (page == 0 || policy == MDBUS_CONFIG_PAGES_1G);
		unsigned long nr;

		/* directories that are there already are looked at in any case: they may hold what a former mdbusd left */
		if (read_number(page, "nr_hugepages", &nr) && !mount_own(d, page, wanted))
			use_existing(d, page, wanted);
	}
}

static void record_path(const struct mdbus_daemon *d, char *path, size_t size)
{
	snprintf(path, size, "%s/hugepages", d->run);
}

/* original[] and added[] of RUN/hugepages; zero what it does not say. */
static void read_record(const struct mdbus_daemon *d, unsigned long original[2], unsigned long added[2])
{
	char path[MDBUS_RUN_PATH_MAX + 16];

	record_path(d, path, sizeof(path));
	FILE *f = fopen(path, "re");

	original[0] = original[1] = added[0] = added[1] = 0;
	if (f && fscanf(f, "2M %lu +%lu 1G %lu +%lu", &original[0], &added[0], &original[1], &added[1]) != 4)
		added[0] = added[1] = 0;
	if (f)
		fclose(f);
}

static bool write_record(const struct mdbus_daemon *d, const unsigned long original[2], const unsigned long added[2])
{
	char path[MDBUS_RUN_PATH_MAX + 16], tmp[MDBUS_RUN_PATH_MAX + 32];

	record_path(d, path, sizeof(path));
	snprintf(tmp, sizeof(tmp), "%s.tmp", path);
	FILE *f = fopen(tmp, "we");

	if (!f)
		return false;
	bool ok = fprintf(f, "2M %lu +%lu\n1G %lu +%lu\n", original[0], added[0], original[1], added[1]) > 0;

	return fclose(f) == 0 && ok && rename(tmp, path) == 0;
}

void mdbus_huge_reserve(struct mdbus_daemon *d, uint32_t page, uint64_t bytes)
{
	unsigned long nr, unused, reserved, original[2], added[2];
	unsigned long need = (unsigned long)(bytes / 1024u / pages[page].kib);

	if (need == 0 || d->huge[page][0] == '\0' || !read_number(page, "nr_hugepages", &nr) ||
	    !read_number(page, "free_hugepages", &unused) || !read_number(page, "resv_hugepages", &reserved))
		return;
	unsigned long room = unused > reserved ? unused - reserved : 0;

	if (room >= need || geteuid() != 0)
		return;
	read_record(d, original, added);
	if (added[page] == 0)
		original[page] = nr;
	added[page] += need - room;
	if (!write_record(d, original, added)) /* first the note, then the deed */
		return;
	write_nr(page, nr + need - room);
	unsigned long got = nr;

	if (read_number(page, "nr_hugepages", &got) && got < nr + need - room) {
		mdbus_say("%lu huge pages of %lu KiB wanted, %lu more obtained: memory is too short or too fragmented",
		          need - room, pages[page].kib, got > nr ? got - nr : 0ul);
		added[page] -= nr + need - room - (got > nr ? got : nr);
		write_record(d, original, added);
	}
}

void mdbus_huge_close(struct mdbus_daemon *d)
{
	unsigned long original[2], added[2], nr;
	char path[MDBUS_RUN_PATH_MAX + 16];

	for (uint32_t page = 0; page < 2; page++) {
		snprintf(path, sizeof(path), "%s/%s", d->run, pages[page].name);
		if (strcmp(path, d->huge[page]) == 0)
			umount2(path, MNT_DETACH); /* detach: a stray mapping must not keep it in the name space */
		if (d->huge[page][0])
			rmdir(d->huge[page]);
		d->huge[page][0] = '\0';
	}
	read_record(d, original, added);
	for (uint32_t page = 0; page < 2; page++) {
		if (added[page] == 0 || !read_number(page, "nr_hugepages", &nr))
			continue;
		unsigned long less = nr > added[page] ? nr - added[page] : 0;

		if (less < original[page])
			less = original[page];
		if (less < nr)
			write_nr(page, less);
	}
	record_path(d, path, sizeof(path));
	unlink(path);
	snprintf(path, sizeof(path), "%s/hugepages.tmp", d->run);
	unlink(path);
}
