/* SPDX-License-Identifier: Apache-2.0
 *
 * unit_backend_dpdk - the dpdk backend on virtual devices that need no privilege: a capture as a port, a port of zeroes.
 *
 * DPDK starts once a process, so each case is a process of its own, on an arena that all share.
 *
 * timeout: 120
 * mutants: dpdk_skip_sweep dpdk_files_left
 */
#include "backend_fake.h"

#ifndef MDBUS_HAVE_DPDK
int main(void)
{
	printf("built without DPDK\n");
	return 77;
}
#else
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pcap/pcap.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../ingest/dpdk_load.h"

#define PACKETS  20000u
#define TOO_LONG 77u /* this packet is longer than a frame */
#define HELD     300u
#define FRAMES   1024u

static const struct mdbus_backend_ops *dpdk;
static char capture[32]; /* a file in memory */
static char run_dir[128];
static const struct mdbus_flow feed = { .addr = 0x0101e9, .port = 26477 };

/* What DPDK takes once and keeps to the end. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:librte_\nleak:libpcap\n";
}

static uint32_t length_of(uint32_t number)
{
	return number == TOO_LONG ? 3000 : 60 + number * 37 % 1455;
}

static void make_capture(void)
{
	pcap_t *p = pcap_open_dead(DLT_EN10MB, 65535);
	int fd = memfd_create("capture", 0);

	CHECK(fd >= 0);
	snprintf(capture, sizeof(capture), "/proc/self/fd/%d", fd);
	pcap_dumper_t *d = pcap_dump_open(p, capture);

	CHECK(d != NULL);
	for (uint32_t i = 0; i < PACKETS; i++) {
		struct pcap_pkthdr h = { .caplen = length_of(i), .len = length_of(i) };
		static uint8_t bytes[4096];

		numbered_fill(bytes, h.len, i);
		pcap_dump((u_char *)d, &h, bytes);
	}
	pcap_dump_close(d);
	pcap_close(p);
}

static void new_fake(struct fake *f, const char *device)
{
	fake_arena(f, FRAMES, 2048);
	snprintf(f->arena->segment.bus, sizeof(f->arena->segment.bus), "t");
	snprintf(f->line.interface, sizeof(f->line.interface), "%s", device);
	f->line.rx_ring = 128;
	f->line.cpu = -1;
	f->env.flows = &feed;
	f->env.nflow = 1;
	f->env.run_dir = run_dir;
}

static void new_capture_fake(struct fake *f)
{
	char device[80];

	snprintf(device, sizeof(device), "net_pcap0,rx_pcap=%s", capture);
	new_fake(f, device);
}

static void *open_line(struct fake *f)
{
	void *line = dpdk->open(&f->env);

	if (!line)
		printf("%s\n", f->env.error);
	CHECK(line != NULL);
	return line;
}

/* Each case in a process of its own; status it must end with, or minus the signal. */
static void in_child(const char *name, void (*test)(struct fake *), struct fake *f, int expect)
{
	int status;

	fflush(stdout);
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		test(f);
		exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	int got = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);

	if (got != expect)
		printf("%s: ended with %d\n", name, got);
	CHECK(got == expect);
}

/* Packets in hand, oldest first, so that they are looked at again when much has come after them. */
struct hand {
	struct mdbus_rx rx[HELD];
	uint32_t number[HELD];
	uint32_t head, tail;
};

static void let_go(struct fake *f, struct hand *h)
{
	uint32_t i = h->tail++ % HELD;

	CHECK(numbered_check(fake_bytes(f, &h->rx[i]), h->rx[i].len) == h->number[i]);
	mdbus_frames_put(&f->pool, h->rx[i].frame);
}

/* Receive n packets from number `first` on, each whole, once and in order. */
static void receive(struct fake *f, void *line, struct hand *h, uint32_t first, uint32_t n)
{
	struct mdbus_rx rx[32];
	uint32_t expect = first;

	while (expect < first + n) {
		int got = dpdk->poll(line, rx, 32);

		CHECK(got >= 0);
		for (int i = 0; i < got; i++) {
			expect += expect == TOO_LONG;
			CHECK(rx[i].flow == -1 && rx[i].len == length_of(expect));
			CHECK(numbered_check(fake_bytes(f, &rx[i]), rx[i].len) == expect);
			if (h->head - h->tail == HELD)
				let_go(f, h);
			h->rx[h->head % HELD] = rx[i];
			h->number[h->head++ % HELD] = expect++;
		}
		dpdk->refill(line);
		if (got == 0)
			dpdk->wait(line, 1000);
	}
}

static uint64_t port_counter(const struct fake *f, const char *name)
{
	for (uint32_t i = 0; i < f->arena->nxstat; i++) {
		if (strcmp(f->arena->xstat[i].name, name) == 0)
			return f->arena->xstat[i].value;
	}
	return 0;
}

/* ---- cases --------------------------------------------------------------------------------------------------- */

/* A capture much longer than the arena; some frames are always in hand; one packet does not fit. */
static void whole(struct fake *f)
{
	static struct hand h;
	void *line = open_line(f);
	struct mdbus_rx none;

	CHECK(strcmp(f->arena->backend, "dpdk pcap q0 4K allmulti") == 0);
	receive(f, line, &h, 0, PACKETS);
	CHECK(dpdk->poll(line, &none, 1) == 0);
	CHECK(f->arena->count.bad_frame == 1);
	dpdk->stats(line);
	CHECK(port_counter(f, "rx_good_packets") == PACKETS);
	CHECK(f->arena->count.fill_empty == 0);
	while (h.tail != h.head)
		let_go(f, &h);
	dpdk->close(line);
	fake_check_all_free(f);
}

static struct hand *left; /* in memory that outlives a child */

static void killed_with_frames(struct fake *f)
{
	receive(f, open_line(f), left, 0, 2000);
	kill(getpid(), SIGKILL);
}

/* What the one before had in hand is in use, as the rings would say; the rest is free. */
static void next_process(struct fake *f)
{
	static struct hand h;
	uint8_t used[FRAMES] = { 0 };

	for (uint32_t i = left->tail; i != left->head; i++)
		used[left->rx[i % HELD].frame] = 1;
	f->pool.nfree = 0;
	for (uint32_t i = 0; i < FRAMES; i++) {
		if (!used[i])
			mdbus_frames_put(&f->pool, i);
	}
	CHECK(f->pool.nfree == FRAMES - HELD);

	void *line = open_line(f);

	receive(f, line, &h, 0, PACKETS);
	for (uint32_t i = h.tail; i != h.head; i++)
		CHECK(!used[h.rx[i % HELD].frame]);
	while (h.tail != h.head)
		let_go(f, &h);
	while (left->tail != left->head)
		let_go(f, left);
	dpdk->close(line);
	fake_check_all_free(f);
}

/* A port that always has packets, for a user without any right, in a run directory that is not his. */
static void plain_user(struct fake *f)
{
	struct mdbus_rx rx[32];
	uint32_t n = 0;

	if (geteuid() == 0)
		CHECK(setgid(65534) == 0 && setuid(65534) == 0);

	void *line = open_line(f);

	while (n < PACKETS) {
		int got = dpdk->poll(line, rx, 32);

		for (int i = 0; i < got; i++) {
			CHECK(rx[i].len == 200);
			mdbus_frames_put(&f->pool, rx[i].frame);
		}
		n += (uint32_t)got;
		dpdk->refill(line);
	}
	dpdk->close(line);
	fake_check_all_free(f);
}

/* A process killed while DPDK started has left its place; this one removes it, and leaves none itself. */
static void files(struct fake *f)
{
	char place[160], file[176];

	snprintf(place, sizeof(place), "%s/dpdk", run_dir);
	CHECK(mkdir(place, 0700) == 0);
	snprintf(place, sizeof(place), "%s/dpdk/mdbus-t-A", run_dir);
	CHECK(mkdir(place, 0700) == 0);
	snprintf(file, sizeof(file), "%s/config", place);
	CHECK(close(open(file, O_CREAT | O_WRONLY, 0600)) == 0);

	void *line = open_line(f);

	snprintf(place, sizeof(place), "%s/dpdk", run_dir);
	CHECK(access(place, F_OK) != 0);
	CHECK(access("/var/run/dpdk/mdbus-t-A", F_OK) != 0);
	dpdk->close(line);
}

/*
 * net_af_packet names its fanout group by pid and interface, and another line on another interface has that name: a group of
 * lo's.  The line comes up all the same and hears its interface.
 */
static void taken_name(struct fake *f)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = 1 };
	int other = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)), sender = socket(AF_PACKET, SOCK_RAW, 0), type = PACKET_FANOUT_HASH;
	int name = (int)((uint32_t)getpid() ^ if_nametoindex("mdt0")) & 0xffff;
	uint8_t frame[200] = { 0xff };
	struct mdbus_rx rx;
	int n = 0;

	CHECK(other >= 0 && sender >= 0 && bind(other, (struct sockaddr *)&to, sizeof(to)) == 0);
	type |= PACKET_FANOUT_FLAG_DEFRAG | PACKET_FANOUT_FLAG_ROLLOVER;
	name = (int)((uint32_t)name | (uint32_t)type << 16);
	CHECK(setsockopt(other, SOL_PACKET, PACKET_FANOUT, &name, sizeof(name)) == 0);

	void *line = open_line(f);

	CHECK(strcmp(f->arena->backend, "dpdk af_packet q0 4K joined") == 0);
	to.sll_ifindex = (int)if_nametoindex("mdt1");
	to.sll_protocol = htons(ETH_P_IP);
	CHECK(sendto(sender, frame, sizeof(frame), 0, (struct sockaddr *)&to, sizeof(to)) == sizeof(frame));
	for (int tries = 0; n == 0 && tries < 5000; tries++) {
		n = dpdk->poll(line, &rx, 1);
		if (n > 0 && rx.len != sizeof(frame)) { /* the kernel's own */
			mdbus_frames_put(&f->pool, rx.frame);
			n = 0;
		}
		dpdk->wait(line, 1000);
	}
	CHECK(n == 1);
	mdbus_frames_put(&f->pool, rx.frame);
	dpdk->close(line);
	fake_check_all_free(f);
}

/* As root, in a network namespace of its own. */
static void on_veth(struct fake *f)
{
	if (unshare(CLONE_NEWNET) != 0 || system("PATH=$PATH:/usr/sbin:/sbin; ip link set lo up && "
	                                         "ip link add mdt0 type veth peer name mdt1 && "
	                                         "ip link set mdt0 up && ip link set mdt1 up") != 0)
		return;
	taken_name(f);
}

static const char *word;

static void refused(struct fake *f)
{
	CHECK(dpdk->open(&f->env) == NULL);
	if (!strstr(f->env.error, word))
		printf("\"%s\" does not say \"%s\"\n", f->env.error, word);
	CHECK(strstr(f->env.error, word) != NULL);
	fake_check_all_free(f);
}

static void expect_refused(const char *device, uint32_t queue, const char *expect)
{
	struct fake f;

	new_fake(&f, device);
	f.line.queue = queue;
	word = expect;
	in_child(device, refused, &f, 0);
	fake_free(&f);
}

static void run(const char *name, void (*test)(struct fake *), const char *device)
{
	struct fake f;

	if (device)
		new_fake(&f, device);
	else
		new_capture_fake(&f);
	in_child(name, test, &f, 0);
	fake_free(&f);
}

int main(void)
{
	char why[512];
	struct fake f;

	dpdk = mdbus_dpdk_load(why, sizeof(why));
	if (dpdk == NULL)
		printf("%s\n", why);
	CHECK(dpdk != NULL);
	snprintf(run_dir, sizeof(run_dir), "%.100s/mdbus-dpdk.XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	CHECK(mkdtemp(run_dir) != NULL);
	make_capture();
	left = mmap(NULL, sizeof(*left), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(left != MAP_FAILED);

	run("whole", whole, NULL);
	new_capture_fake(&f);
	in_child("killed", killed_with_frames, &f, -SIGKILL);
	in_child("next", next_process, &f, 0);
	fake_free(&f);
	run("plain user", plain_user, "net_null0,size=200");
	run("files", files, "net_null0");
	if (geteuid() == 0)
		run("on veth", on_veth, "net_af_packet0,iface=mdt0");
	expect_refused("net_nonsense0,iface=x", 0, "cannot make the device \"net_nonsense0,iface=x\"");
	expect_refused("net_pcap0,rx_pcap=/nowhere.pcap", 0, "/nowhere.pcap");
	expect_refused("net_tap0,iface=mdt0,remote=lo", 0, "net_af_packet0,iface=");
	expect_refused("net_af_xdp0,iface=lo", 0, "set backend = \"af_xdp\"");
	expect_refused("0000:ff:1f.7", 0, "no port on PCI device 0000:ff:1f.7");
	expect_refused("net_null0", 3, "its queue is 0");
	expect_refused("", 0, "needs an interface");
	CHECK(rmdir(run_dir) == 0);
	return 0;
}
#endif
