/* SPDX-License-Identifier: Apache-2.0
 *
 * rundir.h - a number for a run directory, to name things elsewhere after it.
 */
#ifndef MDBUS_MGMT_RUNDIR_H
#define MDBUS_MGMT_RUNDIR_H

#include <stdint.h>

uint64_t mdbus_rundir_hash(const char *run);

#endif
