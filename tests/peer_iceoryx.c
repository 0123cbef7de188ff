/* SPDX-License-Identifier: Apache-2.0
 *
 * peer_iceoryx - iceoryx 2: a publisher that waits for its one subscriber, chunks written in place.
 *
 * Its broker, RouDi, is started with a configuration of its own and ended again.  There is one RouDi a host: where
 * one runs already, iceoryx is left out.  Its watchdog is off, since a spinning program may not answer in time.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "peer.h"

#define NAME "iceoryx 2"

#ifdef PEER_HAVE_ICEORYX
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
#include <iceoryx_binding_c/api.h>
#pragma GCC diagnostic pop

#define QUEUE 256u /* chunks between the two; Debian's iceoryx allows no more */

static pid_t roudi;
static char config[64];
static iox_pub_storage_t pub_place;
static iox_sub_storage_t sub_place;
static iox_pub_t pub;
static iox_sub_t sub;
static uint8_t buffer[PEER_LEN_MAX] __attribute__((aligned(64)));

/* Chunks for short, middling and long messages. */
static bool write_config(void)
{
	int fd;

	snprintf(config, sizeof(config), "/tmp/mdbus-roudi.XXXXXX");
	if ((fd = mkstemp(config)) < 0)
		return false;
	dprintf(fd, "[general]\nversion = 1\n[[segment]]\n");
	for (uint32_t size = 128; size <= PEER_LEN_MAX; size *= 4u)
		dprintf(fd, "[[segment.mempool]]\nsize = %u\ncount = 2000\n", size);
	return close(fd) == 0;
}

static void stop(void)
{
	if (roudi > 0) {
		kill(roudi, SIGTERM);
		waitpid(roudi, NULL, 0);
	}
	unlink(config);
}

/* RouDi listens on a socket of this name as soon as it is ready; one that was killed leaves the name. */
static bool answers(void)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX, .sun_path = "/tmp/roudi" };
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	bool there = connect(fd, (struct sockaddr *)&name, sizeof(name)) == 0;

	close(fd);
	return there;
}

/* It and its clients tell of each segment they map. */
static void hush(void)
{
	int null = open("/dev/null", O_WRONLY);

	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	close(null);
}

static const char *start(void)
{
	if (answers())
		return "another RouDi is running on this host";
	if (!write_config())
		return "no configuration for RouDi could be written to /tmp";
	pid_t parent = getpid();

	if ((roudi = fork()) == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		hush();
		if (getppid() == parent)
			execlp("iox-roudi", "iox-roudi", "-c", config, "-m", "off", "-l", "error", (char *)NULL);
		_exit(127);
	}
	for (int i = 0; i < 500; i++) {
		if (waitpid(roudi, NULL, WNOHANG) == roudi) {
			roudi = 0;
			stop();
			return "RouDi does not run: is the package iceoryx installed?";
		}
		if (answers())
			return NULL;
		usleep(10000);
	}
	stop();
	return "RouDi does not answer";
}

static void open_side(unsigned side, uint32_t len)
{
	char name[64];
	const char *way[2] = { "there", "back" };
	iox_pub_options_t po;
	iox_sub_options_t so;

	hush();
	snprintf(name, sizeof(name), "mdbus-peer-%d", getpid());
	iox_runtime_init(name);
	snprintf(name, sizeof(name), "%d-%u", getppid(), len);
	iox_pub_options_init(&po);
	po.subscriberTooSlowPolicy = ConsumerTooSlowPolicy_WAIT_FOR_CONSUMER;
	iox_sub_options_init(&so);
	so.queueCapacity = QUEUE;
	so.queueFullPolicy = QueueFullPolicy_BLOCK_PRODUCER;
	pub = iox_pub_init(&pub_place, "mdbus", name, way[side], &po);
	sub = iox_sub_init(&sub_place, "mdbus", name, way[side ^ 1u], &so);
	while (iox_sub_get_subscription_state(sub) != SubscribeState_SUBSCRIBED || !iox_pub_has_subscribers(pub))
		usleep(1000);
}

static void close_side(void)
{
	iox_sub_deinit(sub);
	iox_pub_deinit(pub);
	iox_runtime_shutdown();
}

static inline uint8_t *claim(uint32_t len)
{
	void *at;

	return iox_pub_loan_chunk(pub, &at, len) == AllocationResult_SUCCESS ? at : NULL;
}

static inline bool commit(uint8_t *at, uint32_t len)
{
	(void)len;
	iox_pub_publish_chunk(pub, at);
	return true;
}

static inline const uint8_t *take(uint32_t len)
{
	const void *at;

	if (iox_sub_take_chunk(sub, &at) != ChunkReceiveResult_SUCCESS)
		return NULL;
	mdbus_copy(buffer, at, len);
	iox_sub_release_chunk(sub, at);
	return buffer;
}

static inline void rest(void)
{
	mdbus_pause();
}

static const struct peer_ops ops = { claim, commit, take, rest, NULL, NULL, NULL };
PEER_LOOPS(ops)

const struct peer peer_iceoryx = { .name = NAME, .start = start, .stop = stop, .open = open_side, .close = close_side,
	                           PEER_RUNS(ops) };
#else
const struct peer peer_iceoryx = { .name = NAME, .absent = "built without iceoryx (libiceoryx-binding-c-dev)" };
#endif
