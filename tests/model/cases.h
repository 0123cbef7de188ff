/* SPDX-License-Identifier: Apache-2.0
 *
 * cases.h - the cases of the slot protocol: ring.pml goes through them as a model, unit_interleave.c with the functions
 * of ring.h, arena.h and gap.h themselves.  One list, so that the two cannot drift apart.
 *
 * CASE(name, size, depth, longs, newgen, kill, stop, single, order_a, order_b)
 *
 *   size     1: in `make check` and `make model`; 2: only in `make model`
 *   depth    slots
 *   longs    bit p: the message of position p does not fit a slot and goes by reference
 *   newgen   line 1 and the rest of the world hold this position and those after it for the next generation's, line 0 does
 *            not; the position before it gets the end record.  0: there is one generation
 *   kill     line 0 may be killed at any step, once; it is reclaimed and started again
 *   stop     one line may stand still for ever, from any step on
 *   single   there is only line 0, which publishes with plain stores
 *   order_*  the positions a line brings, in this order, a digit each; those it does not bring are lost on it
 */
CASE(lap, 1, 2, 0, 0, 0, 0, 0, 1234, 1234)
CASE(lap_stop, 1, 1, 0, 0, 0, 1, 0, 123, 123)
CASE(by_ref, 1, 2, 14, 0, 0, 0, 0, 1234, 1234)
CASE(mixed, 1, 1, 4, 0, 0, 1, 0, 123, 123)
CASE(gap, 1, 2, 0, 0, 0, 0, 0, 134, 124)
CASE(gap_stop, 1, 1, 0, 0, 0, 1, 0, 13, 123)
CASE(disorder, 1, 2, 4, 0, 0, 0, 0, 132, 213)
CASE(reset, 1, 2, 0, 4, 0, 0, 0, 1234, 1234)
CASE(reset_stop, 1, 1, 8, 3, 0, 1, 0, 123, 123)
CASE(reclaim, 1, 1, 0, 0, 1, 0, 0, 12, 12)
CASE(reclaim_by_ref, 1, 1, 6, 0, 1, 0, 0, 12, 12)
CASE(single, 1, 1, 4, 0, 1, 1, 1, 123, 0)
CASE(single_hole, 1, 2, 0, 0, 1, 0, 1, 1324, 0)
CASE(lap_more, 2, 2, 0, 0, 0, 1, 0, 12345, 12345)
CASE(lap_thrice, 2, 1, 0, 0, 0, 1, 0, 1234, 1234)
CASE(by_ref_more, 2, 2, 30, 0, 0, 1, 0, 1234, 1234)
CASE(mixed_more, 2, 2, 10, 0, 0, 1, 0, 1234, 1234)
CASE(gap_more, 2, 2, 8, 0, 0, 1, 0, 134, 124)
CASE(disorder_more, 2, 2, 4, 0, 0, 0, 0, 1324, 2143)
CASE(reset_more, 2, 2, 0, 4, 0, 1, 0, 1234, 1234)
CASE(reclaim_lap, 2, 1, 0, 0, 1, 0, 0, 123, 12)
CASE(reclaim_mixed, 2, 2, 4, 0, 1, 0, 0, 123, 123)
CASE(reclaim_stop, 2, 1, 0, 0, 1, 1, 0, 12, 12)
CASE(single_more, 2, 2, 10, 0, 1, 1, 1, 13254, 0)
