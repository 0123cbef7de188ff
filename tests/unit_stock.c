/* SPDX-License-Identifier: Apache-2.0
 *
 * The frames of a line: each in one place, counted where it is; low ones open the reserve, then sweep the oldest records, as
 * few as will do and never one that a gap keeps back; and all of it goes back when there are enough again.
 *
 * mutants: skip_sweep sweep_blind
 */
#include <stdlib.h>
#include <string.h>
#include "../bus/arena.h"
#include "../ingest/stock.h"
#include "bus_bed.h"
#include "guard.h"

#define FRAMES  64u
#define RESERVE 16u
#define LOW     8u

static struct bed bed;
static struct mdbus_stock stock;
static struct mdbus_arena_hdr *arena;
static uint32_t lent[FRAMES], nlent; /* received and not looked at, as the backend would have them */
static uint64_t now = 1000000000;

/* Every frame is in one place, and the counters say which. */
static void conserved(void)
{
	uint8_t seen[FRAMES] = { 0 };
	uint32_t held = 0;

	for (uint32_t i = 0; i < stock.pool.nfree; i++)
		seen[stock.pool.stack[i]]++;
	for (uint32_t i = 0; i < stock.reserve.nfree; i++)
		seen[stock.reserve.stack[i]]++;
	for (uint32_t i = 0; i < nlent; i++)
		seen[lent[i]]++;
	for (uint32_t f = 0; f < FRAMES; f++) {
		held += bed.line[0].holds.refs[f] != 0;
		CHECK(seen[f] + (bed.line[0].holds.refs[f] != 0) == 1);
	}
	CHECK(held == stock.held);
	CHECK(arena->count.frames_held == held && arena->count.frames_free == FRAMES - held);
	CHECK(arena->count.frames_pool == stock.pool.nfree && arena->count.frames_reserve == stock.reserve.nfree);
	CHECK(arena->count.frames_low_now == stock.low);
}

static void look(void)
{
	mdbus_stock_look(&stock, nlent);
	conserved();
}

/* A message that is too long for its slot. */
static void publish(uint64_t seq)
{
	uint8_t packet[20 + 2 + 300] = "TESTSESS01";
	uint32_t frame = 0;

	CHECK(mdbus_frames_get(&stock.pool, &frame));
	for (int i = 0; i < 8; i++)
		packet[10 + i] = (uint8_t)(seq >> (56 - 8 * i));
	packet[19] = 1;
	packet[20] = 300 >> 8;
	packet[21] = (uint8_t)300;
	uint64_t off = arena->frames_off + (uint64_t)frame * arena->frame_size + 256u;

	memcpy((uint8_t *)arena + off, packet, sizeof(packet));
	struct mdbus_chunk chunk = { off, (uint8_t *)arena + off, sizeof(packet), now };

	CHECK(mdbus_channel_packet(&bed.line[0].channel, &chunk, now) == MDBUS_DECODE_OK);
	mdbus_stock_settle(&stock, frame);
	(void)mdbus_channel_tick(&bed.line[0].channel, now);
}

static void receive(uint32_t n)
{
	while (n-- > 0)
		CHECK(mdbus_frames_get(&stock.pool, &lent[nlent++]));
}

static void give_back(void)
{
	while (nlent > 0)
		mdbus_frames_put(&stock.pool, lent[--nlent]);
}

static void start(void)
{
	struct mdbus_line_desc line = { .reserve_frames = RESERVE, .low_watermark = LOW };

	CHECK(mdbus_stock_init(&stock, arena, &bed.line[0].holds, &line) == 0);
	stock.ring = bed.line[0].rings;
	stock.channel = &bed.line[0].channel;
}

static void open_bed(void)
{
	struct mdbus_channel_desc c = bed_channel_default("moldudp64", 2); /* the other line is silent: gaps wait for it */

	bed_open(&bed, &c, 2, FRAMES);
	arena = bed.bus.arena[0].base;
	nlent = 0;
	start();
	mdbus_stock_look(&stock, 0);
}

static void test_reserve(void)
{
	open_bed();
	CHECK(stock.pool.nfree == FRAMES - RESERVE && stock.reserve.nfree == RESERVE);
	for (uint64_t seq = 1; seq <= 20; seq++)
		publish(seq);
	receive(20);
	look(); /* 64 - 16 aside - 20 held - 20 waiting = 8 */
	CHECK(stock.held == 20 && !stock.low && stock.reserve.nfree == RESERVE);
	receive(1);
	look();
	CHECK(stock.low && stock.reserve.nfree < RESERVE && arena->count.frames_low == 1);
	CHECK(stock.held == 20 && arena->count.frames_swept == 0);
}

/* Low in spite of the reserve: the oldest go, and no more than are wanting. */
static void test_sweep(void)
{
	uint32_t tail = (uint32_t)bed.line[0].holds.tail;

	receive(stock.pool.nfree);
	uint32_t aside = stock.reserve.nfree, were_free = FRAMES - aside - stock.held - nlent;

	CHECK(were_free == 0);
	look();
	CHECK(stock.held == 20 - LOW && arena->count.frames_swept == LOW && arena->count.frames_expired == LOW);
	CHECK(bed.line[0].holds.tail == tail + LOW && stock.pool.nfree == LOW);
	look();
	CHECK(arena->count.frames_swept == LOW); /* enough for now */
	give_back();
	look();
	CHECK(!stock.low && stock.reserve.nfree == RESERVE && arena->count.frames_low == 1);
	bed_close(&bed);
	mdbus_stock_free(&stock);
}

/* What lies beyond an open gap has not been read by anybody. */
static void test_gap(void)
{
	open_bed();
	for (uint64_t seq = 1; seq <= 4; seq++)
		publish(seq);
	for (uint64_t seq = 6; seq <= 15; seq++)
		publish(seq);
	receive(stock.pool.nfree);
	look();
	CHECK(stock.low && stock.reserve.nfree == 0 && stock.held == 14); /* the reserve was enough */
	receive(stock.pool.nfree);
	look();
	CHECK(arena->count.frames_swept == 4 && stock.held == 10);
	look();
	CHECK(arena->count.frames_swept == 4 && stock.held == 10);

	/* a successor finds the same frames in use, and keeps as many aside as there are to be */
	mdbus_holds_free(&bed.line[0].holds);
	CHECK(mdbus_holds_init(&bed.line[0].holds, arena, 1024) == 0);
	CHECK(mdbus_arena_scan(&bed.bus, 0, &bed.line[0].holds) == 10);
	mdbus_stock_free(&stock);
	nlent = 0;
	start();
	look();
	CHECK(stock.held == 10 && stock.reserve.nfree == RESERVE && !stock.low);
	bed_close(&bed);
	mdbus_stock_free(&stock);
}

/* Half of what is not aside at most is held, as ever. */
static void test_half(void)
{
	open_bed();
	for (uint64_t seq = 1; seq <= 200; seq++) {
		publish(seq);
		look();
		CHECK(stock.held <= (FRAMES - RESERVE) / 2u);
	}
	CHECK(!stock.low && arena->count.frames_swept == 0 && arena->count.frames_expired == 200 - (FRAMES - RESERVE) / 2u);
	bed_close(&bed);
	mdbus_stock_free(&stock);
}

int main(void)
{
	test_reserve();
	test_sweep();
	test_gap();
	test_half();
	return 0;
}
