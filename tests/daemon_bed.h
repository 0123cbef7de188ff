/* SPDX-License-Identifier: Apache-2.0
 *
 * daemon_bed.h - a real mdbusd in a child process, and processes that hold lines and seats of it.
 *
 * The daemon is the code of mdbusd linked into the test, so sanitizers and mutants apply to it.  Every child dies with the
 * test.  Needs MDBUS_RUN_DIR to be the test's own, which bed_daemon_setup sees to.
 */
#ifndef TESTS_DAEMON_BED_H
#define TESTS_DAEMON_BED_H

#include <mdbus/lease.h>
#include <sys/types.h>

/* A directory of the test's own below /dev/shm or /tmp, removed at exit; MDBUS_RUN_DIR is DIR/run. */
const char *bed_daemon_setup(void);

/* Write a configuration: text goes to DIR/t.conf. */
void bed_daemon_config(const char *text);

/* Start mdbusd on DIR/t.conf and wait until it is ready.  Its pid, or 0 if it refused to start. */
pid_t bed_daemon_start(int force_new);

/* Signal a child and wait for its end; its wait status. */
int bed_end(pid_t pid, int signal);

/*
 * A child that attaches and then does `act` (NULL: nothing) and sleeps until killed.  Its pid once it is attached and act is
 * done, or the negative errno of the attach.  If act ends the process, so be it.
 */
pid_t bed_holder(const char *bus, enum mdbus_lease_op op, const char *name, void (*act)(struct mdbus_bus *bus));

#endif
