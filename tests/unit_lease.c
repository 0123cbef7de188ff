/* SPDX-License-Identifier: Apache-2.0
 *
 * Leases: who may hold what, with which access, and how it comes back when its holder, or mdbusd, is killed.
 *
 * timeout: 120
 * mutants: lend_all_writable trust_pid_alone seat_not_cleared dead_line_stays_up no_guard
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "../bus/guard.h"
#include "../bus/segment.h"
#include "daemon_bed.h"
#include "guard.h"

#define CONFIG_OF(depth)                                                                                      \
	"hugepages = \"never\"; buses = ( { name = \"t\"; seats = 3; lines = (\n"                            \
	"{ name = \"A\"; backend = \"kernel\"; frames = 64; rx_ring = 16; fill_ring = 16; batch = 8; },\n"     \
	"{ name = \"B\"; backend = \"kernel\"; frames = 64; rx_ring = 16; fill_ring = 16; batch = 8; } );\n"   \
	"channels = ( { name = \"c\"; layout = \"moldudp64\"; depth = " depth "; window = 128; reorder_window = 8;\n" \
	"flows = { A = \"239.0.0.1:1000\"; B = \"239.0.0.2:1000\"; }; },\n"                                   \
	"{ name = \"k\"; layout = \"optiq_key\"; depth = 256; window = 128; reorder_window = 8; key_window = 64;\n" \
	"flows = { A = \"239.0.0.1:1001\"; B = \"239.0.0.2:1001\"; }; } ); } );\n"

static const char *dir;
static pid_t daemon_pid;
static struct mdbus_bus watch; /* this test's own seat: the bus directory as everybody sees it */

static void start(void)
{
	daemon_pid = bed_daemon_start(0);
	CHECK(daemon_pid > 0);
}

static void sleep_ms(long ms)
{
	nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

/* Until cond holds; a test that waits in vain fails by its timeout of 20 s. */
#define WAIT_FOR(cond)                                                                                          \
	do {                                                                                                     \
		for (int tries_ = 0; !(cond); tries_++) {                                                        \
			if (tries_ == 2000) {                                                                    \
				printf("%s:%d: waited in vain for %s\n", __FILE__, __LINE__, #cond);              \
				exit(1);                                                                         \
			}                                                                                        \
			sleep_ms(10);                                                                            \
		}                                                                                                \
	} while (0)

static uint32_t line_lease(uint32_t i)
{
	return mdbus_load_acquire(&watch.dir->line[i].lease.state);
}

static uint32_t seat_lease(uint32_t i)
{
	return mdbus_load_acquire(&watch.dir->seat[i].state);
}

static void watch_bus(void)
{
	int rc = mdbus_bus_attach(&watch, "t", MDBUS_LEASE_SEAT, "watch", 2000);

	if (rc < 0)
		printf("attach: %s\n", watch.error);
	CHECK(rc == 0);
}

static const char *file_of(const char *name)
{
	static char path[160];

	snprintf(path, sizeof(path), "%s/run/bus.t/%s", dir, name);
	return path;
}

/* ---- access -------------------------------------------------------------------------------------------------- */

static volatile uint8_t *target;

/* True if writing one byte there kills the writer. */
static bool faults(void *at)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		signal(SIGSEGV, SIG_DFL);
		target = at;
		uint8_t same = target[0];

		target[0] = same;
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	return WIFSIGNALED(status) || WEXITSTATUS(status) != 0;
}

static bool read_only(const struct mdbus_region *r)
{
	return r->base && faults((uint8_t *)r->base + r->size - 1) &&
	       mprotect(r->base, 4096, PROT_READ | PROT_WRITE) < 0 && errno == EACCES;
}

static bool writable(const struct mdbus_region *r)
{
	return r->base && !faults((uint8_t *)r->base + r->size - 1);
}

static void line_access(struct mdbus_bus *b)
{
	CHECK(b->index == 0 && b->role == MDBUS_LEASE_LINE);
	CHECK(read_only(&b->dir_region) && read_only(&b->arena[1]) && read_only(&b->seat[0]) && read_only(&b->seat[2]));
	CHECK(writable(&b->ring[0]) && writable(&b->ring[1]) && writable(&b->arena[0]) && writable(&b->keys[1]));
	CHECK(!b->keys[0].base && !b->seat[3].base && !b->ring[2].base && !b->arena[2].base);
}

static void test_access(void)
{
	watch_bus();
	CHECK(watch.role == MDBUS_LEASE_SEAT && watch.index == 0 && watch.dir->nline == 2 && watch.dir->nchannel == 2);
	CHECK(read_only(&watch.dir_region) && read_only(&watch.ring[0]) && read_only(&watch.ring[1]));
	CHECK(read_only(&watch.arena[0]) && read_only(&watch.arena[1]) && writable(&watch.seat[0]));
	CHECK(!watch.seat[1].base && !watch.keys[1].base);
	pid_t a = bed_holder("t", MDBUS_LEASE_LINE, "A", line_access);

	CHECK(a > 0);
	CHECK(line_lease(0) == MDBUS_LEASE_HELD && watch.dir->line[0].lease.pid == (uint32_t)a);
	CHECK(watch.dir->line_state[0] == MDBUS_LINE_UP && watch.dir->line_state[1] == MDBUS_LINE_DOWN);
	bed_end(a, SIGKILL);
	WAIT_FOR(line_lease(0) == MDBUS_LEASE_FREE);
	CHECK(watch.dir->line_state[0] == MDBUS_LINE_DOWN);
}

/* ---- refusals ------------------------------------------------------------------------------------------------ */

static void test_refusals(void)
{
	static struct mdbus_bus b;
	char pid[16];
	pid_t a = bed_holder("t", MDBUS_LEASE_LINE, "A", NULL);

	CHECK(a > 0);
	CHECK(mdbus_bus_attach(&b, "t", MDBUS_LEASE_LINE, "A", 0) == -EBUSY);
	snprintf(pid, sizeof(pid), "pid %d", (int)a);
	CHECK(strstr(b.error, pid) != NULL && b.dir == NULL);
	CHECK(mdbus_bus_attach(&b, "t", MDBUS_LEASE_LINE, "Z", 0) == -ENOENT && strstr(b.error, "no line Z"));
	CHECK(mdbus_bus_attach(&b, "u", MDBUS_LEASE_SEAT, "s", 0) == -ENOENT && strstr(b.error, "no bus u"));
	CHECK(mdbus_bus_attach(&b, "0123456789012345678901234567890123", MDBUS_LEASE_SEAT, "s", 0) == -EINVAL);
	pid_t s1 = bed_holder("t", MDBUS_LEASE_SEAT, "s1", NULL), s2 = bed_holder("t", MDBUS_LEASE_SEAT, "s2", NULL);

	CHECK(s1 > 0 && s2 > 0);
	CHECK(mdbus_bus_attach(&b, "t", MDBUS_LEASE_SEAT, "s3", 0) == -ENOSPC && strstr(b.error, "seats"));
	bed_end(s1, SIGKILL);
	bed_end(s2, SIGKILL);
	bed_end(a, SIGKILL);
	/* no waiting: whoever asks after a death is served at once */
	CHECK(mdbus_bus_attach(&b, "t", MDBUS_LEASE_LINE, "A", 0) == 0);
	mdbus_bus_detach(&b);
	CHECK(line_lease(0) == MDBUS_LEASE_FREE && watch.dir->line_state[0] == MDBUS_LINE_DOWN);
	mdbus_bus_detach(&b);
	WAIT_FOR(seat_lease(1) == MDBUS_LEASE_FREE && seat_lease(2) == MDBUS_LEASE_FREE);
}

/* ---- the wire ------------------------------------------------------------------------------------------------ */

static int dial(void)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(to.sun_path, sizeof(to.sun_path), "%s/run/mdbusd.sock", dir);
	CHECK(sock >= 0 && connect(sock, (const struct sockaddr *)&to, sizeof(to)) == 0);
	return sock;
}

static struct mdbus_lease_request request(uint32_t op, const char *name)
{
	struct mdbus_lease_request q = { .magic = MDBUS_LEASE_MAGIC, .version = MDBUS_LEASE_VERSION, .op = op, .bus = "t" };

	snprintf(q.name, sizeof(q.name), "%s", name);
	return q;
}

static struct mdbus_lease_reply reply_to(int sock, const void *bytes, size_t len)
{
	struct mdbus_lease_reply r = { .status = -ECONNRESET };

	CHECK(send(sock, bytes, len, MSG_NOSIGNAL) == (ssize_t)len);
	CHECK(recv(sock, &r, sizeof(r), 0) >= 0);
	return r;
}

static void test_garbage(void)
{
	struct mdbus_lease_request q = request(MDBUS_LEASE_SEAT, "x");
	uint8_t noise[4096];

	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = (uint8_t)(i * 37u);
	for (size_t len = 1; len < sizeof(noise); len = len * 2 + 1) {
		int sock = dial();
		struct mdbus_lease_reply r = reply_to(sock, noise, len);

		CHECK(r.status == -EPROTO && strstr(r.error, "not understood"));
		CHECK(recv(sock, &r, sizeof(r), 0) == 0); /* closed */
		close(sock);
	}
	for (int i = 0; i < 4; i++) {
		struct mdbus_lease_request w = q;
		int sock = dial();

		w.magic += i == 0;
		w.version += i == 1;
		w.op += i == 2 ? 7u : 0;
		if (i == 3)
			memset(w.name, 'x', sizeof(w.name));
		CHECK(reply_to(sock, &w, sizeof(w)).status == -EPROTO);
		close(sock);
	}
	q.op = MDBUS_LEASE_RELEASE;
	q.id = watch.lease_id + 1;
	int sock = dial();

	CHECK(reply_to(sock, &q, sizeof(q)).status == -ENOENT); /* not ours */
	close(sock);
	CHECK(seat_lease(0) == MDBUS_LEASE_HELD && seat_lease(1) == MDBUS_LEASE_FREE);
}

/* Hundreds that connect and say nothing, or take nothing of what they are sent, keep nobody from being served. */
static void test_hung_clients(void)
{
	enum { N = 600 };
	static int sock[N];
	struct mdbus_lease_request q = request(MDBUS_LEASE_LINE, "B");

	for (int i = 0; i < N; i++)
		sock[i] = dial();
	int hung = dial();

	CHECK(send(hung, &q, sizeof(q), 0) == (ssize_t)sizeof(q));
	pid_t a = bed_holder("t", MDBUS_LEASE_LINE, "A", NULL);

	CHECK(a > 0);
	bed_end(a, SIGKILL);
	WAIT_FOR(line_lease(0) == MDBUS_LEASE_FREE);
	for (int i = 0; i < N; i++)
		close(sock[i]);
	q = request(MDBUS_LEASE_RELEASE, "");
	q.id = watch.dir->line[1].lease.id;
	CHECK(line_lease(1) == MDBUS_LEASE_HELD);
	int other = dial();

	CHECK(reply_to(other, &q, sizeof(q)).status == 0); /* from another connection of the same process */
	CHECK(line_lease(1) == MDBUS_LEASE_FREE);
	close(hung);
	close(other);
}

/* The identity is that of the process that connected: when it is dead, who inherited its connection gets nothing. */
static void test_inherited_connection(void)
{
	int ready[2], result[2];
	struct mdbus_lease_reply r;

	CHECK(pipe(ready) == 0 && pipe(result) == 0);
	pid_t parent = fork();

	if (parent == 0) {
		int sock = dial();

		if (fork() == 0) {
			struct mdbus_lease_request q = request(MDBUS_LEASE_LINE, "A");
			char byte;

			prctl(PR_SET_PDEATHSIG, 0);
			close(ready[1]);
			if (read(ready[0], &byte, 1) == 0) { /* the parent and the test have let go: it is dead and reaped */
				r = reply_to(sock, &q, sizeof(q));
				if (write(result[1], &r, sizeof(r)) < 0)
					_exit(1);
			}
			_exit(0);
		}
		_exit(0);
	}
	CHECK(waitpid(parent, NULL, 0) == parent);
	close(ready[1]);
	CHECK(read(result[0], &r, sizeof(r)) == (ssize_t)sizeof(r));
	CHECK(r.status < 0 && line_lease(0) == MDBUS_LEASE_FREE);
	close(ready[0]);
	close(result[0]);
	close(result[1]);
}

/* ---- hostile subscribers ------------------------------------------------------------------------------------- */

static void fill_seat(struct mdbus_bus *b)
{
	memset(b->seat[b->index].base, 0xee, b->seat[b->index].size);
}

/* A seat full of garbage, then cut to nothing: lines still start, and the next subscriber finds it new. */
static void test_smashed_seat(void)
{
	static struct mdbus_bus b;
	pid_t s = bed_holder("t", MDBUS_LEASE_SEAT, "smash", fill_seat);

	CHECK(s > 0 && seat_lease(1) == MDBUS_LEASE_HELD);
	CHECK(mdbus_bus_attach(&b, "t", MDBUS_LEASE_LINE, "A", 0) == 0);
	mdbus_bus_detach(&b);
	CHECK(truncate(file_of("seat.1"), 100) == 0);
	CHECK(mdbus_bus_attach(&b, "t", MDBUS_LEASE_LINE, "A", 0) == 0);
	mdbus_bus_detach(&b);
	CHECK(truncate(file_of("seat.1"), 0) == 0);
	sleep_ms(250); /* the scan looks at it meanwhile */
	bed_end(s, SIGKILL);
	WAIT_FOR(seat_lease(1) == MDBUS_LEASE_FREE);
	CHECK(mdbus_bus_attach(&b, "t", MDBUS_LEASE_SEAT, "next", 0) == 0 && b.index == 1);
	const struct mdbus_seat_hdr *seat = b.seat[1].base;

	CHECK_U64(seat->count.records, 0);
	CHECK_U64(seat->channel[MDBUS_CHANNELS_MAX - 1].pos, 0);
	mdbus_bus_detach(&b);
	s = bed_holder("t", MDBUS_LEASE_SEAT, "smash", fill_seat);
	CHECK(s > 0 && bed_end(daemon_pid, SIGKILL) != 0);
	start(); /* adopts a bus one of whose seats is garbage */
	CHECK(seat_lease(1) == MDBUS_LEASE_HELD);
	bed_end(s, SIGKILL);
	WAIT_FOR(seat_lease(1) == MDBUS_LEASE_FREE);
}

/* ---- files cut short -------------------------------------------------------------------------------------------- */

static void look_at_cut_files(struct mdbus_bus *b)
{
	const struct mdbus_seat_hdr *s = b->seat[1].base;
	const struct mdbus_ring_hdr *r = b->ring[0].base;

	CHECK(mdbus_guard_add(b) == 0);
	CHECK(truncate(file_of("seat.1"), 0) == 0 && truncate(file_of("ring.0"), 4096) == 0 &&
	      truncate(file_of("arena.0"), 0) == 0);
	CHECK(mdbus_load_relaxed(&s->sleeping) == 0);
	CHECK(*((const volatile uint8_t *)r + b->ring[0].size - 1) == 0);
	CHECK(mdbus_load_relaxed(&mdbus_bus_arena(b, 0)->count.packets) == 0);
	CHECK(mdbus_guard_count() >= 3);
	mdbus_guard_remove(b);
}

/* Files that shrink under a line and under mdbusd kill neither. */
static void test_cut_files(void)
{
	static struct mdbus_bus b;
	pid_t a = bed_holder("t", MDBUS_LEASE_LINE, "A", look_at_cut_files);

	CHECK(a > 0);
	sleep_ms(250); /* the scan looks at it meanwhile */
	bed_end(a, SIGKILL);
	WAIT_FOR(line_lease(0) == MDBUS_LEASE_FREE);
	CHECK(mdbus_bus_attach(&b, "t", MDBUS_LEASE_LINE, "A", 0) < 0 && b.dir == NULL);
	CHECK(strstr(b.error, "segment") && line_lease(0) == MDBUS_LEASE_FREE);
	mdbus_bus_detach(&watch);
	bed_end(daemon_pid, SIGKILL);
	start(); /* damaged, and nobody uses it: made anew */
	watch_bus();
	CHECK(mdbus_bus_attach(&b, "t", MDBUS_LEASE_LINE, "A", 0) == 0);
	mdbus_bus_detach(&b);
}

/* ---- mdbusd comes and goes ----------------------------------------------------------------------------------- */

static void test_adoption(void)
{
	static struct mdbus_bus b;
	pid_t a = bed_holder("t", MDBUS_LEASE_LINE, "A", NULL), s = bed_holder("t", MDBUS_LEASE_SEAT, "s", NULL);
	pid_t line_b = bed_holder("t", MDBUS_LEASE_LINE, "B", NULL);
	uint64_t created = watch.dir->created_ns;

	CHECK(a > 0 && s > 0 && line_b > 0);
	CHECK(bed_daemon_start(0) == 0); /* one is enough */
	CHECK(mdbus_bus_attach(&b, "t", MDBUS_LEASE_SEAT, "third", 0) == 0); /* and the first is unhurt */
	mdbus_bus_detach(&b);
	bed_end(daemon_pid, SIGKILL);
	CHECK(mdbus_bus_attach(&b, "t", MDBUS_LEASE_SEAT, "nobody", 0) == -ECONNREFUSED && strstr(b.error, "start mdbusd"));
	bed_end(a, SIGKILL); /* while nobody looks */
	CHECK(line_lease(0) == MDBUS_LEASE_HELD);
	start();
	CHECK(watch.dir->created_ns == created && watch.dir->daemon_pid == (uint32_t)daemon_pid);
	CHECK(line_lease(0) == MDBUS_LEASE_FREE && watch.dir->line_state[0] == MDBUS_LINE_DOWN);
	CHECK(line_lease(1) == MDBUS_LEASE_HELD && watch.dir->line_state[1] == MDBUS_LINE_UP);
	CHECK(seat_lease(0) == MDBUS_LEASE_HELD && seat_lease(1) == MDBUS_LEASE_HELD);
	CHECK(mdbus_bus_attach(&b, "t", MDBUS_LEASE_LINE, "B", 0) == -EBUSY);
	bed_end(line_b, SIGKILL); /* one that was adopted is watched */
	bed_end(s, SIGKILL);
	WAIT_FOR(line_lease(1) == MDBUS_LEASE_FREE && seat_lease(1) == MDBUS_LEASE_FREE);
}

/* What a killed mdbusd may leave in the directory: a holder whose pid is somebody else's by now, a reclaim half done. */
static void test_stale_leases(void)
{
	struct mdbus_mapping map;
	char err[256];

	bed_end(daemon_pid, SIGKILL);
	CHECK(mdbus_segment_attach_path(file_of("bus"), MDBUS_SEGMENT_BUS, true, &map, err, sizeof(err)) == 0);
	struct mdbus_bus_hdr *h = map.base;

	h->line[0].lease = (struct mdbus_lease){ .state = MDBUS_LEASE_HELD, .pid = (uint32_t)getpid(), .start = 1, .id = 7 };
	h->line_state[0] = MDBUS_LINE_UP;
	h->line_state[1] = MDBUS_LINE_UP; /* killed between the lease and this */
	h->seat[2] = (struct mdbus_lease){ .state = MDBUS_LEASE_RECLAIM, .pid = 1, .start = 1, .id = 8, .name = "half" };
	mdbus_segment_unmap(&map);
	CHECK(truncate(file_of("seat.2"), 10) == 0);
	start();
	CHECK(line_lease(0) == MDBUS_LEASE_FREE && seat_lease(2) == MDBUS_LEASE_FREE && seat_lease(0) == MDBUS_LEASE_HELD);
	CHECK(watch.dir->line_state[0] == MDBUS_LINE_DOWN && watch.dir->line_state[1] == MDBUS_LINE_DOWN);
	CHECK(mdbus_segment_attach_path(file_of("seat.2"), MDBUS_SEGMENT_SEAT, false, &map, err, sizeof(err)) == 0);
	mdbus_segment_unmap(&map);
}

static void test_changed_config(void)
{
	bed_end(daemon_pid, SIGKILL);
	bed_daemon_config(CONFIG_OF("512"));
	CHECK(bed_daemon_start(0) == 0); /* we hold a seat */
	bed_daemon_config(CONFIG_OF("256"));
	start();
	CHECK(seat_lease(0) == MDBUS_LEASE_HELD); /* the refusal has changed nothing */
	bed_end(daemon_pid, SIGKILL);
	bed_daemon_config(CONFIG_OF("512"));
	daemon_pid = bed_daemon_start(1);
	CHECK(daemon_pid > 0);
	CHECK(watch.dir->channel[0].depth == 256); /* the old bus is still mapped, and apart */
	mdbus_bus_detach(&watch);
	watch_bus();
	CHECK(watch.dir->channel[0].depth == 512);
	mdbus_bus_detach(&watch);
	bed_end(daemon_pid, SIGKILL);
	bed_daemon_config(CONFIG_OF("256"));
	start(); /* nobody holds anything: made anew without asking */
	watch_bus();
	CHECK(watch.dir->channel[0].depth == 256);
}

static unsigned run_entries(void)
{
	char command[128];
	char line[64];
	unsigned n = 0;

	snprintf(command, sizeof(command), "find %s/run -mindepth 1 2>/dev/null", dir);
	FILE *f = popen(command, "r");

	CHECK(f);
	while (fgets(line, sizeof(line), f))
		n++;
	pclose(f);
	return n;
}

static void test_stop(void)
{
	int status = bed_end(daemon_pid, SIGTERM);

	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	CHECK(access(file_of("bus"), F_OK) == 0); /* held: it stays */
	start();
	CHECK(seat_lease(0) == MDBUS_LEASE_HELD);
	mdbus_bus_detach(&watch);
	status = bed_end(daemon_pid, SIGTERM);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	CHECK_U64(run_entries(), 0);
}

/* A creator killed half-way: no "bus", temporary files.  The next mdbusd makes it whole. */
static void test_unfinished_bus(void)
{
	struct stat st;

	CHECK(mkdir(mdbus_run_dir(), 0700) == 0 || errno == EEXIST);
	char path[160];

	snprintf(path, sizeof(path), "%s/run/bus.t", dir);
	CHECK(mkdir(path, 0700) == 0);
	const char *const left[] = { "ring.0", "arena.77", ".tmp.bus.1" };

	for (size_t i = 0; i < sizeof(left) / sizeof(left[0]); i++)
		close(open(file_of(left[i]), O_CREAT | O_WRONLY, 0600));
	start();
	CHECK(stat(file_of("arena.77"), &st) < 0 && stat(file_of(".tmp.bus.1"), &st) < 0);
	watch_bus();
	mdbus_bus_detach(&watch);
	bed_end(daemon_pid, SIGTERM);
	CHECK_U64(run_entries(), 0);
}

/* A process may ask before mdbusd is there. */
static void test_patience(void)
{
	pid_t early = fork();
	int status;

	if (early == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(mdbus_bus_attach(&watch, "t", MDBUS_LEASE_LINE, "A", 20000) == 0 ? 0 : 1);
	}
	sleep_ms(50);
	start();
	CHECK(waitpid(early, &status, 0) == early && status == 0);
	bed_end(daemon_pid, SIGTERM);
}

int main(void)
{
	dir = bed_daemon_setup();
	bed_daemon_config(CONFIG_OF("256"));
	start();
	test_access();
	test_refusals();
	test_garbage();
	test_hung_clients();
	test_inherited_connection();
	test_smashed_seat();
	test_cut_files();
	test_adoption();
	test_stale_leases();
	test_changed_config();
	test_stop();
	test_unfinished_bus();
	test_patience();
	return 0;
}
