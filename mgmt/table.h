/* SPDX-License-Identifier: Apache-2.0
 *
 * table.h - rows and columns for people: aligned, numbers to the right.
 */
#ifndef MDBUS_MGMT_TABLE_H
#define MDBUS_MGMT_TABLE_H

#include <stddef.h>

struct mdbus_table;

/* headers: one text, columns parted by blanks; the first column is a row's first cell.  NULL: no memory. */
struct mdbus_table *mdbus_table_new(const char *headers);

/* The next cell, from left to right and top to bottom. */
void mdbus_table_cell(struct mdbus_table *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Print to stdout and free. */
void mdbus_table_print(struct mdbus_table *t);

#endif
