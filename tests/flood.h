/* SPDX-License-Identifier: Apache-2.0
 *
 * flood.h - the fastest sender there is on a veth: the kernel itself makes the frames (BPF_PROG_TEST_RUN with live frames), and
 * a few instructions number them, pace them and send them out.  It makes about four times as many as a socket.
 *
 * To pace is to throw away every frame that comes before its time.  One call lasts as long as it is to: setting it up and ending it
 * takes the kernel some 20 ms each, so it is ended by a signal.
 *
 * Root, Linux 5.18 or later.  The interface must be one that takes redirected frames: a veth whose peer polls (gro on).
 */
#ifndef MDBUS_TESTS_FLOOD_H
#define MDBUS_TESTS_FLOOD_H

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <mdbus/atomics.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#define FLOOD_BATCH  64u
#define FLOOD_BEGIN  UINT64_C(40000000) /* ns that the kernel may need to begin */
#define FLOOD_PERIOD 100000000 /* ns, in which one burst comes */
#define FLOOD_BURST  1000000   /* ns that it takes */

/* What the program and its user share. */
struct flood_state {
	uint64_t sent;  /* frames so far, and number of the last */
	uint64_t due;   /* ns of CLOCK_MONOTONIC when the next one may go */
	uint64_t pause; /* ns between two */
	uint64_t burst; /* the same during a burst */
	uint64_t last, first; /* ns, when the last and the first one of this call went */
};

struct flood {
	int prog, map;
	struct flood_state *state;
	uint32_t ifindex, len;
	uint32_t batch; /* frames, sent or thrown away, that the kernel hands on together; 1 where time matters */
	const uint8_t *frame;
};

#define FLOOD_OP(c, d, s, o, i) ((struct bpf_insn){ .code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i) })

/*
 * Make copies of `frame` for an interface, each with its number, from 1 on, big-endian in the eight bytes at `at`, and the
 * time of its sending (ns of CLOCK_MONOTONIC, as the host has it) at `time_at`, which lies behind that.  0 or -errno.
 */
static inline int flood_open(struct flood *f, uint32_t ifindex, const uint8_t *frame, uint32_t len, uint16_t at,
                             uint16_t time_at)
{
	LIBBPF_OPTS(bpf_map_create_opts, shared, .map_flags = BPF_F_MMAPABLE);
	int map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "flood", 4, sizeof(struct flood_state), 1, &shared);
	const struct bpf_insn code[] = {
		FLOOD_OP(BPF_ALU64 | BPF_MOV | BPF_X, 6, 1, 0, 0),
		FLOOD_OP(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_ktime_get_ns),
		FLOOD_OP(BPF_LD | BPF_IMM | BPF_DW, 7, BPF_PSEUDO_MAP_VALUE, 0, map),
		FLOOD_OP(0, 0, 0, 0, 0),
		FLOOD_OP(BPF_LDX | BPF_MEM | BPF_DW, 1, 7, 8, 0),
		FLOOD_OP(BPF_JMP | BPF_JGT | BPF_X, 1, 0, 23, 0), /* not yet due: drop */
		FLOOD_OP(BPF_LDX | BPF_MEM | BPF_W, 2, 6, 0, 0),  /* data */
		FLOOD_OP(BPF_LDX | BPF_MEM | BPF_W, 3, 6, 4, 0),  /* data_end */
		FLOOD_OP(BPF_ALU64 | BPF_MOV | BPF_X, 4, 2, 0, 0),
		FLOOD_OP(BPF_ALU64 | BPF_ADD | BPF_K, 4, 0, 0, time_at + 8),
		FLOOD_OP(BPF_JMP | BPF_JGT | BPF_X, 4, 3, 18, 0), /* too short: drop */
		FLOOD_OP(BPF_STX | BPF_MEM | BPF_DW, 2, 0, (int16_t)time_at, 0),
		FLOOD_OP(BPF_STX | BPF_MEM | BPF_DW, 7, 0, 32, 0),
		FLOOD_OP(BPF_LDX | BPF_MEM | BPF_DW, 3, 7, 40, 0),
		FLOOD_OP(BPF_JMP | BPF_JNE | BPF_K, 3, 0, 1, 0),
		FLOOD_OP(BPF_STX | BPF_MEM | BPF_DW, 7, 0, 40, 0),
		FLOOD_OP(BPF_LDX | BPF_MEM | BPF_DW, 3, 7, 16, 0),
		FLOOD_OP(BPF_ALU64 | BPF_MOD | BPF_K, 0, 0, 0, FLOOD_PERIOD),
		FLOOD_OP(BPF_JMP | BPF_JGE | BPF_K, 0, 0, 1, FLOOD_BURST),
		FLOOD_OP(BPF_LDX | BPF_MEM | BPF_DW, 3, 7, 24, 0),
		FLOOD_OP(BPF_ALU64 | BPF_ADD | BPF_X, 1, 3, 0, 0),
		FLOOD_OP(BPF_STX | BPF_MEM | BPF_DW, 7, 1, 8, 0),
		FLOOD_OP(BPF_LDX | BPF_MEM | BPF_DW, 5, 7, 0, 0),
		FLOOD_OP(BPF_ALU64 | BPF_ADD | BPF_K, 5, 0, 0, 1),
		FLOOD_OP(BPF_STX | BPF_MEM | BPF_DW, 7, 5, 0, 0),
		FLOOD_OP(BPF_ALU | BPF_END | BPF_TO_BE, 5, 0, 0, 64),
		FLOOD_OP(BPF_STX | BPF_MEM | BPF_DW, 2, 5, (int16_t)at, 0),
		FLOOD_OP(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, XDP_TX),
		FLOOD_OP(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
		FLOOD_OP(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, XDP_DROP),
		FLOOD_OP(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
	};

	*f = (struct flood){ .prog = -1, .map = map, .ifindex = ifindex, .len = len, .frame = frame,
		.batch = FLOOD_BATCH };
	if (map < 0)
		return map;
	f->state = mmap(NULL, sizeof(*f->state), PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
	if (f->state == MAP_FAILED)
		return -errno;
	f->prog = bpf_prog_load(BPF_PROG_TYPE_XDP, "flood", "GPL", code, sizeof(code) / sizeof(code[0]), NULL);
	return f->prog < 0 ? f->prog : 0;
}

static inline void flood_enough(int sig)
{
	(void)sig;
}

/* Send for so long, `pause` ns between two frames and `burst` ns in bursts; 0: as fast as can be.  How many, or -errno. */
static inline int64_t flood_send(const struct flood *f, uint64_t ns, uint64_t pause, uint64_t burst)
{
	struct xdp_md md = { .data_end = f->len, .ingress_ifindex = f->ifindex };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = f->frame, .data_size_in = f->len, .ctx_in = &md,
	            .ctx_size_in = sizeof(md), .repeat = 1 << 30, .flags = BPF_F_TEST_XDP_LIVE_FRAMES,
	            .batch_size = f->batch);
	struct itimerval end = { .it_value.tv_usec = (suseconds_t)((ns + FLOOD_BEGIN) / 1000u) }, never = { 0 };
	uint64_t before = f->state->sent;
	int rc;

	end.it_interval.tv_usec = 1000; /* should the first one come too early */
	sigaction(SIGALRM, &(struct sigaction){ .sa_handler = flood_enough }, NULL);
	f->state->pause = pause;
	f->state->burst = burst;
	f->state->first = f->state->last = 0;
	mdbus_store_release(&f->state->due, mdbus_clock_ns() + FLOOD_BEGIN);
	setitimer(ITIMER_REAL, &end, NULL);
	rc = bpf_prog_test_run_opts(f->prog, &opts);
	setitimer(ITIMER_REAL, &never, NULL);
	return rc == 0 || rc == -EINTR ? (int64_t)(f->state->sent - before) : rc;
}

static inline void flood_close(struct flood *f)
{
	munmap(f->state, sizeof(*f->state));
	close(f->prog);
	close(f->map);
}

#endif
