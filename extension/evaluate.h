/*
 * evaluate.h -- what the server asks the evaluator of templates
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_EVALUATE_H
#define CODER_EVALUATE_H

#include <stddef.h>
#include <time.h>

/* The answer of coder.template_tags() as text, to be freed; NULL when out of memory. */
extern char *evaluate_tags(const void *data, size_t len, const char *input, time_t now);

#endif /* CODER_EVALUATE_H */
