/* SPDX-License-Identifier: Apache-2.0
 *
 * line_program.h - what mdbus-ingest and mdbus-recover have in common: everything but the kind of line they take.
 */
#ifndef MDBUS_INGEST_LINE_PROGRAM_H
#define MDBUS_INGEST_LINE_PROGRAM_H

#include <stdbool.h>

/*
 * Be the process of the line that the command line names, until its end or SIGINT or SIGTERM.  recovery: it must be a
 * recovery line, else it must be none.  The exit status: 0, 1 it failed, 2 wrong arguments.
 */
int mdbus_line_program(const char *name, bool recovery, int argc, const char **argv);

#endif
