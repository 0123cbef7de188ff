/* SPDX-License-Identifier: Apache-2.0
 *
 * seat.c - seats through descriptors; see seat.h.
 */
#include "seat.h"
#include <errno.h>
#include <fcntl.h>
#include <mdbus/hook.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../bus/segment.h"
#include "../bus/shape.h"

static size_t seat_bytes(void)
{
	return (mdbus_shape_seat_size() + 4095u) & ~(size_t)4095u;
}

int mdbus_seat_open(const struct mdbus_served *b, uint32_t seat)
{
	char path[MDBUS_RUN_PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s/seat.%u", b->dir, seat);
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -errno : fd;
}

int mdbus_seat_mend_length(int fd)
{
	struct stat st;
	off_t size = (off_t)seat_bytes();

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size == size)
		return 0;
	return ftruncate(fd, size) < 0 || fallocate(fd, 0, 0, size) < 0 ? -errno : 0;
}

int mdbus_seat_reset(const struct mdbus_served *b, uint32_t seat)
{
	struct mdbus_seat_hdr fresh = {
		.segment = {
			.magic = MDBUS_MAGIC,
			.version = MDBUS_ABI_VERSION,
			.kind = MDBUS_SEGMENT_SEAT,
			.layout_hash = MDBUS_ABI_LAYOUT,
			.size = seat_bytes(),
			.page_size = 4096,
			.index = seat,
			.page_kind = MDBUS_PAGES_4K,
		},
	};
	int held = b->seat_fd[seat], fd = held >= 0 ? held : mdbus_seat_open(b, seat);

	if (fd < 0)
		return fd;
	memcpy(fresh.segment.bus, b->map.dir->segment.bus, sizeof(fresh.segment.bus));
	int rc = mdbus_seat_mend_length(fd);

	MDBUS_HOOK("seat.mended");
	if (rc == 0 && pwrite(fd, &fresh, sizeof(fresh), 0) != (ssize_t)sizeof(fresh))
		rc = errno ? -errno : -EIO;
	MDBUS_HOOK("seat.written");
	if (fd != held)
		close(fd);
	return rc;
}

bool mdbus_seat_read(const struct mdbus_served *b, uint32_t seat, uint32_t nchannel, struct mdbus_seat_hdr *out)
{
	int fd = b->seat_fd[seat];

	size_t n = offsetof(struct mdbus_seat_hdr, channel) + nchannel * sizeof(out->channel[0]);

	return fd >= 0 && pread(fd, out, n, 0) == (ssize_t)n;
}
