/* SPDX-License-Identifier: Apache-2.0
 *
 * segment.h - files of shared memory: made whole or not at all, on the largest pages to be had.
 *
 * Order tried: hugetlbfs with the page size asked for (1 GiB only when asked), hugetlbfs 2 MiB, shmem with
 * transparent huge pages (MADV_COLLAPSE), 4 KiB shmem.  A page size is tried only for a segment that fills at least
 * half of one such page: a seat of 16 KiB does not eat a huge page.  What was obtained is in the segment's header; nothing
 * is silent.  A segment lives at DIR/NAME as a file on hugetlbfs or as a file on tmpfs.  A hugetlbfs file lives below the
 * mount point and DIR/NAME is a symbolic link to it.
 *
 * States of a segment, in order; a kill leaves it in one of them and mdbus_segment_sweep mends the first two:
 *
 *   .tmp.NAME.PID     being made: no magic
 *   NAME -> (nothing) hugetlbfs only: the link is there, the file not yet
 *   NAME              whole: magic stored, renamed into place
 */
#ifndef MDBUS_SEGMENT_H
#define MDBUS_SEGMENT_H

#include <mdbus/lease.h>
#include <stdbool.h>
#include <stddef.h>

enum mdbus_page_kind {
	MDBUS_PAGES_4K = 0,
	MDBUS_PAGES_THP = 1,
	MDBUS_PAGES_2M = 2,
	MDBUS_PAGES_1G = 3,
};

/* "4 KiB", "THP", "2 MiB hugetlb", "1 GiB hugetlb" */
const char *mdbus_page_kind_name(uint32_t page_kind);

struct mdbus_mapping {
	void *base; /* NULL: not mapped */
	size_t size;
	int fd; /* -1 after mdbus_segment_unmap */
};

struct mdbus_segment_spec {
	const char *dir;       /* the bus's directory, on tmpfs */
	const char *huge_dir;  /* directory on a hugetlbfs mount of 2 MiB pages, or NULL: do not use one */
	const char *huge_dir_1g; /* the same of 1 GiB pages, or NULL */
	const char *name;      /* file name, e.g. "ring.0" */
	uint32_t kind;         /* enum mdbus_segment_kind */
	uint32_t index;
	const char *bus;
	size_t size;           /* bytes wanted; rounded up to the page size obtained */
	uint32_t mode;         /* permission bits of the file */
	int gid;               /* group of the file, -1: unchanged */
	int numa;              /* node to prefer, -1: any */
};

/*
 * Create, size, reserve (fallocate), prefault and map a segment under a temporary name with its header filled in except
 * `magic`.  The caller fills in the rest and calls mdbus_segment_publish.  Returns 0 or -errno; -ENOSPC names the
 * shortage in err.  On success err is empty, or says why larger pages were not to be had.  Called by mdbusd.
 * Killed inside: a file named .tmp.NAME.PID is left; mdbus_segment_sweep removes it.
 */
int mdbus_segment_create(const struct mdbus_segment_spec *spec, struct mdbus_mapping *map, char *err, size_t errlen);

/*
 * Store the magic and rename the file into place.  On failure the temporary file is removed; unmap as ever.
 * Killed inside: as above, or the segment is complete.
 */
int mdbus_segment_publish(const struct mdbus_segment_spec *spec, struct mdbus_mapping *map, char *err, size_t errlen);

/*
 * Bytes that a segment of this size takes with the given directories if all goes well, and on which pages: what has to
 * be reserved before it is made.  huge_dir and huge_dir_1g as in the specification.
 */
size_t mdbus_segment_footprint(size_t size, bool huge_dir, bool huge_dir_1g, uint32_t *page_kind);

/*
 * Map an existing segment from a descriptor (kept in map->fd on success, left to the caller on failure), check magic,
 * version, layout hash, kind, size against the file's real size, and the bounds of every size and offset in the
 * kind's header, and touch its pages so that the first access does not fault.  writable asks for PROT_WRITE.  Returns 0,
 * or -errno with a reason in err: -EPROTO magic or kind, -EPROTONOSUPPORT version or layout, -EBADMSG a bound.
 * Any process.
 */
int mdbus_segment_attach(int fd, uint32_t kind, bool writable, struct mdbus_mapping *map, char *err, size_t errlen);

/* As mdbus_segment_attach, by path; nothing stays open on failure. */
int mdbus_segment_attach_path(const char *path, uint32_t kind, bool writable, struct mdbus_mapping *map, char *err,
                              size_t errlen);

/*
 * The checks of attach on `size` mapped bytes: never reads outside them, whatever they hold.  Another process may change
 * the memory afterwards: take copies of what must stay in bounds.  0, -EPROTO, -EPROTONOSUPPORT or -EBADMSG.
 */
int mdbus_segment_check(const void *base, size_t size, uint32_t kind, char *err, size_t errlen);

/*
 * Are the mapped rings, key windows (of a line) and arenas of a bus all there, each large enough for the shape that its
 * directory says, and do they say the same?  0, or -EBADMSG and a reason.
 */
int mdbus_segment_check_bus(const struct mdbus_bus *bus, char *err, size_t errlen);

/* Unmap and close. Harmless on a zeroed mapping whose fd is -1. */
void mdbus_segment_unmap(struct mdbus_mapping *map);

/*
 * Remove DIR/NAME and the hugetlbfs file it points to, if it does.  0 also when it is not there.  Killed inside: a link
 * to nothing.
 */
int mdbus_segment_remove(const char *dir, const char *name);

/* Remove what killed creators left (.tmp.*, links to nothing) in dir and huge_dir (may be NULL).  mdbusd, at its start. */
void mdbus_segment_sweep(const char *dir, const char *huge_dir);

#endif
