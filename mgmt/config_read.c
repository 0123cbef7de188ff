/* SPDX-License-Identifier: Apache-2.0
 *
 * config_read.c - groups by table, mistakes by line; see config_read.h.
 */
#include "config_read.h"
#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void mdbus_config_mistake(struct config_reader *r, const config_setting_t *at, const char *format, ...)
{
	const char *file = at ? config_setting_source_file(at) : NULL;
	struct config_mistake *grown = realloc(r->mistake, (r->nmistake + 1u) * sizeof(*grown));
	char text[1024];
	size_t used = (size_t)snprintf(text, sizeof(text), "%s%s", r->where, r->where[0] ? ": " : "");
	va_list ap;

	if (!grown)
		abort(); /* a few bytes at start-up: nothing sensible can follow */
	va_start(ap, format);
	vsnprintf(text + used, sizeof(text) - used, format, ap);
	va_end(ap);
	r->mistake = grown;
	grown[r->nmistake] = (struct config_mistake){
		.file = strdup(file ? file : r->path),
		.line = at ? config_setting_source_line(at) : 0u,
		.order = r->nmistake,
		.text = strdup(text),
	};
	r->nmistake++;
}

static int by_line(const void *a, const void *b)
{
	const struct config_mistake *x = a, *y = b;
	int file = strcmp(x->file, y->file);

	if (file != 0)
		return file;
	if (x->line != y->line)
		return x->line < y->line ? -1 : 1;
	return x->order < y->order ? -1 : 1;
}

unsigned mdbus_config_mistakes_print(struct config_reader *r, FILE *to)
{
	unsigned n = r->nmistake;

	if (n > 0)
		qsort(r->mistake, n, sizeof(*r->mistake), by_line);
	for (unsigned i = 0; i < n; i++) {
		const struct config_mistake *m = &r->mistake[i];

		if (m->line > 0)
			fprintf(to, "%s:%u: %s\n", m->file, m->line, m->text);
		else
			fprintf(to, "%s: %s\n", m->file, m->text);
		free(m->file);
		free(m->text);
	}
	free(r->mistake);
	r->mistake = NULL;
	r->nmistake = 0;
	return n;
}

/* Edits (insert, remove, replace a character) that make a of b. */
static unsigned distance(const char *a, const char *b)
{
	size_t n = strlen(b);
	unsigned row[64];

	if (n >= sizeof(row) / sizeof(row[0]))
		return UINT32_MAX;
	for (size_t j = 0; j <= n; j++)
		row[j] = (unsigned)j;
	for (size_t i = 0; a[i]; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i + 1u;
		for (size_t j = 1; j <= n; j++) {
			unsigned best = diagonal + (a[i] != b[j - 1u]);

			diagonal = row[j];
			if (row[j] + 1u < best)
				best = row[j] + 1u;
			if (row[j - 1u] + 1u < best)
				best = row[j - 1u] + 1u;
			row[j] = best;
		}
	}
	return row[n];
}

const char *mdbus_config_suggest(const char *wrong, const void *names, size_t n, size_t stride, bool pointers, char *buf,
                                 size_t buflen)
{
	unsigned limit = 3;
	const char *best = NULL;

	for (size_t i = 0; i < n; i++) {
		const char *at = (const char *)names + i * stride;
		const char *name = pointers ? *(const char *const *)(const void *)at : at;
		unsigned d = distance(wrong, name);

		if (d < limit && d < strlen(name)) {
			limit = d;
			best = name;
		}
	}
	snprintf(buf, buflen, "%s%s%s", best ? ", did you mean " : "", best ? best : "", best ? "?" : "");
	return buf;
}

static void store(void *out, const struct config_key *k, int64_t v)
{
	uint8_t *at = (uint8_t *)out + k->off;

	v *= k->scale ? k->scale : 1;
	if (k->size == 4) {
		uint32_t w = (uint32_t)v;

		memcpy(at, &w, sizeof(w));
	} else {
		memcpy(at, &v, sizeof(v));
	}
}

static bool is_integer(const config_setting_t *s)
{
	int type = config_setting_type(s);

	return type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64;
}

static int64_t near_power(int64_t v, int64_t max)
{
	int64_t p = INT64_C(1) << (63 - __builtin_clzll((uint64_t)v));

	return p <= max / 2 && v - p > p / 2 ? 2 * p : p;
}

static void read_number(struct config_reader *r, const config_setting_t *s, const struct config_key *k, void *out)
{
	if (!is_integer(s)) {
		mdbus_config_mistake(r, s, "%s: needs a whole number", k->name);
		return;
	}
	int64_t v = config_setting_get_int64(s);

	if (v < k->min || v > k->max)
		mdbus_config_mistake(r, s, "%s = %lld: must be from %lld to %lld", k->name, (long long)v, (long long)k->min,
		                     (long long)k->max);
	else if (k->type == CONFIG_POWER && (v & (v - 1)) != 0)
		mdbus_config_mistake(r, s, "%s = %lld: must be a power of two, such as %lld", k->name, (long long)v,
		                     (long long)near_power(v, k->max));
	else
		store(out, k, v);
}

static void read_factor(struct config_reader *r, const config_setting_t *s, const struct config_key *k, void *out)
{
	double v = is_integer(s) ? (double)config_setting_get_int64(s) : config_setting_get_float(s);

	if (!is_integer(s) && config_setting_type(s) != CONFIG_TYPE_FLOAT)
		mdbus_config_mistake(r, s, "%s: needs a number", k->name);
	else if (!(v >= (double)k->min && v <= (double)k->max))
		mdbus_config_mistake(r, s, "%s = %g: must be from %lld to %lld", k->name, v, (long long)k->min,
		                     (long long)k->max);
	else {
		uint32_t scaled = (uint32_t)(v * (double)k->scale + 0.5);

		memcpy((uint8_t *)out + k->off, &scaled, sizeof(scaled));
	}
}

static bool valid_name(const char *v)
{
	for (const char *c = v; *c; c++) {
		if (!isalnum((unsigned char)*c) && !strchr("_-.", *c))
			return false;
	}
	return v[0] && v[0] != '.';
}

static void read_text(struct config_reader *r, const config_setting_t *s, const struct config_key *k, void *out)
{
	const char *v = config_setting_get_string(s);
	size_t n = 0;
	char hint[96];

	if (!v) {
		mdbus_config_mistake(r, s, "%s: needs a text in quotes", k->name);
		return;
	}
	if (strlen(v) >= k->size) {
		mdbus_config_mistake(r, s, "%s: at most %zu characters", k->name, k->size - 1u);
		return;
	}
	if (k->type == CONFIG_NAME && !valid_name(v)) {
		mdbus_config_mistake(r, s, "%s = \"%s\": a name is letters, digits, '_', '-' and '.', not starting with '.'",
		                     k->name, v);
		return;
	}
	while (k->choices && k->choices[n] && strcmp(k->choices[n], v) != 0)
		n++;
	if (k->choices && !k->choices[n]) {
		char list[256] = "";

		for (size_t i = 0; i < n; i++)
			snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s\"%s\"", i ? ", " : "", k->choices[i]);
		mdbus_config_mistake(r, s, "%s = \"%s\": must be one of %s%s", k->name, v, list,
		                     mdbus_config_suggest(v, k->choices, n, sizeof(k->choices[0]), true, hint,
		                                          sizeof(hint)));
		return;
	}
	memset((uint8_t *)out + k->off, 0, k->size); /* the structure is hashed */
	memcpy((uint8_t *)out + k->off, v, strlen(v));
}

static void read_flag(struct config_reader *r, const config_setting_t *s, const struct config_key *k, void *out)
{
	if (config_setting_type(s) != CONFIG_TYPE_BOOL)
		mdbus_config_mistake(r, s, "%s: must be true or false", k->name);
	else
		store(out, k, config_setting_get_bool(s));
}

static void read_key(struct config_reader *r, const config_setting_t *s, const struct config_key *k, void *out)
{
	switch (k->type) {
	case CONFIG_TEXT:
	case CONFIG_NAME:
		read_text(r, s, k, out);
		break;
	case CONFIG_NUMBER:
	case CONFIG_POWER:
		read_number(r, s, k, out);
		break;
	case CONFIG_FLAG:
		read_flag(r, s, k, out);
		break;
	case CONFIG_FACTOR:
		read_factor(r, s, k, out);
		break;
	case CONFIG_OTHER:
		break;
	}
}

void mdbus_config_group(struct config_reader *r, const config_setting_t *s, const struct config_key *keys, size_t nkeys,
                        void *out)
{
	if (!config_setting_is_group(s)) {
		mdbus_config_mistake(r, s, "needs a group { ... }");
		return;
	}
	for (int i = 0; i < config_setting_length(s); i++) {
		const config_setting_t *m = config_setting_get_elem(s, (unsigned)i);
		const char *name = config_setting_name(m);
		size_t k = 0;
		char hint[96];

		while (k < nkeys && strcmp(keys[k].name, name) != 0)
			k++;
		if (k < nkeys)
			read_key(r, m, &keys[k], out);
		else
			mdbus_config_mistake(r, m, "unknown key %s%s", name,
			                     mdbus_config_suggest(name, &keys[0].name, nkeys, sizeof(keys[0]), true, hint,
			                                          sizeof(hint)));
	}
}

void mdbus_config_where(struct config_reader *r, const char *of, const char *kind, uint32_t i, const config_setting_t *s)
{
	const char *name = NULL;

	if (config_setting_is_group(s) && config_setting_lookup_string(s, "name", &name) == CONFIG_TRUE && name[0])
		snprintf(r->where, sizeof(r->where), "%.60s%s%s %.40s", of, of[0] ? ", " : "", kind, name);
	else
		snprintf(r->where, sizeof(r->where), "%.60s%s%s %u", of, of[0] ? ", " : "", kind, i + 1u);
}

config_setting_t *mdbus_config_list(struct config_reader *r, const config_setting_t *s, const char *name, int min, int max)
{
	config_setting_t *list = config_setting_get_member(s, name);

	if (!list) {
		mdbus_config_mistake(r, config_setting_is_root(s) ? NULL : s, "%s is missing: %s = ( { ... }, ... );", name, name);
		return NULL;
	}
	if (!config_setting_is_list(list)) {
		mdbus_config_mistake(r, list, "%s: needs a list of groups ( { ... }, ... )", name);
		return NULL;
	}
	int n = config_setting_length(list);

	if (n < min || n > max) {
		mdbus_config_mistake(r, list, "%s: %d given, must be from %d to %d", name, n, min, max);
		return NULL;
	}
	return list;
}
