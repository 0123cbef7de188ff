/* SPDX-License-Identifier: Apache-2.0
 *
 * Questions to mdbusd: garbage of every kind gets an error, and the list of events is bounded and in order.
 */
#include <stdlib.h>
#include "../mgmt/daemon.h"
#include "guard.h"

static struct mdbus_daemon d;

static const char *error_of(const char *text, size_t len)
{
	static char error[512];
	json_t *a = mdbus_query_answer(&d, text, len);

	CHECK(a && json_is_false(json_object_get(a, "ok")));
	snprintf(error, sizeof(error), "%s", json_string_value(json_object_get(a, "error")));
	json_decref(a);
	return error;
}

#define ERROR_OF(text) error_of(text, strlen(text))

static void test_garbage(void)
{
	uint8_t noise[512];
	char *deep = malloc(100001);
	uint64_t seed = 7;

	CHECK(strstr(ERROR_OF(""), "not JSON"));
	CHECK(strstr(ERROR_OF("{\"op\":"), "not JSON"));
	CHECK(strstr(ERROR_OF("[]"), "op"));
	CHECK(strstr(ERROR_OF("{}"), "op"));
	CHECK(strstr(ERROR_OF("{\"op\": 7}"), "op"));
	CHECK(strstr(ERROR_OF("{\"op\": \"stop\"}"), "no such op: stop"));
	CHECK(strstr(ERROR_OF("{\"op\": \"%n%s\"}"), "no such op: %n%s"));
	CHECK(strstr(ERROR_OF("{\"op\": \"lines\", \"bus\": \"nix\"}"), "no bus nix"));
	CHECK(strstr(ERROR_OF("{\"op\": \"lines\", \"op\": \"status\"}"), "not JSON"));
	for (int round = 0; round < 2000; round++) {
		for (size_t i = 0; i < sizeof(noise); i++) {
			seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
			noise[i] = (uint8_t)(seed >> 56);
		}
		uint8_t *exact = guard_put(noise, (size_t)round % sizeof(noise));

		error_of((const char *)exact, (size_t)round % sizeof(noise));
	}
	CHECK(deep);
	memset(deep, '[', 100000);
	error_of(deep, 100000);
	free(deep);
}

static void test_lists(void)
{
	const char *const ops[] = { "lines", "channels", "subscribers", "leases", "events" };

	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		char text[64];
		json_t *a;

		snprintf(text, sizeof(text), "{\"op\": \"%s\"}", ops[i]);
		a = mdbus_query_answer(&d, text, strlen(text));
		CHECK(json_is_true(json_object_get(a, "ok")) && json_array_size(json_object_get(a, ops[i])) == 0);
		json_decref(a);
	}
}

static void test_events(void)
{
	for (int i = 0; i < 3000; i++)
		mdbus_event(&d, "gap", NULL, "{s:i}", "count", i);
	json_t *list = mdbus_events_json(&d, NULL), *e;
	size_t i;

	CHECK_U64(json_array_size(list), MDBUS_EVENTS_KEPT);
	json_array_foreach(list, i, e) {
		CHECK_U64(json_integer_value(json_object_get(e, "n")), 3000 - MDBUS_EVENTS_KEPT + i + 1);
		CHECK_U64(json_integer_value(json_object_get(e, "count")), 3000 - MDBUS_EVENTS_KEPT + i);
	}
	json_decref(list);
	mdbus_events_close(&d);
}

int main(void)
{
	mdbus_daemon_init(&d);
	test_garbage();
	test_lists();
	test_events();
	return 0;
}
