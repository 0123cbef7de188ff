/* SPDX-License-Identifier: Apache-2.0
 *
 * backend_xdp_prog.c - the XDP program of an interface in the kernel, see backend_xdp_prog.h and line_xdp.bpf.c.
 *
 * A process that starts asks the interface for its program.  There is none: it loads one and tries to put it there; another
 * that starts at the same time may be faster, so it then asks again.  There is one that has the name and the maps of
 * ours: it takes hold of the link, and from then on the program stays as long as this process does.  In between the program may
 * vanish with its last process; then it asks again.  Queues are kept apart by the flow map, see line_xdp.h.
 *
 * libbpf explains its failures by printing.  What it says while a program is being loaded is caught, and its last line
 * becomes part of the error, so the user reads one message that names the cause and not a page that hides it.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_link.h>
#include <mdbus/hook.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "backend_xdp_prog.h"
#include "line_xdp.skel.h"
#include "mend.h"

#define RETRY_US  2000
#define STEPS_MAX (4u * LINE_XDP_FLOWS)
#define PROGRAM   "mdbus_line" /* its name in line_xdp.bpf.c */

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

/* ---- loading ------------------------------------------------------------------------------------------------- */

void mdbus_xdp_prog_init(struct mdbus_xdp_prog *prog)
{
	*prog = (struct mdbus_xdp_prog){ .link = -1, .prog = -1, .flows = -1, .sockets = -1, .counts = -1,
		.early = -1, .windows = -1 };
}

static void let_go(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void let_go_of_all(struct mdbus_xdp_prog *prog)
{
	let_go(&prog->link);
	let_go(&prog->prog);
	let_go(&prog->flows);
	let_go(&prog->sockets);
	let_go(&prog->counts);
	let_go(&prog->early);
	let_go(&prog->windows);
}

static int keep(int *fd, int of)
{
	*fd = fcntl(of, F_DUPFD_CLOEXEC, 0);
	return *fd < 0 ? -errno : 0;
}

/* The skeleton is only needed to load; descriptors of its own outlive it. */
static int load(struct mdbus_xdp_prog *prog)
{
	struct line_xdp *skel = line_xdp__open();
	int rc;

	if (!skel)
		return -errno;
	rc = line_xdp__load(skel);
	if (rc == 0)
		rc = keep(&prog->prog, bpf_program__fd(skel->progs.mdbus_line));
	if (rc == 0)
		rc = keep(&prog->flows, bpf_map__fd(skel->maps.flows));
	if (rc == 0)
		rc = keep(&prog->sockets, bpf_map__fd(skel->maps.sockets));
	if (rc == 0)
		rc = keep(&prog->counts, bpf_map__fd(skel->maps.counts));
	if (rc == 0)
		rc = keep(&prog->early, bpf_map__fd(skel->maps.early));
	if (rc == 0)
		rc = keep(&prog->windows, bpf_map__fd(skel->maps.windows));
	MDBUS_HOOK("xdp.loaded");
	line_xdp__destroy(skel);
	return rc;
}

int mdbus_xdp_prog_load(struct mdbus_xdp_prog *prog, char *err, size_t errlen)
{
	libbpf_print_fn_t before = libbpf_set_print(catch_print);
	char missing[80];
	int rc;

	libbpf_said[0] = '\0';
	rc = load(prog);
	libbpf_set_print(before);
	if (rc == 0)
		return 0;
	let_go_of_all(prog);
	if (rc == -EPERM || rc == -EACCES)
		snprintf(err, errlen, "may not load an XDP program%s: run as root, or give the program these "
		         "capabilities, or set backend = \"kernel\"", mdbus_xdp_missing(missing, sizeof(missing)));
	else
		snprintf(err, errlen, "cannot load the XDP program: %s%s%s%s", strerror(-rc), mdbus_mend_descriptors(rc),
		         rc != -EMFILE && libbpf_said[0] ? ": " : "", rc != -EMFILE ? libbpf_said : "");
	return rc;
}

/* ---- joining the program that is there ----------------------------------------------------------------------- */

/* The program that an interface has. id 0: none. */
struct there {
	uint32_t id;
	bool native;
	char name[BPF_OBJ_NAME_LEN + 1];
};

static int ask_interface(uint32_t ifindex, struct there *there)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, query);
	int rc = bpf_xdp_query((int)ifindex, 0, &query);

	*there = (struct there){ 0 };
	if (rc)
		return rc;
	there->native = query.drv_prog_id != 0;
	there->id = query.drv_prog_id ? query.drv_prog_id : query.skb_prog_id ? query.skb_prog_id : query.hw_prog_id;
	return 0;
}

/* Descriptor of the link that holds program `id` on the interface.  -ENOENT: none does. */
static int find_link(uint32_t id, uint32_t ifindex)
{
	for (uint32_t at = 0; bpf_link_get_next_id(at, &at) == 0;) {
		struct bpf_link_info info = { 0 };
		uint32_t size = sizeof(info);
		int fd = bpf_link_get_fd_by_id(at);

		if (fd < 0)
			continue; /* gone since */
		if (bpf_obj_get_info_by_fd(fd, &info, &size) == 0 && info.type == BPF_LINK_TYPE_XDP && info.prog_id == id &&
		    info.xdp.ifindex == ifindex)
			return fd;
		close(fd);
	}
	return -ENOENT;
}

/* Keep map `id` if it is one of those that the program of this mdbus has. */
static int take_map(struct mdbus_xdp_prog *prog, uint32_t id)
{
	const struct {
		const char *name;
		int *fd;
		uint32_t type, key, value, entries;
	} maps[] = {
		{ "flows", &prog->flows, BPF_MAP_TYPE_HASH, sizeof(struct line_xdp_key), 4, LINE_XDP_FLOWS },
		{ "sockets", &prog->sockets, BPF_MAP_TYPE_XSKMAP, 4, 4, LINE_XDP_QUEUES },
		{ "counts", &prog->counts, BPF_MAP_TYPE_ARRAY, 4, sizeof(struct line_xdp_counts), LINE_XDP_QUEUES },
		{ "early", &prog->early, BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, 4, LINE_XDP_QUEUES },
		{ "windows", &prog->windows, BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, 4, LINE_XDP_QUEUES },
	};
	struct bpf_map_info info = { 0 };
	uint32_t size = sizeof(info);
	int fd = bpf_map_get_fd_by_id(id);

	if (fd < 0)
		return fd;
	if (bpf_obj_get_info_by_fd(fd, &info, &size) == 0) {
		for (size_t i = 0; i < sizeof(maps) / sizeof(maps[0]); i++) {
			if (strncmp(info.name, maps[i].name, sizeof(info.name)) == 0 && info.type == maps[i].type &&
			    info.key_size == maps[i].key && info.value_size == maps[i].value &&
			    info.max_entries == maps[i].entries && *maps[i].fd < 0) {
				*maps[i].fd = fd;
				return 0;
			}
		}
	}
	close(fd);
	return 0;
}

/* -EXDEV: the program there is not one of this mdbus.  -ENOENT: it is going away. */
static int join_program(struct mdbus_xdp_prog *prog, uint32_t ifindex, struct there *there)
{
	struct bpf_prog_info info = { 0 };
	uint32_t maps[8] = { 0 }, size = sizeof(info);
	int rc;

	prog->prog = bpf_prog_get_fd_by_id(there->id);
	if (prog->prog < 0)
		return prog->prog;
	info.map_ids = (uintptr_t)maps;
	info.nr_map_ids = sizeof(maps) / sizeof(maps[0]);
	rc = bpf_obj_get_info_by_fd(prog->prog, &info, &size);
	if (rc)
		return rc;
	memcpy(there->name, info.name, sizeof(info.name));
	if (strcmp(there->name, PROGRAM) != 0)
		return -EXDEV;
	prog->link = find_link(there->id, ifindex);
	if (prog->link < 0)
		return prog->link;
	for (uint32_t i = 0; i < info.nr_map_ids && i < sizeof(maps) / sizeof(maps[0]) && rc == 0; i++)
		rc = take_map(prog, maps[i]);
	if (rc == 0 && (prog->flows < 0 || prog->sockets < 0 || prog->counts < 0 || prog->early < 0 ||
	                prog->windows < 0))
		rc = -EXDEV;
	prog->native = there->native;
#ifdef MDBUS_MUTANT_link_not_held
	let_go(&prog->link);
#endif
	return rc;
}

/* ---- attaching ----------------------------------------------------------------------------------------------- */

static int attach_as(struct mdbus_xdp_prog *prog, uint32_t ifindex, bool native)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = native ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE);
	int fd = bpf_link_create(prog->prog, (int)ifindex, BPF_XDP, &opts);

	if (fd < 0)
		return fd;
	prog->link = fd;
	MDBUS_HOOK("xdp.attached");
	prog->native = native;
	return 0;
}

static bool is_taken(int rc)
{
	return rc == -EBUSY || rc == -EEXIST;
}

/* In "auto" whatever keeps the driver from running the program is answered with skb mode. */
static int attach_new(struct mdbus_xdp_prog *prog, uint32_t ifindex, const char *mode)
{
	int rc;

	if (strcmp(mode, "skb") == 0)
		return attach_as(prog, ifindex, false);
	rc = attach_as(prog, ifindex, true);
	if (rc == 0 || is_taken(rc) || rc == -EPERM || strcmp(mode, "native") == 0)
		return rc;
	return attach_as(prog, ifindex, false);
}

/*
 * Join what is there, or attach a new program.  *loaded is one that has not found its place yet.  0, or -EBUSY, -EXDEV and
 * -ENOENT: another try may do better; *there says what is in the way.
 */
static int attach_once(struct mdbus_xdp_prog *prog, struct mdbus_xdp_prog *loaded, uint32_t ifindex, const char *mode,
                       struct there *there, char *err, size_t errlen)
{
	int rc = ask_interface(ifindex, there);

	if (rc == 0 && there->id) {
		rc = join_program(prog, ifindex, there);
		if (rc)
			let_go_of_all(prog);
		return rc;
	}
	if (loaded->prog < 0) {
		rc = mdbus_xdp_prog_load(loaded, err, errlen);
		if (rc)
			return rc;
	}
	rc = attach_new(loaded, ifindex, mode);
	if (rc)
		return is_taken(rc) ? -EBUSY : rc;
	*prog = *loaded;
	mdbus_xdp_prog_init(loaded);
	return 0;
}

static bool may_pass(int rc)
{
	return rc == -EBUSY || rc == -EXDEV || rc == -ENOENT || rc == -EAGAIN;
}

static void explain(int rc, const struct there *there, const char *name, const char *mode, char *err, size_t errlen)
{
	char missing[80];

	if (err[0])
		return;
	if (rc == -EPERM && there->id)
		snprintf(err, errlen, "interface %s has an XDP program already (id %u), and to see whether it is that of another "
		         "mdbus-ingest needs CAP_SYS_ADMIN%s: run as root, or give the program this capability", name,
		         there->id, mdbus_xdp_missing(missing, sizeof(missing)));
	else if (may_pass(rc) && there->id)
		snprintf(err, errlen, "interface %s has another XDP program already, \"%s\" (id %u)%s: stop the process that "
		         "put it there, or `ip link set dev %s xdp off`", name, there->name, there->id,
		         strcmp(there->name, PROGRAM) == 0 ? ", of another version of mdbus" : "", name);
	else
		snprintf(err, errlen, "cannot attach the XDP program to %s in mode %s: %s%s", name, mode, strerror(-rc),
		         strcmp(mode, "native") == 0 ? "; the driver may not support it: set xdp_mode = \"auto\" or "
		         "\"skb\", or a smaller MTU" : "");
}

int mdbus_xdp_prog_attach(struct mdbus_xdp_prog *prog, const char *name, uint32_t ifindex, const char *mode,
                          uint64_t deadline_ns, char *err, size_t errlen)
{
	struct mdbus_xdp_prog loaded;
	struct there there = { 0 };
	int rc;

	err[0] = '\0';
	mdbus_xdp_prog_init(&loaded);
	for (;;) {
		rc = attach_once(prog, &loaded, ifindex, mode, &there, err, errlen);
		if (!may_pass(rc) || mdbus_clock_ns() > deadline_ns)
			break;
		usleep(RETRY_US);
	}
	let_go_of_all(&loaded);
	if (rc) {
		explain(rc, &there, name, mode, err, errlen);
		return may_pass(rc) ? -EBUSY : rc;
	}
	if (strcmp(mode, prog->native ? "skb" : "native") != 0)
		return 0;
	snprintf(err, errlen, "interface %s runs its XDP program in mode %s, for another of its queues: set the same "
	         "xdp_mode for all lines of one interface, or \"auto\"", name, prog->native ? "native" : "skb");
	let_go_of_all(prog);
	return -EBUSY;
}

/* ---- flows --------------------------------------------------------------------------------------------------- */

static bool belongs_to(const struct line_xdp_key *key, uint32_t value, uint32_t queue)
{
#ifdef MDBUS_MUTANT_flows_not_kept_apart
	queue = value = key->queue;
#endif
	return (key->queue == LINE_XDP_ANY_QUEUE ? value : key->queue) == queue;
}

/*
 * Remove the entries of a queue.  Walking a map that others change may start over, so there is an end to it (here and below);
 * what it misses is harmless, and the next process of the queue has another try.
 */
static void remove_flows(int map, uint32_t queue)
{
	struct line_xdp_key at, next;
	uint32_t value;
	bool more = bpf_map_get_next_key(map, NULL, &next) == 0;

	for (uint32_t left = STEPS_MAX; more && left > 0; left--) {
		at = next;
		more = bpf_map_get_next_key(map, &at, &next) == 0;
		if (bpf_map_lookup_elem(map, &at, &value) == 0 && belongs_to(&at, value, queue))
			(void)bpf_map_delete_elem(map, &at);
	}
}

static int add_for_any(int map, const struct line_xdp_key *flow, uint32_t queue, uint64_t how)
{
	struct line_xdp_key any = *flow, address = { .addr = flow->addr, .queue = LINE_XDP_ANY_QUEUE };
	int rc;

	any.queue = LINE_XDP_ANY_QUEUE;
	rc = bpf_map_update_elem(map, &any, &queue, how);
	if (rc && rc != -EEXIST)
		return rc;
	rc = bpf_map_update_elem(map, &address, &queue, how);
	return rc == -EEXIST ? 0 : rc;
}

/* Flows that other queues have too must not seem to be nobody's because this process goes. */
static void hand_over(int map)
{
	struct line_xdp_key at;
	bool more = bpf_map_get_next_key(map, NULL, &at) == 0;

	for (uint32_t left = STEPS_MAX; more && left > 0; left--) {
		if (at.queue != LINE_XDP_ANY_QUEUE)
			(void)add_for_any(map, &at, at.queue, BPF_NOEXIST);
		more = bpf_map_get_next_key(map, &at, &at) == 0;
	}
}

static int add_flows(const struct mdbus_xdp_prog *prog, const struct mdbus_flow *flows, uint32_t nflow)
{
	int rc = 0;

	for (uint32_t i = 0; i < nflow && rc == 0; i++) {
		struct line_xdp_key key = {
			.addr = flows[i].addr,
			.source = flows[i].source,
			.port = htons(flows[i].port),
			.queue = (uint16_t)prog->queue,
		};

		rc = bpf_map_update_elem(prog->flows, &key, &i, BPF_ANY);
		MDBUS_HOOK("xdp.flow");
		if (rc == 0)
			rc = add_for_any(prog->flows, &key, prog->queue, BPF_ANY);
	}
	return rc;
}

int mdbus_xdp_prog_start(struct mdbus_xdp_prog *prog, uint32_t queue, const struct mdbus_flow *flows, uint32_t nflow,
                         int xsk, char *err, size_t errlen)
{
	int rc;

	if (queue >= LINE_XDP_QUEUES) {
		snprintf(err, errlen, "queue = %u: must be less than %u", queue, LINE_XDP_QUEUES);
		return -EINVAL;
	}
	prog->queue = queue;
	prog->owns = true;
	remove_flows(prog->flows, queue);
	rc = add_flows(prog, flows, nflow);
	if (rc == 0) {
		rc = bpf_map_update_elem(prog->sockets, &queue, &xsk, BPF_ANY);
		MDBUS_HOOK("xdp.steered");
		if (rc)
			snprintf(err, errlen, "cannot send packets to the AF_XDP socket: %s", strerror(-rc));
	} else if (rc == -E2BIG) {
		snprintf(err, errlen, "too many flows: the queues of one interface have room for %u together, and each flow "
		         "takes up to three", LINE_XDP_FLOWS);
	} else {
		snprintf(err, errlen, "cannot tell the XDP program the flows: %s", strerror(-rc));
	}
	return rc;
}

/* Put `inner` at `queue` of a map of maps, or take away what is there. */
static int set_inner(int map, uint32_t queue, int inner)
{
	int rc;

	if (queue >= LINE_XDP_QUEUES)
		return -EINVAL;
	if (inner >= 0)
		return bpf_map_update_elem(map, &queue, &inner, BPF_ANY);
	rc = bpf_map_delete_elem(map, &queue);
	return rc == -ENOENT ? 0 : rc;
}

int mdbus_xdp_prog_early(const struct mdbus_xdp_prog *prog, uint32_t queue, int early)
{
	return set_inner(prog->early, queue, early);
}

int mdbus_xdp_prog_window(const struct mdbus_xdp_prog *prog, uint32_t queue, int window)
{
	return set_inner(prog->windows, queue, window);
}

int mdbus_xdp_prog_counts(const struct mdbus_xdp_prog *prog, uint64_t counts[LINE_XDP_COUNTS])
{
	struct line_xdp_counts now;
	int rc = bpf_map_lookup_elem(prog->counts, &prog->queue, &now);

	if (rc == 0)
		memcpy(counts, now.n, sizeof(now.n));
	return rc;
}

void mdbus_xdp_prog_close(struct mdbus_xdp_prog *prog)
{
	if (prog->owns) {
		(void)bpf_map_delete_elem(prog->sockets, &prog->queue);
		(void)mdbus_xdp_prog_early(prog, prog->queue, -1);
		(void)mdbus_xdp_prog_window(prog, prog->queue, -1);
		remove_flows(prog->flows, prog->queue);
		hand_over(prog->flows);
	}
	prog->owns = false;
	let_go_of_all(prog);
}
