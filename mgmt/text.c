/* SPDX-License-Identifier: Apache-2.0
 *
 * text.c - small files; see text.h.
 */
#include "text.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLANKS " \t\n"

bool mdbus_text_read(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	ssize_t n = read(fd, buf, size - 1u);

	close(fd);
	buf[n > 0 ? n : 0] = '\0';
	return n > 0;
}

bool mdbus_text_number(const char **at, uint64_t *value)
{
	const char *s = *at + strspn(*at, BLANKS);
	char *end;

	if (!isdigit((unsigned char)*s))
		return false;
	errno = 0;
	*value = strtoull(s, &end, 10);
	*at = end;
	return errno == 0;
}

bool mdbus_text_skip_word(const char **at)
{
	const char *s = *at + strspn(*at, BLANKS);
	size_t n = strcspn(s, BLANKS);

	*at = s + n;
	return n > 0;
}

const char *mdbus_text_mend(int rc)
{
#ifdef MDBUS_MUTANT_shortage_without_word
	rc = 0;
#endif
	switch (rc) {
	case -EMFILE:
		return ": raise its limit of descriptors (ulimit -n)";
	case -ENFILE:
		return ": raise the host's limit of descriptors (sysctl fs.file-max)";
	case -ENOSPC:
		return ": free some space on that file system";
	case -EROFS:
		return ": set MDBUS_RUN_DIR to a directory that can be written";
	default:
		return "";
	}
}
