/*
 * cron.h -- schedules: second minute hour day-of-month month [day-of-week].
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_RUN_CRON_H
#define AGENT_RUN_CRON_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define CRON_FIELDS 6

typedef struct Cron
{
	uint64_t bits[CRON_FIELDS]; /* bit n: the value n matches */
	bool any[CRON_FIELDS]; /* the field begins with * or ? */
} Cron;

/* False where text is not such a schedule. */
bool cron_parse(Cron *cron, const char *text);

bool cron_matches(const Cron *cron, const struct tm *tm);

#endif
