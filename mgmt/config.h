/* SPDX-License-Identifier: Apache-2.0
 *
 * config.h - the configuration file as plain structures.
 *
 * The structures of the bus directory (abi.h) are what the file is read into, so what is checked here is byte for byte what
 * the lines later find in shared memory.  A file is right as a whole or refused as a whole, with every mistake
 * found named by file:line.  Reading a file changes nothing on the host.
 */
#ifndef MDBUS_MGMT_CONFIG_H
#define MDBUS_MGMT_CONFIG_H

#include <limits.h>
#include <mdbus/abi.h>
#include <stdio.h>

#define MDBUS_CONFIG_BUSES_MAX 32u

enum mdbus_config_pages {
	MDBUS_CONFIG_PAGES_AUTO = 0, /* 2 MiB hugetlb if they can be had, else THP, else 4 KiB */
	MDBUS_CONFIG_PAGES_NEVER,    /* no hugetlb */
	MDBUS_CONFIG_PAGES_2M,       /* as auto */
	MDBUS_CONFIG_PAGES_1G,       /* 1 GiB for segments that fill at least half of one, else as auto */
};

struct mdbus_config_bus {
	char name[MDBUS_NAME_MAX];
	uint32_t nseat;
	uint32_t nline;
	uint32_t nchannel;
	uint32_t pad;
	uint64_t hash; /* of all the rest: another one means another bus */
	struct mdbus_line_desc line[MDBUS_LINES_MAX]; /* frame_size 0: by the interface's MTU */
	struct mdbus_channel_desc *channel;
};

struct mdbus_config {
	char path[PATH_MAX];
	uint32_t pages; /* enum mdbus_config_pages */
	int subscriber_gid, ingest_gid, admin_gid; /* -1: no such group configured */
	uint32_t nbus;
	struct mdbus_config_bus bus[MDBUS_CONFIG_BUSES_MAX];
};

/*
 * Read and check a file.  0, or -EINVAL after writing every mistake as a line "FILE:LINE: what, and what to do" to errors,
 * or -errno (also said there) if it cannot be read.  *out is to be freed with mdbus_config_free in either case.
 */
int mdbus_config_load(const char *path, struct mdbus_config *out, FILE *errors);

void mdbus_config_free(struct mdbus_config *c);

#endif
