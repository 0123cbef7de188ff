/* SPDX-License-Identifier: Apache-2.0
 *
 * Queues are lent once: to no second line, of whatever bus, before the process that has it is gone; by name within a network
 * namespace, by address for cards; and also by an mdbusd that has just come up.
 *
 * timeout: 60
 * mutants: free_queue_early queue_lent_twice
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "daemon_bed.h"
#include "guard.h"

#if defined(MDBUS_HAVE_XDP) || defined(MDBUS_HAVE_DPDK)
#ifdef MDBUS_HAVE_XDP
#define LINE(name, device, queue) \
	"{ name = \"" name "\"; backend = \"af_xdp\"; interface = \"mdnone" device "\"; queue = " queue "; frames = 64; " SMALL " }"
#else
#define LINE(name, device, queue) CARD(name, "0000:ff:00." device queue)
#endif
#ifdef MDBUS_HAVE_DPDK
#define CARD(name, device) \
	"{ name = \"" name "\"; backend = \"dpdk\"; interface = \"" device "\"; frames = 64; " SMALL " }"
#else
#define CARD(name, device) LINE(name, "9", "9")
#endif
#define SMALL "rx_ring = 16; fill_ring = 16; batch = 8;"
#define CHANNEL "{ name = \"c\"; layout = \"moldudp64\"; depth = 256; window = 128; reorder_window = 8; flows = { %s }; }"
#define FLOW(name, port) name " = \"239.0.0.1:" port "\"; "

static pid_t daemon_pid;

static void setup(void)
{
	char text[4096];

	bed_daemon_setup();
	snprintf(text, sizeof(text), "hugepages = \"never\"; buses = (\n{ name = \"t\"; seats = 1; lines = ( %s, %s, %s ); channels = ( "
	         CHANNEL " ); },\n{ name = \"u\"; seats = 1; lines = ( %s, %s, %s ); channels = ( " CHANNEL " ); } );\n",
	         LINE("A", "0", "0"), LINE("B", "0", "1"), CARD("P", "0000:01:00.0"),
	         FLOW("A", "1000") FLOW("B", "1001") FLOW("P", "1002"),
	         LINE("A", "0", "0"), LINE("B", "1", "0"), CARD("P", "0000:01:00.0,rxq=1"),
	         FLOW("A", "1000") FLOW("B", "1001") FLOW("P", "1002"));
	bed_daemon_config(text);
	daemon_pid = bed_daemon_start(0);
	CHECK(daemon_pid > 0);
}

static void refused(const char *bus, const char *line, const char *holder, pid_t pid)
{
	static struct mdbus_bus mine;
	char by[64];
	int rc = mdbus_bus_attach(&mine, bus, MDBUS_LEASE_LINE, line, 10000);

	snprintf(by, sizeof(by), "is lent to %s, pid %d:", holder, (int)pid);
	if (rc != -EBUSY || !strstr(mine.error, by))
		printf("%s/%s: %d %s, not: %s\n", bus, line, rc, rc ? mine.error : "", by);
	CHECK(rc == -EBUSY && strstr(mine.error, by));
}

static pid_t hold(const char *bus, const char *line)
{
	pid_t pid = -EBUSY;

	for (uint32_t i = 0; i < 100 && pid < 0; i++) { /* its last holder may be dying still, mdbusd slow on a busy host */
		pid = bed_holder(bus, MDBUS_LEASE_LINE, line, NULL);
		usleep(pid < 0 ? i * 1000u : 0);
	}
	CHECK(pid > 0);
	return pid;
}

/* One process at a time, and the message names it; other queues and other cards are free. */
static void test_one_holder(void)
{
	pid_t a = hold("t", "A"), p = hold("t", "P"), b, c;

	refused("u", "A", "t/A", a);
	refused("u", "P", "t/P", p);
	b = hold("t", "B");
	c = hold("u", "B");
	bed_end(a, SIGKILL);
	a = hold("u", "A");
	refused("t", "A", "u/A", a);
	bed_end(p, SIGTERM);
	p = hold("u", "P");
	refused("t", "P", "u/P", p);
	bed_end(a, SIGKILL);
	bed_end(b, SIGKILL);
	bed_end(c, SIGKILL);
	bed_end(p, SIGKILL);
}

/* A process that was told to end has not ended. */
static void test_still_there(void)
{
	char said[256];
	int status;
	pid_t a = hold("t", "A");

	CHECK(kill(a, SIGSTOP) == 0 && waitpid(a, &status, WUNTRACED) == a && WIFSTOPPED(status));
	CHECK(mdbus_admin_ask(MDBUS_LEASE_END, "t", "A", said, sizeof(said)) == 0);
	refused("u", "A", "t/A", a);
	CHECK(kill(a, SIGCONT) == 0 && waitpid(a, NULL, 0) == a);
	a = hold("u", "A");
	bed_end(a, SIGKILL);
}

static void test_next_daemon(void)
{
	pid_t a = hold("u", "A");

	bed_end(daemon_pid, SIGKILL);
	daemon_pid = bed_daemon_start(0);
	CHECK(daemon_pid > 0);
	refused("t", "A", "u/A", a);
	bed_end(daemon_pid, SIGKILL);
	bed_end(a, SIGKILL);
	daemon_pid = bed_daemon_start(0);
	CHECK(daemon_pid > 0);
	a = hold("t", "A");
	bed_end(a, SIGKILL);
}

/* The same name in another network namespace is another interface; the same card is the same card. */
static void test_namespaces(void)
{
#if defined(MDBUS_HAVE_XDP) && defined(MDBUS_HAVE_DPDK)
	int here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	pid_t a = hold("t", "A"), p = hold("t", "P"), b;

	CHECK(here >= 0);
	if (unshare(CLONE_NEWNET) < 0) {
		printf("network namespaces not tried: %s\n", strerror(errno));
	} else {
		b = hold("u", "A");
		refused("u", "P", "t/P", p);
		CHECK(setns(here, CLONE_NEWNET) == 0);
		bed_end(b, SIGKILL);
		refused("u", "A", "t/A", a);
	}
	close(here);
	bed_end(a, SIGKILL);
	bed_end(p, SIGKILL);
#endif
}

int main(void)
{
	setup();
	test_one_holder();
	test_still_there();
	test_next_daemon();
	test_namespaces();
	CHECK(bed_end(daemon_pid, SIGTERM) == 0);
	return 0;
}
#else
int main(void)
{
	puts("built without a backend that takes a queue");
	return 77;
}
#endif
