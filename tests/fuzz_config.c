/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_config.c - any text as a configuration file: refused with a line number, or what every attach accepts.
 */
#include <limits.h>
#include <unistd.h>
#include "../bus/segment.h"
#include "../mgmt/config.h"
#include "fuzz.h"

/* libconfig forgets the strings it has begun at a syntax error. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libconfig.so\n";
}

static void check_bus(const struct mdbus_config_bus *bus)
{
	size_t size = sizeof(struct mdbus_bus_hdr) + bus->nchannel * sizeof(bus->channel[0]);
	struct mdbus_bus_hdr *b = calloc(1, size);
	char err[256];

	b->segment = (struct mdbus_segment_hdr){
		.magic = MDBUS_MAGIC,
		.version = MDBUS_ABI_VERSION,
		.kind = MDBUS_SEGMENT_BUS,
		.layout_hash = MDBUS_ABI_LAYOUT,
		.size = size,
	};
	b->nline = bus->nline;
	b->nchannel = bus->nchannel;
	b->nseat = bus->nseat;
	memcpy(b->line, bus->line, sizeof(b->line));
	memcpy(b->channel, bus->channel, bus->nchannel * sizeof(bus->channel[0]));
	if (mdbus_segment_check(b, size, MDBUS_SEGMENT_BUS, err, sizeof(err)) != 0) {
		fprintf(stderr, "accepted, but: %s\n", err);
		abort();
	}
	free(b);
}

/* One file for all inputs, in the directory that tests/fuzz makes and removes. */
static void put_file(char *path, const uint8_t *data, size_t size)
{
	const char *dir = getenv("TMPDIR");
	FILE *f;

	snprintf(path, PATH_MAX, "%s/mdbus-fuzz.%d.conf", dir ? dir : "/tmp", (int)getpid());
	f = fopen(path, "wb");
	FUZZ_CHECK(f && fwrite(data, 1, size, f) == size && fclose(f) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mdbus_config *c = calloc(1, sizeof(*c));
	char path[PATH_MAX], *said = NULL;
	size_t nsaid = 0;
	FILE *errors = open_memstream(&said, &nsaid);
	int rc;

	FUZZ_CHECK(errors != NULL);
	put_file(path, data, size);
	if (!memmem(data, size, "@include", 8)) { /* would read whatever file it names */
		rc = mdbus_config_load(path, c, errors);
		fflush(errors);
		FUZZ_CHECK(rc == 0 || nsaid > 0);
		for (uint32_t i = 0; rc == 0 && i < c->nbus; i++)
			check_bus(&c->bus[i]);
		mdbus_config_free(c);
	}
	fclose(errors);
	free(said);
	unlink(path);
	free(c);
	return 0;
}
