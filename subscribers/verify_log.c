/* SPDX-License-Identifier: Apache-2.0
 *
 * verify_log.c - the feeder's log, mapped and put in order.
 *
 * The records stay in the file's pages; only their numbers (4 bytes each) are sorted, by channel, epoch and sequence
 * number.  A log is nearly in that order already, so a channel is sorted only if it is not.
 */
#include "verify.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Map the file; its header, or NULL with the reason in *rc. */
static const struct mdbus_feedlog_hdr *map_file(struct mdbus_log *log, const char *path, int *rc)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st = { 0 };
	void *map = MAP_FAILED;

	*rc = -EBADMSG;
	if (fd >= 0 && fstat(fd, &st) == 0 && (size_t)st.st_size >= sizeof(struct mdbus_feedlog_hdr))
		map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	else if (fd >= 0)
		errno = EBADMSG;
	if (map == MAP_FAILED)
		*rc = -errno;
	if (fd >= 0)
		close(fd);
	if (map == MAP_FAILED)
		return NULL;
	log->map = map;
	log->map_size = (size_t)st.st_size;
	*rc = 0;
	return map;
}

int mdbus_log_open(struct mdbus_log *log, const char *path, char *err, size_t errlen)
{
	const struct mdbus_feedlog_hdr *hdr;
	size_t body;
	int rc;

	memset(log, 0, sizeof(*log));
	hdr = map_file(log, path, &rc);
	if (hdr == NULL) {
		snprintf(err, errlen, "%s: %s", path,
		         rc == -EBADMSG ? "too short for a feeder log; give the file mdbus-feed --log wrote" : strerror(-rc));
		return rc;
	}
	if (memcmp(hdr->magic, MDBUS_FEEDLOG_MAGIC, sizeof(hdr->magic)) != 0 || hdr->nstreams > UINT16_MAX + 1u) {
		snprintf(err, errlen, "%s: not a feeder log; give the file mdbus-feed --log wrote", path);
		return -EPROTO;
	}
	body = log->map_size - sizeof(*hdr);
	if (body % sizeof(struct mdbus_feedlog_record) != 0) {
		snprintf(err, errlen, "%s: ends inside a record: the feeder was killed, so nobody knows what it sent", path);
		return -EBADMSG;
	}
	log->record = (const struct mdbus_feedlog_record *)(const void *)(hdr + 1);
	log->n = body / sizeof(struct mdbus_feedlog_record);
	log->nlines = hdr->nlines;
	log->nstreams = hdr->nstreams;
	return 0;
}

/* ---- order ----------------------------------------------------------------------------------------------------- */

static int compare(const struct mdbus_feedlog_record *a, const struct mdbus_feedlog_record *b)
{
	if (a->epoch != b->epoch)
		return a->epoch < b->epoch ? -1 : 1;
	if (a->seq != b->seq)
		return a->seq < b->seq ? -1 : 1;
	return 0;
}

static int compare_index(const void *a, const void *b, void *record)
{
	const struct mdbus_feedlog_record *r = record;
	uint32_t i = *(const uint32_t *)a, k = *(const uint32_t *)b;
	int order = compare(&r[i], &r[k]);

	return order ? order : (i > k) - (i < k);
}

static bool in_order(const struct mdbus_log *log, const struct mdbus_log_part *p)
{
	for (uint32_t i = 1; i < p->n; i++)
		if (compare(&log->record[p->index[i - 1u]], &log->record[p->index[i]]) > 0)
			return false;
	return true;
}

/* Where each epoch begins in the sorted index. */
static int find_epochs(const struct mdbus_log *log, struct mdbus_log_part *p)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < p->n; i++)
		n += i == 0 || log->record[p->index[i]].epoch != log->record[p->index[i - 1u]].epoch;
	p->epoch = calloc(n ? n : 1u, sizeof(*p->epoch));
	if (p->epoch == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < p->n; i++) {
		uint32_t epoch = log->record[p->index[i]].epoch;

		if (i == 0 || p->epoch[p->nepoch - 1u].epoch != epoch)
			p->epoch[p->nepoch++] = (struct mdbus_log_epoch){ .epoch = epoch, .first = i };
		p->epoch[p->nepoch - 1u].n++;
	}
	return 0;
}

/* The part that record r belongs to, or none. */
static struct mdbus_log_part *part_for(struct mdbus_log *log, const uint32_t *part_of,
                                       const struct mdbus_feedlog_record *r)
{
	uint32_t part = part_of[r->stream];

	return part < log->npart && !(r->flags & MDBUS_FEEDLOG_UNSEQ) ? &log->part[part] : NULL;
}

static int fill_parts(struct mdbus_log *log, const uint32_t *part_of)
{
	struct mdbus_log_part *p;

	for (uint64_t i = 0; i < log->n; i++) {
		if (log->record[i].stream >= log->nstreams)
			return -EBADMSG;
		p = part_for(log, part_of, &log->record[i]);
		if (p != NULL)
			p->n++;
	}
	for (uint32_t k = 0; k < log->npart; k++) {
		p = &log->part[k];
		p->index = calloc(p->n ? p->n : 1u, sizeof(*p->index));
		if (p->index == NULL)
			return -ENOMEM;
		p->n = 0;
	}
	for (uint64_t i = 0; i < log->n; i++) {
		p = part_for(log, part_of, &log->record[i]);
		if (p != NULL && p->index != NULL)
			p->index[p->n++] = (uint32_t)i;
	}
	return 0;
}

int mdbus_log_index(struct mdbus_log *log, const uint32_t *part_of, uint32_t npart)
{
	int rc;

	if (log->n > UINT32_MAX)
		return -ENOMEM;
	log->npart = npart;
	log->part = calloc(npart ? npart : 1u, sizeof(*log->part));
	if (log->part == NULL)
		return -ENOMEM;
	rc = fill_parts(log, part_of);
	for (uint32_t k = 0; k < npart && rc == 0; k++) {
		struct mdbus_log_part *p = &log->part[k];

		if (!in_order(log, p))
			qsort_r(p->index, p->n, sizeof(*p->index), compare_index, (void *)(uintptr_t)log->record);
		rc = find_epochs(log, p);
	}
	return rc;
}

void mdbus_log_close(struct mdbus_log *log)
{
	for (uint32_t k = 0; k < log->npart && log->part != NULL; k++) {
		free(log->part[k].index);
		free(log->part[k].epoch);
	}
	free(log->part);
	if (log->map != NULL)
		munmap(log->map, log->map_size);
	memset(log, 0, sizeof(*log));
}
