/* SPDX-License-Identifier: Apache-2.0
 *
 * text.h - small files of /proc, /sys and our own: a line of words and numbers.
 */
#ifndef MDBUS_MGMT_TEXT_H
#define MDBUS_MGMT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The first size - 1 bytes of a file, with an end.  False: it cannot be read, or is empty. */
bool mdbus_text_read(const char *path, char *buf, size_t size);

/* The decimal number at *at, blanks before it skipped, *at moved behind it.  False: there is none, or it is too large. */
bool mdbus_text_number(const char **at, uint64_t *value);

/* *at moved behind the next word. False: there is none. */
bool mdbus_text_skip_word(const char **at);

/* What a reader of the message "...: strerror(-rc)" can do about it, to be appended; "" where nothing is known. */
const char *mdbus_text_mend(int rc);

#endif
