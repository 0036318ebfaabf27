/*
 * gram.c -- the pieces of a text, by which an index finds what contains a word.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "compat.h"

#define GRAM_LEN 3

PG_FUNCTION_INFO_V1(coder_grams);

static int
compare_grams(const void *a, const void *b)
{
	int32 x = DatumGetInt32(*(const Datum *) a);
	int32 y = DatumGetInt32(*(const Datum *) b);

	return (x > y) - (x < y);
}

/* Sorted, each once; the number that is left. */
static int
unique_grams(Datum *grams, int n)
{
	int kept = 0;

	qsort(grams, n, sizeof(Datum), compare_grams);
	for (int i = 0; i < n; i++)
		if (kept == 0 || grams[i] != grams[kept - 1])
			grams[kept++] = grams[i];
	return kept;
}

/*
 * coder.grams(value text) RETURNS int4[]
 *
 * All runs of three bytes of the text, as numbers: a text that contains another
 * has all of that one's.  Shorter ones have none.
 */
Datum
coder_grams(PG_FUNCTION_ARGS)
{
	text *value = PG_GETARG_TEXT_PP(0);
	const uint8 *bytes = (const uint8 *) VARDATA_ANY(value);
	int n = (int) VARSIZE_ANY_EXHDR(value) - GRAM_LEN + 1;
	Datum *grams;

	if (n <= 0)
		PG_RETURN_ARRAYTYPE_P(construct_empty_array(INT4OID));
	grams = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
		grams[i] = Int32GetDatum((int32) bytes[i] << 16 | bytes[i + 1] << 8 | bytes[i + 2]);
	n = unique_grams(grams, n);
	PG_RETURN_ARRAYTYPE_P(
		construct_array(grams, n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
}
