/* SPDX-License-Identifier: Apache-2.0
 *
 * mold.c - see mold.h.
 */
#include "mold.h"

#include <endian.h>
#include <string.h>

static bool is_field(const struct mdbus_layout_field *f, unsigned offset, unsigned width)
{
	return !f->in_message && f->offset == offset && f->width == width;
}

bool mdbus_mold_layout(const struct mdbus_layout *l)
{
	return l->big_endian && l->unit == MDBUS_UNIT_MESSAGE && l->hdr == MDBUS_MOLD_HEADER && l->nsession == 1 &&
	       is_field(&l->session[0], 0, MDBUS_MOLD_SESSION) && l->session[0].mask == 0 && is_field(&l->seq, 10, 8) &&
	       is_field(&l->count, 18, 2) && l->pktlen.width == 0 && l->msglen.offset == 0 && l->msglen.width == 2 &&
	       l->msglen.bias == 2;
}

void mdbus_mold_put(uint8_t out[MDBUS_MOLD_HEADER], const struct mdbus_mold_request *r)
{
	uint64_t first = htobe64(r->first);
	uint16_t count = htobe16(r->count);

	memcpy(out, r->session, sizeof(r->session));
	memcpy(out + 10, &first, sizeof(first));
	memcpy(out + 18, &count, sizeof(count));
}

bool mdbus_mold_get(const uint8_t *bytes, uint32_t len, struct mdbus_mold_request *r)
{
	uint64_t first;
	uint16_t count;

	if (len != MDBUS_MOLD_HEADER)
		return false;
	memcpy(r->session, bytes, sizeof(r->session));
	memcpy(&first, bytes + 10, sizeof(first));
	memcpy(&count, bytes + 18, sizeof(count));
	r->first = be64toh(first);
	r->count = be16toh(count);
	return true;
}
