/* SPDX-License-Identifier: Apache-2.0
 *
 * verify_epochs.h - which epoch of the log is which epoch of the channel.
 *
 * Both count their epochs from 1, but a bus that ran before has counted further, and an epoch of which no line carried
 * anything is one that nobody can have seen.  So the first epoch with messages is found by its content, and the others
 * follow in order; an epoch that was lost whole is left out where the content says so.
 */
#ifndef MDBUS_SUBSCRIBERS_VERIFY_EPOCHS_H
#define MDBUS_SUBSCRIBERS_VERIFY_EPOCHS_H

#include "verify.h"

#define MDBUS_EPOCH_NONE UINT32_MAX

/* The spans [first, end) of one delivered epoch, and its epoch in the log (an index, or MDBUS_EPOCH_NONE). */
struct mdbus_epoch_pair {
	uint64_t epoch;
	size_t first, end;
	uint32_t log;
};

struct mdbus_epoch_map {
	struct mdbus_epoch_pair *pair; /* by delivered epoch */
	size_t n;
	uint32_t *pair_of; /* by epoch of the log: index into pair, or MDBUS_EPOCH_NONE */
};

/* 0 or -ENOMEM. */
int mdbus_epochs_map(struct mdbus_epoch_map *m, const struct mdbus_judge *j, const struct mdbus_track *t,
                     const struct mdbus_log_part *sent);
void mdbus_epochs_free(struct mdbus_epoch_map *m);

/* True if a line that was up carried any message of this epoch of the log. */
bool mdbus_epoch_carried(const struct mdbus_judge *j, const struct mdbus_log_part *sent, uint32_t epoch);

#endif
