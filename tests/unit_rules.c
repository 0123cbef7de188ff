/* SPDX-License-Identifier: Apache-2.0
 *
 * Steering rules, on a card made of software: made with the lease, gone with it, also when the process or mdbusd is killed, or
 * mdbusd in between the card and the note of it; never more than there should be, and nobody else's is touched.
 *
 * timeout: 60
 * mutants: skip_rule_deletion delete_by_place
 */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../mgmt/nic.h"
#include "daemon_bed.h"
#include "guard.h"
#include "nic_fake.h"

#ifdef MDBUS_HAVE_XDP
#include "../mgmt/ctl_client.h"

#define LINE(name, queue, more) \
	"{ name = \"" name "\"; backend = \"af_xdp\"; interface = \"mdfake0\"; queue = " queue "; frames = 64; rx_ring = 16; " \
	"fill_ring = 16; batch = 8; " more " }"
#define CHANNEL(name, flows) \
	"{ name = \"" name "\"; layout = \"moldudp64\"; depth = 256; window = 128; reorder_window = 8; flows = { " flows " }; }"
#define CONFIG(more) \
	"hugepages = \"never\"; buses = ( { name = \"t\"; seats = 1; lines = ( " LINE("A", "1", more) ", "              \
	LINE("A2", "2", "part_of = \"A\";") ", " LINE("B", "3", more) " );\nchannels = ( "                              \
	CHANNEL("one", "A = \"239.0.0.1:1000\"; A2 = \"239.0.0.3:1002\"; B = \"239.0.0.2:1000\";") ", "                  \
	CHANNEL("two", "A = \"239.0.0.1:1001\"; B = { to = \"239.0.0.2:1001\"; source = \"10.0.0.9\"; };") " ); } );\n"

static struct nic_fake *card;
static pid_t daemon_pid;

static void start(void)
{
	daemon_pid = bed_daemon_start(0);
	CHECK(daemon_pid > 0);
}

#define WAIT_FOR(cond)                                                                                          \
	do {                                                                                                     \
		for (int tries_ = 0; !(cond); tries_++) {                                                        \
			if (tries_ == 1000) {                                                                    \
				printf("%s:%d: waited in vain for %s\n", __FILE__, __LINE__, #cond);              \
				exit(1);                                                                         \
			}                                                                                        \
			usleep(10000);                                                                           \
		}                                                                                                \
	} while (0)

static uint32_t rules(void)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < NIC_FAKE_SIZE; i++)
		n += card->used[i];
	return n;
}

static pid_t hold(const char *line)
{
	pid_t pid = -EBUSY;

	for (uint32_t i = 0; i < 100 && pid < 0; i++) { /* its last holder may be dying still, mdbusd slow on a busy host */
		pid = bed_holder("t", MDBUS_LEASE_LINE, line, NULL);
		usleep(pid < 0 ? i * 1000u : 0);
	}
	CHECK(pid > 0);
	return pid;
}

/* The answer to "rules" by a child, since nanomsg must not be there when this process forks: true if it has `text`. */
static bool told(const char *text)
{
	fflush(stdout);
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		json_t *a = mdbus_ctl_ask("rules", NULL, false);
		char *s = a ? json_dumps(a, JSON_COMPACT) : NULL;

		if (s && !strstr(s, text))
			printf("%s\nhas no %s\n", s, text);
		fflush(stdout);
		_exit(!s || !strstr(s, text));
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	return WEXITSTATUS(status) == 0;
}

/* ---- the card ------------------------------------------------------------------------------------------------------ */

static void test_card(void)
{
	struct mdbus_nic_rule r = { .addr = inet_addr("239.9.9.9"), .port = 99, .queue = 2 }, *list;

	for (int chooses = 0; chooses < 2; chooses++) {
		card->chooses = chooses;
		CHECK(mdbus_nic_queues(0, NIC_FAKE_NAME) == 4 && mdbus_nic_sorts(0, NIC_FAKE_NAME));
		CHECK(mdbus_nic_queues(0, "mdfake1") == 0 && !mdbus_nic_sorts(0, "mdfake1"));
		for (uint32_t i = 0; i < NIC_FAKE_SIZE; i++) {
			r.source = i % 2 ? inet_addr("10.0.0.1") : 0;
			CHECK(mdbus_nic_rule_add(0, NIC_FAKE_NAME, &r) == 0 && r.location < NIC_FAKE_SIZE);
			CHECK(chooses || r.location == NIC_FAKE_SIZE - 1u - i);
		}
		CHECK(mdbus_nic_rule_add(0, NIC_FAKE_NAME, &r) == -ENOSPC);
		CHECK(mdbus_nic_rules(0, NIC_FAKE_NAME, &list) == NIC_FAKE_SIZE);
		for (uint32_t i = 0; i < NIC_FAKE_SIZE; i++)
			CHECK(list[i].plain && list[i].addr == r.addr && list[i].port == 99 && list[i].queue == 2);
		free(list);
		for (uint32_t i = 0; i < NIC_FAKE_SIZE; i++)
			CHECK(mdbus_nic_rule_delete(0, NIC_FAKE_NAME, i) == 0);
		CHECK(mdbus_nic_rule_delete(0, NIC_FAKE_NAME, 0) == -ENOENT);
	}
	card->none = true;
	CHECK(!mdbus_nic_sorts(0, NIC_FAKE_NAME) && mdbus_nic_rules(0, NIC_FAKE_NAME, &list) == -EOPNOTSUPP);
	CHECK(mdbus_nic_rule_add(0, NIC_FAKE_NAME, &r) == -EOPNOTSUPP);
	card->none = false;
}

/* ---- lines --------------------------------------------------------------------------------------------------------- */

/* What nobody of mdbus made, and nobody may touch. */
static uint32_t foreign_rule(void)
{
	struct mdbus_nic_rule r = { .addr = inet_addr("239.7.7.7"), .port = 77, .queue = 0 };

	CHECK(mdbus_nic_rule_add(0, NIC_FAKE_NAME, &r) == 0);
	return r.location;
}

static void test_lease(void)
{
	pid_t a = hold("A"), b;

	CHECK(rules() == 2 && nic_fake_count(card, "239.0.0.1", 1000, 1) == 1); /* A2 has the other flow of A too: no rule */
	b = hold("B");
	CHECK(rules() == 4 && nic_fake_count(card, "239.0.0.2", 1000, 3) == 1 && nic_fake_count(card, "239.0.0.2", 1001, 3) == 1);
	CHECK(told("\"flow\":\"239.0.0.2:1000\",\"queue\":3,\"location\":"));
	CHECK(told("\"bus\":\"t\",\"line\":\"B\""));
	CHECK(told("\"flow\":\"239.7.7.7:77\"") && told("nobody: delete with ethtool -N mdfake0 delete 7"));
	bed_end(a, SIGKILL);
	WAIT_FOR(rules() == 3);
	bed_end(b, SIGTERM);
	WAIT_FOR(rules() == 1);
	CHECK(nic_fake_count(card, "239.7.7.7", 77, 0) == 1);
}

/* mdbusd is killed first; the next one finds what it wrote down. */
static void test_daemon_dies(void)
{
	pid_t b = hold("B");

	CHECK(rules() == 3);
	bed_end(daemon_pid, SIGKILL);
	start();
	CHECK(rules() == 3 && told("\"line\":\"B\""));
	bed_end(daemon_pid, SIGKILL);
	bed_end(b, SIGKILL);
	start();
	WAIT_FOR(rules() == 1);
}

/* It is killed before or after it has told the card, and before the bus directory says so. */
static void test_daemon_dies_adding(enum nic_fake_death when)
{
	int status;

	card->die = when;
	fflush(stdout);
	pid_t pid = fork();

	if (pid == 0) {
		static struct mdbus_bus mine;

		_exit(mdbus_bus_attach(&mine, "t", MDBUS_LEASE_LINE, "B", 0) == 0);
	}
	CHECK(waitpid(daemon_pid, &status, 0) == daemon_pid && WIFSIGNALED(status));
	CHECK(rules() == (when == NIC_FAKE_AFTER_INSERT ? 2 : 1));
	CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 0);
	start();
	WAIT_FOR(rules() == 1);
	CHECK(nic_fake_count(card, "239.7.7.7", 77, 0) == 1);
}

/* The same when it takes a rule back.  What has its place meanwhile is somebody else's. */
static void test_daemon_dies_deleting(enum nic_fake_death when)
{
	struct mdbus_nic_rule other = { .addr = inet_addr("239.8.8.8"), .port = 88, .queue = 0 };
	pid_t b = hold("B");
	int status;

	CHECK(rules() == 3);
	card->die = when;
	bed_end(b, SIGKILL);
	CHECK(waitpid(daemon_pid, &status, 0) == daemon_pid && WIFSIGNALED(status));
	CHECK(rules() == (when == NIC_FAKE_AFTER_DELETE ? 2 : 3));
	if (when == NIC_FAKE_AFTER_DELETE) {
		CHECK(mdbus_nic_rule_add(0, NIC_FAKE_NAME, &other) == 0);
		CHECK(other.location == NIC_FAKE_SIZE - 2u); /* that of the rule just deleted */
	}
	start();
	WAIT_FOR(rules() == (when == NIC_FAKE_AFTER_DELETE ? 2 : 1));
	CHECK(nic_fake_count(card, "239.7.7.7", 77, 0) == 1);
	if (when != NIC_FAKE_AFTER_DELETE)
		return;
	CHECK(nic_fake_count(card, "239.8.8.8", 88, 0) == 1);
	CHECK(mdbus_nic_rule_delete(0, NIC_FAKE_NAME, other.location) == 0);
}

/* A configuration that has changed: the old bus goes, and its rules with it. */
static void test_bus_goes(void)
{
	pid_t b = hold("B");

	bed_end(daemon_pid, SIGKILL);
	bed_end(b, SIGKILL);
	CHECK(rules() == 3);
	bed_daemon_config(CONFIG("steer = true; stale_ms = 7;"));
	start();
	CHECK(rules() == 1);
}

static void refused(const char *line, const char *why)
{
	static struct mdbus_bus mine;
	int rc = mdbus_bus_attach(&mine, "t", MDBUS_LEASE_LINE, line, 10000);

	if (rc == 0 || !strstr(mine.error, why))
		printf("line %s: %d %s, not: %s\n", line, rc, rc ? mine.error : "", why);
	CHECK(rc < 0 && strstr(mine.error, why));
	CHECK(rules() == 1 || card->refuse == 0);
}

/* steer = true: what cannot be steered is not lent, and nothing is left of the try. */
static void test_refusals(void)
{
	struct mdbus_nic_rule other = { .addr = inet_addr("239.0.0.2"), .port = 1000, .queue = 0 };
	pid_t b;

	card->refuse = EBUSY;
	refused("B", "no rule for 239.0.0.2:1000 on mdfake0: Device or resource busy");
	card->refuse = EOPNOTSUPP;
	refused("B", "mdfake0 does not sort 239.0.0.2:1000 by address and port (Operation not supported): set steer = false");
	card->refuse = EPERM;
	refused("B", "mdbusd may not make rules for mdfake0");
	card->refuse = 0;
	card->sorts = false;
	refused("B", "ethtool -K mdfake0 ntuple on, or steer = false");
	card->sorts = true;
	CHECK(mdbus_nic_rule_add(0, NIC_FAKE_NAME, &other) == 0);
	refused("B", "sends 239.0.0.2:1000 to another queue than 3: ethtool -N mdfake0 delete 6");
	CHECK(rules() == 2 && mdbus_nic_rule_delete(0, NIC_FAKE_NAME, other.location) == 0);
	for (uint32_t i = 0; i < NIC_FAKE_SIZE - 2u; i++) { /* room for one of two */
		other.port = (uint16_t)(5000 + i);
		CHECK(mdbus_nic_rule_add(0, NIC_FAKE_NAME, &other) == 0);
	}
	refused("B", "mdfake0 has no room for another rule");
	CHECK(rules() == NIC_FAKE_SIZE - 1u);
	for (uint32_t i = 0; i < NIC_FAKE_SIZE; i++)
		card->used[i] = card->used[i] && card->rule[i].h_u.udp_ip4_spec.pdst == htons(77);

	/* one that does what is wanted is used, whosever it is, and stays */
	other = (struct mdbus_nic_rule){ .addr = inet_addr("239.0.0.2"), .port = 1000, .queue = 3 };
	CHECK(mdbus_nic_rule_add(0, NIC_FAKE_NAME, &other) == 0);
	b = hold("B");
	CHECK(rules() == 3);
	bed_end(b, SIGKILL);
	WAIT_FOR(rules() == 2);
	CHECK(nic_fake_count(card, "239.0.0.2", 1000, 3) == 1);
	CHECK(mdbus_nic_rule_delete(0, NIC_FAKE_NAME, other.location) == 0);

	/* a rule that the card does not let go of is tried again, with the line's next process */
	b = hold("B");
	card->refuse = EBUSY;
	bed_end(b, SIGKILL);
	WAIT_FOR(told("\"pid\":null"));
	CHECK(rules() == 3);
	card->refuse = 0;
	b = hold("B");
	CHECK(rules() == 3);
	bed_end(b, SIGKILL);
	WAIT_FOR(rules() == 1);
}

/* By itself it steers where it can, and lets it be where it cannot. */
static void test_auto(void)
{
	pid_t b;

	CHECK(bed_end(daemon_pid, SIGTERM) == 0);
	bed_daemon_config(CONFIG("stale_ms = 8;"));
	start();
	card->refuse = EOPNOTSUPP;
	b = hold("B");
	CHECK(rules() == 1);
	bed_end(b, SIGKILL);
	card->refuse = 0;
	card->queues = 1;
	b = hold("B");
	CHECK(rules() == 1);
	bed_end(b, SIGKILL);
	card->queues = 4;
	b = hold("B");
	CHECK(rules() == 3);
	bed_end(b, SIGKILL);
	WAIT_FOR(rules() == 1);
	CHECK(bed_end(daemon_pid, SIGTERM) == 0);
	bed_daemon_config(CONFIG("steer = false;"));
	start();
	b = hold("B");
	CHECK(rules() == 1);
	bed_end(b, SIGKILL);
}

int main(void)
{
	card = nic_fake_open();
	test_card();
	card->chooses = false;
	(void)foreign_rule();
	bed_daemon_setup();
	bed_daemon_config(CONFIG("steer = true;"));
	start();
	test_lease();
	test_daemon_dies();
	test_daemon_dies_adding(NIC_FAKE_BEFORE_INSERT);
	test_daemon_dies_adding(NIC_FAKE_AFTER_INSERT);
	test_daemon_dies_deleting(NIC_FAKE_BEFORE_DELETE);
	test_daemon_dies_deleting(NIC_FAKE_AFTER_DELETE);
	test_bus_goes();
	test_refusals();
	test_auto();
	CHECK(bed_end(daemon_pid, SIGTERM) == 0);
	CHECK(rules() == 1);
	return 0;
}
#else
int main(void)
{
	puts("built without AF_XDP");
	return 77;
}
#endif
