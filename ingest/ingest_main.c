/* SPDX-License-Identifier: Apache-2.0
 *
 * mdbus-ingest BUS/LINE - the process of a line that the feed comes in on.
 */
#include "line_program.h"

int main(int argc, const char **argv)
{
	return mdbus_line_program("mdbus-ingest", false, argc, argv);
}
