/* SPDX-License-Identifier: Apache-2.0
 *
 * tool.c - see tool.h.
 *
 * A record's line is built directly in the output buffer: digits two at a time and hex by table, because printf and a
 * JSON object per record cost more than the bus does.
 */
#include "tool.h"
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <mdbus/atomics.h>

#define NAPS   40u    /* misses answered by a nap before the doorbell is asked for: about 2 ms */
#define NAP_NS 50000u

static volatile sig_atomic_t stopped;

/* ---- options --------------------------------------------------------------------------------------------------- */

void mdbus_tool_error(const struct mdbus_tool *tool, const char *format, ...)
{
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "%s: ", tool->name);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
}

/* Reads what is left on the command line once the options are known to be good. */
static bool positional(const struct mdbus_tool *tool, poptContext ctx, char **bus, int *status)
{
	const char *first = poptGetArg(ctx);

	*status = MDBUS_TOOL_USAGE;
	if (first == NULL || poptPeekArg(ctx) != NULL) {
		mdbus_tool_error(tool, "name exactly one bus: %s %s (see --help)", tool->name, tool->synopsis);
		return false;
	}
	*bus = strdup(first);
	return *bus != NULL;
}

bool mdbus_tool_parse(const struct mdbus_tool *tool, int argc, char **argv, const struct poptOption *options, char **bus,
                      int *status)
{
	int help = 0, version = 0, rc;
	const struct poptOption common[] = {
		{ "help", '?', POPT_ARG_NONE, &help, 0, "Show this text and exit", NULL },
		{ "version", 'V', POPT_ARG_NONE, &version, 0, "Show the version and exit", NULL },
		POPT_TABLEEND
	};
	const struct poptOption table[] = {
		{ NULL, 0, POPT_ARG_INCLUDE_TABLE, (void *)(uintptr_t)options, 0, "Options:", NULL },
		{ NULL, 0, POPT_ARG_INCLUDE_TABLE, (void *)(uintptr_t)common, 0, "Help:", NULL },
		POPT_TABLEEND
	};
	poptContext ctx = poptGetContext(tool->name, argc, (const char **)argv, table, 0);
	bool go_on = false;

	*status = MDBUS_TOOL_FAIL;
	if (ctx == NULL) {
		mdbus_tool_error(tool, "out of memory");
		return false;
	}
	poptSetOtherOptionHelp(ctx, tool->synopsis);
	while ((rc = poptGetNextOpt(ctx)) > 0)
		;
	if (rc < -1) {
		mdbus_tool_error(tool, "%s: %s (see %s --help)", poptBadOption(ctx, 0), poptStrerror(rc), tool->name);
		*status = MDBUS_TOOL_USAGE;
	} else if (help) {
		poptPrintHelp(ctx, stdout, 0);
		printf("\n%s", tool->about);
		*status = MDBUS_TOOL_OK;
	} else if (version) {
		printf("%s %s\n", tool->name, MDBUS_VERSION);
		*status = MDBUS_TOOL_OK;
	} else {
		go_on = positional(tool, ctx, bus, status);
	}
	poptFreeContext(ctx);
	return go_on;
}

struct mdbus_sub *mdbus_tool_open(const struct mdbus_tool *tool, const char *bus, const char *from, bool unordered)
{
	struct mdbus_sub_options options = { .name = tool->name, .unordered = unordered };
	char error[512] = "";
	struct mdbus_sub *s;

	if (from != NULL && strcmp(from, "oldest") == 0) {
		options.start = MDBUS_START_OLDEST;
	} else if (from != NULL && strcmp(from, "head") != 0) {
		mdbus_tool_error(tool, "--from %s: say head or oldest", from);
		return NULL;
	}
	s = mdbus_sub_open(bus, &options, error, sizeof(error));
	if (s == NULL)
		mdbus_tool_error(tool, "%s", error[0] ? error : strerror(errno));
	return s;
}

/* ---- ending ---------------------------------------------------------------------------------------------------- */

static void on_stop(int sig)
{
	(void)sig;
	if (stopped < 1000)
		stopped = stopped + 1;
}

void mdbus_tool_signals(void)
{
	struct sigaction sa;

	memset(&sa, 0, sizeof(sa));
	sigemptyset(&sa.sa_mask);
	sa.sa_handler = on_stop; /* without SA_RESTART: a write into a full pipe must notice the signal */
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sa.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &sa, NULL);
}

int mdbus_tool_stopped(void)
{
	return stopped;
}

/* ---- waiting --------------------------------------------------------------------------------------------------- */

void mdbus_tool_idle(struct mdbus_sub *s, uint32_t misses, bool spin, uint64_t limit_ns)
{
	const struct timespec nap = { 0, NAP_NS };

	if (spin)
		return;
	if (misses < NAPS)
		clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
	else
		mdbus_sub_wait(s, limit_ns);
}

/* ---- output ---------------------------------------------------------------------------------------------------- */

int mdbus_out_open(struct mdbus_out *o, int fd, size_t cap)
{
	memset(o, 0, sizeof(*o));
	o->buf = malloc(cap);
	o->cap = cap;
	o->fd = fd;
	return o->buf ? 0 : -ENOMEM;
}

void mdbus_out_flush(struct mdbus_out *o)
{
	size_t done = 0;

	while (done < o->len && !o->broken) {
		ssize_t n = write(o->fd, o->buf + done, o->len - done);

		if (n >= 0) {
			done += (size_t)n;
		} else if (errno != EINTR || stopped > 1) {
			o->broken = true;
			o->error = errno;
		}
	}
	o->len = 0;
}

void mdbus_out_close(struct mdbus_out *o)
{
	if (o->buf != NULL)
		mdbus_out_flush(o);
	free(o->buf);
	o->buf = NULL;
}

char *mdbus_put_u64(char *p, uint64_t v)
{
	static const char pairs[] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
				    "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
				    "8081828384858687888990919293949596979899";
	char digits[20], *d = digits + sizeof(digits);

	while (v >= 100u) {
		d -= 2;
		memcpy(d, pairs + 2u * (v % 100u), 2);
		v /= 100u;
	}
	if (v >= 10u) {
		d -= 2;
		memcpy(d, pairs + 2u * v, 2);
	} else {
		*--d = (char)('0' + v);
	}
	return mdbus_put_bytes(p, d, (size_t)(digits + sizeof(digits) - d));
}

char *mdbus_put_hex(char *p, const uint8_t *data, size_t len)
{
	static const char digit[16] = { '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f' };

	for (size_t i = 0; i < len; i++) {
		*p++ = digit[data[i] >> 4];
		*p++ = digit[data[i] & 15u];
	}
	return p;
}

char *mdbus_put_json_string(char *p, const char *s)
{
	*p++ = '"';
	for (; *s; s++) {
		uint8_t c = (uint8_t)*s;

		if (c == '"' || c == '\\') {
			*p++ = '\\';
			*p++ = (char)c;
		} else if (c < 0x20u || c >= 0x7fu) { /* bytes above ASCII as Latin-1: always valid JSON */
			p = mdbus_put_literal(p, "\\u00");
			p = mdbus_put_hex(p, &c, 1);
		} else {
			*p++ = (char)c;
		}
	}
	*p++ = '"';
	return p;
}
