/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_log.c - a queue of open records, and a file behind it.
 *
 * Records lie in a ring of a power of two that doubles when it is full.  While a record is open its pad field counts the
 * lines that have not decided yet; at 0 the record is complete, and complete records leave from the head in order.
 */
#include "feed_log.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "mend.h"

#define WRITE_RECORDS 1024u /* 48 KiB a write: short enough not to disturb the pace */

struct mdbus_feed_log {
	struct mdbus_feedlog_record *ring;
	uint64_t size; /* records in ring, a power of two */
	uint64_t head, tail; /* [head, tail) are open or wait for an earlier one */
	struct mdbus_feed_log_totals totals;
	int fd; /* -1: totals only */
	int error;
	uint32_t nout;
	struct mdbus_feedlog_record out[WRITE_RECORDS];
};

static int write_all(int fd, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
#ifdef MDBUS_MUTANT_full_disk_ignored
		if (n < 0 && errno == ENOSPC)
			return 0;
#endif
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

const char *mdbus_feed_log_mend(int rc)
{
	return rc == -ENOSPC ? ": free some space there, or log to another file system" : mdbus_mend_descriptors(rc);
}

struct mdbus_feed_log *mdbus_feed_log_open(const char *path, uint32_t nlines, uint32_t nstreams, char *err,
                                           size_t errlen)
{
	struct mdbus_feedlog_hdr hdr = { .magic = MDBUS_FEEDLOG_MAGIC, .nlines = nlines, .nstreams = nstreams };
	struct mdbus_feed_log *log = calloc(1, sizeof(*log));
	int rc = log ? 0 : -ENOMEM;

	if (!rc) {
		log->fd = -1;
		log->size = 4096;
		log->ring = calloc(log->size, sizeof(*log->ring));
		rc = log->ring ? 0 : -ENOMEM;
	}
	if (!rc && path) {
		log->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		rc = log->fd < 0 ? -errno : write_all(log->fd, &hdr, sizeof(hdr));
	}
	if (!rc)
		return log;
	snprintf(err, errlen, "log %s: %s%s", path ? path : "(memory)", strerror(-rc), mdbus_feed_log_mend(rc));
	if (log && log->fd >= 0) {
		struct stat st;

		if (fstat(log->fd, &st) == 0 && S_ISREG(st.st_mode)) /* never a device, say */
			unlink(path);
		close(log->fd);
	}
	if (log)
		free(log->ring);
	free(log);
	return NULL;
}

static void flush_out(struct mdbus_feed_log *log)
{
	if (log->fd >= 0 && log->nout && !log->error)
		log->error = write_all(log->fd, log->out, log->nout * sizeof(log->out[0]));
	log->nout = 0;
}

static void retire(struct mdbus_feed_log *log)
{
	while (log->head != log->tail) {
		struct mdbus_feedlog_record *r = &log->ring[log->head & (log->size - 1)];

		if (r->pad)
			return;
		if (r->line_mask == 0)
			log->totals.lost_all++;
		if (log->fd >= 0)
			log->out[log->nout++] = *r;
		if (log->nout == WRITE_RECORDS)
			flush_out(log);
		log->head++;
	}
}

static int grow(struct mdbus_feed_log *log)
{
	struct mdbus_feedlog_record *ring = malloc(2 * log->size * sizeof(*ring));

	if (!ring)
		return -ENOMEM;
	for (uint64_t i = log->head; i != log->tail; i++)
		ring[i & (2 * log->size - 1)] = log->ring[i & (log->size - 1)];
	free(log->ring);
	log->ring = ring;
	log->size *= 2;
	return 0;
}

uint64_t mdbus_feed_log_add(struct mdbus_feed_log *log, const struct mdbus_feedlog_record *r, uint32_t lines)
{
	struct mdbus_feedlog_record *slot;

	if (!log->error && log->tail - log->head == log->size)
		log->error = grow(log);
	if (log->error)
		return UINT64_MAX;
	slot = &log->ring[log->tail & (log->size - 1)];
	*slot = *r;
	slot->time_ns = 0;
	slot->line_mask = 0;
	slot->pad = lines;
	log->totals.messages++;
	return log->tail++;
}

void mdbus_feed_log_resolve(struct mdbus_feed_log *log, uint64_t first, uint64_t n, uint32_t line, bool sent,
                            uint64_t now_ns)
{
	for (uint64_t i = first; i < first + n && i < log->tail; i++) {
		struct mdbus_feedlog_record *r = &log->ring[i & (log->size - 1)];

		if (r->time_ns == 0)
			r->time_ns = now_ns;
		if (sent)
			r->line_mask |= (uint8_t)(1u << line);
		r->pad--;
	}
	if (first == log->head)
		retire(log);
}

int mdbus_feed_log_error(const struct mdbus_feed_log *log)
{
	return log->error;
}

int mdbus_feed_log_close(struct mdbus_feed_log *log, struct mdbus_feed_log_totals *totals)
{
	int rc;

	for (uint64_t i = log->head; i != log->tail; i++) {
		struct mdbus_feedlog_record *r = &log->ring[i & (log->size - 1)];

		if (r->pad) {
			r->flags |= MDBUS_FEEDLOG_CUT;
			r->pad = 0;
			log->totals.cut++;
		}
	}
	retire(log);
	flush_out(log);
	if (log->fd >= 0 && close(log->fd) < 0 && !log->error)
		log->error = -errno;
	rc = log->error;
	*totals = log->totals;
	free(log->ring);
	free(log);
	return rc;
}

int mdbus_feed_log_print(const char *path, FILE *out, char *err, size_t errlen)
{
	struct mdbus_feedlog_hdr hdr;
	struct mdbus_feedlog_record r;
	FILE *f = fopen(path, "re");
	size_t got;

	if (!f) {
		int rc = -errno;

		snprintf(err, errlen, "log %s: %s", path, strerror(-rc));
		return rc;
	}
	if (fread(&hdr, sizeof(hdr), 1, f) != 1 || memcmp(hdr.magic, MDBUS_FEEDLOG_MAGIC, sizeof(hdr.magic)) != 0) {
		fclose(f);
		snprintf(err, errlen, "log %s: not a feeder log (it does not start with " MDBUS_FEEDLOG_MAGIC ")", path);
		return -EPROTO;
	}
	fprintf(out, "# %u lines, %u streams\n# stream epoch session seq len lines flags hash time_ns\n", hdr.nlines,
	        hdr.nstreams);
	while ((got = fread(&r, 1, sizeof(r), f)) == sizeof(r)) {
		char lines[9] = "";

		for (uint32_t i = 0; i < 8 && i < hdr.nlines; i++)
			lines[i] = r.line_mask >> i & 1 ? (char)('A' + i) : '-';
		fprintf(out, "%u %u %" PRIu64 " %" PRIu64 " %u %s %s%s%s%s%s%s %016" PRIx64 " %" PRIu64 "\n", r.stream,
		        r.epoch, r.session_no, r.seq, r.len, lines, r.flags & MDBUS_FEEDLOG_UNSEQ ? "u" : "",
		        r.flags & MDBUS_FEEDLOG_RETRANS ? "t" : "", r.flags & MDBUS_FEEDLOG_REPEAT ? "r" : "",
		        r.flags & MDBUS_FEEDLOG_CUT ? "c" : "", r.flags & MDBUS_FEEDLOG_SERVED ? "s" : "",
		        r.flags ? "" : ".", r.hash, r.time_ns);
	}
	if (got)
		fprintf(out, "# the file ends inside a record\n");
	fclose(f);
	return 0;
}
