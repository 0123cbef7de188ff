/* SPDX-License-Identifier: Apache-2.0
 *
 * Damaged memory, while it is in use: a thread keeps changing the segments of a bus (bits, zeroes, ones, noise, each word of
 * each header, slots, generations) while others attach, read, take a line over, take it back and report.  Whatever it
 * hits, each of these refuses with a reason or goes on: no crash, nothing read out of bounds (each segment ends where memory
 * ends), and none takes a second of processor time.  How many: MDBUS_SMASH, 50,000 if not given.
 *
 * What is left out: the bus directory changes under a reader only where it does so in life (leases, states); mdbusd
 * alone can write to it.  Before attaching, every word of it may be anything.
 *
 * timeout: 300
 * sanitizers: address,undefined
 * mutants: ring_header_believed segment_without_bounds generation_hint_believed
 */
#include <pthread.h>
#include <time.h>
#include <unistd.h>
#include "../bus/arena.h"
#include "../bus/segment.h"
#include "../mgmt/daemon.h"
#include "bus_bed.h"
#include "guard.h"

#define SEGMENTS    6u
#define RECORDS_MAX 4096u
#define LIMIT_NS    UINT64_C(1000000000)
/* Threads meet as they like: a mutant is given time until its fault is hit. */
#if defined(MDBUS_MUTANT_ring_header_believed) || defined(MDBUS_MUTANT_segment_without_bounds) || \
        defined(MDBUS_MUTANT_generation_hint_believed)
#define MUTATIONS   1000000u
#else
#define MUTATIONS   50000u
#endif
#define WORDS       640u /* bytes of each segment that are gone through word by word */

struct segment {
	struct mdbus_region *region; /* in `live` */
	uint32_t kind, index;
	size_t hot;        /* bytes from the start on that are headers and tables */
	uint8_t *pristine; /* as it is when whole */
};

static struct mdbus_bus live;
static struct segment segment[SEGMENTS];
static uint32_t nsegment;
static uint64_t wanted = MUTATIONS, done;
static uint64_t seed = 7;

/* What the reader is at, for the watchdog; and its processor time when it began. */
static const char *doing = "nothing";
static uint64_t began_ns;
static pthread_t reader;
static uint32_t smashing; /* mutations that the thread still may make in this round */
static volatile uint8_t sink;

static uint64_t dice(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static uint64_t processor_ns(void)
{
	struct timespec t;
	clockid_t clock;

	CHECK(pthread_getcpuclockid(reader, &clock) == 0 && clock_gettime(clock, &t) == 0);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void begin(const char *what)
{
	mdbus_store_release(&doing, what);
	mdbus_store_release(&began_ns, processor_ns());
}

/* ---- damage -------------------------------------------------------------------------------------------------- */

static const uint64_t values[] = { 0, UINT64_MAX, 1, UINT64_C(1) << 63, 0x7fffffff, 0x100000000 };

static void damage(const struct segment *s, uint64_t *state)
{
	uint64_t r = dice(state);
	size_t within = r % 4u == 0 ? s->region->size : r % 4u == 1 ? 320u : s->hot;
	size_t at = (size_t)(dice(state) % within);
	uint8_t *p = s->region->base;

	switch (r >> 8 & 3u) {
	case 0: /* one bit */
		__atomic_xor_fetch(&p[at], (uint8_t)(1u << (r >> 16 & 7u)), __ATOMIC_RELAXED);
		break;
	case 1: /* a word of 4 bytes */
		mdbus_store_relaxed((uint32_t *)(void *)&p[at & ~(size_t)3u],
		                    (uint32_t)(r >> 32 & 1u ? values[(r >> 16) % 6u] : dice(state)));
		break;
	default: /* a word of 8 */
		at &= ~(size_t)7u;
		mdbus_store_relaxed((uint64_t *)(void *)&p[at], r >> 32 & 1u ? values[(r >> 16) % 6u] : dice(state));
	}
	mdbus_count(&done, 1);
}

/* What changes in a bus directory that is in use. */
static void damage_directory(uint64_t *state)
{
	struct mdbus_bus_hdr *h = live.dir_region.base;
	uint64_t r = dice(state);

	mdbus_store_relaxed(&h->line_state[r % MDBUS_LINES_MAX], (uint32_t)(r >> 32));
	mdbus_store_relaxed(&h->line[r >> 8 & 1u].lease.state, (uint32_t)(r >> 16) % 4u);
	mdbus_store_relaxed(&h->line[r >> 9 & 1u].lease.pid, (uint32_t)(r >> 24));
	mdbus_count(&done, 3);
}

static void *smash(void *arg)
{
	uint64_t state = 99;

	(void)arg;
	while (mdbus_load_relaxed(&done) < wanted) {
		if (mdbus_load_acquire(&smashing) == 0) {
			sched_yield();
			continue;
		}
		const struct segment *s = &segment[dice(&state) % nsegment];

		if (s->kind == MDBUS_SEGMENT_BUS)
			damage_directory(&state);
		else
			damage(s, &state);
		uint32_t left = mdbus_load_relaxed(&smashing); /* a race with the end of a round: one more or less */

		mdbus_store_release(&smashing, left > 0 ? left - 1u : 0);
		for (uint64_t i = dice(&state) % 512u; i > 0; i--)
			mdbus_pause();
	}
	return NULL;
}

static void *watch(void *arg)
{
	(void)arg;
	while (mdbus_load_relaxed(&done) < wanted) {
		uint64_t since = mdbus_load_acquire(&began_ns), now = processor_ns();

		if (since == mdbus_load_acquire(&began_ns) && now > since && now - since > LIMIT_NS) {
			printf("\"%s\" has taken a second after %llu mutations\n", mdbus_load_acquire(&doing),
			       (unsigned long long)mdbus_load_relaxed(&done));
			fflush(stdout);
			_exit(1);
		}
		usleep(20000);
	}
	return NULL;
}

/* ---- a bus whose segments end where memory ends ---------------------------------------------------------------- */

static void move(struct mdbus_region *from, struct mdbus_region *to, uint32_t kind, uint32_t index, size_t hot)
{
	size_t span = (from->size + 4095u) & ~(size_t)4095u;
	uint8_t *area = mmap(NULL, span + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct mdbus_segment_hdr *h = from->base;

	CHECK(area != MAP_FAILED && mprotect(area + 4096, span, PROT_READ | PROT_WRITE) == 0);
	h->magic = MDBUS_MAGIC;
	h->version = MDBUS_ABI_VERSION;
	h->kind = kind;
	h->layout_hash = MDBUS_ABI_LAYOUT;
	h->size = from->size;
	h->index = index;
	*to = (struct mdbus_region){ area + 4096 + ((span - from->size) & ~(size_t)63u), from->size };
	segment[nsegment] = (struct segment){ to, kind, index, hot < from->size ? hot : from->size, malloc(from->size) };
	CHECK(segment[nsegment].pristine);
	memcpy(segment[nsegment++].pristine, from->base, from->size);
}

static void make_bus(struct bed *bed, bool ordered)
{
	struct mdbus_channel_desc desc = bed_channel_default(ordered ? "moldudp64" : "optiq_key", 2);

	desc.depth = 64;
	desc.window = 32;
	desc.slot_size = 64;
	desc.ordered = ordered;
	bed_open(bed, &desc, 2, 32);
	for (uint64_t seq = 1; ordered && seq <= 200; seq += 2) {
		struct bed_mold m = { .seq = seq % 150u + 1u, .count = 2, .salt = 1 };
		uint8_t bytes[2048];

		snprintf(m.session, sizeof(m.session), "SESSION--%c", seq > 150 ? 'B' : 'A');
		bed_packet(bed, seq / 2 % 2, bytes, bed_mold_build(&m, bytes, sizeof(bytes)), 1000000000u + seq * 1000u);
	}
	live = bed->bus;
	live.role = MDBUS_LEASE_LINE; /* it is what has to check all that it maps */
	nsegment = 0;
	move(&bed->bus.dir_region, &live.dir_region, MDBUS_SEGMENT_BUS, 0, sizeof(struct mdbus_bus_hdr));
	live.dir = live.dir_region.base;
	move(&bed->bus.ring[0], &live.ring[0], MDBUS_SEGMENT_RING, 0, 12288 + 64 * 64);
	move(&bed->bus.arena[0], &live.arena[0], MDBUS_SEGMENT_ARENA, 0, 8192);
	move(&bed->bus.arena[1], &live.arena[1], MDBUS_SEGMENT_ARENA, 1, 8192);
	move(&bed->bus.seat[0], &live.seat[0], MDBUS_SEGMENT_SEAT, 0, 512);
	if (bed->bus.keys[0].base)
		move(&bed->bus.keys[0], &live.keys[0], MDBUS_SEGMENT_KEYS, 0, 4096 + 1024);
}

static void drop_bus(struct bed *bed)
{
	for (uint32_t i = 0; i < nsegment; i++) {
		size_t span = (segment[i].region->size + 4095u) & ~(size_t)4095u;
		uintptr_t first = (uintptr_t)segment[i].region->base & ~(uintptr_t)4095u;

		munmap((void *)(first - 4096u), span + 8192);
		free(segment[i].pristine);
	}
	bed_close(bed);
}

static void restore(void)
{
	for (uint32_t i = 0; i < nsegment; i++)
		memcpy(segment[i].region->base, segment[i].pristine, segment[i].region->size);
}

/* ---- everything that is done with a bus -------------------------------------------------------------------------- */

static uint64_t refused, attached, records;

/* As a process attaches: each segment by itself, then all together. */
static bool attach(void)
{
	char err[256];
	int rc = 0;

	begin("attach");
	for (uint32_t i = 0; i < nsegment && rc == 0; i++) {
		memset(err, 'x', sizeof(err));
		rc = mdbus_segment_check(segment[i].region->base, segment[i].region->size, segment[i].kind, err, sizeof(err));
	}
	if (rc == 0)
		rc = mdbus_segment_check_bus(&live, err, sizeof(err));
	if (rc < 0)
		CHECK(memchr(err, 0, sizeof(err)) && err[0] != '\0');
	refused += rc < 0;
	attached += rc == 0;
	return rc == 0 && live.dir->nchannel == 1 && live.dir->nline == 2;
}

static void read_all(uint64_t r)
{
	struct mdbus_sub_options o = { .unordered = r & 1u, .start = r & 2u ? MDBUS_START_OLDEST : MDBUS_START_HEAD };
	struct mdbus_sub *s = mdbus_sub_over(&live, &o);
	struct mdbus_record rec;
	uint8_t copy[100];

	begin("read");
	for (uint32_t i = 0; s && i < RECORDS_MAX; i++) {
		bool copied = (r >> (2u + i % 8u) & 1u) != 0;

		if (!(copied ? mdbus_sub_read(s, &rec, copy, sizeof(copy)) : mdbus_sub_next(s, &rec)))
			break;
		CHECK(rec.kind <= MDBUS_RECORD_OVERRUN);
		for (uint32_t k = 0; rec.kind == MDBUS_RECORD_DATA && k < (copied && rec.len > sizeof(copy) ? sizeof(copy) : rec.len); k++)
			sink = rec.data[k];
		if (!copied)
			mdbus_sub_valid(s, &rec);
		records++;
	}
	if (s)
		sink = (uint8_t)mdbus_sub_lag(s);
	mdbus_sub_close(s);
}

/* A line that takes over what is there, from a header of its own that nobody else can write to. */
static void take_over(uint64_t r)
{
	struct mdbus_channel *c = malloc(sizeof(*c));
	struct mdbus_arena_hdr *own = (struct mdbus_arena_hdr *)(void *)segment[2].pristine;
	struct mdbus_holds holds;
	uint64_t now = 2000000000;

	begin("take over");
	CHECK(c && mdbus_holds_init(&holds, own, 1024) == 0);
	mdbus_arena_scan(&live, 0, &holds);
	if (mdbus_channel_init(c, &live, 0, 0, &holds) == 0) {
		for (uint32_t i = 0; i < 6; i++) {
			uint64_t off = own->frames_off + (uint64_t)(i % own->nframes) * own->frame_size + MDBUS_FRAME_META;
			uint8_t *at = (uint8_t *)live.arena[0].base + off, bytes[1900];
			struct bed_mold m = { .seq = 1 + r % 300u + 3u * i, .count = 3, .salt = 1 };

			snprintf(m.session, sizeof(m.session), "SESSION--%c", 'A' + (char)(r >> 16 & 3u));
			uint32_t len = bed_mold_build(&m, bytes, sizeof(bytes));

			memcpy(at, bytes, len);
			now += 1000000;
			mdbus_channel_packet(c, &(struct mdbus_chunk){ off, at, len, now }, now);
			holds.nloose = 0;
			mdbus_channel_tick(c, now += 20000000);
		}
	}
	mdbus_holds_free(&holds);
	free(c);
}

/* What mdbusd does with a bus: takes a line back, moves gaps on, reports. */
static void be_daemon(uint64_t r)
{
	static struct mdbus_served b;
	uint64_t now = 3000000000;

	begin("take back");
	mdbus_line_reclaim(&live, (uint32_t)(r & 1u));
	b = (struct mdbus_served){ .map = live };
	begin("report");
	if (mdbus_scan_open(&b) == 0) {
		begin("gap clock");
		mdbus_resolver_init(&b.resolver[0], &live, 0, MDBUS_LINES_MAX);
		for (uint32_t i = 0; i < 5; i++)
			mdbus_resolver_tick(&b.resolver[0], now += 20000000);
		begin("report");
		json_decref(mdbus_report_line(&b, (uint32_t)(r >> 1 & 1u), true));
		json_decref(mdbus_report_channel(&b, 0, true));
	}
	mdbus_scan_close(&b);
}

static void round_of(uint64_t r)
{
	restore();
	/* half of the rounds begin with damage that is there before anybody looks, the directory's included */
	for (uint64_t n = r & 1u ? 1u + (r >> 1 & 7u) : 0; n > 0; n--)
		damage(&segment[dice(&seed) % nsegment], &seed);
	begin("attach");
	if (!attach())
		return;
	mdbus_store_release(&smashing, 60u);
	for (uint32_t i = 0; i < 4; i++) {
		uint64_t what = dice(&seed);

		switch (what & 7u) {
		case 0:
			take_over(what >> 8);
			break;
		case 1:
		case 2:
			be_daemon(what >> 8);
			break;
		case 3:
			begin("attach");
			for (uint32_t k = 0; k < nsegment; k++) {
				char err[128];

				if (segment[k].kind != MDBUS_SEGMENT_BUS)
					(void)mdbus_segment_check(segment[k].region->base, segment[k].region->size, segment[k].kind,
					                          err, sizeof(err));
			}
			break;
		default:
			read_all(what >> 8);
		}
	}
	mdbus_store_release(&smashing, 0u);
}

/* One after the other: every word of the first of each segment takes each value, and everything is done with the bus. */
static void word_by_word(void)
{
	for (uint32_t i = 0; i < nsegment; i++) {
		for (size_t at = 0; at + 8u <= WORDS && at + 8u <= segment[i].region->size; at += 4u) {
			for (size_t v = 0; v < sizeof(values) / sizeof(values[0]); v++) {
				restore();
				memcpy((uint8_t *)segment[i].region->base + at, &values[v], at % 8u == 0 ? 8u : 4u);
				done++;
				if (!attach())
					continue;
				read_all(2);
				take_over(v);
				be_daemon(v);
			}
		}
	}
}

int main(void)
{
	static struct bed bed;
	const char *n = getenv("MDBUS_SMASH");
	pthread_t smasher, watcher;
	uint64_t total = n ? strtoull(n, NULL, 10) : wanted, rounds = 0;

	reader = pthread_self();
	for (uint32_t shape = 0; shape < 2; shape++) {
		make_bus(&bed, shape == 0);
		wanted = shape == 0 ? total * 3u / 4u : total;
		began_ns = processor_ns();
		CHECK(pthread_create(&smasher, NULL, smash, NULL) == 0 && pthread_create(&watcher, NULL, watch, NULL) == 0);
		word_by_word();
		for (; mdbus_load_relaxed(&done) < wanted; rounds++)
			round_of(dice(&seed));
		pthread_join(smasher, NULL);
		pthread_join(watcher, NULL);
		drop_bus(&bed);
	}
	printf("count: %llu mutations, %llu rounds, %llu refused, %llu attached, %llu records read\n", (unsigned long long)done,
	       (unsigned long long)rounds, (unsigned long long)refused, (unsigned long long)attached, (unsigned long long)records);
	CHECK(refused > 0 && attached > 0 && records > 0);
	return 0;
}
