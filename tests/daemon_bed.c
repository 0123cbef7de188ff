/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon_bed.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../mgmt/daemon.h"
#include "guard.h"

static char dir[64], conf[96];
static pid_t owner;

static void clean(void)
{
	char command[256];

	if (getpid() != owner)
		return;
	snprintf(command, sizeof(command), "umount -l %s/run/huge 2>/dev/null; rm -rf %s", dir, dir);
	if (system(command) != 0)
		printf("%s is left\n", dir);
}

const char *bed_daemon_setup(void)
{
	char run[96];

	snprintf(dir, sizeof(dir), "%s/mdbus-unit.XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	CHECK(mkdtemp(dir) != NULL);
	owner = getpid();
	atexit(clean);
	snprintf(run, sizeof(run), "%s/run", dir);
	snprintf(conf, sizeof(conf), "%s/t.conf", dir);
	setenv("MDBUS_RUN_DIR", run, 1);
	CHECK(strcmp(mdbus_run_dir(), run) == 0);
	return dir;
}

void bed_daemon_config(const char *text)
{
	FILE *f = fopen(conf, "w");

	CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

/* A child that dies with the test, and a pipe through which it says one int. */
static pid_t child(int *said)
{
	int fd[2];

	CHECK(pipe(fd) == 0);
	fflush(stdout);
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(fd[pid == 0 ? 0 : 1]);
	*said = fd[pid == 0 ? 1 : 0];
	return pid;
}

pid_t bed_daemon_start(int force_new)
{
	int said;
	pid_t pid = child(&said);

	if (pid == 0) {
		static struct mdbus_daemon d;

		mdbus_daemon_init(&d);
		d.force_new = force_new != 0;
		d.ready_fd = said;
		int rc = mdbus_config_load(conf, &d.config, stdout);

		if (rc == 0)
			rc = mdbus_daemon_serve(&d);
		mdbus_config_free(&d.config);
		exit(rc == 0 ? 0 : 1);
	}
	char byte;
	ssize_t n = read(said, &byte, 1);

	close(said);
	if (n == 1)
		return pid;
	int status;

	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 1);
	return 0;
}

int bed_end(pid_t pid, int signal)
{
	int status;

	CHECK(kill(pid, signal) == 0 && waitpid(pid, &status, 0) == pid);
	return status;
}

pid_t bed_holder(const char *bus, enum mdbus_lease_op op, const char *name, void (*act)(struct mdbus_bus *bus))
{
	static struct mdbus_bus mine;
	int said, rc = -EIO, status;
	pid_t pid = child(&said);

	if (pid == 0) {
		rc = mdbus_bus_attach(&mine, bus, op, name, 0);
		if (rc == 0 && act)
			act(&mine);
		if (write(said, &rc, sizeof(rc)) != (ssize_t)sizeof(rc) || rc != 0)
			_exit(1);
		for (;;)
			pause();
	}
	if (read(said, &rc, sizeof(rc)) != (ssize_t)sizeof(rc))
		rc = -EPIPE;
	close(said);
	if (rc == 0)
		return pid;
	CHECK(waitpid(pid, &status, 0) == pid);
	return rc;
}
