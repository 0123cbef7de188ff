/* SPDX-License-Identifier: Apache-2.0
 *
 * daemon.h - mdbusd's state, and how its parts fit together.
 *
 * One thread, one epoll loop, one event handled at a time, nothing in it ever waits:
 *
 *   daemon.c        first step to last
 *   loop.c          epoll, signals, the 100 ms tick
 *   rundir.c        run directory, lock, where segments live, leftovers
 *   hugepages.c     hugetlbfs mounts and nr_hugepages, taken and given back
 *   bus_files.c     make and remove the segments of a bus
 *   bus_open.c      adopt what runs, or decide that it must be made anew
 *   lease.c         who holds what: grant, give back, watch
 *   lease_server.c  the lease socket: requests in, descriptors out
 *   admin.c         what an admin may have done
 *   privilege.c     what mdbusd gives up before anybody may talk to it
 *   reclaim.c       take back what a dead process held
 *   queues.c        which queue of which card is lent to whom
 *   rules.c         which flows a card is told to put on which queue
 *   nic.c           what a card is asked and told
 *   scan.c          look at the counters every 100 ms: stale lines, gaps, resets, overruns
 *   events.c        the list of events, published as they happen
 *   clients.c       connections, their number bounded
 *   ctl.c, query.c, report.c, memory.c  questions in nanomsg's protocol, answers in JSON
 *
 * What must survive mdbusd is in the segments alone: the bus directory says who holds what, and the next mdbusd
 * reads it.  Everything below is private and rebuilt at start.
 */
#ifndef MDBUS_MGMT_DAEMON_H
#define MDBUS_MGMT_DAEMON_H

#include <jansson.h>
#include <mdbus/lease.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "config.h"

#define MDBUS_RUN_PATH_MAX   256u
#define MDBUS_EVENTS_KEPT    1024u
#define MDBUS_TICK_NS        UINT64_C(100000000)

struct mdbus_daemon;
struct mdbus_resolver;

/* Something the loop waits for; the first member of whatever owns it. */
struct mdbus_source {
	int fd; /* -1: not registered */
	void (*ready)(struct mdbus_daemon *d, struct mdbus_source *s, uint32_t events);
};

/* One line or seat of a bus, as mdbusd watches it. */
struct mdbus_holder {
	struct mdbus_source source; /* the holder's pidfd; -1: free */
	struct mdbus_served *bus;
	uint32_t index;
	bool seat;
	int net_fd; /* of a line: a socket of its process's network namespace; -1: not known, or free */
};

/* Connections of one socket, newest activity first; see clients.h. */
struct mdbus_client;
struct mdbus_clients {
	struct mdbus_client *first, *last;
	uint32_t count;
};

/* What the scan saw last time. */
struct mdbus_line_seen {
	bool stale, stuck, killed;
	uint64_t beat, arrival;       /* the line's own words, in whatever clock it has: only that they change counts */
	uint64_t beat_ns, arrival_ns; /* when mdbusd saw them change; at first, when the line came up */
	uint64_t low_count;           /* times its frames were low */
	bool low;
	uint64_t stuck_ns;            /* for how long mdbusd has been looking at one that does not change */
};

struct mdbus_channel_seen {
	uint64_t gaps;
	uint64_t gen;
	uint64_t told_ns; /* last gap event: a storm of gaps is one event a second */
	bool resolving;   /* mdbusd runs the gap clock, because no line does */
};

struct mdbus_seat_seen {
	uint64_t overrun;
	uint64_t told_ns; /* the last event, or the last try to clear it */
};

/* One bus. */
struct mdbus_served {
	const struct mdbus_config_bus *config;
	char dir[MDBUS_RUN_PATH_MAX];     /* of its segments */
	char huge[2][MDBUS_RUN_PATH_MAX]; /* its directories on hugetlbfs, 2 MiB and 1 GiB; "": none */
	struct mdbus_bus map;             /* directory and rings read-write, arenas read-only; seats: seat.h */
	int seat_fd[MDBUS_SEATS_MAX];     /* of held seats: read, and cleared when descriptors are short; -1: none */
	bool adopted;
	struct mdbus_holder line[MDBUS_LINES_MAX];
	struct mdbus_holder seat[MDBUS_SEATS_MAX];
	struct mdbus_line_seen line_seen[MDBUS_LINES_MAX];
	struct mdbus_seat_seen seat_seen[MDBUS_SEATS_MAX];
	struct mdbus_channel_seen *channel_seen; /* nchannel */
	struct mdbus_resolver *resolver;         /* nchannel */
	const struct mdbus_line_channel *line_channel[MDBUS_LINES_MAX]; /* nchannel each, in the arenas */
};

struct mdbus_daemon {
	struct mdbus_config config;
	bool force_new;
	bool stopping;
	int ready_fd; /* told when ready, -1: nobody */

	char run[MDBUS_RUN_PATH_MAX];   /* run directory */
	char store[MDBUS_RUN_PATH_MAX]; /* where the bus directories are: run, or a directory on /dev/shm */
	int lock_fd;
	char huge[2][MDBUS_RUN_PATH_MAX]; /* directories on hugetlbfs, 2 MiB and 1 GiB; "": none */

	int epoll_fd;
	struct mdbus_source signals, timer, listener, questions, followers;
	struct mdbus_clients lease_clients, question_clients, follower_clients;
	uint64_t unsent; /* bytes of answers and events that clients have not taken yet */

	uint32_t nbus;
	struct mdbus_served *bus[MDBUS_CONFIG_BUSES_MAX];

	uint64_t start_ns;
	uint64_t event_count; /* number of the newest event */
	json_t *events[MDBUS_EVENTS_KEPT];
	uint64_t refused; /* lease requests refused or not understood */
	uint64_t scanned_ns; /* the last scan */
	uint64_t kept;       /* capabilities that were not dropped, by bit */
};

/* ---- daemon.c ---- */
/* Nothing open, no configuration: that is read in next, unless it is only to purge. */
void mdbus_daemon_init(struct mdbus_daemon *d);
/* Until SIGTERM, SIGINT or SIGHUP.  0, or -errno after saying why. */
int mdbus_daemon_serve(struct mdbus_daemon *d);
int mdbus_daemon_purge(struct mdbus_daemon *d);

/* ---- loop.c ---- */
int mdbus_loop_open(struct mdbus_daemon *d);
int mdbus_loop_add(struct mdbus_daemon *d, struct mdbus_source *s, uint32_t events);
void mdbus_loop_change(struct mdbus_daemon *d, struct mdbus_source *s, uint32_t events);
/* Stop waiting for s and close its descriptor. */
void mdbus_loop_remove(struct mdbus_daemon *d, struct mdbus_source *s);
void mdbus_loop_run(struct mdbus_daemon *d);
void mdbus_loop_close(struct mdbus_daemon *d);

/* ---- rundir.c ---- */
/* Make the run directory, take its lock, find where segments go.  -EBUSY: another mdbusd is there.  Says what is wrong. */
int mdbus_rundir_open(struct mdbus_daemon *d);
/* Names of the buses that have a directory, in names[]; returns how many. */
uint32_t mdbus_rundir_buses(const struct mdbus_daemon *d, char names[][MDBUS_NAME_MAX], uint32_t max);
/* Directories of one bus. */
void mdbus_rundir_bus_paths(const struct mdbus_daemon *d, const char *name, struct mdbus_served *b);
int mdbus_rundir_bus_make(const struct mdbus_daemon *d, const char *name, const struct mdbus_served *b);
/* Every file and directory of one bus, finished or not.  "bus" goes first: what is left is then no bus any more. */
void mdbus_rundir_bus_remove(const struct mdbus_daemon *d, const char *name, const struct mdbus_served *b);
/* Sockets go; with everything set also the lock and the directories, if they are empty. */
void mdbus_rundir_close(struct mdbus_daemon *d, bool everything);

/* ---- hugepages.c ---- */
void mdbus_huge_open(struct mdbus_daemon *d, uint32_t pages);
/* Raise nr_hugepages so that `bytes` more can be had; page: 0 = 2 MiB, 1 = 1 GiB.  What is had is not certain: read it back. */
void mdbus_huge_reserve(struct mdbus_daemon *d, uint32_t page, uint64_t bytes);
/* Unmount and lower nr_hugepages to what it was. When no bus is left. */
void mdbus_huge_close(struct mdbus_daemon *d);

/* ---- bus_files.c ---- */
int mdbus_bus_files_create(struct mdbus_daemon *d, struct mdbus_served *b, const struct mdbus_config_bus *config);
/* Bytes of huge pages (2 MiB, 1 GiB) that creating the bus would take. */
void mdbus_bus_files_need(const struct mdbus_daemon *d, const struct mdbus_config_bus *config, uint64_t need[2]);

/* ---- bus_open.c ---- */
/* All buses of the configuration: adopted or made; whatever else lies about is removed.  Refuses as a whole. */
int mdbus_buses_open(struct mdbus_daemon *d);
void mdbus_buses_close(struct mdbus_daemon *d);
/* Remove all buses and everything else from the run directory, held or not. */
int mdbus_buses_purge(struct mdbus_daemon *d);
uint32_t mdbus_bus_held(const struct mdbus_served *b);

/* ---- lease.c ---- */
struct mdbus_process;
struct mdbus_lease *mdbus_holder_lease(const struct mdbus_holder *h);
const char *mdbus_holder_name(const struct mdbus_holder *h);
/*
 * Lend line or seat `h` to process p and watch it; p->pidfd is taken over on success.  Killed inside: the lease is FREE or
 * HELD by p, and adopted as such.
 */
int mdbus_lease_grant(struct mdbus_daemon *d, struct mdbus_holder *h, struct mdbus_process *p, const char *name);
/* A bus was adopted: watch the living holders, reclaim from the dead. */
void mdbus_lease_adopt(struct mdbus_daemon *d, struct mdbus_served *b);

/* ---- reclaim.c ---- */
/*
 * Take back what h's holder had, because it has died or has given it back.  Idempotent.  A seat that cannot be cleared (no
 * memory) stays in RECLAIM; the scan tries again every second.
 */
void mdbus_reclaim(struct mdbus_daemon *d, struct mdbus_holder *h, const char *why);

/* ---- admin.c ---- */
struct mdbus_lease_request;
/* Do what q commands for process p; *r says what was done, or refuses. */
void mdbus_admin_serve(struct mdbus_daemon *d, const struct mdbus_lease_request *q, const struct mdbus_process *p,
                       struct mdbus_lease_reply *r);
/* Signal the process that holds h, if it still lives; whatever its pid is by now, nobody else.  0 or -errno. */
int mdbus_holder_signal(const struct mdbus_holder *h, int number);

/* ---- privilege.c ---- */
/* Give up all that is not needed any more; say what is kept.  After the buses are open, before anybody may talk to mdbusd. */
void mdbus_privilege_drop(struct mdbus_daemon *d);
/* Put what was kept into force: to unmount huge pages. */
void mdbus_privilege_raise(void);
/* Put the right to tell cards something into force, or out of it.  True: it is in force. */
bool mdbus_privilege_net(bool on);
json_t *mdbus_privilege_json(const struct mdbus_daemon *d);

/* ---- lease_server.c ---- */
int mdbus_lease_server_open(struct mdbus_daemon *d);
void mdbus_lease_server_tick(struct mdbus_daemon *d, uint64_t now_ns);
void mdbus_lease_server_close(struct mdbus_daemon *d);

/* ---- scan.c ---- */
int mdbus_scan_open(struct mdbus_served *b);
void mdbus_scan_tick(struct mdbus_daemon *d, uint64_t now_ns);
/* A line has a new process, which is not blamed for the silence of the last one. */
void mdbus_scan_line_up(struct mdbus_served *b, uint32_t line);
void mdbus_scan_close(struct mdbus_served *b);
/* Numbers lost on all lines of a channel, declared by its lines or by mdbusd. */
uint64_t mdbus_scan_gaps(const struct mdbus_served *b, uint32_t channel);

/* ---- events.c ---- */
/* Note and publish an event.  format and what follows as json_pack's object members, e.g. "s:s, s:I", "line", l, "n", 3. */
void mdbus_event(struct mdbus_daemon *d, const char *type, const struct mdbus_served *b, const char *format, ...);
json_t *mdbus_events_json(const struct mdbus_daemon *d, const char *bus);
void mdbus_events_close(struct mdbus_daemon *d);

/* ---- ctl.c ---- */
int mdbus_ctl_open(struct mdbus_daemon *d);
void mdbus_ctl_tick(struct mdbus_daemon *d, uint64_t now_ns);
void mdbus_ctl_close(struct mdbus_daemon *d);
void mdbus_ctl_publish(struct mdbus_daemon *d, const char *text, size_t len);

/* ---- query.c, report.c ---- */
/* The answer to one request; never NULL unless memory is short. */
json_t *mdbus_query_answer(struct mdbus_daemon *d, const char *text, size_t len);
/* detail: also channel by channel, or line by line. */
json_t *mdbus_report_line(const struct mdbus_served *b, uint32_t line, bool detail);
json_t *mdbus_report_channel(const struct mdbus_served *b, uint32_t channel, bool detail);
json_t *mdbus_report_seat(const struct mdbus_served *b, uint32_t seat);

/* ---- memory.c ---- */
/* Every segment and pool: whose, how large, on which pages of which node, and what is in it. */
json_t *mdbus_memory_json(const struct mdbus_daemon *d, const char *bus);

/* A line of text for whoever reads mdbusd's output; events are for programs. */
void mdbus_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
