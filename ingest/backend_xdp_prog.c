/* SPDX-License-Identifier: Apache-2.0
 *
 * backend_xdp_prog.c - a line's XDP program in the kernel, see backend_xdp_prog.h and line_xdp.bpf.c.
 *
 * libbpf explains its failures by printing.  What it says while a program is being loaded is caught, and its last line
 * becomes part of the error, so the user reads one message that names the cause and not a page that hides it.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/capability.h>
#include <linux/if_link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "backend_xdp_prog.h"
#include "line_xdp.skel.h"

#define RETRY_US 2000

static char libbpf_said[160];

__attribute__((format(printf, 2, 0)))
static int catch_print(enum libbpf_print_level level, const char *format, va_list args)
{
	if (level != LIBBPF_WARN)
		return 0;
	vsnprintf(libbpf_said, sizeof(libbpf_said), format, args);
	libbpf_said[strcspn(libbpf_said, "\n")] = '\0';
	return 0;
}

const char *mdbus_xdp_missing(char *buf, size_t len)
{
	static const struct {
		unsigned int cap;
		const char *name;
	} needed[] = {
		{ CAP_NET_RAW, "CAP_NET_RAW" },
		{ CAP_NET_ADMIN, "CAP_NET_ADMIN" },
		{ CAP_BPF, "CAP_BPF" },
		{ CAP_IPC_LOCK, "CAP_IPC_LOCK" },
	};
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };
	size_t at = 0;

	buf[0] = '\0';
	if (syscall(SYS_capget, &header, data) != 0)
		return buf;
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		bool held = data[needed[i].cap / 32].effective >> (needed[i].cap % 32) & 1;

		if (!held && at < len)
			at += (size_t)snprintf(buf + at, len - at, "%s%s", at ? " " : ", missing ", needed[i].name);
	}
	return buf;
}

static int tell_flow(int map, const struct mdbus_flow *flow, uint32_t index)
{
	struct line_xdp_key key = { .addr = flow->addr, .source = flow->source, .port = htons(flow->port) };
	struct line_xdp_key any = { .addr = flow->addr };
	int rc = bpf_map_update_elem(map, &key, &index, BPF_ANY);

	return rc ? rc : bpf_map_update_elem(map, &any, &index, BPF_ANY);
}

static int load(struct mdbus_xdp_prog *prog, uint32_t queue, const struct mdbus_flow *flows, uint32_t nflow)
{
	int rc, map;

	prog->skel = line_xdp__open();
	if (!prog->skel)
		return -errno;
	prog->skel->rodata->line_queue = queue;
	for (uint32_t i = 0; i < nflow; i++)
		prog->skel->rodata->line_by_source |= flows[i].source != 0;
	rc = bpf_map__set_max_entries(prog->skel->maps.flows, 2 * nflow);
	if (rc == 0)
		rc = bpf_map__set_max_entries(prog->skel->maps.sockets, queue + 1);
	if (rc == 0)
		rc = line_xdp__load(prog->skel);
	map = bpf_map__fd(prog->skel->maps.flows);
	for (uint32_t i = 0; rc == 0 && i < nflow; i++)
		rc = tell_flow(map, &flows[i], i);
	return rc;
}

int mdbus_xdp_prog_load(struct mdbus_xdp_prog *prog, uint32_t queue, const struct mdbus_flow *flows, uint32_t nflow,
                        char *err, size_t errlen)
{
	libbpf_print_fn_t before = libbpf_set_print(catch_print);
	char missing[80];
	int rc, ncpu;

	memset(prog, 0, sizeof(*prog));
	prog->link = -1;
	libbpf_said[0] = '\0';
	ncpu = libbpf_num_possible_cpus();
	rc = ncpu < 0 ? ncpu : load(prog, queue, flows, nflow);
	libbpf_set_print(before);
	if (rc == 0) {
		prog->ncpu = (uint32_t)ncpu;
		prog->percpu = calloc(prog->ncpu, sizeof(*prog->percpu));
		if (prog->percpu)
			return 0;
		rc = -ENOMEM;
	}
	mdbus_xdp_prog_close(prog);
	if (rc == -EPERM || rc == -EACCES)
		snprintf(err, errlen, "may not load an XDP program%s: run as root, or give the program these "
		         "capabilities, or set backend = \"kernel\"", mdbus_xdp_missing(missing, sizeof(missing)));
	else
		snprintf(err, errlen, "cannot load the XDP program: %s%s%s", strerror(-rc), libbpf_said[0] ? ": " : "",
		         libbpf_said);
	return rc;
}

static int attach_as(struct mdbus_xdp_prog *prog, uint32_t ifindex, bool native)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = native ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE);
	int fd = bpf_link_create(mdbus_xdp_prog_fd(prog), (int)ifindex, BPF_XDP, &opts);

	if (fd < 0)
		return fd;
	prog->link = fd;
	prog->native = native;
	return 0;
}

static bool is_taken(int rc)
{
	return rc == -EBUSY || rc == -EEXIST;
}

/* In "auto" whatever keeps the driver from running the program is answered with skb mode. */
static int attach_once(struct mdbus_xdp_prog *prog, uint32_t ifindex, const char *mode)
{
	int rc;

	if (strcmp(mode, "skb") == 0)
		return attach_as(prog, ifindex, false);
	rc = attach_as(prog, ifindex, true);
	if (rc == 0 || is_taken(rc) || rc == -EPERM || strcmp(mode, "native") == 0)
		return rc;
	return attach_as(prog, ifindex, false);
}

/* ", \"name\" (id 12)" of the program that is on the interface */
static const char *other_program(uint32_t ifindex, char *buf, size_t len)
{
	struct bpf_prog_info info = { 0 };
	uint32_t id = 0, size = sizeof(info);
	int fd;

	buf[0] = '\0';
	if (bpf_xdp_query_id((int)ifindex, 0, &id) != 0 || id == 0)
		return buf;
	fd = bpf_prog_get_fd_by_id(id);
	if (fd >= 0) {
		if (bpf_obj_get_info_by_fd(fd, &info, &size) != 0)
			info.name[0] = '\0';
		close(fd);
	}
	snprintf(buf, len, ", \"%.*s\" (id %u)", (int)sizeof(info.name), info.name, id);
	return buf;
}

int mdbus_xdp_prog_attach(struct mdbus_xdp_prog *prog, const char *name, uint32_t ifindex, const char *mode,
                          uint64_t deadline_ns, char *err, size_t errlen)
{
	char other[64];
	int rc;

	for (;;) {
		rc = attach_once(prog, ifindex, mode);
		if (!is_taken(rc) || mdbus_clock_ns() > deadline_ns)
			break;
		usleep(RETRY_US);
	}
	if (is_taken(rc)) {
		snprintf(err, errlen, "interface %s has another XDP program already%s: stop the process that put it "
		         "there, or `ip link set dev %s xdp off`", name, other_program(ifindex, other, sizeof(other)),
		         name);
		return -EBUSY;
	}
	if (rc)
		snprintf(err, errlen, "cannot attach the XDP program to %s in mode %s: %s%s", name, mode, strerror(-rc),
		         strcmp(mode, "native") == 0 ? "; the driver may not support it: set xdp_mode = \"auto\" or "
		         "\"skb\", or a smaller MTU" : "");
	return rc;
}

int mdbus_xdp_prog_start(struct mdbus_xdp_prog *prog, int xsk)
{
	uint32_t queue = prog->skel->rodata->line_queue;

	return bpf_map_update_elem(bpf_map__fd(prog->skel->maps.sockets), &queue, &xsk, BPF_ANY);
}

int mdbus_xdp_prog_counts(struct mdbus_xdp_prog *prog, uint64_t counts[LINE_XDP_COUNTS])
{
	int map = bpf_map__fd(prog->skel->maps.counts);

	for (uint32_t why = 0; why < LINE_XDP_COUNTS; why++) {
		int rc = bpf_map_lookup_elem(map, &why, prog->percpu);

		if (rc)
			return rc;
		counts[why] = 0;
		for (uint32_t cpu = 0; cpu < prog->ncpu; cpu++)
			counts[why] += prog->percpu[cpu];
	}
	return 0;
}

int mdbus_xdp_prog_fd(const struct mdbus_xdp_prog *prog)
{
	return bpf_program__fd(prog->skel->progs.mdbus_line);
}

void mdbus_xdp_prog_close(struct mdbus_xdp_prog *prog)
{
	if (prog->link >= 0)
		close(prog->link);
	prog->link = -1;
	line_xdp__destroy(prog->skel);
	prog->skel = NULL;
	free(prog->percpu);
	prog->percpu = NULL;
}
