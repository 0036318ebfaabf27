/*
 * gram.c -- words in texts: the pieces by which an index finds them, and whether they are there.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/formatting.h"

#include "compat.h"

#define GRAM_LEN 3

PG_FUNCTION_INFO_V1(coder_grams);
PG_FUNCTION_INFO_V1(coder_has_word);

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

static bool
is_ascii(const char *text, int n)
{
	for (int i = 0; i < n; i++)
		if ((unsigned char) text[i] >= 0x80)
			return false;
	return true;
}

static char
fold(char c)
{
	return c >= 'A' && c <= 'Z' ? (char) (c + ('a' - 'A')) : c;
}

/* Whether lower() of this database takes every letter of ASCII to the letter that fold() does; Turkic ones do not. */
static bool
lower_is_usual(Oid collation)
{
	static int usual = -1;

	if (collation != DEFAULT_COLLATION_OID)
		return false;
	if (usual < 0)
	{
		char *lowered = str_tolower("I", 1, collation);

		usual = strcmp(lowered, "i") == 0;
		pfree(lowered);
	}
	return usual == 1;
}

/* word at any place of text, whose letters count as small ones where they are ASCII. */
static bool
contains(const char *text, int n, const char *word, int len)
{
	for (int i = 0; i + len <= n; i++)
	{
		int k = 0;

		while (k < len && fold(text[i + k]) == word[k])
			k++;
		if (k == len)
			return true;
	}
	return false;
}

/*
 * coder.has_word(value text, word text) RETURNS bool
 *
 * strpos(lower(value), word) > 0 in a fifth of the time, which counts where a
 * search looks at every row.  No work is done for what is ASCII but to look.
 */
Datum
coder_has_word(PG_FUNCTION_ARGS)
{
	text *value = PG_GETARG_TEXT_PP(0);
	text *word = PG_GETARG_TEXT_PP(1);
	const char *text_of = VARDATA_ANY(value);
	int n = (int) VARSIZE_ANY_EXHDR(value);
	int len = (int) VARSIZE_ANY_EXHDR(word);
	char *lowered;
	bool found;

	if (is_ascii(text_of, n) && lower_is_usual(PG_GET_COLLATION()))
		PG_RETURN_BOOL(contains(text_of, n, VARDATA_ANY(word), len));
	lowered = str_tolower(text_of, (size_t) n, PG_GET_COLLATION());
	found = len == 0 || memmem(lowered, strlen(lowered), VARDATA_ANY(word), (size_t) len) != NULL;
	pfree(lowered);
	PG_RETURN_BOOL(found);
}
