/* SPDX-License-Identifier: Apache-2.0
 * mutants: key_claim_is_seen younger_is_old
 *
 * unit_keyed.c - a channel without an order: each key once, though its lines are killed at any moment.
 *
 * Two processes publish the same keys, each in its own order; each is killed at random moments, many times, and started again a
 * little before where it was.  A third reads.  Every key must arrive exactly once.  Also if a line looks at the clock, is
 * stopped, and goes on with that time when the other one has brought its keys.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../bus/arena.h"
#include "bus_bed.h"

#define KEYS   60000u
#define BACK   64u  /* how far a restarted line goes back */
#define KILLS  300
#define NLINES 2u

static struct bed bed;
static uint32_t *progress; /* by line: keys sent, shared */
static uint8_t seen[KEYS];

static uint32_t build(uint32_t key, uint8_t *p)
{
	memset(p, 0, 36);
	p[0] = 1;
	p[1] = 36;
	memcpy(p + 4, &key, 4);
	for (uint32_t i = 8; i < 36; i++)
		p[i] = (uint8_t)(key * 31u + i);
	return 36;
}

/* Line k sends the keys in blocks of eight, each line its blocks in another order. */
static void run_line(uint32_t k)
{
	uint8_t bytes[64];

	for (uint32_t i = progress[k] > BACK ? progress[k] - BACK : 0; i < KEYS; i++) {
		uint32_t key = (i & ~7u) | ((i + k * 3u) & 7u);

		bed_packet(&bed, k, bytes, build(key, bytes), mdbus_clock_ns());
		mdbus_store_relaxed(&progress[k], i + 1u);
	}
	_exit(0);
}

static pid_t start_line(uint32_t k)
{
	struct bed_line *l = &bed.line[k];
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	mdbus_holds_free(&l->holds);
	if (mdbus_holds_init(&l->holds, bed.bus.arena[k].base, 65536) != 0 ||
	    mdbus_channel_init(&l->channel, &l->bus, 0, k, &l->holds) != 0)
		_exit(99);
	mdbus_arena_scan(&l->bus, k, &l->holds);
	l->rings[0] = &l->channel.ring;
	run_line(k);
	_exit(0);
}

static uint64_t drain(struct mdbus_sub *s)
{
	struct mdbus_record r;
	uint8_t buf[64], body[64];
	uint32_t key;
	uint64_t n = 0;

	while (mdbus_sub_read(s, &r, buf, sizeof(buf))) {
		if (r.kind != MDBUS_RECORD_DATA || r.len != 36) {
			printf("record of kind %u, %u bytes, count %lu\n", r.kind, r.len, (unsigned long)r.count);
			exit(1);
		}
		memcpy(&key, buf + 4, 4);
		if (key >= KEYS || build(key, body) != 36 || memcmp(buf, body, 36) != 0) {
			printf("torn record\n");
			exit(1);
		}
		if (seen[key]++) {
			printf("key %u twice\n", key);
			exit(1);
		}
		n++;
	}
	return n;
}

/* A line that died between tying a key to a position and publishing it: the other line's copy must be published. */
static void claimed_by_the_dead(struct mdbus_channel_desc d)
{
	struct bed *b = &bed;
	struct mdbus_record r;
	uint8_t bytes[64];
	uint32_t key = 7;
	uint64_t pos, evicted = 0;
	bool done;

	bed_open(b, &d, NLINES, 64);
	struct mdbus_sub *s = mdbus_sub_over(&b->bus, NULL);

	key = 6;
	bed_packet(b, 1, bytes, build(key, bytes), mdbus_clock_ns());
	key = 7;
	mdbus_keys_claim(&b->line[0].channel.keys, mdbus_key_hash((const uint8_t *)&key, 4), d.depth + 1u, mdbus_clock_ns(),
	                 &pos, &done, &evicted);
	for (int i = 0; i < 2; i++)
		bed_packet(b, 1, bytes, build(key, bytes), mdbus_clock_ns());
	for (uint64_t seq = 1; seq <= 2; seq++) {
		if (!mdbus_sub_next(s, &r) || r.seq != seq || r.data[4] != 5 + seq) {
			printf("key %lu, claimed by a dead line, is lost\n", (unsigned long)seq + 5);
			exit(1);
		}
	}
	if (mdbus_sub_next(s, &r)) {
		printf("a key claimed by a dead line comes twice\n");
		exit(1);
	}
	mdbus_sub_close(s);
	bed_close(b);
}

/* A line that is stopped between its clock and its packets: what the other one has inserted meanwhile is not old, but newer. */
static void late_with_an_old_time(struct mdbus_channel_desc d)
{
	struct bed *b = &bed;
	uint8_t bytes[64];
	uint64_t then = mdbus_clock_ns();

	d.key_age_ns = 1000000000u;
	bed_open(b, &d, NLINES, 64);
	struct mdbus_sub *s = mdbus_sub_over(&b->bus, NULL);

	for (uint32_t key = 0; key < 16; key++)
		bed_packet(b, 1, bytes, build(key, bytes), then + d.key_age_ns / 2u);
	for (uint32_t key = 0; key < 16; key++)
		bed_packet(b, 0, bytes, build(key, bytes), then);
	drain(s);
	memset(seen, 0, sizeof(seen));
	mdbus_sub_close(s);
	bed_close(b);
}

int main(void)
{
	struct mdbus_channel_desc d = bed_channel_default("optiq_key", NLINES);
	pid_t pid[NLINES];
	uint64_t n = 0, kills = 0;

	d.ordered = 0;
	d.depth = 65536;
	d.window = 32768;
	d.key_window = 8u * KEYS; /* no bucket may overflow: an evicted key is new again */
	claimed_by_the_dead(d);
	late_with_an_old_time(d);
	bed_open(&bed, &d, NLINES, 1024);
	progress = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct mdbus_sub *s = mdbus_sub_over(&bed.bus, NULL);

	srand(1);
	for (uint32_t k = 0; k < NLINES; k++)
		pid[k] = start_line(k);
	while (pid[0] || pid[1]) {
		uint32_t k = (uint32_t)rand() % NLINES;
		int status;

		n += drain(s);
		if (pid[k] == 0)
			continue;
		usleep((useconds_t)(rand() % 200));
		if (kills < KILLS) {
			kill(pid[k], SIGKILL);
			kills++;
		}
		waitpid(pid[k], &status, 0);
		if (WIFSIGNALED(status)) {
			mdbus_line_reclaim(&bed.bus, k);
			pid[k] = start_line(k);
		} else {
			pid[k] = 0;
		}
	}
	n += drain(s);
	mdbus_sub_close(s);
	bed_close(&bed);
	if (n != KEYS) {
		printf("%lu of %u keys delivered after %lu kills\n", (unsigned long)n, KEYS, (unsigned long)kills);
		return 1;
	}
	printf("%u keys, each once, through %lu kills\n", KEYS, (unsigned long)kills);
	return 0;
}
