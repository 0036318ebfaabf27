/*
 * hcl_func.h -- what functions of the configuration language share
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_HCL_FUNC_H
#define CODER_HCL_FUNC_H

#include "provisioner/hcl.h"

typedef struct HclCall
{
	HclCtx *ctx;
	const HclExpr *e;
	HclValue **args;
	size_t n;
} HclCall;

typedef struct HclFunction
{
	const char *name;
	HclValue *(*fn)(HclCall *c);
	int min;
	int max;	   /* -1: any number */
	bool unknowns; /* looks at unknown arguments itself */
	bool marks;	   /* decides itself whether the answer is sensitive */
} HclFunction;

/* A file's functions, sorted by name. */
typedef struct HclFunctions
{
	const HclFunction *rows;
	size_t n;
} HclFunctions;

#define HCL_FUNCTIONS(list)                                                                        \
	{                                                                                              \
		(list), sizeof(list) / sizeof((list)[0])                                                   \
	}

extern const HclFunctions hcl_number_functions;
extern const HclFunctions hcl_text_functions;
extern const HclFunctions hcl_list_functions;
extern const HclFunctions hcl_code_functions;

/* Ends the evaluation: what is wrong with this call. */
_Noreturn void hcl_bad_call(HclCall *c, const char *what);

/* Argument i as the type that the function needs; raises where it is another. */
HclValue *hcl_arg_text(HclCall *c, size_t i);
long double hcl_arg_number(HclCall *c, size_t i);
long hcl_arg_integer(HclCall *c, size_t i);
HclValue *hcl_arg_list(HclCall *c, size_t i);
HclValue *hcl_arg_object(HclCall *c, size_t i);

HclValue *hcl_answer_list(HclCall *c, const HclVec *vec);
HclValue *hcl_answer_text(HclCall *c, const char *s);

/* Is ch one of the ASCII characters of set? */
bool hcl_in_cutset(char ch, const char *set);

/* Bytes of the character that starts at s. */
size_t hcl_char_len(const char *s, size_t left);

/* Characters, not bytes. */
size_t hcl_count_chars(const HclValue *s);

/* The value as compact JSON; raises where it cannot be written. */
void hcl_append_json(HclCall *c, HclBuf *out, const HclValue *v);

#endif
