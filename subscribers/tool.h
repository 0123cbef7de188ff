/* SPDX-License-Identifier: Apache-2.0
 *
 * tool.h - what the tools on the public API share: ending cleanly, writing fast, waiting without harm.
 *
 * A tool stops on SIGINT or SIGTERM by finishing what it has (a second signal abandons that), and on a closed pipe
 * quietly.  Output goes through one buffer that is flushed when it is full, when there is nothing to read, and at the
 * end.  All functions belong to the tool's one thread and touch only its private memory.
 */
#ifndef MDBUS_SUBSCRIBERS_TOOL_H
#define MDBUS_SUBSCRIBERS_TOOL_H

#include <mdbus/subscriber.h>
#include <popt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- options --------------------------------------------------------------------------------------------------- */

/* Exit statuses. */
enum { MDBUS_TOOL_OK = 0, MDBUS_TOOL_FAIL = 1, MDBUS_TOOL_USAGE = 2 };

struct mdbus_tool {
	const char *name;     /* program name */
	const char *synopsis; /* e.g. "BUS[/CHANNEL]" */
	const char *about;    /* printed after the options by --help */
};

/*
 * Parse argv by `options` (a popt table; --help and --version are added).  Returns true with the one positional argument
 * in *bus (to be freed), or false with *status set: the tool then exits with it.
 */
bool mdbus_tool_parse(const struct mdbus_tool *tool, int argc, char **argv, const struct poptOption *options, char **bus,
                      int *status);

/* One line on stderr, prefixed by the program's name. */
void mdbus_tool_error(const struct mdbus_tool *tool, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Open the bus ("NAME" or "NAME/CHANNEL") or say why not; NULL then. from: "head", "oldest" or NULL for head.
 * unordered: as the option of mdbus_sub_open. */
struct mdbus_sub *mdbus_tool_open(const struct mdbus_tool *tool, const char *bus, const char *from, bool unordered);

/* ---- ending ---------------------------------------------------------------------------------------------------- */

/* Take over SIGINT, SIGTERM and SIGPIPE. */
void mdbus_tool_signals(void);

/* How many signals asked for the end so far. */
int mdbus_tool_stopped(void);

/* ---- waiting --------------------------------------------------------------------------------------------------- */

/*
 * Call when mdbus_sub_next found nothing, with the number of times in a row that it did so (0 first).  Not spinning, the
 * first calls nap 50 us, so that a busy bus is never asked to ring; then the doorbell is asked for, up to `limit_ns`.
 */
void mdbus_tool_idle(struct mdbus_sub *s, uint32_t misses, bool spin, uint64_t limit_ns);

/* ---- output ---------------------------------------------------------------------------------------------------- */

struct mdbus_out {
	char *buf;
	size_t len, cap;
	int fd;
	bool broken; /* nobody reads any more: everything further is dropped */
	int error;   /* then: why, an errno; EPIPE is a reader that had enough */
};

/* 0 or -ENOMEM. */
int mdbus_out_open(struct mdbus_out *o, int fd, size_t cap);
void mdbus_out_flush(struct mdbus_out *o);
void mdbus_out_close(struct mdbus_out *o); /* flushes */

/* Room for n more bytes (n at most cap), flushing if need be. */
static inline char *mdbus_out_room(struct mdbus_out *o, size_t n)
{
	if (o->cap - o->len < n)
		mdbus_out_flush(o);
	return o->buf + o->len;
}

/* Append s (len bytes) at p; return the new end.  The caller has made room. */
static inline char *mdbus_put_bytes(char *p, const char *s, size_t len)
{
	__builtin_memcpy(p, s, len);
	return p + len;
}

#define mdbus_put_literal(p, s) mdbus_put_bytes((p), (s), sizeof(s) - 1u)

/* At most 20 digits. */
char *mdbus_put_u64(char *p, uint64_t v);

/* 2 * len lower-case hex digits. */
char *mdbus_put_hex(char *p, const uint8_t *data, size_t len);

/* s as a JSON string, quotes included: at most 6 * strlen + 2 bytes. */
char *mdbus_put_json_string(char *p, const char *s);

#endif
