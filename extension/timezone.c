/*
 * timezone.c -- is it the name of a time zone?
 *
 * pg_timezone_names reads every file of the time zone database at each look, which
 * takes tens of milliseconds; schedules are parsed by the thousand.  Here each backend
 * does it once.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "fmgr.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "compat.h"

PG_FUNCTION_INFO_V1(coder_timezone_known);

static HTAB *zones;

static HTAB *
read_zones(void)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "coder time zones", ALLOCSET_SMALL_SIZES);
	HASHCTL ctl = {.keysize = TZ_STRLEN_MAX + 1, .entrysize = TZ_STRLEN_MAX + 1, .hcxt = context};
	HTAB *table = hash_create("coder time zones", 1024, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	pg_tzenum *all = pg_tzenumerate_start();
	pg_tz *zone;

	while ((zone = pg_tzenumerate_next(all)) != NULL)
		(void) hash_search(table, pg_get_timezone_name(zone), HASH_ENTER, NULL);
	pg_tzenumerate_end(all);
	return table;
}

/*
 * coder.timezone_known(name text) RETURNS boolean
 *
 * In upper and lower case as it is written in the time zone database.
 */
Datum
coder_timezone_known(PG_FUNCTION_ARGS)
{
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));

	if (strlen(name) > TZ_STRLEN_MAX)
		PG_RETURN_BOOL(false);
	if (zones == NULL)
		zones = read_zones();
	PG_RETURN_BOOL(hash_search(zones, name, HASH_FIND, NULL) != NULL);
}
