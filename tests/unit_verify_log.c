/* SPDX-License-Identifier: Apache-2.0
 *
 * unit_verify_log.c - the verifier takes a good log and good arguments, and refuses every other with a reason.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../subscribers/verify.h"
#include "../subscribers/verify_args.h"

static int failures;

#define CHECK(cond, ...)                                                  \
	do {                                                              \
		if (!(cond)) {                                            \
			fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #cond); \
			fprintf(stderr, __VA_ARGS__);                     \
			fputc('\n', stderr);                              \
			failures++;                                       \
		}                                                         \
	} while (0)

/* ---- several streams ---------------------------------------------------------------------------------------- */

/* A capture of both lines: the same numbers in two streams, one channel. */
static void test_two_streams(void)
{
	static struct mdbus_feedlog_record rec[200];
	const uint32_t part_of[3] = { 0, 0, MDBUS_LOG_NO_PART };
	struct mdbus_log log = { .record = rec, .n = 200, .nlines = 2, .nstreams = 3 };
	struct mdbus_judge j = { .log = &log };
	struct mdbus_track t = { 0 };
	struct mdbus_verdict v;

	for (uint32_t i = 0; i < 200; i++) {
		uint64_t seq = i / 2u + 1u;
		bool lost = seq % 10u == 0 && (i % 2u == 0 || seq % 20u == 0);

		rec[i] = (struct mdbus_feedlog_record){ .seq = seq, .hash = seq * 77u, .len = 9, .epoch = 1,
			.stream = (uint16_t)(i % 2u), .line_mask = (uint8_t)(lost ? 0u : 1u << i % 2u), .time_ns = 1 };
		if (i % 2u == 1 && seq % 20u == 0)
			mdbus_track_gap(&t, 1, seq, 1);
		else if (i % 2u == 1)
			mdbus_track_message(&t, 1, seq, seq * 77u, 9);
	}
	CHECK(mdbus_log_index(&log, part_of, 1) == 0, "index");
	CHECK(mdbus_judge_channel(&j, &t, &log.part[0], &v) == 0, "judge");
	CHECK(v.sent == 100 && v.matched == 95 && v.gap_lost + v.edge_lost == 5 && v.pass, "two streams");
	mdbus_log_close(&log);
	rec[7].stream = 3;
	log = (struct mdbus_log){ .record = rec, .n = 200, .nlines = 2, .nstreams = 3 };
	CHECK(mdbus_log_index(&log, part_of, 1) < 0, "a stream the header does not have");
	mdbus_log_close(&log);
	mdbus_track_free(&t);
}

/* ---- files and arguments ---------------------------------------------------------------------------------------- */

static int open_bytes(const void *data, size_t len)
{
	char path[] = "/tmp/mdbus-unit-verify.XXXXXX", err[256] = "";
	int fd = mkstemp(path), rc;
	struct mdbus_log log;

	CHECK(fd >= 0 && write(fd, data, len) == (ssize_t)len, "temporary file");
	close(fd);
	rc = mdbus_log_open(&log, path, err, sizeof(err));
	CHECK((rc == 0) == (err[0] == 0), "a refusal gives a reason: %s", err);
	mdbus_log_close(&log);
	unlink(path);
	return rc;
}

static void test_log_files(void)
{
	struct {
		struct mdbus_feedlog_hdr hdr;
		struct mdbus_feedlog_record rec[2];
	} file = { .hdr = { .magic = MDBUS_FEEDLOG_MAGIC, .nlines = 2, .nstreams = 1 } };
	char err[256];
	struct mdbus_log log;

	CHECK(open_bytes(&file, sizeof(file)) == 0, "a good log");
	CHECK(open_bytes(&file, sizeof(file.hdr)) == 0, "an empty log");
	CHECK(open_bytes(&file, sizeof(file) - 1u) < 0, "cut inside a record");
	CHECK(open_bytes(&file, 7) < 0, "cut inside the header");
	file.hdr.magic[0] = 'X';
	CHECK(open_bytes(&file, sizeof(file)) < 0, "another magic");
	CHECK(mdbus_log_open(&log, "/nonexistent/log", err, sizeof(err)) < 0, "no file");
}

static uint32_t lookup(const void *of, const char *name, size_t len)
{
	(void)of;
	return len == 1 && *name >= 'A' && *name <= 'C' ? (uint32_t)(*name - 'A') : UINT32_MAX;
}

static void test_arguments(void)
{
	static const char *const wrong_down[] = { "", "A", "A:", "A:1", "A:2:1", "Z:1:2", ":1:2", "A:1:2x", "A:-1:2", "8:1:2" };
	static const char *const wrong_streams[] = { "", "A", "A=", "A=1,", "Z=1", "A=4", "A=1+", "A=x", "A=1;B=2", ",A=1" };
	struct mdbus_down d;
	uint32_t part[4];
	bool set[3] = { false };
	char err[256];

	CHECK(mdbus_args_down("B:5:7", lookup, NULL, &d, err, sizeof(err)) && d.line == 1 && d.t0_ns == 5 && d.t1_ns == 7,
	      "a name");
	CHECK(mdbus_args_down("3:5:", lookup, NULL, &d, err, sizeof(err)) && d.line == 3 && d.t1_ns == UINT64_MAX, "for good");
	for (size_t i = 0; i < sizeof(wrong_down) / sizeof(wrong_down[0]); i++)
		CHECK(!mdbus_args_down(wrong_down[i], lookup, NULL, &d, err, sizeof(err)), "--down %s", wrong_down[i]);
	CHECK(mdbus_args_streams("A=1+3,C=0", lookup, NULL, part, 4, err, sizeof(err)) && part[0] == 2 && part[1] == 0 &&
	      part[2] == MDBUS_LOG_NO_PART && part[3] == 0, "streams");
	for (size_t i = 0; i < sizeof(wrong_streams) / sizeof(wrong_streams[0]); i++)
		CHECK(!mdbus_args_streams(wrong_streams[i], lookup, NULL, part, 4, err, sizeof(err)), "--streams %s",
		      wrong_streams[i]);
	CHECK(mdbus_args_channels("C,A", lookup, NULL, set, err, sizeof(err)) && set[0] && !set[1] && set[2], "channels");
	CHECK(!mdbus_args_channels("A,,B", lookup, NULL, set, err, sizeof(err)), "an empty name");
}

int main(void)
{
	test_two_streams();
	test_log_files();
	test_arguments();
	return failures != 0;
}
