/* SPDX-License-Identifier: Apache-2.0
 *
 * refuse.h - how a program says that it cannot be called like that.
 */
#ifndef MDBUS_INGEST_REFUSE_H
#define MDBUS_INGEST_REFUSE_H

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define MDBUS_EXIT_USAGE 2

/* One line on the standard error, after the program's name.  Returns the exit status. */
static inline __attribute__((format(printf, 1, 2))) int mdbus_refuse(const char *format, ...)
{
	va_list ap;

	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	return MDBUS_EXIT_USAGE;
}

#endif
