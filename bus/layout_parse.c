/* SPDX-License-Identifier: Apache-2.0
 *
 * layout_parse.c - the text form of layouts.
 *
 * jansson reads the JSON but forgets where a value stood.  So the parser keeps the path to the value it looks at
 * ("moldudp64", "rules", 1, "if"), and only when something is wrong the text is walked once more along that path to
 * find the line.  What shape each member has is decided here; whether the layout makes sense, in layout_check.c.
 */
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layout_check.h"

#define PATH_MAX_DEPTH 8 /* the deepest is layout.rules[i].if[i]: 5 */

struct step {
	const char *key; /* NULL: index */
	size_t index;
};

struct parse {
	const char *text;
	const char *source; /* file name, or NULL */
	const char *layout; /* name of the layout being read, or NULL */
	char *err;
	size_t errlen;
	unsigned depth, hidden; /* steps of the path; the first `hidden` of them are the layout, named separately */
	struct step path[PATH_MAX_DEPTH];
};

/* ---- where a value stands ---- */

static const char *skip_space(const char *p)
{
	return p + strspn(p, " \t\r\n");
}

static const char *skip_string(const char *p)
{
	for (p++; *p && *p != '"'; p++)
		if (*p == '\\' && p[1])
			p++;
	return *p ? p + 1 : p;
}

/* The text is known to be JSON, so brackets only need to be counted. */
static const char *skip_value(const char *p)
{
	unsigned depth = 0;

	do {
		p = skip_space(p);
		if (*p == '"')
			p = skip_string(p);
		else if (*p == '{' || *p == '[')
			depth++, p++;
		else if (*p == '}' || *p == ']')
			depth--, p++;
		else if (*p == ',' || *p == ':')
			p++;
		else
			p += strcspn(p, " \t\r\n,:]}");
	} while (*p && depth);
	return p;
}

/* The value of a step inside the object or array at p, or NULL. */
static const char *find_step(const char *p, const struct step *step)
{
	char close = *p == '{' ? '}' : ']';

	p = skip_space(p + 1);
	for (size_t i = 0; *p && *p != close; i++) {
		bool found = !step->key && i == step->index;

		if (close == '}') {
			const char *key = p + 1;
			size_t n;

			p = skip_string(p);
			n = (size_t)(p - 1 - key);
			found = step->key && strlen(step->key) == n && !memcmp(key, step->key, n);
			p = skip_space(skip_space(p) + 1);
		}
		if (found)
			return p;
		p = skip_space(skip_value(p));
		if (*p == ',')
			p = skip_space(p + 1);
	}
	return NULL;
}

/* Line of the value at the path, or of the innermost value around it that can be found. */
static unsigned find_line(const struct parse *c)
{
	const char *at = skip_space(c->text);
	unsigned line = 1;

	for (unsigned i = 0; i < c->depth; i++) {
		const char *next = *at == '{' || *at == '[' ? find_step(at, &c->path[i]) : NULL;

		if (!next)
			break;
		at = next;
	}
	for (const char *p = c->text; p < at; p++)
		line += *p == '\n';
	return line;
}

static void put(struct parse *c, size_t *used, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void put(struct parse *c, size_t *used, const char *format, ...)
{
	va_list args;
	int n;

	if (*used >= c->errlen)
		return;
	va_start(args, format);
	n = vsnprintf(c->err + *used, c->errlen - *used, format, args);
	va_end(args);
	if (n > 0)
		*used += (size_t)n;
}

static void put_place(struct parse *c, size_t *used, unsigned line)
{
	if (c->source)
		put(c, used, "%s:%u: ", c->source, line);
	else
		put(c, used, "line %u: ", line);
}

/* "FILE:LINE: layout NAME: member[i]: what is wrong" */
static int fail(struct parse *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int fail(struct parse *c, const char *format, ...)
{
	char text[384];
	size_t used = 0;
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	put_place(c, &used, find_line(c));
	if (c->layout)
		put(c, &used, "layout \"%s\": ", c->layout);
	for (unsigned i = c->hidden; i < c->depth; i++) {
		if (c->path[i].key)
			put(c, &used, "%s%s", i > c->hidden ? "." : "", c->path[i].key);
		else
			put(c, &used, "[%zu]", c->path[i].index);
	}
	put(c, &used, "%s%s", c->depth > c->hidden ? ": " : "", text);
	return -EINVAL;
}

static void enter(struct parse *c, const char *key, size_t index)
{
	c->path[c->depth++] = (struct step){ key, index };
}

static void leave(struct parse *c)
{
	c->depth--;
}

/* ---- values ---- */

static int get_int(struct parse *c, const json_t *v, int64_t min, int64_t max, const char *what, int64_t *out)
{
	if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max)
		return fail(c, "%s must be a whole number from %lld to %lld", what, (long long)min, (long long)max);
	*out = json_integer_value(v);
	return 0;
}

/* The index of a string among choices. */
static int get_choice(struct parse *c, const json_t *v, const char *const *choices, unsigned n, uint8_t *out)
{
	char list[128] = "";
	size_t used = 0;

	for (unsigned i = 0; i < n; i++) {
		if (choices[i][0] == 0) /* what an absent member means */
			continue;
		if (json_is_string(v) && !strcmp(json_string_value(v), choices[i])) {
			*out = (uint8_t)i;
			return 0;
		}
		if (used < sizeof(list))
			used += (size_t)snprintf(list + used, sizeof(list) - used, "%s\"%s\"", used ? ", " : "",
			                         choices[i]);
	}
	return fail(c, "must be one of %s", list);
}

/* [where, offset, width] and what may follow, which is the caller's. `form` names it. */
static int get_field(struct parse *c, const json_t *v, size_t min, size_t max, const char *form,
                     struct mdbus_layout_field *out)
{
	static const char *const where[] = { "h", "m" };
	int64_t offset = 0, width = 0;
	int rc;

	if (!json_is_array(v) || json_array_size(v) < min || json_array_size(v) > max)
		return fail(c, "must be %s", form);
	rc = get_choice(c, json_array_get(v, 0), where, 2, &out->in_message);
	if (!rc)
		rc = get_int(c, json_array_get(v, 1), 0, 65535, "offset", &offset);
	if (!rc)
		rc = get_int(c, json_array_get(v, 2), 1, 255, "width", &width);
	if (rc)
		return rc;
	out->offset = (uint16_t)offset;
	out->width = (uint8_t)width;
	return 0;
}

static int get_plain_field(struct parse *c, const json_t *v, struct mdbus_layout_field *out)
{
	return get_field(c, v, 3, 3, "[where, offset, width]", out);
}

static int get_length(struct parse *c, const json_t *v, struct mdbus_layout_field *out)
{
	int64_t bias = 0;
	int rc = get_field(c, v, 3, 4, "[where, offset, width, bias]", out);

	if (!rc && json_array_size(v) == 4)
		rc = get_int(c, json_array_get(v, 3), INT32_MIN, INT32_MAX, "bias", &bias);
	out->bias = (int32_t)bias;
	return rc;
}

static int get_masked_field(struct parse *c, const json_t *v, struct mdbus_layout_field *out)
{
	int64_t mask = 0;
	int rc = get_field(c, v, 3, 4, "[where, offset, width] or [where, offset, width, mask]", out);

	if (!rc && json_array_size(v) == 4)
		rc = get_int(c, json_array_get(v, 3), 1, UINT32_MAX, "mask", &mask);
	out->mask = (uint32_t)mask;
	return rc;
}

static int get_fields(struct parse *c, const json_t *v, struct mdbus_layout_field *out, uint8_t *n, uint8_t *bytes)
{
	unsigned total = 0;
	int rc = 0;

	if (!json_is_array(v) || json_array_size(v) > MDBUS_LAYOUT_KEYS_MAX)
		return fail(c, "must be a list of at most %d fields", MDBUS_LAYOUT_KEYS_MAX);
	for (size_t i = 0; !rc && i < json_array_size(v); i++) {
		enter(c, NULL, i);
		rc = get_masked_field(c, json_array_get(v, i), &out[i]);
		if (!rc && (total += out[i].width) > MDBUS_SESSION_MAX)
			rc = fail(c, "all fields together have more than %d bytes", MDBUS_SESSION_MAX);
		leave(c);
	}
	*n = (uint8_t)json_array_size(v);
	*bytes = (uint8_t)total;
	return rc;
}

/* ---- rules ---- */

/* [where, offset, width, op, value] */
static int get_cond(struct parse *c, const json_t *v, struct mdbus_layout_cond *out)
{
	static const char *const ops[] = { "==", "!=", "in", "&" };
	const json_t *value = json_array_get(v, 4);
	size_t n = json_is_array(value) ? json_array_size(value) : 1;
	int rc = 0;

	if (!json_is_array(v) || json_array_size(v) != 5)
		return fail(c, "must be [where, offset, width, op, value]");
	if (get_field(c, v, 5, 5, "", &out->field) || get_choice(c, json_array_get(v, 3), ops, 4, &out->op))
		return -EINVAL;
	if (json_is_array(value) != (out->op == MDBUS_OP_IN))
		return fail(c, "only \"in\" takes a list, and nothing else");
	if (n == 0 || n > MDBUS_LAYOUT_VALUES_MAX)
		return fail(c, "takes 1 to %d values", MDBUS_LAYOUT_VALUES_MAX);
	for (size_t i = 0; !rc && i < n; i++) {
		int64_t number = 0;

		rc = get_int(c, json_is_array(value) ? json_array_get(value, i) : value, 0, INT64_MAX, "value",
		             &number);
		out->value[i] = (uint64_t)number;
	}
	out->nvalue = (uint8_t)n;
	return rc;
}

static int get_conds(struct parse *c, const json_t *v, struct mdbus_layout_rule *out)
{
	size_t n = json_array_size(v);
	int rc = 0;

	if (n == 0 || n > MDBUS_LAYOUT_CONDS_MAX)
		return fail(c, "must be a list of 1 to %d conditions", MDBUS_LAYOUT_CONDS_MAX);
	for (size_t i = 0; !rc && i < n; i++) {
		enter(c, NULL, i);
		rc = get_cond(c, json_array_get(v, i), &out->cond[i]);
		leave(c);
	}
	out->ncond = (uint8_t)n;
	return rc;
}

static int get_act(struct parse *c, const json_t *v, struct mdbus_layout_rule *out)
{
	static const char *const acts[] = { "",      "heartbeat", "eos",     "sos",   "reset",
		                            "unseq", "ignore",    "retrans", "opaque" };
	uint8_t act = 0;

	if (get_choice(c, v, acts, 9, &act))
		return -EINVAL;
	out->retrans = act == 7;
	out->opaque = act == 8;
	if (act < 7)
		out->event = act;
	return 0;
}

static int get_rule_member(struct parse *c, const char *key, const json_t *v, struct mdbus_layout_rule *out)
{
	static const char *const seqs[] = { "", "next", "last", "counts", "zero", "field", "pktnext", "unknown" };

	if (!strcmp(key, "if"))
		return get_conds(c, v, out);
	if (!strcmp(key, "act"))
		return get_act(c, v, out);
	if (!strcmp(key, "seq"))
		return get_choice(c, v, seqs, 8, &out->event_seq);
	if (!strcmp(key, "field"))
		return get_plain_field(c, v, &out->field);
	if (strcmp(key, "nomsg"))
		return fail(c, "unknown member; a rule has if, act, seq, field, nomsg");
	if (!json_is_boolean(v))
		return fail(c, "must be true or false");
	out->nomsg = json_is_true(v);
	return 0;
}

static int get_rules(struct parse *c, const json_t *v, struct mdbus_layout *out)
{
	size_t n = json_array_size(v);
	int rc = 0;

	if (!json_is_array(v) || n > MDBUS_LAYOUT_RULES_MAX)
		return fail(c, "must be a list of at most %d rules", MDBUS_LAYOUT_RULES_MAX);
	for (size_t i = 0; !rc && i < n; i++) {
		json_t *rule = json_array_get(v, i), *value;
		const char *key;

		enter(c, NULL, i);
		if (!json_is_object(rule))
			rc = fail(c, "must be an object with \"if\" and \"act\"");
		json_object_foreach(rule, key, value) {
			enter(c, key, 0);
			if (!rc && !json_is_null(value))
				rc = get_rule_member(c, key, value, &out->rule[i]);
			leave(c);
		}
		leave(c);
	}
	out->nrule = (uint8_t)n;
	return rc;
}

/* ---- a layout ---- */

/* [offset, width, bias] */
static int get_msglen(struct parse *c, const json_t *v, struct mdbus_layout_field *out)
{
	int64_t offset = 0, width = 0, bias = 0;

	if (!json_is_array(v) || json_array_size(v) != 3)
		return fail(c, "must be [offset, width, bias]");
	if (get_int(c, json_array_get(v, 0), 0, 65535, "offset", &offset) ||
	    get_int(c, json_array_get(v, 1), 1, 255, "width", &width) ||
	    get_int(c, json_array_get(v, 2), INT32_MIN, INT32_MAX, "bias", &bias))
		return -EINVAL;
	*out = (struct mdbus_layout_field){ 1, (uint8_t)width, (uint16_t)offset, { (int32_t)bias } };
	return 0;
}

static int get_small(struct parse *c, const json_t *v, int64_t max, int64_t *out)
{
	return get_int(c, v, 0, max, "it", out);
}

static int get_member(struct parse *c, const char *key, const json_t *v, struct mdbus_layout *out)
{
	static const char *const orders[] = { "le", "be" };
	static const char *const units[] = { "msg", "pkt", "arrival" };
	static const char *const ends[] = { "payload", "count" };
	static const char *const wraps[] = { "", "max->1", "reset" };
	const struct {
		const char *key;
		struct mdbus_layout_field *field;
	} fields[] = {
		{ "seq", &out->seq }, { "count", &out->count }, { "time", &out->time }, { "pktseq", &out->pktseq },
	};
	int64_t n = 0;
	int rc;

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (!strcmp(key, fields[i].key))
			return get_plain_field(c, v, fields[i].field);
	if (!strcmp(key, "e"))
		return get_choice(c, v, orders, 2, &out->big_endian);
	if (!strcmp(key, "unit"))
		return get_choice(c, v, units, 3, &out->unit);
	if (!strcmp(key, "end"))
		return get_choice(c, v, ends, 2, &out->end_count);
	if (!strcmp(key, "wrap"))
		return get_choice(c, v, wraps, 3, &out->wrap);
	if (!strcmp(key, "pktlen"))
		return get_length(c, v, &out->pktlen);
	if (!strcmp(key, "msglen"))
		return get_msglen(c, v, &out->msglen);
	if (!strcmp(key, "key"))
		return get_fields(c, v, out->key, &out->nkey, &out->key_bytes);
	if (!strcmp(key, "session"))
		return get_fields(c, v, out->session, &out->nsession, &out->session_bytes);
	if (!strcmp(key, "rules"))
		return get_rules(c, v, out);
	if (!strcmp(key, "hdr")) {
		rc = get_small(c, v, 65535, &n);
		out->hdr = (uint16_t)n;
		return rc;
	}
	if (!strcmp(key, "align")) {
		rc = get_small(c, v, 64, &n);
		out->align = (uint8_t)n;
		return rc;
	}
	if (!strcmp(key, "note"))
		return json_is_string(v) ? 0 : fail(c, "must be text");
	return fail(c, "unknown member; a layout has e, hdr, seq, unit, count, pktlen, time, pktseq, key, session, "
	               "msglen, end, align, wrap, rules, note");
}

static int get_layout(struct parse *c, json_t *v, const char *name, struct mdbus_layout *out)
{
	static const char *const needed[] = { "e", "hdr", "unit" };
	struct mdbus_layout_flaw flaw;
	const char *key;
	json_t *value;
	int rc = 0;

	*out = (struct mdbus_layout){ 0 };
	c->layout = name;
	c->hidden = c->depth;
	if (!json_is_object(v))
		return fail(c, "must be an object");
	if (strlen(name) == 0 || strlen(name) >= sizeof(out->name))
		return fail(c, "its name must have 1 to %zu bytes", sizeof(out->name) - 1);
	memcpy(out->name, name, strlen(name)); /* *out is all zeros */
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (!json_object_get(v, needed[i]))
			return fail(c, "\"%s\" is missing", needed[i]);
	out->end_count = json_object_get(v, "count") && !json_is_null(json_object_get(v, "count"));
	json_object_foreach(v, key, value) {
		enter(c, key, 0);
		if (!rc && !json_is_null(value))
			rc = get_member(c, key, value, out);
		leave(c);
	}
	if (rc)
		return rc;
	mdbus_layout_derive(out);
	flaw = mdbus_layout_find_flaw(out);
	if (!flaw.text)
		return 0;
	enter(c, flaw.member, 0);
	if (flaw.index >= 0)
		enter(c, NULL, (size_t)flaw.index);
	return fail(c, "%s", flaw.text);
}

/* No name was given, or one that is not there: say which there are. */
static int fail_names(struct parse *c, json_t *root, const char *name)
{
	char list[256] = "";
	size_t used = 0;
	const char *key;
	json_t *value;

	json_object_foreach(root, key, value)
		if (used < sizeof(list))
			used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", used ? ", " : "", key);
	if (name)
		return fail(c, "there is no layout \"%s\" here, but: %s", name, list);
	return fail(c, "%zu layouts, so one must be named: %s", json_object_size(root), list);
}

static int parse(struct parse *c, const char *name, const char *fallback, struct mdbus_layout *out)
{
	json_error_t error;
	json_t *root = json_loads(c->text, JSON_REJECT_DUPLICATES, &error);
	const json_t *hdr = json_object_get(root, "hdr");
	int rc;

	if (!root) {
		size_t used = 0;

		put_place(c, &used, (unsigned)error.line);
		put(c, &used, "not JSON: %s", error.text);
		return -EINVAL;
	}
	if (!json_is_object(root)) {
		rc = fail(c, "must be an object: a layout, or layouts by name");
	} else if (json_object_get(root, "e") || (hdr && !json_is_object(hdr))) {
		rc = get_layout(c, root, name ? name : fallback, out);
	} else if (name ? !json_object_get(root, name) : json_object_size(root) != 1) {
		rc = fail_names(c, root, name);
	} else {
		if (!name)
			name = json_object_iter_key(json_object_iter(root));
		enter(c, name, 0);
		rc = get_layout(c, json_object_get(root, name), name, out);
	}
	json_decref(root);
	return rc;
}

int mdbus_layout_parse(const char *text, const char *name, struct mdbus_layout *out, char *err, size_t errlen)
{
	struct parse c = { .text = text, .err = err, .errlen = errlen };

	return parse(&c, name, "unnamed", out);
}

/* ---- files ---- */

/* "dir/feed.json" -> "feed", cut to what a name can hold. */
static void base_name(const char *path, char *out, size_t size)
{
	const char *slash = strrchr(path, '/');

	snprintf(out, size, "%s", slash ? slash + 1 : path);
	out[strcspn(out, ".")] = 0;
}

#define LAYOUT_FILE_MAX (1u << 20)

static int read_file(const char *path, char **text)
{
	FILE *f = fopen(path, "rb");
	size_t n;
	int rc = 0;

	if (!f)
		return -errno;
	*text = malloc(LAYOUT_FILE_MAX + 1);
	n = *text ? fread(*text, 1, LAYOUT_FILE_MAX + 1, f) : 0;
	if (!*text)
		rc = -ENOMEM;
	else if (ferror(f))
		rc = -EIO;
	else if (n > LAYOUT_FILE_MAX)
		rc = -EFBIG;
	else
		(*text)[n] = 0;
	fclose(f);
	if (rc) {
		free(*text);
		*text = NULL;
	}
	return rc;
}

int mdbus_layout_load(const char *path, const char *name, struct mdbus_layout *out, char *err, size_t errlen)
{
	char base[MDBUS_LAYOUT_NAME_MAX], *text = NULL;
	int rc = read_file(path, &text);

	if (rc) {
		snprintf(err, errlen, "%s: %s", path, rc == -EFBIG ? "more than 1 MiB: no layout file" : strerror(-rc));
		return rc;
	}
	base_name(path, base, sizeof(base));
	rc = parse(&(struct parse){ .text = text, .source = path, .err = err, .errlen = errlen }, name, base, out);
	free(text);
	return rc;
}
