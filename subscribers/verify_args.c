/* SPDX-License-Identifier: Apache-2.0 */
#include "verify_args.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A decimal number at *p, which moves behind it. */
static bool number(const char **p, uint64_t *v)
{
	char *end;

	if (**p < '0' || **p > '9')
		return false;
	errno = 0;
	*v = strtoull(*p, &end, 10);
	*p = end;
	return errno == 0;
}

bool mdbus_args_down(const char *text, mdbus_lookup line, const void *of, struct mdbus_down *down, char *err,
                     size_t errlen)
{
	const char *p = strchr(text, ':'), *digits = text;
	uint64_t n = 0;

	*down = (struct mdbus_down){ .line = UINT32_MAX, .t1_ns = UINT64_MAX };
	if (p != NULL && p > text) {
		down->line = line(of, text, (size_t)(p - text));
		if (down->line == UINT32_MAX && number(&digits, &n) && digits == p && n < 8u)
			down->line = (uint32_t)n;
		if (down->line == UINT32_MAX) {
			snprintf(err, errlen, "--down %s: no line of this bus is called that; name one, or give its number", text);
			return false;
		}
		p++;
	}
	if (p == NULL || down->line == UINT32_MAX || !number(&p, &down->t0_ns) || *p++ != ':' ||
	    (*p && (!number(&p, &down->t1_ns) || *p)) || down->t1_ns < down->t0_ns) {
		snprintf(err, errlen, "--down %s: say LINE:T0_NS:T1_NS, times in ns of CLOCK_MONOTONIC, T0 first", text);
		return false;
	}
	return true;
}

bool mdbus_args_streams(const char *text, mdbus_lookup channel, const void *of, uint32_t *part_of, uint32_t nstreams,
                        char *err, size_t errlen)
{
	const char *p = text;
	uint64_t stream;

	for (uint32_t s = 0; s < nstreams; s++)
		part_of[s] = MDBUS_LOG_NO_PART;
	while (*p) {
		size_t len = strcspn(p, "=,");
		uint32_t ch = channel(of, p, len);

		if (p[len] != '=')
			break;
		if (ch == UINT32_MAX) {
			snprintf(err, errlen, "--streams: the bus has no channel called %.*s", (int)len, p);
			return false;
		}
		p += len;
		do {
			p++;
			if (!number(&p, &stream))
				goto malformed;
			if (stream >= nstreams) {
				snprintf(err, errlen, "--streams: the log has streams 0 to %u, not %llu", nstreams - 1u,
				         (unsigned long long)stream);
				return false;
			}
			part_of[stream] = ch;
		} while (*p == '+');
		if (*p == ',' && p[1])
			p++;
		else if (*p)
			break;
		else
			return true;
	}
malformed:
	snprintf(err, errlen, "--streams %s: say CHANNEL=STREAM[+STREAM...][,...], streams by number", text);
	return false;
}

bool mdbus_args_channels(const char *text, mdbus_lookup channel, const void *of, bool *set, char *err, size_t errlen)
{
	for (const char *p = text;;) {
		size_t len = strcspn(p, ",");
		uint32_t ch = channel(of, p, len);

		if (ch == UINT32_MAX) {
			snprintf(err, errlen, "--unordered: the bus has no channel called %.*s", (int)len, p);
			return false;
		}
		set[ch] = true;
		if (p[len] == 0)
			return true;
		p += len + 1u;
	}
}
