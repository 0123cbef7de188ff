/* SPDX-License-Identifier: Apache-2.0
 *
 * table.c - rows and columns for people; see table.h.
 *
 * A column is right-aligned if every cell of it starts with a digit or is "-".
 */
#include "table.h"
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct mdbus_table {
	size_t columns, cells, room;
	char **cell; /* headers first */
};

static void put(struct mdbus_table *t, char *text)
{
	if (t->cells == t->room) {
		size_t room = t->room ? 2u * t->room : 64u;
		char **grown = realloc(t->cell, room * sizeof(*grown));

		if (!grown) {
			free(text);
			return;
		}
		t->cell = grown;
		t->room = room;
	}
	t->cell[t->cells++] = text;
}

struct mdbus_table *mdbus_table_new(const char *headers)
{
	struct mdbus_table *t = calloc(1, sizeof(*t));

	while (t && *headers) {
		size_t n = strcspn(headers, " ");

		put(t, strndup(headers, n));
		headers += n;
		headers += strspn(headers, " ");
	}
	if (t)
		t->columns = t->cells;
	return t;
}

void mdbus_table_cell(struct mdbus_table *t, const char *format, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		text = NULL;
	va_end(ap);
	put(t, text);
}

static const char *at(const struct mdbus_table *t, size_t i)
{
	return t->cell[i] ? t->cell[i] : "";
}

static int width(const struct mdbus_table *t, size_t column, int *right)
{
	size_t w = 0;

	*right = t->cells > t->columns;
	for (size_t i = column; i < t->cells; i += t->columns) {
		const char *s = at(t, i);

		w = strlen(s) > w ? strlen(s) : w;
		if (i >= t->columns && !isdigit((unsigned char)s[0]) && strcmp(s, "-") != 0)
			*right = 0;
	}
	return (int)w;
}

void mdbus_table_print(struct mdbus_table *t)
{
	for (size_t i = 0; i < t->cells; i++) {
		int right, w = width(t, i % t->columns, &right);
		int last = i % t->columns == t->columns - 1u;

		printf("%*s%s", right ? w : last ? 0 : -w, at(t, i), last ? "\n" : "  ");
	}
	for (size_t i = 0; i < t->cells; i++)
		free(t->cell[i]);
	free(t->cell);
	free(t);
}
