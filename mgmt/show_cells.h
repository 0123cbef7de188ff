/* SPDX-License-Identifier: Apache-2.0
 *
 * show_cells.h - members of a JSON object as cells of a table.
 *
 * A member that an older mdbusd does not know prints as "-", never as a zero that was not counted.
 */
#ifndef MDBUS_MGMT_SHOW_CELLS_H
#define MDBUS_MGMT_SHOW_CELLS_H

#include <jansson.h>
#include "table.h"

static inline const char *text(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));

	return s && s[0] ? s : "-";
}

static inline json_int_t number(const json_t *o, const char *name)
{
	return json_integer_value(json_object_get(o, name));
}

static inline void text_cell(struct mdbus_table *t, const json_t *o, const char *name)
{
	mdbus_table_cell(t, "%s", text(o, name));
}

static inline void number_cell(struct mdbus_table *t, const json_t *o, const char *name)
{
	const json_t *v = json_object_get(o, name);

	if (json_is_integer(v))
		mdbus_table_cell(t, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
	else
		mdbus_table_cell(t, "-");
}

static inline void numbers(struct mdbus_table *t, const json_t *o, const char *const *names)
{
	for (; *names; names++)
		number_cell(t, o, *names);
}

static inline void sum_cell(struct mdbus_table *t, const json_t *o, const char *const *names)
{
	json_int_t sum = 0;

	for (; *names; names++)
		sum += number(o, *names);
	mdbus_table_cell(t, "%" JSON_INTEGER_FORMAT, sum);
}

static inline void bytes_cell(struct mdbus_table *t, json_int_t n)
{
	if (n >= 10 << 20)
		mdbus_table_cell(t, "%" JSON_INTEGER_FORMAT " MiB", n >> 20);
	else
		mdbus_table_cell(t, "%" JSON_INTEGER_FORMAT " KiB", n >> 10);
}

#endif
