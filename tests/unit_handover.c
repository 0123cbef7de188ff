/* SPDX-License-Identifier: Apache-2.0
 *
 * Packets handed over between lines, step by step: who looks at them when the other side is there, has no room, does not move, has
 * died or lies; what becomes of the frames; and that every message is published once, in order and whole, whatever happens.
 *
 * mutants: handed_forgotten tail_believed floor_unsaid entry_believed floor_ignored
 * mutants: handed_not_taken_back freed_at_once nobody_woken
 */
#include <sys/wait.h>
#include <unistd.h>
#include "../bus/handover.h"
#include "../bus/shape.h"
#include "line_bed.h"

#define SIZE   64u
#define FRAMES 512u
#define GAP_NS UINT64_C(400000000) /* of which the giver is patient for a quarter */

static struct bed bed;
static struct mdbus_line giver, taker, successor;
static struct mdbus_sub *sub;
static uint64_t expected;
static const char *doing = "";

static void begin(const char *what)
{
	doing = what;
	line_bed_open(&bed, 2, FRAMES, 1, SIZE, GAP_NS);
	source = (struct bed_source){ .next = 1, .end = 1, .port = port_of_share(1, 2) };
	expected = 1;
	sub = mdbus_sub_over(&bed.bus, NULL);
	line_bed_up(&bed, &giver, 0);
}

static void end(void)
{
	mdbus_sub_close(sub);
	bed_close(&bed);
}

/* So many packets more come in on line 0. */
static void receive(struct mdbus_line *l, uint32_t n)
{
	source.end += n;
	while (source.next < source.end)
		CHECK(mdbus_line_round(l) > 0);
	frames_add_up(l);
}

/* All messages from the last one read up to `to`, and no more. */
static void read_to(uint64_t to)
{
	struct mdbus_record r;

	while (expected < to) {
		if (!mdbus_sub_next(sub, &r) || r.kind != MDBUS_RECORD_DATA || r.seq != expected || !is_message(&r)) {
			printf("%s: expected message %llu up to %llu\n", doing, (unsigned long long)expected,
			       (unsigned long long)to);
			exit(1);
		}
		expected++;
	}
	if (mdbus_sub_next(sub, &r)) {
		printf("%s: a record of kind %u, number %llu, before it is due\n", doing, r.kind, (unsigned long long)r.seq);
		exit(1);
	}
}

static uint64_t counted(const uint64_t *count)
{
	return mdbus_load_relaxed(count);
}

/* The other line publishes; frames are lent until then, and no longer. */
static void test_handed(void)
{
	begin(__func__);
	line_bed_up(&bed, &taker, 1);
	CHECK(mdbus_line_round(&giver) == 0);
	receive(&giver, 10);
	read_to(1);
	CHECK_U64(giver.stock.held, 10);
	CHECK(mdbus_line_round(&taker) == 10);
	read_to(11);
	CHECK(mdbus_line_round(&giver) == 0);
	CHECK_U64(giver.stock.held, 0);
	frames_add_up(&taker);
	for (uint32_t i = 0; i < 50; i++) {
		receive(&giver, 7);
		CHECK(mdbus_line_round(&taker) == 7);
		read_to(source.end);
	}
	CHECK_U64(counted(&giver.arena->count.handed), source.end - 1u);
	CHECK_U64(counted(&giver.channel[0].mine->count.won), 0);
	CHECK_U64(counted(&taker.channel[0].mine->count.won), source.end - 1u);
	CHECK_U64(counted(&giver.arena->count.handed_back), 0);
	mdbus_line_stop(&taker);
	mdbus_line_stop(&giver);
	end();
}

/* No process is there, or it goes, in good order or not: the giver does it all. */
static void test_down(void)
{
	begin(__func__);
	receive(&giver, 5);
	read_to(6);
	CHECK_U64(counted(&giver.arena->count.handed_down), 5);
	line_bed_up(&bed, &taker, 1);
	CHECK(mdbus_line_round(&giver) == 0);
	receive(&giver, 20);
	read_to(6);
	line_bed_down(&bed, 1);
	CHECK(mdbus_line_round(&giver) == 0);
	read_to(26);
	CHECK_U64(counted(&giver.arena->count.handed_back), 20);
	frames_add_up(&giver);
	line_bed_bury(&taker);
	line_bed_up(&bed, &taker, 1); /* and a new one goes on behind what was taken back */
	receive(&giver, 3);
	CHECK(mdbus_line_round(&taker) == 3);
	read_to(29);
	receive(&giver, 4);
	mdbus_line_stop(&taker); /* it says so itself, before mdbusd does */
	CHECK(mdbus_line_round(&giver) == 0);
	read_to(33);
	mdbus_line_stop(&giver);
	end();
}

/* Killed after it has published half of a batch: the giver does all of it again, and that is published once. */
static void test_killed_in_a_batch(void)
{
	static struct mdbus_rx rx[64];

	begin(__func__);
	line_bed_up(&bed, &taker, 1);
	CHECK(mdbus_line_round(&giver) == 0);
	receive(&giver, 20);
	CHECK(taker.ops->poll(taker.backend, rx, 64) == 20);
	for (uint32_t i = 0; i < 10; i++) {
		struct mdbus_chunk chunk = {
			.off = taker.arena->frames_off + (uint64_t)rx[i].frame * taker.arena->frame_size + rx[i].off,
			.bytes = taker.frames + (uint64_t)rx[i].frame * taker.arena->frame_size + rx[i].off,
			.len = rx[i].len,
		};

		CHECK(mdbus_channel_packet(&taker.channel[0], &chunk, mdbus_clock_ns()) == MDBUS_DECODE_OK);
	}
	read_to(11);
	CHECK(mdbus_line_round(&giver) == 0);
	CHECK_U64(giver.stock.held, 20); /* nothing has come back */
	line_bed_down(&bed, 1);
	CHECK(mdbus_line_round(&giver) == 0);
	read_to(21);
	CHECK_U64(counted(&giver.channel[0].mine->count.duplicates), 10);
	mdbus_line_stop(&taker);
	mdbus_line_stop(&giver);
	end();
}

/* A ring that is full: all that is in it comes first; then the other one is given more once it knows. */
static void test_full(void)
{
	begin(__func__);
	line_bed_up(&bed, &taker, 1);
	CHECK(mdbus_line_round(&giver) == 0);
	receive(&giver, SIZE);
	read_to(1);
	receive(&giver, 3);
	read_to(SIZE + 4u);
	CHECK_U64(counted(&giver.arena->count.handed_back), SIZE);
	CHECK_U64(counted(&giver.arena->count.handed_full), 3);
	receive(&giver, 2);
	read_to(SIZE + 6u);
	CHECK(mdbus_line_round(&taker) == 0);
	receive(&giver, 5);
	read_to(SIZE + 6u);
	CHECK(mdbus_line_round(&taker) == 5);
	read_to(SIZE + 11u);
	mdbus_line_stop(&taker);
	mdbus_line_stop(&giver);
	end();
}

/* One that is stopped: what it has is done for it in time, its frames are used again, and what it reads then it throws away. */
static void test_stopped(void)
{
	struct mdbus_taker t;
	struct mdbus_hand_entry e;
	uint8_t bytes[2048], want[256];
	uint32_t wrong = 0, len = bed_mold_message(1, 0, want);
	uint64_t start = mdbus_clock_ns();

	begin(__func__);
	line_bed_up(&bed, &taker, 1);
	CHECK(mdbus_line_round(&giver) == 0);
	CHECK(mdbus_taker_init(&t, &taker.bus, 1, 0) == 0);
	receive(&giver, 20);
	CHECK(mdbus_taker_look(&t) == 20);
	CHECK(mdbus_taker_copy(&t, 0, &e, bytes) && mdbus_taker_still(&t) == 0);
	CHECK(e.len == 20u + len && memcmp(bytes + 20, want, len) == 0);
	while (counted(&giver.arena->count.handed_back) == 0)
		CHECK(mdbus_line_round(&giver) == 0 && mdbus_clock_ns() - start < 50u * GAP_NS);
	CHECK(mdbus_clock_ns() - start >= GAP_NS / 4u);
	read_to(21);
	CHECK(mdbus_taker_still(&t) == 20); /* whatever it has copied by now is void */
	receive(&giver, 3u * FRAMES / 2u);  /* by itself, into the same frames */
	read_to(source.end);
	for (uint64_t n = 0; n < 20; n++)
		wrong += mdbus_taker_copy(&t, n, &e, bytes) && memcmp(bytes + 20, want, len) != 0;
	CHECK(wrong > 0); /* it would have published these */
	CHECK(mdbus_taker_look(&t) == 0 && t.next == 20);
	CHECK(mdbus_line_round(&taker) == 0);
	receive(&giver, 4);
	CHECK(mdbus_line_round(&taker) == 4);
	read_to(source.end);
	mdbus_line_stop(&taker);
	mdbus_line_stop(&giver);
	end();
}

/* The giver dies: what it has handed over is done, and no successor uses those frames before. */
static void test_successor(void)
{
	begin(__func__);
	line_bed_up(&bed, &taker, 1);
	CHECK(mdbus_line_round(&giver) == 0);
	receive(&giver, 30);
	line_bed_up(&bed, &successor, 0);
	CHECK_U64(successor.stock.held, 30);
	source.end += FRAMES; /* into all frames that it thinks are free */
	source.next += FRAMES - 30u;
	source.end = source.next + 1u;
	for (uint32_t f = 0, frame; f < FRAMES - 30u; f++) {
		CHECK(mdbus_frames_get(&successor.stock.pool, &frame));
		memset(successor.frames + (uint64_t)frame * successor.arena->frame_size, 0xee, successor.arena->frame_size);
	}
	CHECK(successor.stock.pool.nfree == 0);
	CHECK(mdbus_line_round(&taker) == 30);
	read_to(31);
	CHECK(mdbus_line_round(&successor) == 0);
	CHECK(mdbus_line_round(&successor) == 1); /* they have come back */
	CHECK_U64(successor.stock.pool.nfree, 29);
	mdbus_line_stop(&successor);
	mdbus_line_stop(&giver);
	mdbus_line_stop(&taker);
	end();
}

/* Both die, at different times: what was shown is there for whoever comes first. */
static void test_both_dead(void)
{
	begin(__func__);
	line_bed_up(&bed, &taker, 1);
	CHECK(mdbus_line_round(&giver) == 0);
	receive(&giver, 10);
	line_bed_down(&bed, 0);
	line_bed_down(&bed, 1);
	line_bed_up(&bed, &successor, 1); /* the taker first: it drains the ring of a dead giver */
	CHECK(mdbus_line_round(&successor) == 10);
	read_to(11);
	mdbus_line_stop(&giver);
	line_bed_up(&bed, &giver, 0);
	CHECK_U64(giver.stock.held, 0);
	receive(&giver, 10);
	line_bed_down(&bed, 0);
	line_bed_down(&bed, 1);
	mdbus_line_stop(&giver);
	line_bed_up(&bed, &giver, 0); /* the giver first */
	CHECK_U64(giver.stock.held, 10);
	CHECK(mdbus_line_round(&giver) == 0);
	read_to(21);
	frames_add_up(&giver);
	mdbus_line_stop(&giver);
	mdbus_line_stop(&successor);
	mdbus_line_stop(&taker);
	end();
}

/* A giver that lies, in each word of an entry and in its head: nothing outside its arena is read, and the rest goes on. */
static void test_lying_giver(void)
{
	begin(__func__);
	line_bed_up(&bed, &taker, 1);
	CHECK(mdbus_line_round(&giver) == 0);
	for (uint32_t i = 0; i < 8; i++)
		CHECK(mdbus_line_round(&taker) == 0);
	receive(&giver, 6);
	struct mdbus_hand_ring *ring = mdbus_shape_hand_ring(&giver.bus, 0, 1);

	ring->entry[0].frame = UINT32_MAX - 1u;
	ring->entry[1].off = 0x7fffffff;
	ring->entry[2].len = 0x7fffffff;
	ring->entry[3].len = giver.arena->frame_size;
	ring->entry[4].channel = 77;
	CHECK(mdbus_line_round(&taker) == 1);
	CHECK_U64(counted(&taker.arena->taker.from[0].tail), 6);
	frames_add_up(&taker);
	mdbus_store_relaxed(&ring->head, UINT64_C(1) << 40);
	CHECK(mdbus_line_round(&taker) == 0);
	mdbus_store_relaxed(&ring->head, UINT64_C(0));
	CHECK(mdbus_line_round(&taker) == 0);
	taker.ops->stats(taker.backend);
	CHECK(counted(&taker.arena->count.handed_bad) >= 6);
	mdbus_line_stop(&taker);
	mdbus_line_stop(&giver);
	end();
}

/* A taker that lies about how far it is costs only what it was handed, and is handed no more. */
static void test_lying_taker(void)
{
	static const int64_t lie[] = { 1000000, -3, -1000000 };

	for (uint32_t i = 0; i < sizeof(lie) / sizeof(lie[0]); i++) {
		begin(__func__);
		line_bed_up(&bed, &taker, 1);
		CHECK(mdbus_line_round(&giver) == 0);
		receive(&giver, 10);
		CHECK(mdbus_line_round(&taker) == 10);
		CHECK(mdbus_line_round(&giver) == 0);
		receive(&giver, 10);
		taker.arena->taker.from[0].tail += (uint64_t)lie[i];
		CHECK(mdbus_line_round(&giver) == 0);
		frames_add_up(&giver);
		read_to(21); /* the giver has done it */
		receive(&giver, 10);
		read_to(31);
		CHECK_U64(counted(&giver.arena->count.handed), 20);
		CHECK_U64(counted(&giver.arena->count.handed_bad), 1);
		mdbus_line_stop(&taker);
		line_bed_down(&bed, 1);
		line_bed_up(&bed, &taker, 1); /* another process is believed again */
		CHECK(mdbus_line_round(&giver) == 0);
		receive(&giver, 10);
		CHECK(mdbus_line_round(&taker) == 10);
		read_to(41);
		mdbus_line_stop(&taker);
		mdbus_line_stop(&giver);
		end();
	}
}

/* Entries that were damaged while no giver had them are passed over by its successor. */
static void test_damaged_ring(void)
{
	begin(__func__);
	line_bed_up(&bed, &taker, 1);
	CHECK(mdbus_line_round(&giver) == 0);
	receive(&giver, 6);
	struct mdbus_hand_ring *ring = mdbus_shape_hand_ring(&giver.bus, 0, 1);

	ring->entry[3].frame = 1u << 30;
	ring->entry[4].channel = 9;
	ring->entry[5].off = 0;
	line_bed_down(&bed, 1);
	line_bed_up(&bed, &successor, 0);
	CHECK_U64(successor.stock.held, 3);
	CHECK(mdbus_line_round(&successor) == 0);
	read_to(4);
	frames_add_up(&successor);
	mdbus_line_stop(&successor);
	ring->floor = 1000; /* beyond head: both go on from there */
	line_bed_up(&bed, &successor, 0);
	mdbus_line_stop(&taker);
	line_bed_up(&bed, &taker, 1);
	CHECK(mdbus_line_round(&successor) == 0);
	receive(&successor, 3);
	CHECK(mdbus_line_round(&taker) == 3);
	CHECK_U64(taker.arena->taker.from[0].tail, 1003);
	mdbus_line_stop(&successor);
	mdbus_line_stop(&giver);
	mdbus_line_stop(&taker);
	end();
}

/* Two queues of one line hand over to one process: it looks at both rings, and one's death is nothing to the other. */
static void test_two_givers(void)
{
	static struct mdbus_line both;

	doing = __func__;
	line_bed_open(&bed, 3, FRAMES, 2, SIZE, GAP_NS);
	for (uint32_t k = 0; k < 2; k++)
		sources[k] = (struct bed_source){ .next = 1, .end = 1, .port = port_of_share(1, 2) };
	expected = 1;
	sub = mdbus_sub_over(&bed.bus, NULL);
	line_bed_up(&bed, &giver, 0);
	line_bed_up(&bed, &successor, 1);
	line_bed_up(&bed, &both, 2);
	CHECK(mdbus_line_round(&giver) == 0 && mdbus_line_round(&successor) == 0);
	sources[0].end = sources[1].end = 11; /* of each the same, as if the flow had moved */
	CHECK(mdbus_line_round(&giver) == 10 && mdbus_line_round(&successor) == 10);
	CHECK(mdbus_line_round(&both) == 20);
	read_to(11);
	CHECK_U64(counted(&both.channel[0].mine->count.duplicates), 10);
	sources[0].end = sources[1].end = 21;
	CHECK(mdbus_line_round(&giver) == 10);
	line_bed_down(&bed, 0);
	line_bed_bury(&giver);
	CHECK(mdbus_line_round(&both) == 10);
	read_to(21);
	CHECK(mdbus_line_round(&successor) == 10);
	CHECK_U64(successor.stock.held, 10);
	line_bed_up(&bed, &giver, 0);
	CHECK_U64(giver.stock.held, 0);
	CHECK(mdbus_line_round(&both) == 10);
	CHECK(mdbus_line_round(&successor) == 0);
	CHECK_U64(successor.stock.held, 0);
	mdbus_line_stop(&both);
	mdbus_line_stop(&successor);
	mdbus_line_stop(&giver);
	end();
}

/* One that sleeps is woken, whether it looks at one ring or at several; it would sleep for longer than this test may take. */
static void test_woken(void)
{
	for (uint32_t n = 1; n <= 2; n++) {
		struct mdbus_taker t[2];
		pid_t child;

		begin(__func__);
		line_bed_up(&bed, &taker, 1);
		CHECK(mdbus_taker_init(&t[0], &taker.bus, 1, 0) == 0 && mdbus_taker_init(&t[1], &taker.bus, 1, 0) == 0);
		child = fork();
		CHECK(child >= 0);
		if (child == 0) {
			alarm(15);
			mdbus_taker_wait(&taker.bus, t, n, 900u * 1000000u);
			_exit(0);
		}
		while (mdbus_load_acquire(&taker.arena->taker.sleeping) == 0)
			CHECK(waitpid(child, NULL, WNOHANG) == 0);
		usleep(20000); /* mostly it sleeps by now; if not, it has to notice before it does */
		CHECK(waitpid(child, NULL, WNOHANG) == 0);
		CHECK(mdbus_line_round(&giver) == 0);
		receive(&giver, 1);
		CHECK(mdbus_line_round(&giver) == 0);
		int status = -1;

		CHECK(waitpid(child, &status, 0) == child && status == 0);
		mdbus_line_stop(&taker);
		mdbus_line_stop(&giver);
		end();
	}
}

int main(void)
{
	test_two_givers();
	test_woken();
	test_handed();
	test_down();
	test_killed_in_a_batch();
	test_full();
	test_stopped();
	test_successor();
	test_both_dead();
	test_lying_giver();
	test_lying_taker();
	test_damaged_ring();
	printf("every packet was looked at\n");
	return 0;
}
