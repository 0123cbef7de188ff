/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_report.h - the feeder's summary: one line for humans, or one JSON object.
 */
#ifndef MDBUS_INGEST_FEED_REPORT_H
#define MDBUS_INGEST_FEED_REPORT_H

#include "feed_run.h"
#include <stdio.h>

/* malformed: packets of the source that its layout refuses.  0, or -EIO if out would not take it. */
int mdbus_feed_report(FILE *out, const struct mdbus_feed_run_config *config, const struct mdbus_feed_result *result,
                      uint64_t malformed, bool json);

#endif
