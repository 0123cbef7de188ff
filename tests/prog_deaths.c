/* SPDX-License-Identifier: Apache-2.0
 *
 * prog_deaths.c - from the death of a line's process to everything it had being back: prog_deaths [DEATHS, 1000 if not given]
 *
 * A real mdbusd, and a real mdbus-ingest (kernel backend, never sleeping) that is killed and started again.  Times: until its
 * lease is free, which comes last of what mdbusd takes back; and until its UDP port can be bound by anybody else.  Both are seen
 * from a seat of the same bus, by looking every 50 us.  Ends with 0 if everything came back every time.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <mdbus/lease.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "bench.h"

#define MAX_DEATHS 100000u
#define PATIENCE   UINT64_C(30000000000)

static char dir[64];
static pid_t mdbusd;
static uint16_t port;

static void check(bool good, const char *what)
{
	if (good)
		return;
	printf("prog_deaths: %s\n", what);
	exit(1);
}

static pid_t start(const char *program, const char *a, const char *b)
{
	const char *bin = getenv("MDBUS_BIN");
	char path[4096], log[96];
	pid_t parent = getpid(), pid = fork();

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	snprintf(path, sizeof(path), "%s/%s", bin ? bin : "build/bin", program);
	snprintf(log, sizeof(log), "%s/log", dir);
	if (!freopen(log, "w", stdout) || dup2(1, 2) < 0)
		_exit(1);
	execl(path, program, a, b, (char *)NULL);
	_exit(127);
}

static void clean(void)
{
	char command[256];

	if (mdbusd > 0) {
		kill(mdbusd, SIGTERM);
		waitpid(mdbusd, NULL, 0);
	}
	snprintf(command, sizeof(command), "umount -l %s/run/huge 2>/dev/null; rm -rf %s", dir, dir);
	if (system(command) != 0)
		printf("%s is left\n", dir);
}

static int udp_bound(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int rc = bind(sock, (const struct sockaddr *)&at, sizeof(at)) < 0 ? -errno : 0;
	socklen_t len = sizeof(at);

	if (rc == 0 && port == 0 && getsockname(sock, (struct sockaddr *)&at, &len) == 0)
		port = ntohs(at.sin_port);
	close(sock);
	return rc;
}

static void set_up(struct mdbus_bus *bus)
{
	char path[128];

	snprintf(dir, sizeof(dir), "%s/mdbus-deaths.XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	check(mkdtemp(dir) != NULL, "no directory");
	atexit(clean);
	snprintf(path, sizeof(path), "%s/run", dir);
	setenv("MDBUS_RUN_DIR", path, 1);
	snprintf(path, sizeof(path), "%s/conf", dir);
	check(udp_bound() == 0, "no UDP port");
	FILE *f = fopen(path, "w");

	check(f != NULL, "no configuration can be written");
	fprintf(f,
	        "hugepages = \"never\"; buses = ( { name = \"t\"; seats = 4; lines = ( { name = \"A\"; backend = \"kernel\";"
	        " interface = \"lo\"; idle_spins = 0; } ); channels = ( { name = \"c\"; layout = \"moldudp64\";"
	        " flows = { A = \"127.0.0.1:%u\"; }; } ); } );\n", port);
	fclose(f);
	mdbusd = start("mdbusd", "-c", path);
	check(mdbusd > 0 && mdbus_bus_attach(bus, "t", MDBUS_LEASE_SEAT, "deaths", 20000) == 0, "no mdbusd");
}

static double ms_since(uint64_t then)
{
	return (double)(mdbus_clock_ns() - then) / 1e6;
}

static void pause_us(long us)
{
	nanosleep(&(struct timespec){ 0, us * 1000 }, NULL);
}

/* Its process is up and comes round its loop. */
static pid_t line_up(const struct mdbus_bus *bus)
{
	const struct mdbus_lease *l = &bus->dir->line[0].lease;
	const uint64_t *beat = &mdbus_bus_arena(bus, 0)->count.heartbeat_ns;
	uint64_t begin = mdbus_clock_ns();
	pid_t pid = start("mdbus-ingest", "t/A", NULL);

	while (mdbus_load_acquire(&l->state) != MDBUS_LEASE_HELD || l->pid != (uint32_t)pid ||
	       mdbus_load_relaxed(beat) < begin) {
		check(mdbus_clock_ns() - begin < PATIENCE, "the line does not come up");
		pause_us(200);
	}
	pause_us(1000);
	return pid;
}

static void die(const struct mdbus_bus *bus, double *lease, double *free_port)
{
	const struct mdbus_lease *l = &bus->dir->line[0].lease;
	pid_t pid = line_up(bus);
	uint64_t then = mdbus_clock_ns();
	double back = -1;

	kill(pid, SIGKILL);
	for (bool released = false; !released || back < 0;) {
		if (!released && mdbus_load_acquire(&l->state) == MDBUS_LEASE_FREE) {
			*lease = ms_since(then);
			released = true;
		}
		if (back < 0 && udp_bound() == 0)
			back = ms_since(then);
		check(mdbus_clock_ns() - then < PATIENCE, released ? "the port does not come back" : "the lease does not come back");
		pause_us(50);
	}
	*free_port = back;
	check(mdbus_load_acquire(&bus->dir->line_state[0]) == MDBUS_LINE_DOWN, "the line's state is not down");
	waitpid(pid, NULL, 0);
}

static void figure(const char *name, double *ms, size_t n)
{
	double p50 = bench_quantile(ms, n, 0.5), p99 = bench_quantile(ms, n, 0.99), max = bench_quantile(ms, n, 1);

	printf("%s: p50 %.2f ms, p99 %.2f ms, max %.2f ms over %zu deaths\n", name, p50, p99, max, n);
	bench_json("{\"figure\":\"%s\",\"unit\":\"ms\",\"p50\":%.3f,\"p99\":%.3f,\"max\":%.3f,\"n\":%zu}", name, p50, p99, max, n);
}

int main(int argc, char **argv)
{
	static double lease[MAX_DEATHS], free_port[MAX_DEATHS];
	static struct mdbus_bus bus;
	size_t n = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000;

	check(n > 0 && n <= MAX_DEATHS, "prog_deaths [1 to 100000]");
	set_up(&bus);
	uint64_t before = bus.dir->reclaims;

	for (size_t i = 0; i < n; i++)
		die(&bus, &lease[i], &free_port[i]);
	check(bus.dir->reclaims - before == n, "another number of reclaims than of deaths");
	figure("death of a line to its lease free", lease, n);
	figure("death of a line to its port free", free_port, n);
	mdbus_bus_detach(&bus);
	return 0;
}
