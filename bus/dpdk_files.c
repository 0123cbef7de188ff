/* SPDX-License-Identifier: Apache-2.0 */
#include "dpdk_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PLACE_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

const char *mdbus_dpdk_prefix(char *buf, size_t len, const char *bus, const char *line)
{
	snprintf(buf, len, "mdbus-%.31s-%.31s", bus, line);
	return buf;
}

static bool is_dot(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static uint32_t remove_place(int parent, const char *name)
{
	int fd = openat(parent, name, PLACE_FLAGS);
	DIR *at = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	uint32_t n = 0;

	while (at && (e = readdir(at)))
		n += !is_dot(e->d_name) && unlinkat(fd, e->d_name, 0) == 0;
	n += unlinkat(parent, name, AT_REMOVEDIR) == 0;
	if (at)
		closedir(at);
	else if (fd >= 0)
		close(fd);
	return n;
}

uint32_t mdbus_dpdk_files_remove(const char *run, const char *prefix)
{
	char path[PATH_MAX];
	struct dirent *e;
	uint32_t n = 0;

	snprintf(path, sizeof(path), "%s/dpdk", run);
	int fd = open(path, PLACE_FLAGS);
	DIR *at = fd < 0 ? NULL : fdopendir(fd);

	while (at && (e = readdir(at))) {
		if (!is_dot(e->d_name) && (prefix == NULL || strcmp(prefix, e->d_name) == 0))
			n += remove_place(fd, e->d_name);
	}
	if (at)
		closedir(at);
	else if (fd >= 0)
		close(fd);
	(void)rmdir(path);
	return n;
}
