/* SPDX-License-Identifier: Apache-2.0
 *
 * verify_report.c - the verdict, for people and for programs.
 */
#include "tool.h"
#include "verify.h"
#include <inttypes.h>
#include <string.h>

#define NAME_MAX_SHOWN 64u

static uint64_t lost_carried(const struct mdbus_verdict *v)
{
	return v->gap_carried + v->edge_carried;
}

/* What should have been delivered: all that was sent but what was lost before any line that was up had it. */
static uint64_t expected(const struct mdbus_verdict *v)
{
	return v->sent - v->gap_lost - v->gap_down - v->edge_lost - v->edge_down;
}

static void row(FILE *f, const char *name, uint64_t want, uint64_t have, bool ok)
{
	fprintf(f, "  %-36s %14" PRIu64 " %14" PRIu64 "   %s\n", name, want, have, ok ? "ok" : "WRONG");
}

static void text_rows(FILE *f, const struct mdbus_verdict *v, bool allow_overruns)
{
	fprintf(f, "  %-36s %14s %14s\n", "", "expected", "actual");
	fprintf(f, "  %-36s %14s %14" PRIu64 "\n", "sent", "", v->sent);
	row(f, "delivered, whole", expected(v), v->matched, expected(v) == v->matched + v->unproven);
	row(f, "duplicates", 0, v->duplicates, v->duplicates == 0);
	row(f, "out of order", 0, v->disorders, v->disorders == 0);
	row(f, "torn or corrupt", 0, v->torn, v->torn == 0);
	row(f, "delivered though never sent", 0, v->unsent, v->unsent == 0);
	row(f, "gaps (numbers)", v->gap_expected, v->gap_actual, v->gap_expected == v->gap_actual);
	row(f, "resets", v->resets_expected, v->resets_actual, v->resets_expected == v->resets_actual);
	row(f, "lost though carried (failover loss)", 0, lost_carried(v), lost_carried(v) == 0);
	row(f, "overruns of this reader", 0, v->overruns, v->overruns == 0 || allow_overruns);
	if (v->overrun_inexact > 0)
		row(f, "overruns with a wrong count", 0, v->overrun_inexact, false);
}

static void text_notes(FILE *f, const struct mdbus_verdict *v)
{
	if (v->gap_expected > 0 || v->gap_carried > 0)
		fprintf(f,
		        "  in gaps: %" PRIu64 " lost on all lines, %" PRIu64 " never sent by the source, %" PRIu64
		        " carried only by a line that was down, %" PRIu64 " carried by a line that was up\n",
		        v->gap_lost, v->gap_never_sent, v->gap_down, v->gap_carried);
	if (v->edge_lost + v->edge_down > 0)
		fprintf(f,
		        "  at an end of an epoch, where no later number shows it: %" PRIu64 " lost on all lines, %" PRIu64
		        " carried only by a line that was down\n",
		        v->edge_lost, v->edge_down);
	if (v->before > 0)
		fprintf(f, "  %" PRIu64 " sent before this reader attached: not judged\n", v->before);
	if (v->overruns > 0)
		fprintf(f,
		        "  this reader was too slow for %" PRIu64 " records: the run proves nothing about them (%" PRIu64
		        " messages of the log)\n",
		        v->overruns, v->unproven);
}

static void text_faults(FILE *f, const char *channel, const struct mdbus_faults *faults)
{
	for (uint32_t i = 0; i < faults->n; i++) {
		const struct mdbus_fault *x = &faults->kept[i];

		fprintf(f, "  %s: %s: epoch %" PRIu64 ", %" PRIu64, channel, mdbus_fault_name(x->kind), x->epoch, x->seq);
		if (x->count > 1)
			fprintf(f, " and the %" PRIu64 " after it", x->count - 1u);
		if (x->kind == MDBUS_FAULT_LOST)
			fprintf(f, " (line mask 0x%" PRIx64 ", sent at %" PRIu64 " ns)", x->line_mask, x->time_ns);
		if (x->kind == MDBUS_FAULT_DISORDER)
			fprintf(f, " (due was epoch %" PRIu64 ", %" PRIu64 ")", x->due_epoch, x->due_seq);
		fputc('\n', f);
	}
	if (faults->n == MDBUS_FAULTS_KEPT)
		fprintf(f, "  %s: ... (only the first are shown)\n", channel);
}

static void text_channels(FILE *f, const struct mdbus_report_row *r, uint32_t nrow)
{
	fprintf(f, "  %-16s %10s %10s %6s %6s %6s %6s %11s %9s %6s %8s\n", "channel", "sent", "delivered", "dup", "order",
	        "torn", "unsent", "gaps", "resets", "lost", "overrun");
	for (uint32_t i = 0; i < nrow; i++) {
		const struct mdbus_verdict *v = r[i].verdict;

		fprintf(f,
		        "  %-16s %10" PRIu64 " %10" PRIu64 " %6" PRIu64 " %6" PRIu64 " %6" PRIu64 " %6" PRIu64 " %5" PRIu64
		        "/%-5" PRIu64 " %4" PRIu64 "/%-4" PRIu64 " %6" PRIu64 " %8" PRIu64 "  %s\n",
		        r[i].channel, v->sent, v->matched, v->duplicates, v->disorders, v->torn, v->unsent,
		        v->gap_expected, v->gap_actual, v->resets_expected, v->resets_actual, lost_carried(v),
		        v->overruns, v->pass ? "ok" : "WRONG");
	}
}

void mdbus_report_text(FILE *f, const struct mdbus_report_row *r, uint32_t nrow, const struct mdbus_verdict *sum,
                       bool allow_overruns)
{
	text_rows(f, sum, allow_overruns);
	text_notes(f, sum);
	if (nrow > 1) {
		fputc('\n', f);
		text_channels(f, r, nrow);
	}
	for (uint32_t i = 0; i < nrow; i++)
		text_faults(f, r[i].channel, &r[i].verdict->faults);
	if (sum->matched == 0)
		fprintf(f, "  nothing that was sent has been delivered: the run proves nothing\n");
	fprintf(f, "verdict: %s\n", sum->pass ? "PASS" : "FAIL");
}

/* ---- JSON ------------------------------------------------------------------------------------------------------ */

static void json_string(FILE *f, const char *s)
{
	char bounded[NAME_MAX_SHOWN], text[6u * NAME_MAX_SHOWN + 3u];

	snprintf(bounded, sizeof(bounded), "%s", s);
	*mdbus_put_json_string(text, bounded) = 0;
	fputs(text, f);
}

static void json_verdict(FILE *f, const struct mdbus_verdict *v)
{
	const struct {
		const char *name;
		uint64_t value;
	} field[] = {
		{ "sent", v->sent },
		{ "expected", expected(v) },
		{ "delivered", v->delivered },
		{ "matched", v->matched },
		{ "duplicates", v->duplicates },
		{ "out_of_order", v->disorders },
		{ "torn", v->torn },
		{ "unsent", v->unsent },
		{ "gaps_expected", v->gap_expected },
		{ "gaps", v->gap_actual },
		{ "gaps_lost_on_all_lines", v->gap_lost },
		{ "gaps_never_sent", v->gap_never_sent },
		{ "gaps_on_down_line", v->gap_down },
		{ "gaps_carried", v->gap_carried },
		{ "edge_lost_on_all_lines", v->edge_lost },
		{ "edge_on_down_line", v->edge_down },
		{ "edge_carried", v->edge_carried },
		{ "resets_expected", v->resets_expected },
		{ "resets", v->resets_actual },
		{ "lost_though_carried", lost_carried(v) },
		{ "overruns", v->overruns },
		{ "overruns_inexact", v->overrun_inexact },
		{ "unproven", v->unproven },
		{ "before_attach", v->before },
	};

	fprintf(f, "\"pass\":%s", v->pass ? "true" : "false");
	for (size_t i = 0; i < sizeof(field) / sizeof(field[0]); i++)
		fprintf(f, ",\"%s\":%" PRIu64, field[i].name, field[i].value);
}

static void json_faults(FILE *f, const struct mdbus_faults *faults)
{
	fprintf(f, ",\"faults\":[");
	for (uint32_t i = 0; i < faults->n; i++) {
		const struct mdbus_fault *x = &faults->kept[i];

		fprintf(f, "%s{\"kind\":\"%s\",\"epoch\":%" PRIu64 ",\"seq\":%" PRIu64 ",\"count\":%" PRIu64, i ? "," : "",
		        mdbus_fault_name(x->kind), x->epoch, x->seq, x->count);
		if (x->kind == MDBUS_FAULT_LOST)
			fprintf(f, ",\"line_mask\":%" PRIu64 ",\"time_ns\":%" PRIu64, x->line_mask, x->time_ns);
		if (x->kind == MDBUS_FAULT_DISORDER)
			fprintf(f, ",\"due_epoch\":%" PRIu64 ",\"due_seq\":%" PRIu64, x->due_epoch, x->due_seq);
		fputc('}', f);
	}
	fputc(']', f);
}

void mdbus_report_json(FILE *f, const struct mdbus_report_row *r, uint32_t nrow, const struct mdbus_verdict *sum)
{
	fputc('{', f);
	json_verdict(f, sum);
	fprintf(f, ",\"channels\":[");
	for (uint32_t i = 0; i < nrow; i++) {
		fprintf(f, "%s{\"channel\":", i ? "," : "");
		json_string(f, r[i].channel);
		fputc(',', f);
		json_verdict(f, r[i].verdict);
		json_faults(f, &r[i].verdict->faults);
		fputc('}', f);
	}
	fprintf(f, "]}\n");
}
