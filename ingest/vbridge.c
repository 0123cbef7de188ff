/* SPDX-License-Identifier: Apache-2.0 */
#include "vbridge.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "rss.h"

#define BURST 64u /* frames from one queue before the next one's turn */

/* ---- ports ----------------------------------------------------------------------------------------------------- */

static bool good_name(const char *name)
{
	size_t n = strlen(name);

	for (const char *c = name; *c; c++)
		if (!isalnum((unsigned char)*c) && *c != '_' && *c != '-')
			return false;
	return n > 0 && n < sizeof(((struct mdbus_vport *)0)->name);
}

static bool set_queues(struct mdbus_vport *p, const char *value)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);

	p->nqueue = (uint32_t)n;
	return isdigit((unsigned char)*value) && *end == '\0' && n >= 1 && n <= MDBUS_USER_VETH_QUEUES;
}

static bool add_group(struct mdbus_vport *p, const char *value)
{
	struct in_addr in;

	if (p->ngroup == MDBUS_VBRIDGE_GROUPS || inet_pton(AF_INET, value, &in) != 1 || ntohl(in.s_addr) >> 28 != 14)
		return false;
	p->group[p->ngroup++] = ntohl(in.s_addr);
	return true;
}

/* The words behind the name. */
static int set_options(struct mdbus_vport *p, char *rest, char *err, size_t errlen)
{
	char *save = NULL;

	for (char *word = strtok_r(rest, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		bool queues = strncmp(word, "queues=", 7) == 0, group = strncmp(word, "group=", 6) == 0;
		bool net = strncmp(word, "net=", 4) == 0;

		if (net && good_name(word + 4)) {
			snprintf(p->net, sizeof(p->net), "%.31s", word + 4);
			continue;
		}
		if ((queues && set_queues(p, word + 7)) || (group && add_group(p, word + 6)))
			continue;
		if (queues)
			snprintf(err, errlen, "port %s: %s: 1 to %u queues", p->name, word, MDBUS_USER_VETH_QUEUES);
		else if (group)
			snprintf(err, errlen, "port %s: %s: an IPv4 group, at most %u of them", p->name, word, MDBUS_VBRIDGE_GROUPS);
		else if (net)
			snprintf(err, errlen, "port %s: %s: a name of up to 31 letters, digits, _ and -", p->name, word);
		else
			snprintf(err, errlen, "port %s: unknown '%s'; there is net=NAME, queues=N and group=ADDR", p->name, word);
		return -EINVAL;
	}
	return 0;
}

int mdbus_vbridge_add(struct mdbus_vbridge *b, const char *spec, char *err, size_t errlen)
{
	struct mdbus_vport *p = &b->port[b->nport];
	char text[2048];
	char *comma;

	if (b->nport == MDBUS_VBRIDGE_PORTS || strlen(spec) >= sizeof(text)) {
		snprintf(err, errlen, "at most %u ports, each of at most %zu characters", MDBUS_VBRIDGE_PORTS, sizeof(text) - 1u);
		return -E2BIG;
	}
	snprintf(text, sizeof(text), "%s", spec);
	comma = strchr(text, ',');
	if (comma)
		*comma++ = '\0';
	if (!good_name(text)) {
		snprintf(err, errlen, "'%s' names no port: up to 31 letters, digits, _ and -, as in a,queues=2", text);
		return -EINVAL;
	}
	for (uint32_t i = 0; i < b->nport; i++) {
		if (strcmp(b->port[i].name, text) == 0) {
			snprintf(err, errlen, "two ports are called %s", text);
			return -EEXIST;
		}
	}
	memset(p, 0, sizeof(*p));
	snprintf(p->name, sizeof(p->name), "%.31s", text);
	p->nqueue = 1;
	int rc = comma ? set_options(p, comma, err, errlen) : 0;

	while (p->first < b->nport && strcmp(b->port[p->first].net, p->net) != 0)
		p->first++;
	b->nport += rc == 0;
	return rc;
}

/* ---- sockets --------------------------------------------------------------------------------------------------- */

/* The place of a bridge is its directory, which it holds a lock on while it lives. */
static int take_place(struct mdbus_vbridge *b, const char *dir, char *err, size_t errlen)
{
	char full[PATH_MAX];
	int rc;

	if (mkdir(dir, 0755) < 0 && errno != EEXIST) {
		rc = -errno;
		snprintf(err, errlen, "%s: cannot be made: %s; choose another place with --dir", dir, strerror(-rc));
		return rc;
	}
	if (!realpath(dir, full) || (size_t)snprintf(b->dir, sizeof(b->dir), "%s", full) >= sizeof(b->dir)) {
		snprintf(err, errlen, "%s: longer than the name of a socket may be", dir);
		return -ENAMETOOLONG;
	}
	b->dir_fd = open(b->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rc = b->dir_fd < 0 || flock(b->dir_fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
	if (rc == -EWOULDBLOCK)
		snprintf(err, errlen, "another mdbus-vbridge runs in %s: stop it, or choose another place with --dir", dir);
	else if (rc)
		snprintf(err, errlen, "%s: %s", dir, strerror(-rc));
	if (rc && b->dir_fd >= 0)
		close(b->dir_fd);
	if (rc)
		b->dir_fd = -1;
	return rc;
}

static int open_queue(struct mdbus_vbridge *b, struct mdbus_vport *p, uint32_t queue, char *err, size_t errlen)
{
	char path[MDBUS_USER_VETH_PATH_MAX], name[MDBUS_USER_VETH_PATH_MAX + 64];
	int rc;

	snprintf(name, sizeof(name), MDBUS_USER_VETH "%s/%s", b->dir, p->name);
	rc = mdbus_user_veth_path(name, "", queue, path, sizeof(path));
	if (rc == 0)
		rc = mdbus_link_open(&p->queue[queue], path);
	if (rc)
		snprintf(err, errlen, "port %s in %s: no socket: %s", p->name, b->dir, strerror(-rc));
	return rc;
}

int mdbus_vbridge_open(struct mdbus_vbridge *b, const char *dir, char *err, size_t errlen)
{
	int rc = take_place(b, dir, err, errlen);

	if (rc)
		return rc;
	for (uint32_t i = 0; i < b->nport && rc == 0; i++) {
		for (uint32_t q = 0; q < b->port[i].nqueue && rc == 0; q++) {
			rc = open_queue(b, &b->port[i], q, err, errlen);
			b->nopen += rc == 0;
		}
	}
	if (rc)
		mdbus_vbridge_close(b);
	return rc;
}

void mdbus_vbridge_close(struct mdbus_vbridge *b)
{
	uint32_t left = b->nopen;

	for (uint32_t i = 0; i < b->nport; i++)
		for (uint32_t q = 0; q < b->port[i].nqueue && left; q++, left--)
			mdbus_link_close(&b->port[i].queue[q]);
	b->nopen = 0;
	if (b->dir_fd >= 0) {
		(void)rmdir(b->dir);
		close(b->dir_fd);
	}
	b->dir_fd = -1;
}

/* ---- frames ---------------------------------------------------------------------------------------------------- */

static void send_to(struct mdbus_vport *p, const struct mdbus_vflow *f, const uint8_t *frame, uint32_t len)
{
	uint32_t queue = mdbus_rss_queue(f->hash, p->nqueue);

#ifdef MDBUS_MUTANT_vbridge_one_queue
	queue = 0;
#endif
	mdbus_link_send(&p->queue[queue], frame, len);
}

static bool wants(const struct mdbus_vport *p, uint32_t group)
{
	for (uint32_t i = 0; i < p->ngroup; i++)
		if (p->group[i] == group)
			return true;
	return p->ngroup == 0 || group == 0;
}

static bool joined(const struct mdbus_vbridge *b, uint32_t one, uint32_t other)
{
	return b->port[one].first == b->port[other].first;
}

static void flood(struct mdbus_vbridge *b, uint32_t from, const struct mdbus_vflow *f, const uint8_t *frame, uint32_t len)
{
	b->port[from].count.flooded++;
	for (uint32_t i = 0; i < b->nport; i++) {
#ifndef MDBUS_MUTANT_vbridge_flood_back
		if (i == from)
			continue;
#endif
		if (joined(b, i, from) && wants(&b->port[i], f->group))
			send_to(&b->port[i], f, frame, len);
	}
}

static void forward(struct mdbus_vbridge *b, uint32_t from, const uint8_t *frame, uint32_t len, uint64_t now_ns)
{
	struct mdbus_vflow f;
	int to;

	if (!mdbus_vflow_read(frame, len, &f)) {
		b->port[from].count.malformed++;
		return;
	}
	mdbus_vtable_learn(&b->table, f.from, from, now_ns);
	to = mdbus_mac_is_group(f.to) ? -1 : mdbus_vtable_find(&b->table, f.to, now_ns);
	if (to < 0 || !joined(b, from, (uint32_t)to))
		flood(b, from, &f, frame, len);
	else if ((uint32_t)to == from)
		b->port[from].count.filtered++;
	else
		send_to(&b->port[to], &f, frame, len);
}

static uint32_t take(struct mdbus_vbridge *b, uint32_t from, struct mdbus_link *l, uint32_t max, uint64_t now_ns)
{
	uint8_t frame[MDBUS_LINK_FRAME];
	uint32_t n = 0, len;

	while (n < max && (len = mdbus_link_receive(l, frame)) > 0) {
		forward(b, from, frame, len, now_ns);
		n++;
	}
	if (n)
		mdbus_link_release(l);
	return n;
}

static void flush(struct mdbus_vbridge *b)
{
	for (uint32_t i = 0; i < b->nport; i++)
		for (uint32_t q = 0; q < b->port[i].nqueue; q++)
			mdbus_link_flush(&b->port[i].queue[q]);
}

uint32_t mdbus_vbridge_forward(struct mdbus_vbridge *b, uint64_t now_ns)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < b->nport; i++) {
		for (uint32_t q = 0; q < b->port[i].nqueue; q++) {
			uint32_t got = take(b, i, &b->port[i].queue[q], BURST, now_ns);

			n += got;
			if (got)
				flush(b);
		}
	}
	return n;
}

/* ---- clients --------------------------------------------------------------------------------------------------- */

/* What a client had sent before it died has been sent. */
static void part(struct mdbus_vbridge *b, uint32_t from, struct mdbus_link *l, uint64_t now_ns)
{
	(void)take(b, from, l, l->in.mask + 1u, now_ns);
	flush(b);
	mdbus_link_forget(l);
}

void mdbus_vbridge_control(struct mdbus_vbridge *b, uint64_t now_ns)
{
	for (uint32_t i = 0; i < b->nport; i++) {
		for (uint32_t q = 0; q < b->port[i].nqueue; q++) {
			struct mdbus_link *l = &b->port[i].queue[q];

			if (mdbus_link_control(l)) {
				part(b, i, l, now_ns);
				(void)mdbus_link_control(l); /* who waits in its place */
			}
		}
	}
}

static void want_wake(struct mdbus_vbridge *b, bool want)
{
	for (uint32_t i = 0; i < b->nport; i++)
		for (uint32_t q = 0; q < b->port[i].nqueue; q++)
			mdbus_link_want_wake(&b->port[i].queue[q], want);
}

static bool has_frames(const struct mdbus_vbridge *b)
{
	for (uint32_t i = 0; i < b->nport; i++)
		for (uint32_t q = 0; q < b->port[i].nqueue; q++)
			if (mdbus_link_waiting(&b->port[i].queue[q]))
				return true;
	return false;
}

bool mdbus_vbridge_wait(struct mdbus_vbridge *b, int timeout_ms)
{
	struct pollfd polled[MDBUS_VBRIDGE_PORTS * MDBUS_USER_VETH_QUEUES * MDBUS_LINK_FDS];
	nfds_t n = 0;
	int rc = 1;

	for (uint32_t i = 0; i < b->nport; i++) {
		for (uint32_t q = 0; q < b->port[i].nqueue; q++) {
			int fds[MDBUS_LINK_FDS];
			uint32_t k = mdbus_link_fds(&b->port[i].queue[q], fds);

			while (k--)
				polled[n++] = (struct pollfd){ .fd = fds[k], .events = POLLIN };
		}
	}
	want_wake(b, true);
	if (!has_frames(b))
		rc = poll(polled, n, timeout_ms);
	want_wake(b, false);
	return rc > 0;
}
