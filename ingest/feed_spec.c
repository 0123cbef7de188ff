/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_spec.c - reading --line, --map and --serve; see feed_spec.h.
 */
#include "feed_spec.h"
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../bus/user_veth.h"

struct reason {
	char *err;
	size_t len;
};

static int __attribute__((format(printf, 2, 3))) bad(const struct reason *r, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(r->err, r->len, format, ap);
	va_end(ap);
	return -EINVAL;
}

static int read_number(const char *text, uint64_t least, uint64_t most, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 10);
	return errno || end == text || *end || *text == '-' || *out < least || *out > most ? -EINVAL : 0;
}

static int read_addr(const char *text, uint32_t *out)
{
	struct in_addr in;

	if (inet_pton(AF_INET, text, &in) != 1)
		return -EINVAL;
	*out = in.s_addr;
	return 0;
}

static int read_dest(const char *text, struct mdbus_feed_dest *out)
{
	char addr[INET_ADDRSTRLEN];
	const char *colon = strchr(text, ':');
	uint64_t port;

	if (!colon || (size_t)(colon - text) >= sizeof(addr) || read_number(colon + 1, 1, 65535, &port))
		return -EINVAL;
	memcpy(addr, text, (size_t)(colon - text));
	addr[colon - text] = '\0';
	out->port = (uint16_t)port;
	return read_addr(addr, &out->addr);
}

/* "0.01" or "1%", ended by `stop` or the end of the text; *rest is what follows. */
static int read_chance(const char *text, char stop, double *out, const char **rest)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text)
		return -EINVAL;
	if (*end == '%') {
		v /= 100;
		end++;
	}
	if (*end != stop || !(v >= 0 && v <= 1))
		return -EINVAL;
	*out = v;
	*rest = end;
	return 0;
}

static int read_reorder(const char *text, struct mdbus_feed_line_spec *out)
{
	const char *rest;
	uint64_t depth;

	if (read_chance(text, ':', &out->reorder, &rest) || read_number(rest + 1, 1, 65535, &depth))
		return -EINVAL;
	out->reorder_depth = (uint32_t)depth;
	return 0;
}

static int read_mac(const char *text, uint8_t *mac)
{
	unsigned m[6];
	int used = 0;

	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5], &used) != 6 || text[used])
		return -EINVAL;
	for (int i = 0; i < 6; i++)
		mac[i] = (uint8_t)m[i];
	return 0;
}

static int copy_word(char *out, size_t cap, const char *text)
{
	size_t n = strlen(text);

	if (n == 0 || n >= cap)
		return -EINVAL;
	memcpy(out, text, n + 1);
	return 0;
}

/* The kernel's names are shorter. */
static bool is_dpdk(const char *dev)
{
	return mdbus_is_user_veth(dev) || strncmp(dev, "net_", 4) == 0;
}

static int add_pick(struct mdbus_feed_line_spec *out, const char *old, const char *new)
{
	uint32_t i = out->npick;

	if (i == MDBUS_FEED_PICK_MAX || read_dest(old, &out->pick[i]))
		return -EINVAL;
	out->pick_to[i] = (struct mdbus_feed_dest){ 0 };
	if (new && read_dest(new, &out->pick_to[i]))
		return -EINVAL;
	out->npick++;
	return 0;
}

/* One KEY=VALUE. -ENOENT: no such key; else *expect says what its value is to be. */
static int set(struct mdbus_feed_line_spec *out, const char *key, const char *value, const char **expect)
{
	const char *rest;
	uint64_t n = 0;
	int rc;

	if (strcmp(key, "to") == 0 || strcmp(key, "pick") == 0) {
		*expect = "ADDR:PORT";
		return *key == 't' ? read_dest(value, &out->to) : add_pick(out, value, NULL);
	}
	if (strcmp(key, "dev") == 0) {
		*expect = "the name of an interface, or of a DPDK device";
		return copy_word(out->dev, is_dpdk(value) ? sizeof(out->dev) : IFNAMSIZ, value);
	}
	if (strcmp(key, "from") == 0) {
		*expect = "an IPv4 address";
		return read_addr(value, &out->from);
	}
	if (strcmp(key, "mac") == 0) {
		*expect = "a MAC address, 12:34:56:78:9a:bc";
		return read_mac(value, out->mac);
	}
	if (strcmp(key, "loss") == 0 || strcmp(key, "dup") == 0) {
		*expect = "a probability, 0.01 or 1%";
		return read_chance(value, '\0', *key == 'l' ? &out->loss : &out->dup, &rest);
	}
	if (strcmp(key, "reorder") == 0) {
		*expect = "PROBABILITY:DEPTH, 0.01:8";
		return read_reorder(value, out);
	}
	*expect = "a number";
	if (strcmp(key, "skew-us") == 0) {
		rc = read_number(value, 0, 60000000, &n);
		out->skew_ns = n * 1000;
	} else if (strcmp(key, "repack") == 0) {
		*expect = "a number of messages, 1 to 65000";
		rc = read_number(value, 1, 65000, &n);
		out->repack = (uint32_t)n;
	} else if (strcmp(key, "queue") == 0) {
		rc = read_number(value, 0, 4095, &n);
		out->queue = (uint32_t)n;
	} else {
		rc = -ENOENT;
	}
	return rc;
}

int mdbus_feed_spec_parse(const char *text, struct mdbus_feed_line_spec *out, char *err, size_t errlen)
{
	const struct reason r = { err, errlen };
	char *copy = strdup(text), *save = NULL, *word;
	int rc = 0;

	memset(out, 0, sizeof(*out));
	if (!copy)
		return bad(&r, "out of memory");
	word = strtok_r(copy, ",", &save);
	if (!word || strchr(word, '=') || copy_word(out->name, sizeof(out->name), word))
		rc = bad(&r, "--line %s: starts with the line's name, as in A,to=239.1.1.1:26400", text);
	while (!rc && (word = strtok_r(NULL, ",", &save))) {
		char *value = strchr(word, '=');
		const char *expect = "";

		if (!value) {
			rc = bad(&r, "--line %s: '%s' is not KEY=VALUE", out->name, word);
			break;
		}
		*value++ = '\0';
		rc = set(out, word, value, &expect);
		if (rc == -ENOENT)
			rc = bad(&r, "--line %s: unknown '%s'; there is to, dev, from, mac, queue, pick, loss, dup, reorder, "
			         "skew-us, repack", out->name, word);
		else if (rc)
			rc = bad(&r, "--line %s: %s=%s: expected %s", out->name, word, value, expect);
	}
	free(copy);
	return rc;
}

int mdbus_feed_spec_map(const char *text, struct mdbus_feed_line_spec *line, char *err, size_t errlen)
{
	const struct reason r = { err, errlen };
	const char *equals = strchr(text, '=');
	char old[64];

	if (!equals || (size_t)(equals - text) >= sizeof(old))
		return bad(&r, "--map %s: expected OLDADDR:PORT=NEWADDR:PORT", text);
	memcpy(old, text, (size_t)(equals - text));
	old[equals - text] = '\0';
	if (add_pick(line, old, equals + 1))
		return bad(&r, "--map %s: expected OLDADDR:PORT=NEWADDR:PORT, at most %u of them to a line", text,
		           MDBUS_FEED_PICK_MAX);
	return 0;
}

static int set_serve(struct mdbus_feed_serve_spec *out, const char *key, const char *value, const char **expect)
{
	const char *rest;
	uint64_t n = 0;
	int rc;

	if (strcmp(key, "loss") == 0) {
		*expect = "a probability, 0.01 or 1%";
		return read_chance(value, '\0', &out->loss, &rest);
	}
	*expect = "a number";
	if (strcmp(key, "truncate") == 0) {
		*expect = "a number of messages, 1 to 65000";
		rc = read_number(value, 1, 65000, &n);
		out->truncate = (uint32_t)n;
	} else if (strcmp(key, "delay-us") == 0) {
		rc = read_number(value, 0, 60000000, &n);
		out->delay_ns = n * 1000;
	} else {
		rc = -ENOENT;
	}
	return rc;
}

int mdbus_feed_spec_serve(const char *text, struct mdbus_feed_serve_spec *out, char *err, size_t errlen)
{
	const struct reason r = { err, errlen };
	char *copy = strdup(text), *save = NULL, *word;
	int rc = 0;

	memset(out, 0, sizeof(*out));
	if (!copy)
		return bad(&r, "out of memory");
	word = strtok_r(copy, ",", &save);
	if (!word || read_dest(word, &out->at))
		rc = bad(&r, "--serve %s: starts with ADDR:PORT, as in 127.0.0.1:9100,loss=1%%", text);
	while (!rc && (word = strtok_r(NULL, ",", &save))) {
		char *value = strchr(word, '=');
		const char *expect = "";

		if (!value) {
			rc = bad(&r, "--serve: '%s' is not KEY=VALUE", word);
			break;
		}
		*value++ = '\0';
		rc = set_serve(out, word, value, &expect);
		if (rc == -ENOENT)
			rc = bad(&r, "--serve: unknown '%s'; there is truncate, loss, delay-us", word);
		else if (rc)
			rc = bad(&r, "--serve: %s=%s: expected %s", word, value, expect);
	}
	free(copy);
	return rc;
}
