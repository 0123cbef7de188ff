/* SPDX-License-Identifier: Apache-2.0
 *
 * hugepages.c - where huge pages come from, and giving them back.
 *
 * Root mounts its own hugetlbfs below the run directory, so that modes, sizes and the end of it are in one hand; if the
 * host forbids mounting, or without root, a writable mount that is there already is used.  nr_hugepages is raised by
 * what is missing; asking for too many does not fail, so what counts is what creating the segments finds.  RUN/hugepages
 * remembers how many were added, so that whichever mdbusd comes last takes exactly these off again, whatever
 * others have changed meanwhile.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <mdbus/hook.h>
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
#include "text.h"

static const struct {
	const char *name, *option;
	uint64_t kib;
} pages[2] = { { "huge", "pagesize=2M,mode=0700", 2048 }, { "huge1g", "pagesize=1G,mode=0700", 1048576 } };

static bool read_number(uint32_t page, const char *what, uint64_t *value)
{
	char path[128], text[32];
	const char *at = text;

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB/%s", pages[page].kib, what);
	return mdbus_text_read(path, text, sizeof(text)) && mdbus_text_number(&at, value);
}

static bool write_nr(uint32_t page, uint64_t value)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB/nr_hugepages", pages[page].kib);
	FILE *f = fopen(path, "we");
	bool ok = f && fprintf(f, "%" PRIu64 "\n", value) > 0;

	if (f && fclose(f) != 0)
		ok = false;
	return ok;
}

static bool is_hugetlbfs(const char *path, uint32_t page)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && fs.f_type == HUGETLBFS_MAGIC && (uint64_t)fs.f_bsize == pages[page].kib * 1024;
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
	MDBUS_HOOK("huge.mounted");
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
		uint64_t nr;

		/* directories that are there already are looked at in any case: they may hold what a former mdbusd left */
		if (read_number(page, "nr_hugepages", &nr) && !mount_own(d, page, wanted))
			use_existing(d, page, wanted);
		if (wanted && policy != MDBUS_CONFIG_PAGES_AUTO && d->huge[page][0] == '\0')
			mdbus_say("no huge pages of %" PRIu64 " KiB can be had here, smaller ones are used: start mdbusd as root, or "
			          "mount a hugetlbfs that it may write to", pages[page].kib);
	}
}

static void record_path(const struct mdbus_daemon *d, char *path, size_t size)
{
	snprintf(path, size, "%s/hugepages", d->run);
}

/*
 * What RUN/hugepages says of each page size.  Raising is noted before it is done (from < to) and again after it; who finds it
 * half done sees from nr_hugepages how far it got.
 */
struct record {
	uint64_t added, from, to;
};

static void read_record(const struct mdbus_daemon *d, struct record r[2])
{
	char path[MDBUS_RUN_PATH_MAX + 16], text[256] = "";
	const char *at = text;

	record_path(d, path, sizeof(path));
	mdbus_text_read(path, text, sizeof(text));
	for (uint32_t page = 0; page < 2; page++) {
		uint64_t nr;

		r[page] = (struct record){ 0 };
		if (!mdbus_text_skip_word(&at) || !mdbus_text_number(&at, &r[page].added) ||
		    !mdbus_text_number(&at, &r[page].from) || !mdbus_text_number(&at, &r[page].to))
			r[page] = (struct record){ 0 };

		if (r[page].from < r[page].to && read_number(page, "nr_hugepages", &nr) && nr > r[page].from)
			r[page].added += (nr < r[page].to ? nr : r[page].to) - r[page].from;
		r[page].from = r[page].to = 0;
	}
}

static bool write_record(const struct mdbus_daemon *d, const struct record r[2])
{
	char path[MDBUS_RUN_PATH_MAX + 16], tmp[MDBUS_RUN_PATH_MAX + 32];

	record_path(d, path, sizeof(path));
	snprintf(tmp, sizeof(tmp), "%s.tmp", path);
	FILE *f = fopen(tmp, "we");

	if (!f)
		return false;
	bool ok = true;

	for (uint32_t page = 0; page < 2; page++)
		ok = ok && fprintf(f, "%s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", page == 0 ? "2M" : "1G", r[page].added,
		                   r[page].from, r[page].to) > 0;
	return fclose(f) == 0 && ok && rename(tmp, path) == 0;
}

void mdbus_huge_reserve(struct mdbus_daemon *d, uint32_t page, uint64_t bytes)
{
	uint64_t nr, unused, reserved, need = bytes / 1024u / pages[page].kib;
	struct record r[2];

	if (need == 0 || d->huge[page][0] == '\0' || !read_number(page, "nr_hugepages", &nr) ||
	    !read_number(page, "free_hugepages", &unused) || !read_number(page, "resv_hugepages", &reserved))
		return;
	uint64_t room = unused > reserved ? unused - reserved : 0, got = nr;

	if (room >= need || geteuid() != 0)
		return;
	read_record(d, r);
	r[page].from = nr;
	r[page].to = nr + need - room;
	if (!write_record(d, r))
		return;
	MDBUS_HOOK("huge.noted");
	write_nr(page, r[page].to);
	MDBUS_HOOK("huge.raised");
	if (read_number(page, "nr_hugepages", &got) && got < r[page].to)
		mdbus_say("%" PRIu64 " huge pages of %" PRIu64 " KiB wanted, %" PRIu64 " obtained: memory is too short or too "
		          "fragmented", r[page].to - nr, pages[page].kib, got > nr ? got - nr : 0);
	read_record(d, r);
	write_record(d, r);
}

void mdbus_huge_close(struct mdbus_daemon *d)
{
	char path[MDBUS_RUN_PATH_MAX + 16];
	struct record r[2];
	uint64_t nr;

	mdbus_privilege_raise();
	for (uint32_t page = 0; page < 2; page++) {
		snprintf(path, sizeof(path), "%s/%s", d->run, pages[page].name);
		if (strcmp(path, d->huge[page]) == 0)
			umount2(path, MNT_DETACH); /* detach: a stray mapping must not keep it in the name space */
		MDBUS_HOOK("huge.unmounted");
		rmdir(path); /* also what was unmounted by one that was killed then */
		if (d->huge[page][0])
			rmdir(d->huge[page]);
		d->huge[page][0] = '\0';
	}
	read_record(d, r);
	for (uint32_t page = 0; page < 2; page++) {
		if (r[page].added > 0 && read_number(page, "nr_hugepages", &nr))
			write_nr(page, nr > r[page].added ? nr - r[page].added : 0);
		MDBUS_HOOK("huge.lowered");
	}
	record_path(d, path, sizeof(path));
	unlink(path);
	snprintf(path, sizeof(path), "%s/hugepages.tmp", d->run);
	unlink(path);
}
