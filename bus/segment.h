/* SPDX-License-Identifier: Apache-2.0
 *
 * segment.h - files of shared memory: made whole or not at all, on the largest pages to be had.
 *
 * Order tried: hugetlbfs with the page size asked for (1 GiB only when asked), hugetlbfs 2 MiB, shmem with
 * transparent huge pages (MADV_COLLAPSE), 4 KiB shmem.  What was obtained is in the segment's header; nothing is
 * silent.  A segment lives at DIR/NAME as a file on hugetlbfs or as a file on tmpfs.  A hugetlbfs file lives below the
 * mount point and DIR/NAME is a symbolic link to it.
 */
#ifndef MDBUS_SEGMENT_H
#define MDBUS_SEGMENT_H

#include <mdbus/abi.h>
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
	const char *huge_dir;  /* directory on a hugetlbfs mount, or NULL: do not use one */
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
 * shortage in err.  Called by mdbusd.
 * Killed inside: a file named .tmp.NAME.PID is left; mdbus_segment_sweep removes it.
 */
int mdbus_segment_create(const struct mdbus_segment_spec *spec, struct mdbus_mapping *map, char *err, size_t errlen);

/* Store the magic and rename the file into place.  Killed inside: as above, or the segment is complete. */
int mdbus_segment_publish(const struct mdbus_segment_spec *spec, struct mdbus_mapping *map, char *err, size_t errlen);

/*
 * Map an existing segment from a descriptor (which is kept in map->fd) and check magic, version, layout hash, kind, size
 * against the file's real size, and the bounds of every size and offset in the kind's header.  writable asks for
 * PROT_WRITE.  Returns 0, or -errno with a reason in err: -EPROTO magic or kind, -EPROTONOSUPPORT version or layout,
 * -EBADMSG a bound.  Any process.
 */
int mdbus_segment_attach(int fd, uint32_t kind, bool writable, struct mdbus_mapping *map, char *err, size_t errlen);

/* As mdbus_segment_attach, by path. */
int mdbus_segment_attach_path(const char *path, uint32_t kind, bool writable, struct mdbus_mapping *map, char *err,
                              size_t errlen);

/* Unmap and close. Harmless on a zeroed mapping whose fd is -1. */
void mdbus_segment_unmap(struct mdbus_mapping *map);

/* Remove DIR/NAME and the hugetlbfs file it points to, if it does. */
int mdbus_segment_remove(const char *dir, const char *name);

/* Remove what killed creators left (.tmp.*) in dir and huge_dir (may be NULL).  Called by mdbusd when it starts. */
void mdbus_segment_sweep(const char *dir, const char *huge_dir);

#endif
