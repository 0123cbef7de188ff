/* SPDX-License-Identifier: Apache-2.0
 *
 * config_read.h - reading groups of a libconfig file by table, and collecting mistakes.
 *
 * A table says for each key of a group what it may hold and where in a structure it goes.  Whatever is not in the table is
 * a mistake.  All mistakes are kept and printed in the order of the file's lines.
 */
#ifndef MDBUS_MGMT_CONFIG_READ_H
#define MDBUS_MGMT_CONFIG_READ_H

#include <libconfig.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "config.h"

enum config_type {
	CONFIG_TEXT,   /* char[size] */
	CONFIG_NAME,   /* char[size]: letters, digits, '_', '-', '.'; may stand in a path */
	CONFIG_NUMBER, /* integer of `size` bytes, min <= value <= max, stored times `scale` */
	CONFIG_POWER,  /* the same, and a power of two */
	CONFIG_FLAG,   /* true or false, as integer of `size` bytes */
	CONFIG_FACTOR, /* number or fraction, min <= value <= max, stored times `scale` */
	CONFIG_OTHER,  /* known, read by somebody else */
};

struct config_key {
	const char *name;
	enum config_type type;
	size_t off, size;
	int64_t min, max;
	int64_t scale;              /* 0: 1 */
	const char *const *choices; /* CONFIG_TEXT: NULL-terminated list of what it may be, or NULL: anything */
};

struct config_mistake {
	char *file;
	unsigned line;
	unsigned order;
	char *text;
};

struct config_reader {
	const char *path;
	char where[128]; /* what is being read, e.g. "bus nasdaq, line A"; may be empty */
	struct config_mistake *mistake;
	unsigned nmistake;
};

/* Note a mistake at a setting (NULL: the file as a whole). */
void mdbus_config_mistake(struct config_reader *r, const config_setting_t *at, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Print all mistakes, sorted by line, and free them.  Returns how many there were. */
unsigned mdbus_config_mistakes_print(struct config_reader *r, FILE *to);

/* Read every member of group `s` by the table into `out`.  Members that are not there leave `out` as it is. */
void mdbus_config_group(struct config_reader *r, const config_setting_t *s, const struct config_key *keys, size_t nkeys,
                        void *out);

/* Member `name` of s if it is a list (or array) of at least min and at most max elements; else a mistake and NULL. */
config_setting_t *mdbus_config_list(struct config_reader *r, const config_setting_t *s, const char *name, int min, int max);

/* Say from now on that it is the i-th `kind` of `of` that is being read, by its name if it has one. */
void mdbus_config_where(struct config_reader *r, const char *of, const char *kind, uint32_t i, const config_setting_t *s);

/* ", did you mean NAME?" if one of the n names (stride bytes apart) is close to `wrong`, else "". In buf. */
const char *mdbus_config_suggest(const char *wrong, const void *names, size_t n, size_t stride, bool pointers, char *buf,
                                 size_t buflen);

#endif
