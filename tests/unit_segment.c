/* SPDX-License-Identifier: Apache-2.0
 *
 * Segments: whole or not at all, on the pages they say, refused when damaged, and read-only where they are lent so.
 *
 * mutants: segment_without_bounds
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../bus/segment.h"
#include "../bus/shape.h"
#include "guard.h"

#define MIB (UINT64_C(1) << 20)

static char dir[128];
static char err[512];

static struct mdbus_segment_spec spec_of(const char *name, uint32_t kind, size_t size)
{
	return (struct mdbus_segment_spec){
		.dir = dir, .name = name, .kind = kind, .bus = "t", .size = size, .mode = 0600, .gid = -1, .numa = -1
	};
}

static bool exists(const char *name)
{
	char path[256];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return lstat(path, &st) == 0;
}

static const char *path_of(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static unsigned entries(void)
{
	DIR *at = opendir(dir);
	unsigned n = 0;

	CHECK(at);
	while (readdir(at))
		n++;
	closedir(at);
	return n - 2; /* . and .. */
}

static struct mdbus_channel_desc channel(void)
{
	return (struct mdbus_channel_desc){ .name = "c", .depth = 1024, .slot_size = 128, .line_mask = 3, .ordered = 1 };
}

static void make_ring(const char *name)
{
	struct mdbus_channel_desc c = channel();
	struct mdbus_segment_spec spec = spec_of(name, MDBUS_SEGMENT_RING, mdbus_shape_ring_size(&c));
	struct mdbus_mapping map;

	CHECK(mdbus_segment_create(&spec, &map, err, sizeof(err)) == 0);
	CHECK(!exists(name));
	mdbus_shape_ring_init(map.base, &c);
	CHECK(mdbus_segment_publish(&spec, &map, err, sizeof(err)) == 0);
	CHECK(exists(name));
	mdbus_segment_unmap(&map);
	CHECK(map.fd == -1 && map.base == NULL);
	mdbus_segment_unmap(&map);
}

static void test_life(void)
{
	struct mdbus_mapping map;

	make_ring("ring.0");
	CHECK_U64(entries(), 1);
	CHECK(mdbus_segment_attach_path(path_of("ring.0"), MDBUS_SEGMENT_RING, true, &map, err, sizeof(err)) == 0);
	const struct mdbus_ring_hdr *r = map.base;

	CHECK_U64(r->depth, 1024);
	CHECK_U64(r->segment.page_kind, MDBUS_PAGES_4K);
	mdbus_segment_unmap(&map);
	CHECK(mdbus_segment_attach_path(path_of("ring.0"), MDBUS_SEGMENT_ARENA, false, &map, err, sizeof(err)) == -EPROTO);
	CHECK(mdbus_segment_attach_path(path_of("ring.9"), MDBUS_SEGMENT_RING, false, &map, err, sizeof(err)) == -ENOENT);
	CHECK(strstr(err, "ring.9") != NULL);
	CHECK(mdbus_segment_remove(dir, "ring.0") == 0);
	CHECK(mdbus_segment_remove(dir, "ring.0") == 0);
	CHECK_U64(entries(), 0);
}

/* Killed before it is published: nobody can attach, and a sweep leaves nothing. */
static void test_killed_creator(void)
{
	struct mdbus_channel_desc c = channel();
	struct mdbus_segment_spec spec = spec_of("ring.1", MDBUS_SEGMENT_RING, mdbus_shape_ring_size(&c));
	struct mdbus_mapping map;
	pid_t pid = fork();

	if (pid == 0) {
		if (mdbus_segment_create(&spec, &map, err, sizeof(err)) == 0)
			raise(SIGKILL);
		_exit(1);
	}
	int status;

	CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
	CHECK_U64(entries(), 1);
	snprintf(err, sizeof(err), "%s/.tmp.ring.1.%d", dir, (int)pid);
	int fd = open(err, O_RDWR | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK(mdbus_segment_attach(fd, MDBUS_SEGMENT_RING, false, &map, err, sizeof(err)) == -EPROTO);
	close(fd);
	CHECK(symlink("/nonexistent/ring.2", path_of("ring.2")) == 0);
	make_ring("ring.3");
	mdbus_segment_sweep(dir, NULL);
	CHECK(exists("ring.3"));
	CHECK_U64(entries(), 1);
	mdbus_segment_remove(dir, "ring.3");
}

static void test_thp(void)
{
	struct mdbus_segment_spec spec = spec_of("big", MDBUS_SEGMENT_SEAT, 3 * MIB);
	struct mdbus_mapping map;

	CHECK(mdbus_segment_create(&spec, &map, err, sizeof(err)) == 0);
	const struct mdbus_segment_hdr *h = map.base;

	CHECK_U64(map.size, 4 * MIB);
	CHECK((uintptr_t)map.base % (2 * MIB) == 0);
	CHECK(h->page_kind == MDBUS_PAGES_THP || (h->page_kind == MDBUS_PAGES_4K && err[0] != '\0'));
	CHECK_U64(h->page_size, h->page_kind == MDBUS_PAGES_THP ? 2 * MIB : 4096);
	CHECK(mdbus_segment_publish(&spec, &map, err, sizeof(err)) == 0);
	printf("3 MiB of shmem: %s pages\n", mdbus_page_kind_name(h->page_kind));
	mdbus_segment_unmap(&map);
	mdbus_segment_remove(dir, "big");
}

static void test_hugetlb(void)
{
	char huge[160];
	struct mdbus_segment_spec spec = spec_of("huge", MDBUS_SEGMENT_SEAT, 3 * MIB);
	struct mdbus_mapping map;

	snprintf(huge, sizeof(huge), "%s/mnt", dir);
	CHECK(mkdir(huge, 0700) == 0);
	if (mount("mdbus", huge, "hugetlbfs", 0, "pagesize=2M") < 0) {
		printf("no hugetlbfs here\n");
		rmdir(huge);
		return;
	}
	spec.huge_dir = huge;
	CHECK(mdbus_segment_create(&spec, &map, err, sizeof(err)) == 0);
	const struct mdbus_segment_hdr *h = map.base;
	uint32_t kind = h->page_kind;

	printf("3 MiB with hugetlbfs: %s pages %s\n", mdbus_page_kind_name(kind), err);
	CHECK(kind == MDBUS_PAGES_2M || err[0] != '\0');
	CHECK(mdbus_segment_publish(&spec, &map, err, sizeof(err)) == 0);
	mdbus_segment_unmap(&map);
	CHECK(mdbus_segment_attach_path(path_of("huge"), MDBUS_SEGMENT_SEAT, true, &map, err, sizeof(err)) == 0);
	mdbus_segment_unmap(&map);
	CHECK(mdbus_segment_remove(dir, "huge") == 0);
	spec.size = MIB / 2; /* too small to deserve a huge page */
	CHECK(mdbus_segment_create(&spec, &map, err, sizeof(err)) == 0);
	CHECK_U64(((const struct mdbus_segment_hdr *)map.base)->page_kind, MDBUS_PAGES_4K);
	CHECK(mdbus_segment_publish(&spec, &map, err, sizeof(err)) == 0);
	mdbus_segment_unmap(&map);
	mdbus_segment_remove(dir, "huge");
	CHECK(umount(huge) == 0); /* busy if anything had stayed there */
	rmdir(huge);
	CHECK_U64(entries(), 0);
}

/* A full tmpfs is an error at creation, with its name, and leaves nothing behind. */
static void test_full(void)
{
	char small[160];
	struct mdbus_segment_spec spec = spec_of("seat.0", MDBUS_SEGMENT_SEAT, 8 * MIB);
	struct mdbus_mapping map;

	snprintf(small, sizeof(small), "%s/small", dir);
	CHECK(mkdir(small, 0700) == 0);
	if (mount("mdbus", small, "tmpfs", 0, "size=4M") == 0) {
		spec.dir = small;
		CHECK(mdbus_segment_create(&spec, &map, err, sizeof(err)) == -ENOSPC);
		CHECK(strstr(err, small) && strstr(err, "enlarge"));
		CHECK(map.base == NULL && map.fd == -1);
		CHECK(umount(small) == 0);
	}
	rmdir(small);
	CHECK_U64(entries(), 0);
}

static int child_status(void (*act)(void *), void *arg)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		act(arg);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	return status;
}

static void scribble(void *arg)
{
	*(volatile uint8_t *)arg = 1;
}

static void test_read_only(void)
{
	struct mdbus_mapping map;

	make_ring("ring.4");
	CHECK(mdbus_segment_attach_path(path_of("ring.4"), MDBUS_SEGMENT_RING, false, &map, err, sizeof(err)) == 0);
	int status = child_status(scribble, (uint8_t *)map.base + 4096);

	CHECK(WIFSIGNALED(status) || WEXITSTATUS(status) != 0); /* the address sanitizer makes it an exit */
	CHECK(mprotect(map.base, map.size, PROT_READ | PROT_WRITE) < 0 && errno == EACCES);
	CHECK(mmap(NULL, map.size, PROT_READ | PROT_WRITE, MAP_SHARED, map.fd, 0) == MAP_FAILED && errno == EACCES);
	CHECK(ftruncate(map.fd, 0) < 0);
	mdbus_segment_unmap(&map);
	mdbus_segment_remove(dir, "ring.4");
}

/* ---- damage -------------------------------------------------------------------------------------------------- */

static uint64_t seed = 1;

static uint64_t dice(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

struct sample {
	uint32_t kind;
	size_t size, hdr;
	uint8_t *bytes;
};

static struct mdbus_segment_hdr header(uint32_t kind, size_t size)
{
	return (struct mdbus_segment_hdr){
		.magic = MDBUS_MAGIC, .version = MDBUS_ABI_VERSION, .kind = kind, .layout_hash = MDBUS_ABI_LAYOUT, .size = size,
		.page_size = 4096, .bus = "t"
	};
}

static struct sample sample_of(uint32_t kind)
{
	struct mdbus_channel_desc c = channel();
	struct mdbus_line_desc l = { .name = "A", .frames = 64, .frame_size = 2048 };
	struct sample s = { .kind = kind };

	c.layout = *mdbus_layout_builtin("moldudp64");
	c.window = 512;
	c.key_window = 64;
	s.size = kind == MDBUS_SEGMENT_BUS     ? mdbus_shape_bus_size(2)
	         : kind == MDBUS_SEGMENT_RING  ? mdbus_shape_ring_size(&c)
	         : kind == MDBUS_SEGMENT_ARENA ? mdbus_shape_arena_size(&l, 3)
	         : kind == MDBUS_SEGMENT_SEAT  ? mdbus_shape_seat_size()
	                                       : mdbus_shape_keys_size(&c);
	s.bytes = calloc(1, s.size);
	CHECK(s.bytes != NULL);
	struct mdbus_segment_hdr h = header(kind, s.size);

	memcpy(s.bytes, &h, sizeof(h));
	if (kind == MDBUS_SEGMENT_BUS) {
		struct mdbus_bus_hdr *b = (void *)s.bytes;

		b->nline = 2;
		b->nchannel = 2;
		b->nseat = 3;
		b->line[0] = b->line[1] = l;
		b->channel[0] = b->channel[1] = c;
	}
	s.hdr = kind == MDBUS_SEGMENT_BUS ? s.size : kind == MDBUS_SEGMENT_SEAT ? 128 : 320;
	if (kind == MDBUS_SEGMENT_RING)
		mdbus_shape_ring_init((void *)s.bytes, &c);
	if (kind == MDBUS_SEGMENT_ARENA)
		mdbus_shape_arena_init((void *)s.bytes, &l, 1, 3);
	if (kind == MDBUS_SEGMENT_KEYS)
		mdbus_shape_keys_init((void *)s.bytes, &c);
	return s;
}

/* What the rest of the code would do with a segment that was accepted: touch both ends of each table. */
static uint64_t use(const struct sample *s, const uint8_t *p)
{
	uint64_t sum = 0;

	if (s->kind == MDBUS_SEGMENT_RING) {
		const struct mdbus_ring_hdr *r = (const void *)p;

		sum += p[r->slots_off] + p[r->slots_off + r->depth * r->slot_size - 1u];
	} else if (s->kind == MDBUS_SEGMENT_ARENA) {
		const struct mdbus_arena_hdr *a = (const void *)p;
		uint64_t channels = a->nchannel * sizeof(struct mdbus_line_channel);

		sum += p[a->channels_off] + p[a->channels_off + channels - (channels > 0)];
		sum += p[a->frames_off + (uint64_t)a->nframes * a->frame_size - 1u];
	} else if (s->kind == MDBUS_SEGMENT_KEYS) {
		const struct mdbus_keys_hdr *k = (const void *)p;

		sum += p[k->buckets_off + k->nbuckets * MDBUS_KEY_WAYS * sizeof(struct mdbus_pair) - 1u];
	} else if (s->kind == MDBUS_SEGMENT_BUS) {
		const struct mdbus_bus_hdr *b = (const void *)p;

		for (uint32_t i = 0; i < b->nline; i++)
			sum += strlen(b->line[i].name) + strlen(b->line[i].backend) + strlen(b->line[i].file);
		for (uint32_t i = 0; i < b->nchannel; i++)
			sum += strlen(b->channel[i].name) + b->channel[i].depth;
	}
	return sum;
}

static void damage_at(const struct sample *s, uint8_t *p, size_t off, size_t width)
{
	static const uint64_t values[] = { 0, UINT64_MAX, 1, UINT64_C(1) << 63, 0x7fffffff };

	for (size_t v = 0; v < sizeof(values) / sizeof(values[0]) + 4; v++) {
		uint64_t value = v < sizeof(values) / sizeof(values[0]) ? values[v] : dice();

		memcpy(p + off, &value, width);
		if (mdbus_segment_check(p, s->size, s->kind, err, sizeof(err)) == 0)
			use(s, p);
		memcpy(p + off, s->bytes + off, width);
	}
}

/* Every word of every header: zero, ones, random.  Refused, or safe to use; the copy ends where memory ends. */
static void test_damage(void)
{
	for (uint32_t kind = MDBUS_SEGMENT_BUS; kind <= MDBUS_SEGMENT_KEYS; kind++) {
		struct sample s = sample_of(kind);
		uint8_t *area = mmap(NULL, s.size + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		size_t span = (s.size + 4095u) & ~(size_t)4095u;

		CHECK(area != MAP_FAILED && mprotect(area, span, PROT_READ | PROT_WRITE) == 0);
		uint8_t *p = area + ((span - s.size) & ~(size_t)63u);

		memcpy(p, s.bytes, s.size);
		CHECK(mdbus_segment_check(p, s.size, kind, err, sizeof(err)) == 0);
		for (size_t off = 0; off + 8u <= s.hdr && off + 8u <= s.size; off += 4)
			damage_at(&s, p, off, off % 8 == 0 ? 8 : 4);
		for (size_t cut = 0; cut < s.hdr; cut += 8)
			CHECK(mdbus_segment_check(p, cut, kind, err, sizeof(err)) < 0);
		munmap(area, s.size + 8192);
		free(s.bytes);
	}
}

static void test_refusals(void)
{
	struct sample s = sample_of(MDBUS_SEGMENT_RING);
	struct mdbus_ring_hdr *r = (void *)s.bytes;

#define REFUSED(change, undo, rc)                                                                       \
	do {                                                                                            \
		change;                                                                                 \
		CHECK(mdbus_segment_check(s.bytes, s.size, MDBUS_SEGMENT_RING, err, sizeof(err)) == (rc)); \
		CHECK(err[0] != '\0');                                                                   \
		undo;                                                                                   \
		CHECK(mdbus_segment_check(s.bytes, s.size, MDBUS_SEGMENT_RING, err, sizeof(err)) == 0); \
	} while (0)
	REFUSED(r->segment.magic--, r->segment.magic++, -EPROTO);
	REFUSED(r->segment.version++, r->segment.version--, -EPROTONOSUPPORT);
	REFUSED(r->segment.layout_hash++, r->segment.layout_hash--, -EPROTONOSUPPORT);
	REFUSED(r->segment.kind++, r->segment.kind--, -EPROTO);
	REFUSED(r->segment.size += 4096, r->segment.size -= 4096, -EBADMSG);
	REFUSED(r->depth *= 2, r->depth /= 2, -EBADMSG);
	REFUSED(r->depth -= 1, r->depth += 1, -EBADMSG);
	REFUSED(r->slots_off += 64, r->slots_off -= 64, -EBADMSG);
	REFUSED(r->slot_size *= 2, r->slot_size /= 2, -EBADMSG);
	REFUSED(memset(r->segment.bus, 'x', sizeof(r->segment.bus)), memset(r->segment.bus, 0, sizeof(r->segment.bus)),
	        -EBADMSG);
	free(s.bytes);
}

static void test_truncated_file(void)
{
	struct mdbus_mapping map;

	make_ring("ring.5");
	CHECK(truncate(path_of("ring.5"), 4096 * 3) == 0);
	CHECK(mdbus_segment_attach_path(path_of("ring.5"), MDBUS_SEGMENT_RING, false, &map, err, sizeof(err)) == -EBADMSG);
	CHECK(truncate(path_of("ring.5"), 100) == 0);
	CHECK(mdbus_segment_attach_path(path_of("ring.5"), MDBUS_SEGMENT_RING, false, &map, err, sizeof(err)) == -EPROTO);
	mdbus_segment_remove(dir, "ring.5");
	CHECK(mdbus_segment_attach_path(dir, MDBUS_SEGMENT_RING, false, &map, err, sizeof(err)) < 0);
}

static pid_t owner;

static void clean(void)
{
	char command[512];

	if (getpid() != owner)
		return;
	snprintf(command, sizeof(command), "umount -l %s/mnt %s/small 2>/dev/null; rm -rf %s", dir, dir, dir);
	if (system(command) != 0)
		printf("%s is left\n", dir);
}

int main(void)
{
	snprintf(dir, sizeof(dir), "%s/mdbus-unit.XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	CHECK(mkdtemp(dir) != NULL);
	owner = getpid();
	atexit(clean);
	test_life();
	test_killed_creator();
	test_thp();
	if (geteuid() == 0) {
		test_hugetlb();
		test_full();
	}
	test_read_only();
	test_damage();
	test_refusals();
	test_truncated_file();
	return 0;
}
