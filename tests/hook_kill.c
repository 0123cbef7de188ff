/* SPDX-License-Identifier: Apache-2.0
 *
 * hook_kill.c - what programs built with hooks do at them (make hooked; tests/hooks.py).
 *
 *	MDBUS_HOOK_LIST=FILE        the name of each hook is appended to FILE when this process first passes it
 *	MDBUS_HOOK_AT=kill@NAME:N   SIGKILL to itself at the N-th passing of hook NAME
 *	              stop@NAME:N   SIGSTOP; several, with commas between them
 *
 * Without these the hooks do nothing.
 */
#ifndef MDBUS_HOOKS
#define MDBUS_HOOKS 1
#endif
#include <mdbus/hook.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ORDERS_MAX 8
#define NAMES_MAX  256

struct order {
	int signal;
	unsigned long left; /* passings until it is carried out */
	char name[48];
};

static struct order order[ORDERS_MAX];
static unsigned int norder, nseen;
static const char *seen[NAMES_MAX];
static int list = -1;

static void take_orders(char *text)
{
	for (char *word = strtok(text, ","); word && norder < ORDERS_MAX; word = strtok(NULL, ",")) {
		struct order *o = &order[norder];
		char what[8] = "";

		if (sscanf(word, "%4[a-z]@%47[a-z.]:%lu", what, o->name, &o->left) != 3 || o->left == 0) {
			fprintf(stderr, "MDBUS_HOOK_AT: \"%s\" is not understood\n", word);
			_exit(2);
		}
		o->signal = strcmp(what, "stop") == 0 ? SIGSTOP : SIGKILL;
		norder++;
	}
}

static void __attribute__((constructor)) read_environment(void)
{
	const char *file = getenv("MDBUS_HOOK_LIST"), *at = getenv("MDBUS_HOOK_AT");
	char text[512];

	if (file)
		list = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (!at)
		return;
	snprintf(text, sizeof(text), "%s", at);
	take_orders(text);
}

static void tell(const char *point)
{
	char line[64];

	for (unsigned int i = 0; i < nseen; i++)
		if (seen[i] == point || strcmp(seen[i], point) == 0)
			return;
	if (nseen == NAMES_MAX)
		return;
	seen[nseen++] = point;
	int n = snprintf(line, sizeof(line), "%s\n", point);

	if (write(list, line, (size_t)n) < 0)
		_exit(2);
}

void mdbus_hook(const char *point)
{
	if (list >= 0)
		tell(point);
	for (unsigned int i = 0; i < norder; i++)
		if (order[i].left != 0 && strcmp(order[i].name, point) == 0 && --order[i].left == 0)
			raise(order[i].signal);
}
