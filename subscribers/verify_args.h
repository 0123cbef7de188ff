/* SPDX-License-Identifier: Apache-2.0
 *
 * verify_args.h - the verifier's arguments that are small languages of their own.
 *
 * Each function returns true, or false with what is wrong and how to say it right in err.
 */
#ifndef MDBUS_SUBSCRIBERS_VERIFY_ARGS_H
#define MDBUS_SUBSCRIBERS_VERIFY_ARGS_H

#include "verify.h"

/* Index of a name among those of the bus, or UINT32_MAX. `of` is passed through. */
typedef uint32_t (*mdbus_lookup)(const void *of, const char *name, size_t len);

/* "LINE:T0_NS:T1_NS", LINE a name or a number; an empty T1 is for good. */
bool mdbus_args_down(const char *text, mdbus_lookup line, const void *of, struct mdbus_down *down, char *err,
                     size_t errlen);

/* "CH=IDX[+IDX...],...": part_of[stream] = channel for each stream named; others are MDBUS_LOG_NO_PART. */
bool mdbus_args_streams(const char *text, mdbus_lookup channel, const void *of, uint32_t *part_of, uint32_t nstreams,
                        char *err, size_t errlen);

/* "CH[,CH...]": set[channel] = true for each. */
bool mdbus_args_channels(const char *text, mdbus_lookup channel, const void *of, bool *set, char *err, size_t errlen);

#endif
