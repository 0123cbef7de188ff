/* SPDX-License-Identifier: Apache-2.0
 *
 * mdbus/counters.h - every counter of the bus: name and meaning, from one source.
 *
 * Each list expands to the fields of a structure in shared memory (abi.h) and to the rows that tools print.
 * A counter is a u64 with exactly one writer process; reading one costs the writer nothing.  Counters only grow,
 * except those marked "now", which are gauges.
 */
#ifndef MDBUS_COUNTERS_H
#define MDBUS_COUNTERS_H

/* One line: written by its ingest process. X(name, meaning) */
#define MDBUS_LINE_COUNTERS(X)                                                                   \
	X(packets, "frames received from the backend")                                             \
	X(bytes, "bytes of those frames, as received")                                             \
	X(feed_packets, "UDP packets that belong to a configured channel")                         \
	X(early_dropped, "of those, duplicates dropped by the XDP program (early_drop); their bytes are not counted") \
	X(not_feed, "frames for another address, port or protocol: left alone, never misread")     \
	X(bad_frame, "malformed: Ethernet, VLAN, IP or UDP header cut short or inconsistent")      \
	X(bad_fragment, "IP fragments of a feed packet: counted, cannot be read as a packet")      \
	X(bad_header, "malformed: payload shorter than its layout's header")                       \
	X(bad_length, "malformed: a packet or message length that runs outside the payload")       \
	X(bad_count, "malformed: message count disagrees with the messages present")               \
	X(key_unknown, "packet's key bytes match no channel of its group and port")                \
	X(wrong_queue, "feed packets that came on another NIC queue than the line's: the kernel got them") \
	X(nic_dropped, "dropped by the NIC queue or socket for want of room")                      \
	X(ring_full, "dropped because the receive ring was full")                                  \
	X(fill_empty, "times the queue found no free frame to receive into")                       \
	X(frames_free, "now: free frames in the arena, those lent to the queue included")          \
	X(frames_held, "now: frames that the ring still refers to")                                \
	X(frames_pool, "now: of the free frames, those not lent to the queue")                     \
	X(frames_rx, "now: frames that were received and wait to be looked at, as of the last full batch") \
	X(frames_reserve, "now: of the free frames, those kept aside (reserve_frames)")            \
	X(frames_low, "times the frames to receive into were fewer than low_watermark")            \
	X(frames_low_now, "now: 1 while they are low")                                             \
	X(frames_swept, "of the slots turned EXPIRED, those because frames were low")              \
	X(frames_expired, "slots turned EXPIRED to take a frame back before it was lapped")        \
	X(frames_recovered, "frames found in use by the ring at the last start")                   \
	X(handed, "packets handed over to other processes of the line (backend \"handed\")")        \
	X(handed_back, "of those, taken back and looked at here: the other had ended, or was too slow") \
	X(handed_full, "of another process's share, looked at here since it had not room or was too slow") \
	X(handed_down, "of another process's share, looked at here since it was not there")        \
	X(handed_bad, "entries and positions of a hand-over that were refused: out of bounds")     \
	X(frames_handed, "now: of the frames held, those handed over and not done with")           \
	X(polls, "times the backend was asked for packets")                                        \
	X(idle_polls, "of those, how many brought none")                                           \
	X(requests, "recovery: requests sent for missing numbers, repeated ones included")         \
	X(requests_repeated, "recovery: requests sent again because no answer came")               \
	X(answers, "recovery: packets that answered a request")                                    \
	X(answers_refused, "recovery: packets from a server that answer no open request")          \
	X(doorbells, "times sleeping subscribers were woken")                                      \
	X(last_arrival_ns, "now: arrival time of the newest packet, ns of CLOCK_MONOTONIC")        \
	X(heartbeat_ns, "now: when the process last came round its loop, ns of CLOCK_MONOTONIC")

/* One channel as one line sees it: written by that line's ingest process. */
#define MDBUS_LINE_CHANNEL_COUNTERS(X)                                                           \
	X(messages, "sequenced messages received, duplicates included")                            \
	X(won, "messages that this line published first")                                          \
	X(duplicates, "messages that another line, or this one before, had published already")     \
	X(late, "messages that came after their gap was declared, or after the ring had gone on")  \
	X(line_gaps, "sequence numbers skipped by this line, filled by others or not")             \
	X(out_of_order, "packets that came with a lower number than one before on this line")      \
	X(heartbeats, "packets that carried no message but a number")                              \
	X(unsequenced, "packets without a sequence number")                                        \
	X(ended, "end-of-session packets")                                                         \
	X(retransmitted, "packets flagged as retransmission by the exchange")                      \
	X(out_of_window, "packets refused: number too far ahead and not agreed on")                \
	X(restarts, "sequence restarts and session changes this line has gone through")            \
	X(jumps, "forward jumps beyond the window that were agreed on")                            \
	X(mismatched, "messages that differ from the copy another line published (sampled)")       \
	X(gaps_declared, "sequence numbers this line declared lost on all lines")                  \
	X(evicted, "keys pushed out of the dedup window before their age limit")                   \
	X(inlined, "messages copied into their slot")                                              \
	X(by_ref, "messages published by reference alone")                                         \
	X(tainted, "slots published by reference because a stopped writer may still scribble")     \
	X(last_seq, "now: newest sequence number seen on this line")

/* One subscriber: written by its own process into its seat. */
#define MDBUS_SEAT_COUNTERS(X)                                                                   \
	X(records, "records delivered, gaps and resets included")                                  \
	X(messages, "messages delivered")                                                          \
	X(bytes, "bytes of those messages")                                                        \
	X(gaps, "sequence numbers reported as lost on all lines")                                  \
	X(resets, "resets delivered")                                                              \
	X(overruns, "times this subscriber was lapped")                                            \
	X(overrun_lost, "records it lost by that, exactly")                                        \
	X(sleeps, "times it went to sleep for want of records")                                    \
	X(heartbeat_ns, "now: when it last polled, ns of CLOCK_MONOTONIC (once in 1,024 polls)")

#define MDBUS_COUNTER_FIELD(name, meaning) uint64_t name;

#endif
