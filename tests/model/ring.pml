/* SPDX-License-Identifier: Apache-2.0
 *
 * ring.pml - the slot protocol of include/mdbus/ring.h as a model for spin: every order of every step is tried.
 *
 * A step is one load, one store or one compare-and-swap of shared memory.  A message has two bytes, so that a torn one
 * shows: both say its position, generation and line.  Two lines bring the messages of ORDER_A and ORDER_B; a reader
 * walks; a gap clock declares what no line brought; a line is stopped for ever at any step, or killed, reclaimed and
 * started anew.  Names follow ring.h, arena.h and gap.h.
 *
 * Checked are the guarantees: what the reader takes is whole and the message of its position and generation; a
 * (position, generation) gets one record, data or mark, ever; no frame is written while a slot refers to it; and when
 * nothing can move any more, everybody who was not stopped is through and the reader has read all there is.  The last one
 * with the absence of cycles (CYCLES) says that nobody waits for the stopped.
 *
 * Memory is sequentially consistent here; ring.h says why the real orders are enough.  The case is given by macros, see
 * tests/model/run.  -DMUTANT_name breaks a rule; spin has to find an error then.
 */
#define EMPTY   0
#define REF     1
#define INLINE  2
#define GAP     3
#define RESET   4
#define EXPIRED 6

#define WRITING 1
#define TAINTED 2

#define NOBODY  2

/* stamp: pos:3 | gen:1 | kind:3 | mark:2 | line:1       ref: used:1 | line:1 | frame:1 */
#define STAMP(p, g, k, low) ((p) << 7 | (g) << 6 | (k) << 3 | (low))
#define LOW(m, l)           ((m) << 1 | (l))
#define POS(s)              ((s) >> 7)
#define GEN(s)              ((s) >> 6 & 1)
#define KIND(s)             ((s) >> 3 & 7)
#define MARK(s)             ((s) >> 1 & 3)
#define LINE(s)             ((s) & 1)
#define IS(s, p, g)         ((s) >> 6 == ((p) << 1 | (g)) && KIND(s) != EMPTY)
#ifdef MUTANT_epoch_ignored
#define AHEAD(s, g)         (KIND(s) == EMPTY)
#else
#define AHEAD(s, g)         (GEN(s) < (g) || (GEN(s) == (g) && KIND(s) == EMPTY))
#endif
#define OLDER(s, p, g)      (POS(s) < (p) || (POS(s) == (p) && AHEAD(s, g)))

#define REFER(l, f)         (4 | (l) << 1 | (f))
#define REFLINE(r)          ((r) >> 1 & 1)
#define AT(r)               ((r) & 3) /* index of its frame's bytes */

#define SLOT(p)             ((p) % DEPTH)
#define LONG(p)             (LONGS >> (p) & 1)
#define VALUE(p, g, l)      ((p) << 2 | (g) << 1 | (l) | 64)
#define OLD                 0 /* the generations */
#define NEW                 1

/* The generation in which line l has position p; what everybody else takes it for. */
#define GENERATION(p)       (NEWGEN && (p) >= NEWGEN -> NEW : OLD)
#define LINEGEN(l, p)       ((l) == 0 -> OLD : GENERATION(p))

#define ORDER(l, i)         (((l) == 0 -> ORDER_A : ORDER_B) >> 3 * (i) & 7) /* an octal digit each; 0: that is all */

short stamp[DEPTH];
byte ref[DEPTH];
byte in0[DEPTH], in1[DEPTH];
byte frame0[4], frame1[4]; /* of the lines' two frames */
byte progress;             /* beyond the newest position a line has passed */

/* not memory: what the properties are about */
byte records[8];           /* by position: 1 for a record of OLD, 2 of NEW */
byte at[2];                /* which of its messages a line is at */
bool through[2], stopped[2];
byte reading;
byte runs[2];              /* process of each line, 0: none */
byte gone;                 /* the process that is just being killed or stopped, 0: none */

/* A new record: the only one of its position and generation. */
#define COUNT_RECORD(p, g) \
	assert((records[p] & 1 << (g)) == 0); \
	records[p] = records[p] | 1 << (g)

/* The mark that a new record carries on from the one it replaces. */
#ifdef MUTANT_no_taint
#define CARRIED(s, self)    0
#else
#define CARRIED(s, self)    (MARK(s) != 0 && LINE(s) != (self) -> LOW(TAINTED, LINE(s)) : 0)
#endif

/* Loaded one after the other in truth; halves that do not belong together only make the compare-and-swap fail. */
#define LOAD_PAIR(s) atomic { lo = stamp[s]; hi = ref[s] }

/* Take a frame back from position p: afterwards no slot refers to it. */
inline expire(p, g, f) {
	LOAD_PAIR(SLOT(p));
	do
	:: atomic { IS(lo, p, g) && KIND(lo) == REF && hi == REFER(self, f) ->
#ifdef MUTANT_reuse_before_expire
		lo = 0
#else
		if
		:: stamp[SLOT(p)] == lo && ref[SLOT(p)] == hi ->
			stamp[SLOT(p)] = STAMP(p, g, EXPIRED, (MARK(lo) & TAINTED) << 1 | LINE(lo));
			lo = 0
		:: else ->
			lo = stamp[SLOT(p)];
			hi = ref[SLOT(p)]
		fi
#endif
	}
	:: else -> break
	od
}

/* The line's own mark, on a record that lapped it, is taken off. */
inline untaint(s) {
	LOAD_PAIR(s);
	do
	:: atomic { (MARK(lo) & TAINTED) && LINE(lo) == self ->
		if
		:: stamp[s] == lo && ref[s] == hi -> stamp[s] = lo & ~7; lo = 0
		:: else -> lo = stamp[s]; hi = ref[s]
		fi
	}
	:: else -> break
	od
}

/* kept: the frame stays with the record. */
inline publish(p, g, f) {
	LOAD_PAIR(SLOT(p));
	to = 1;
	do
	:: atomic { to == 1 && OLDER(lo, p, g) ->
		if
		:: !LONG(p) && CARRIED(lo, self) == 0 -> to = STAMP(p, g, REF, LOW(WRITING, self))
		:: else -> to = STAMP(p, g, REF, CARRIED(lo, self))
		fi;
		if
		:: stamp[SLOT(p)] == lo && ref[SLOT(p)] == hi ->
			stamp[SLOT(p)] = to;
			ref[SLOT(p)] = REFER(self, f);
			COUNT_RECORD(p, g);
			kept = 1;
			lo = 0
		:: else ->
			lo = stamp[SLOT(p)];
			hi = ref[SLOT(p)];
			to = 1
		fi
	}
	:: else -> break
	od;
	if
	:: to != 1 && MARK(to) == WRITING ->
		in0[SLOT(p)] = VALUE(p, g, self);
		in1[SLOT(p)] = VALUE(p, g, self);
		atomic {
			kept = 0;
			hi = 0;
			if
#ifdef MUTANT_plain_inline
			:: true -> stamp[SLOT(p)] = STAMP(p, g, INLINE, self); ref[SLOT(p)] = REFER(self, f)
#else
			:: stamp[SLOT(p)] == to && ref[SLOT(p)] == REFER(self, f) ->
				stamp[SLOT(p)] = STAMP(p, g, INLINE, self)
			:: else ->
				hi = 1;
				kept = (stamp[SLOT(p)] >> 3 == to >> 3) /* taken for dead: by reference still */
#endif
			fi
		}
		if
		:: hi -> untaint(SLOT(p))
		:: else
		fi
	:: else
	fi
}

/* A ring with one line: mark, write, stamp. */
inline publish_single(p, g, f) {
	lo = stamp[SLOT(p)];
	if
	:: OLDER(lo, p, g) ->
		lo = 0;
#ifdef MUTANT_publish_before_payload
		atomic {
			stamp[SLOT(p)] = STAMP(p, g, (LONG(p) -> REF : INLINE), 0);
			COUNT_RECORD(p, g)
		}
#elif !defined(MUTANT_no_mark)
		stamp[SLOT(p)] = STAMP(p, g, EMPTY, 0);
#endif
		ref[SLOT(p)] = REFER(self, f);
		if
		:: !LONG(p) ->
			in0[SLOT(p)] = VALUE(p, g, self);
			in1[SLOT(p)] = VALUE(p, g, self)
		:: else
		fi;
		atomic {
			stamp[SLOT(p)] = STAMP(p, g, (LONG(p) -> REF : INLINE), 0);
#ifndef MUTANT_publish_before_payload
			COUNT_RECORD(p, g);
#endif
			kept = LONG(p)
		}
	:: else -> lo = 0
	fi
}

/* Let go of a frame: the next packet may be written to it at once, or garbage. */
#define REUSE(f) assert(!IN_USE(self, f)); frame0[self << 1 | (f)] = 0; frame1[self << 1 | (f)] = 0

#define REFERS(s, l, f)  (KIND(stamp[s]) == REF && ref[s] == REFER(l, f))
#if DEPTH == 1
#define IN_USE(l, f)     REFERS(0, l, f)
#elif DEPTH == 2
#define IN_USE(l, f)     (REFERS(0, l, f) || REFERS(1, l, f))
#else
#define IN_USE(l, f)     (REFERS(0, l, f) || REFERS(1, l, f) || REFERS(2, l, f) || REFERS(3, l, f))
#endif

/* Which frames the ring still refers to: what a line knows that has just been started. */
inline scan() {
	p = 0;
	do
	:: p < DEPTH ->
		LOAD_PAIR(p);
		atomic {
#ifndef MUTANT_recover_ignores_ring
			if
			:: KIND(lo) == REF && (hi & 6) == REFER(self, 0) -> hold[hi & 1] = lo >> 6
			:: else
			fi;
#endif
			lo = 0;
			hi = 0;
			p++
		}
	:: atomic { else ->
		if
		:: hold[0] == 0 -> REUSE(0)
		:: else
		fi;
		if
		:: hold[1] == 0 -> REUSE(1)
		:: else
		fi;
		p = 0;
		break
	}
	od
}

/* A process that is gone leaves at once. */
#define NORMALLY provided (gone == 0 || gone == _pid)

proctype line(byte self) NORMALLY
{
	byte hold[2];  /* by frame: pos << 1 | gen of the record that refers to it, 0: none */
	byte p, f, g, hi;
	short lo, to;
	bool kept;

	{
#if KILL
	scan();
#endif
	do
	:: ORDER(self, at[self]) != 0 ->
		atomic {
			p = ORDER(self, at[self]);
			g = LINEGEN(self, p);
			f = (hold[0] == 0 -> 0 : (hold[1] == 0 -> 1 : (hold[0] < hold[1] -> 0 : 1)))
		}
		if
		:: hold[f] != 0 ->
			expire((hold[f] >> 1), (hold[f] & 1), f);
			atomic { lo = 0; hi = 0; hold[f] = 0; REUSE(f) }
		:: else
		fi;
		atomic {
			frame0[self << 1 | f] = VALUE(p, g, self); /* at once: a reader takes the halves one by one */
			frame1[self << 1 | f] = VALUE(p, g, self)
		}
#if SINGLE
#ifdef MUTANT_single_hole
		publish_single(p, g, f);
#else
		if
		:: p < progress -> publish(p, g, f) /* it may be declared lost at any time */
		:: else -> publish_single(p, g, f)
		fi;
#endif
#else
		publish(p, g, f);
#endif
		atomic {
			if
			:: kept -> hold[f] = p << 1 | g
			:: else -> REUSE(f)
			fi;
			if
			:: p >= progress -> progress = p + 1
			:: else
			fi;
			lo = 0; hi = 0; to = 0; kept = 0; p = 0; f = 0; g = 0;
			at[self]++
		}
	:: atomic { else -> through[self] = true; break }
	od;
	false
	} unless {
		atomic { /* gone for ever; where it was does not matter any more */
			gone == _pid ->
			p = 0; f = 0; g = 0; lo = 0; hi = 0; to = 0; kept = 0; hold[0] = 0; hold[1] = 0;
			gone = 0
		}
	};
	false
}

/* The record of position p, if this step finds it there or the ring beyond it. */
#define THERE(p)  (POS(stamp[SLOT(p)]) > (p) || IS(stamp[SLOT(p)], p, GENERATION(p)))

proctype reader() NORMALLY
{
	byte p = 1, hi, b0, b1;
	short lo;

	do
	:: atomic { p < END && THERE(p) ->
		lo = stamp[SLOT(p)];
		if
		:: POS(lo) > p -> p = POS(lo) - DEPTH + 1; reading = p; goto again
		:: else
		fi };
		hi = ref[SLOT(p)];
		if
		:: stamp[SLOT(p)] != lo -> goto again
		:: else
		fi;
		if
		:: KIND(lo) == REF ->
			b0 = frame0[AT(hi)];
			b1 = frame1[AT(hi)]
		:: KIND(lo) == INLINE ->
			b0 = in0[SLOT(p)];
			b1 = in1[SLOT(p)]
		:: else -> goto next
		fi;
#ifndef MUTANT_skip_recheck
		if
		:: stamp[SLOT(p)] >> 3 != lo >> 3 -> goto again
		:: else
		fi;
#endif
		assert(b0 == b1);
		assert(b0 == VALUE(p, GENERATION(p), REFLINE(hi)));
next:		p++;
		reading = p;
again:		atomic { lo = 0; hi = 0; b0 = 0; b1 = 0 }
	:: p >= END -> break
	od;
	false
}

/* What a line has passed and no line has brought is lost.  The last place of a generation gets its end record. */
#define LOST(h) (h < progress && !THERE(h))

proctype gap_clock() NORMALLY
{
	byte h, hi;
	short lo;

	do
	:: atomic {
		if
		:: LOST(1) -> h = 1
		:: END > 2 && LOST(2) -> h = 2
		:: END > 3 && LOST(3) -> h = 3
		:: END > 4 && LOST(4) -> h = 4
		:: END > 5 && LOST(5) -> h = 5
		fi;
		lo = stamp[SLOT(h)];
		hi = ref[SLOT(h)]
	}
		do
		:: atomic { lo != -1 && OLDER(lo, h, GENERATION(h)) ->
			if
			:: stamp[SLOT(h)] == lo && ref[SLOT(h)] == hi ->
				stamp[SLOT(h)] = STAMP(h, GENERATION(h), (h + 1 == NEWGEN -> RESET : GAP), CARRIED(lo, NOBODY));
				ref[SLOT(h)] = 0;
				COUNT_RECORD(h, GENERATION(h));
				lo = -1
			:: else ->
				lo = stamp[SLOT(h)];
				hi = ref[SLOT(h)]
			fi
		}
		:: atomic { else ->
			assert(lo == -1 || THERE(h)); /* what cannot be declared lost is there */
			lo = 0;
			hi = 0;
			h = 0;
			break
		}
		od
	od
}

/* mdbusd: line 0's process is gone; its marks are taken off, and it is started again. */
proctype reclaim() NORMALLY
{
	byte s, hi;
	short lo;

#ifdef MUTANT_reclaim_alive
	skip;
#else
	atomic {
		if
		:: stopped[0] -> stopped[0] = false; runs[0] = 0 /* it has left already */
		:: else -> lo = runs[0]; runs[0] = 0; gone = lo
		fi
	}
	lo = 0;
#endif
	do
	:: s < DEPTH ->
		LOAD_PAIR(s);
		do
		:: atomic { MARK(lo) != 0 && LINE(lo) == 0 ->
			if
			:: stamp[s] == lo && ref[s] == hi -> stamp[s] = lo & ~7; lo = 0
			:: else -> lo = stamp[s]; hi = ref[s]
			fi
		}
		:: else -> break
		od;
		atomic { lo = 0; hi = 0; s++ }
	:: else -> break
	od;
#ifndef MUTANT_reclaim_alive
	runs[0] = run line(0);
#endif
	false
}

/* A line may stand still for ever, from any step on. */
#if STOP
proctype stopper() NORMALLY
{
	atomic {
		if
		:: runs[0] != 0 -> stopped[0] = true; gone = runs[0]
		:: runs[1] != 0 -> stopped[1] = true; gone = runs[1]
		fi
	}
	false
}
#endif

init {
	atomic {
		reading = 1;
		progress = 1;
		runs[0] = run line(0);
#if SINGLE
		through[1] = true;
#else
		runs[1] = run line(1);
#endif
		run reader();
		run gap_clock();
#if STOP
		run stopper();
#endif
#if KILL
		run reclaim();
#endif
	}
	/* nothing moves any more */
	timeout ->
	assert(through[0] || stopped[0]);
	assert(through[1] || stopped[1]);
	assert(reading >= progress)
}
