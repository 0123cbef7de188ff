/* SPDX-License-Identifier: Apache-2.0 */
#include "readers_bed.h"

#include <arpa/inet.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../bus/shape.h"
#include "bus_bed.h"
#include "ready_packets.h"

#define DEPTH      4096u
#define FRAMES     1024u
#define OFF        256u /* of a packet in its frame */
#define BATCHES    8192u
#define BODY       36u
#define PATIENCE   UINT64_C(20000000000) /* ns that a reader waits for a record */

static struct shared {
	uint32_t attached;
	struct {
		uint64_t delivered, lost, overruns, torn, miscounted;
		uint32_t done;
	} reader[READERS_MAX] __attribute__((aligned(64)));
} *shared;

static struct bed bed;
static struct mdbus_line line;
static const struct readers_plan *plan;
static uint64_t total; /* messages */

/* ---- messages --------------------------------------------------------------------------------------------------- */

/* With its length prefix. */
static uint32_t message(uint64_t seq, uint8_t *out)
{
	if (plan->mixed)
		return bed_mold_message(seq, 0, out);
	out[0] = 0;
	out[1] = BODY;
	for (uint32_t i = 0; i < BODY; i += 4u)
		memcpy(out + 2u + i, &(uint32_t){ (uint32_t)seq * 31u + i }, 4);
	return BODY + 2u;
}

/* ---- a reader --------------------------------------------------------------------------------------------------- */

static void take(uint32_t self, const struct mdbus_record *r, uint64_t *next)
{
	uint8_t want[256];

	shared->reader[self].miscounted += r->seq != *next;
	*next = r->seq + r->count;
	switch (r->kind) {
	case MDBUS_RECORD_DATA:
		shared->reader[self].delivered++;
		shared->reader[self].torn += r->len != message(r->seq, want) || memcmp(r->data, want, r->len) != 0;
		break;
	case MDBUS_RECORD_OVERRUN:
		shared->reader[self].lost += r->count;
		shared->reader[self].overruns++;
		break;
	default:
		shared->reader[self].miscounted++;
	}
}

static void be_reader(uint32_t self)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	struct mdbus_bus bus = bed.bus;
	uint64_t next = 1, since = mdbus_clock_ns();
	struct mdbus_record r;
	uint8_t buf[256];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (plan->pin)
		plan->pin(cores > 1 ? 1u + self % (unsigned)(cores - 1) : 0);
	bus.index = self;
	struct mdbus_sub *s = mdbus_sub_over(&bus, NULL);

	CHECK(s != NULL);
	if (plan->claim)
		plan->claim(); /* those of one core still take turns, as they yield */
	__atomic_fetch_add(&shared->attached, 1, __ATOMIC_SEQ_CST);
	while (next <= total) {
		if (mdbus_sub_read(s, &r, buf, sizeof(buf))) {
			take(self, &r, &next);
			since = 0;
			continue;
		}
		if (since == 0)
			since = mdbus_clock_ns();
		CHECK(mdbus_clock_ns() - since < PATIENCE);
		if (plan->sleeping)
			mdbus_sub_wait(s, 1000000);
		else
			sched_yield();
	}
	const struct mdbus_seat_hdr *seat = bed.bus.seat[self].base;

	shared->reader[self].miscounted += seat->count.messages != shared->reader[self].delivered;
	shared->reader[self].miscounted += mdbus_sub_overruns(s) != shared->reader[self].lost;
	mdbus_sub_close(s);
	mdbus_store_release(&shared->reader[self].done, 1);
	fflush(stdout);
	_exit(0);
}

/* ---- the line --------------------------------------------------------------------------------------------------- */

_Static_assert(READERS_BATCH <= READY_MAX, "a batch is ready at once");

static void make_ready(uint64_t seq)
{
	struct bed_mold head = { .session = "SESSION001", .seq = seq };

	for (ready[0].n = 0; ready[0].n < READERS_BATCH; ready[0].n++, head.seq++) {
		uint32_t frame, len;

		CHECK(mdbus_frames_get(&line.stock.pool, &frame));
		uint8_t *p = line.frames + (uint64_t)frame * line.arena->frame_size + OFF;

		len = bed_mold_build(&head, p, 1024);
		p[19] = 1;
		len += message(head.seq, p + len);
		ready[0].rx[ready[0].n] = (struct mdbus_rx){ .frame = frame, .off = OFF, .len = len };
	}
}

static double timed_round(uint32_t want)
{
	uint64_t t = mdbus_clock_ns();
	int n = mdbus_line_round(&line);

	t = mdbus_clock_ns() - t;
	CHECK(n == (int)want);
	return (double)t;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double publish_all(void)
{
	static double ns[BATCHES];
	uint64_t due = mdbus_clock_ns();
	double sum = 0;
	uint32_t n = plan->batches - plan->batches / 20u;

	CHECK(plan->batches <= BATCHES);
	for (uint32_t i = 0; i < plan->batches; i++) {
		make_ready(1u + (uint64_t)i * READERS_BATCH);
		while (plan->pace_ns != 0 && mdbus_clock_ns() < due)
			mdbus_pause();
		ns[i] = timed_round(READERS_BATCH);
		if (plan->pace_ns != 0) /* the bell comes with the first round that finds nothing */
			ns[i] += timed_round(0);
		due += plan->pace_ns;
		if (plan->pause_every != 0 && i % plan->pause_every == 0)
			usleep(2000);
	}
	qsort(ns, plan->batches, sizeof(ns[0]), ascending);
	for (uint32_t i = 0; i < n; i++)
		sum += ns[i];
	return sum / n / READERS_BATCH;
}

/* ---- one run ---------------------------------------------------------------------------------------------------- */

static void open_bus(void)
{
	struct mdbus_channel_desc d = bed_channel_default("moldudp64", 2);

	d.depth = DEPTH;
	d.window = DEPTH / 2u;
	for (uint32_t k = 0; k < 2; k++)
		d.flow[k] = (struct mdbus_flow_desc){ .addr = htonl(0xef010101u), .port = 7001 };
	bed_open(&bed, &d, 2, FRAMES);
	bed.bus.dir->line[0].batch = READERS_BATCH;
	bed.bus.dir->line[0].low_watermark = 8;
	bed.bus.dir->nseat = plan->readers;
	for (uint32_t i = 0; i < plan->readers; i++) {
		if (i != 0)
			bed.bus.seat[i] = (struct mdbus_region){ mmap(NULL, bed.bus.seat[0].size, PROT_READ | PROT_WRITE,
			                                              MAP_SHARED | MAP_ANONYMOUS, -1, 0), bed.bus.seat[0].size };
		CHECK(bed.bus.seat[i].base != MAP_FAILED);
		bed.bus.dir->seat[i].state = MDBUS_LEASE_HELD;
	}
	line = (struct mdbus_line){ .bus = bed.bus, .ops = &ready_ops };
	line.bus.role = MDBUS_LEASE_LINE;
	if (mdbus_line_start(&line) != 0) {
		puts(line.error);
		exit(1);
	}
}

static void close_bus(void)
{
	mdbus_line_stop(&line);
	for (uint32_t i = 1; i < plan->readers; i++)
		munmap(bed.bus.seat[i].base, bed.bus.seat[i].size);
	bed_close(&bed);
	munmap(shared, sizeof(*shared));
}

static void collect(struct readers_result *out, const pid_t *pid)
{
	int status;

	for (uint32_t i = 0; i < plan->readers; i++) {
		CHECK(waitpid(pid[i], &status, 0) == pid[i] && status == 0);
		CHECK(shared->reader[i].done);
		out->delivered += shared->reader[i].delivered;
		out->lost += shared->reader[i].lost;
		out->overruns += shared->reader[i].overruns;
		out->torn += shared->reader[i].torn;
		out->miscounted += shared->reader[i].miscounted;
		out->kept_up += shared->reader[i].lost == 0;
		out->miscounted += shared->reader[i].delivered + shared->reader[i].lost != total;
	}
}

void readers_run(const struct readers_plan *p, struct readers_result *out)
{
	pid_t pid[READERS_MAX];

	plan = p;
	total = (uint64_t)plan->batches * READERS_BATCH;
	*out = (struct readers_result){ .published = total };
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(shared != MAP_FAILED && plan->readers <= READERS_MAX);
	open_bus();
	fflush(stdout);
	for (uint32_t i = 0; i < plan->readers; i++) {
		pid[i] = fork();
		CHECK(pid[i] >= 0);
		if (pid[i] == 0)
			be_reader(i);
	}
	if (plan->pin)
		plan->pin(0);
	while (__atomic_load_n(&shared->attached, __ATOMIC_SEQ_CST) < plan->readers)
		usleep(500);
	if (plan->claim)
		plan->claim();
	out->ns = publish_all();
	if (plan->rest)
		plan->rest();
	collect(out, pid);
	close_bus();
}
