/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_rest - what a bus costs when nothing happens, and how long it takes to come up.
 *
 *   mdbusd     share of a core over 5 s, with two lines and a subscriber attached
 *   line       the same of a line that sleeps between looks (idle_spins)
 *   start      from the exec of mdbus-ingest until it says that it receives
 *   attach     mdbus_sub_open, and mdbus_sub_close
 *
 * The targets stand beside them: these are ratios to nothing else.  Kernel backend on the loopback interface; no privilege.
 */
#include <fcntl.h>
#include <mdbus/subscriber.h>
#include <sys/stat.h>
#include "bench.h"

#define STARTS   7u
#define ATTACHES 101u
#define WATCH_S  5u

static char directory[64], run_dir[96], config[96], said_to[96];
static pid_t children[3]; /* mdbusd, line A, line B */

static void clean_up(void)
{
	char command[160];

	for (unsigned i = 3; i-- > 0;)
		if (children[i] > 0) {
			kill(children[i], SIGTERM);
			waitpid(children[i], NULL, 0);
		}
	snprintf(command, sizeof(command), "rm -rf '%s'", directory);
	if (directory[0] && system(command) != 0)
		fprintf(stderr, "bench_rest: %s is left\n", directory);
}

static void write_config(void)
{
	FILE *f = fopen(config, "w");

	BED_CHECK(f != NULL, "%s cannot be written", config);
	fputs("buses = ( { name = \"rest\"; seats = 4;\n"
	      "  lines = ( { name = \"A\"; backend = \"kernel\"; interface = \"lo\"; },\n"
	      "            { name = \"B\"; backend = \"kernel\"; interface = \"lo\"; } );\n"
	      "  channels = ( { name = \"c\"; layout = \"moldudp64\";\n"
	      "    flows = { A = \"127.0.0.1:29871\"; B = \"127.0.0.1:29872\"; }; } ); } );\n", f);
	fclose(f);
}

/* Start a program and wait until it says so. Nanoseconds that took. */
static double start(pid_t *pid, const char *name, const char *a, const char *b, const char *word)
{
	const char *bin = getenv("MDBUS_BIN");
	char path[256], said[4096];
	uint64_t begin;
	size_t have = 0;
	int out[2];

	snprintf(path, sizeof(path), "%s/%s", bin ? bin : "build/bin", name);
	BED_CHECK(pipe(out) == 0, "no pipe");
	begin = mdbus_clock_ns();
	if ((*pid = fork()) == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		dup2(out[1], STDOUT_FILENO);
		int log = open(said_to, O_WRONLY | O_CREAT | O_APPEND, 0600); /* what it has to say goes with the directory */

		dup2(log, STDERR_FILENO);
		close(log);
		close(out[0]);
		close(out[1]);
		execl(path, name, a, b, (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	do {
		ssize_t n = read(out[0], said + have, sizeof(said) - 1u - have);

		BED_CHECK(n > 0, "%s does not start", path);
		have += (size_t)n;
		said[have] = '\0';
	} while (strstr(said, word) == NULL);
	double took = (double)(mdbus_clock_ns() - begin);

	(void)fcntl(out[0], F_SETFD, FD_CLOEXEC); /* left open: it may have more to say */
	return took;
}

/* Nanoseconds of processor time that a process of one thread has used. */
static double used(pid_t pid)
{
	unsigned long long ns = 0;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)pid);
	f = fopen(path, "r");
	BED_CHECK(f != NULL && fscanf(f, "%llu", &ns) == 1, "%s cannot be read", path);
	fclose(f);
	return (double)ns;
}

static void tell(const char *what, double value, const char *unit, double target)
{
	printf("%-44s %8.3f %-3s (%.2f x its target, %g)\n", what, value, unit, value / target, target);
	bench_json("{\"figure\":\"rest\",\"what\":\"%s\",\"value\":%.4f,\"unit\":\"%s\",\"target\":%g}", what, value, unit, target);
}

static void measure_attach(void)
{
	double opened[ATTACHES], closed[ATTACHES];
	char err[512];

	for (unsigned i = 0; i < ATTACHES; i++) {
		uint64_t a = mdbus_clock_ns();
		struct mdbus_sub *s = mdbus_sub_open("rest", NULL, err, sizeof(err));
		uint64_t b = mdbus_clock_ns();

		BED_CHECK(s != NULL, "%s", err);
		mdbus_sub_close(s);
		opened[i] = (double)(b - a) * 1e-6;
		closed[i] = (double)(mdbus_clock_ns() - b) * 1e-6;
	}
	tell("attach of a subscriber, median", bench_quantile(opened, ATTACHES, 0.5), "ms", 1);
	printf("%-44s %8.3f ms\n", "  and its end", bench_quantile(closed, ATTACHES, 0.5));
}

static void measure_start(void)
{
	double ms[STARTS];

	for (unsigned i = 0; i < STARTS; i++) {
		if (i > 0) {
			kill(children[2], SIGTERM);
			waitpid(children[2], NULL, 0);
		}
		ms[i] = start(&children[2], "mdbus-ingest", "rest/B", NULL, "recovered") * 1e-6;
	}
	tell("start of a line, median", bench_quantile(ms, STARTS, 0.5), "ms", 300);
}

static void measure_rest(void)
{
	struct mdbus_sub *s;
	char err[512];

	s = mdbus_sub_open("rest", NULL, err, sizeof(err));
	BED_CHECK(s != NULL, "%s", err);
	sleep(1);
	double daemon = used(children[0]), line = used(children[1]);
	uint64_t begin = mdbus_clock_ns();

	sleep(WATCH_S);
	double ns = (double)(mdbus_clock_ns() - begin);

	tell("mdbusd at rest, share of a core", (used(children[0]) - daemon) / ns * 100, "%", 0.5);
	printf("%-44s %8.3f %%\n", "a line that sleeps, share of a core", (used(children[1]) - line) / ns * 100);
	mdbus_sub_close(s);
}

int main(void)
{
	snprintf(directory, sizeof(directory), "/dev/shm/mdbus-rest.XXXXXX");
	if (mkdtemp(directory) == NULL) {
		puts("bench_rest: needs /dev/shm");
		return 77;
	}
	snprintf(run_dir, sizeof(run_dir), "%s/run", directory);
	snprintf(config, sizeof(config), "%s/mdbus.conf", directory);
	snprintf(said_to, sizeof(said_to), "%s/log", directory);
	setenv("MDBUS_RUN_DIR", run_dir, 1);
	atexit(clean_up);
	write_config();
	start(&children[0], "mdbusd", "-c", config, "ready");
	start(&children[1], "mdbus-ingest", "rest/A", NULL, "recovered");
	measure_start();
	measure_attach();
	measure_rest();
	return 0;
}
