/* SPDX-License-Identifier: Apache-2.0
 *
 * seat.h - mdbusd's dealings with seats, which belong to whoever sits there and may hold anything.
 *
 * A subscriber has its seat's file open for writing: it may fill it with garbage or cut it short.  So mdbusd never
 * maps a seat and never believes its header; it reads and writes seats through descriptors, where a file that is too
 * short is a short read and not a signal.
 */
#ifndef MDBUS_MGMT_SEAT_H
#define MDBUS_MGMT_SEAT_H

#include "daemon.h"

/* A descriptor of a seat's file, or -errno. */
int mdbus_seat_open(const struct mdbus_served *b, uint32_t seat);

/*
 * Make a seat as good as new: whole length, header, all counters zero.  0 or -errno.  The file stays the same one, since the
 * lines have it mapped.  Killed inside: done again, because the lease is still in RECLAIM.
 */
int mdbus_seat_reset(const struct mdbus_served *b, uint32_t seat);

/* Length again as it must be, contents untouched: before the file is lent to a line. */
int mdbus_seat_mend_length(int fd);

/* A copy of a seat as it is now, with the first nchannel of its channels.  False: it is shorter than a seat. */
bool mdbus_seat_read(const struct mdbus_served *b, uint32_t seat, uint32_t nchannel, struct mdbus_seat_hdr *out);

#endif
