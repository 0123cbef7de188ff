/* SPDX-License-Identifier: Apache-2.0
 *
 * mend.h - what can be done about an error, to be appended to its text.
 */
#ifndef MDBUS_INGEST_MEND_H
#define MDBUS_INGEST_MEND_H

#include <errno.h>

/* For a process that wants one descriptor more; "" where that is not what is wrong. */
static inline const char *mdbus_mend_descriptors(int rc)
{
	return rc == -EMFILE ? ": raise the limit of descriptors (ulimit -n)" : "";
}

#endif
