/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_layout_text.c - any text as a layout: refused with a line number, or a layout that passes the check.
 */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mdbus_layout *l = malloc(sizeof(*l));
	char err[160], *text = malloc(size + 1);
	int rc;

	memcpy(text, data, size);
	text[size] = 0;
	memset(err, 'x', sizeof(err));
	err[0] = 0;
	rc = mdbus_layout_parse(text, size % 2 ? "named" : NULL, l, err, sizeof(err));
	FUZZ_CHECK(rc == 0 || rc == -EINVAL);
	FUZZ_CHECK(memchr(err, 0, sizeof(err)));
	if (rc == 0)
		FUZZ_CHECK(mdbus_layout_check(l) == 0);
	else
		FUZZ_CHECK(strncmp(err, "line ", 5) == 0 && strtoul(err + 5, NULL, 10) >= 1);
	free(text);
	free(l);
	return 0;
}
