/* SPDX-License-Identifier: Apache-2.0
 *
 * unit_backend_pcap - a capture file as a line: every packet once, in order, no earlier than its time.
 *
 * timeout: 60
 */
#include "backend_fake.h"

#include <errno.h>
#include <pcap/pcap.h>
#include <unistd.h>

static const struct mdbus_backend_ops *const replay = &mdbus_backend_pcap;
static char path[32]; /* of a file in memory: nothing is left behind */

static uint32_t length_of(uint32_t number)
{
	return 60 + number * 37 % 1455;
}

/* n packets, gap_us apart; number `too_long` is longer than a frame of 2048. */
static void make_file(int link, uint32_t n, uint32_t gap_us, uint32_t too_long)
{
	pcap_t *p = pcap_open_dead(link, 65535);
	pcap_dumper_t *d = pcap_dump_open(p, path);

	CHECK(d != NULL);
	for (uint32_t i = 0; i < n; i++) {
		static uint8_t bytes[4000];
		uint32_t len = i == too_long ? 4000 : length_of(i);
		struct pcap_pkthdr h = { .caplen = len, .len = len };

		h.ts.tv_sec = 1600000000 + (time_t)i * gap_us / 1000000;
		h.ts.tv_usec = (suseconds_t)i * gap_us % 1000000;
		numbered_fill(bytes, len, i);
		pcap_dump((u_char *)d, &h, bytes);
	}
	pcap_dump_close(d);
	pcap_close(p);
}

static void new_fake(struct fake *f, uint32_t nframes, uint32_t speed_x1000)
{
	fake_arena(f, nframes, 2048);
	snprintf(f->line.file, sizeof(f->line.file), "%s", path);
	f->line.pcap_speed_x1000 = speed_x1000;
}

static void *open_line(struct fake *f, const char *expect)
{
	void *line = replay->open(&f->env);

	if (!line)
		printf("%s\n", f->env.error);
	CHECK(line != NULL);
	CHECK(strcmp(f->arena->backend, expect) == 0);
	return line;
}

/* All of it with 8 frames, some of which the reader holds for a while: the file waits. */
static void test_whole(void)
{
	struct mdbus_rx rx[8];
	uint32_t expect = 0;
	struct fake f;
	void *line;
	int n;

	make_file(DLT_EN10MB, 5000, 1000000, 77);
	new_fake(&f, 8, 0);
	line = open_line(&f, "pcap full speed");
	while ((n = replay->poll(line, rx, 8)) > 0) {
		struct mdbus_rx none;

		if (n == 8)
			CHECK(replay->poll(line, &none, 1) <= 0);
		for (int i = 0; i < n; i++) {
			expect += expect == 77;
			CHECK(rx[i].flow == -1 && rx[i].len == length_of(expect));
			CHECK(rx[i].wire_ns == (UINT64_C(1600000000) + expect) * 1000000000);
			CHECK(numbered_check(fake_bytes(&f, &rx[i]), rx[i].len) == expect++);
			mdbus_frames_put(&f.pool, rx[i].frame);
		}
		replay->refill(line);
	}
	CHECK(n == -ENODATA && expect == 5000);
	CHECK(replay->poll(line, rx, 8) == -ENODATA);
	CHECK(f.arena->count.bad_length == 1);
	replay->close(line);
	fake_check_all_free(&f);
	fake_free(&f);
}

/* 100 packets 2 ms apart, at twice the speed: none before its time. */
static void test_pace(void)
{
	uint64_t began = 0;
	uint32_t expect = 0;
	struct mdbus_rx rx;
	struct fake f;
	void *line;
	int n;

	make_file(DLT_EN10MB, 100, 2000, UINT32_MAX);
	new_fake(&f, 64, 2000);
	line = open_line(&f, "pcap 2x");
	began = mdbus_clock_ns();
	while ((n = replay->poll(line, &rx, 1)) >= 0) {
		if (n == 0) {
			replay->wait(line, 1000);
			continue;
		}
		CHECK(mdbus_clock_ns() - began >= expect * UINT64_C(1000000));
		CHECK(numbered_check(fake_bytes(&f, &rx), rx.len) == expect++);
		mdbus_frames_put(&f.pool, rx.frame);
	}
	CHECK(n == -ENODATA && expect == 100);
	replay->close(line);
	fake_free(&f);
}

static void expect_refused(struct fake *f, const char *word)
{
	CHECK(replay->open(&f->env) == NULL);
	if (!strstr(f->env.error, word))
		printf("\"%s\" does not say \"%s\"\n", f->env.error, word);
	CHECK(strstr(f->env.error, word) != NULL);
}

static void test_refused(void)
{
	struct mdbus_rx rx[8];
	struct fake f;
	void *line;
	int n;

	new_fake(&f, 16, 0);
	make_file(DLT_LINUX_SLL, 1, 0, UINT32_MAX);
	expect_refused(&f, "not captured on Ethernet");
	make_file(DLT_EN10MB, 100, 0, UINT32_MAX);
	CHECK(truncate(path, 3000) == 0);
	line = open_line(&f, "pcap full speed");
	while ((n = replay->poll(line, rx, 8)) > 0) {
		for (int i = 0; i < n; i++)
			mdbus_frames_put(&f.pool, rx[i].frame);
	}
	CHECK(n < 0 && n != -ENODATA); /* cut short is not the end */
	replay->close(line);
	CHECK(truncate(path, 10) == 0);
	expect_refused(&f, path);
	f.line.file[0] = '\0';
	expect_refused(&f, "needs a file");
	snprintf(f.line.file, sizeof(f.line.file), "/nowhere/at-all.pcap");
	expect_refused(&f, "/nowhere/at-all.pcap: No such file");
	fake_check_all_free(&f);
	fake_free(&f);
}

int main(void)
{
	int fd = memfd_create("capture", MFD_CLOEXEC);

	CHECK(fd >= 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	test_whole();
	test_pace();
	test_refused();
	return 0;
}
