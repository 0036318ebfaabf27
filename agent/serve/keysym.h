/*
 * keysym.h -- keys as people and models name them, as X knows them.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_SERVE_KEYSYM_H
#define AGENT_SERVE_KEYSYM_H

#include <stddef.h>
#include <stdint.h>

#define KEYSYM_MAX_CHORD 8

/* Of a character of Unicode; 0: no key makes it. */
uint32_t keysym_of_char(uint32_t c);

/* Of a name ("Return", "ctrl", "F5", "é", "U20AC"); 0: there is none. */
uint32_t keysym_of_name(const char *name, size_t len);

/* The keys of "ctrl+shift+t", in order; 0: it is no such text, or has too many. */
size_t keysym_chord(const char *text, size_t len, uint32_t keys[static KEYSYM_MAX_CHORD]);

/* One character of UTF-8; how many bytes it has, 0 where they are none. */
size_t keysym_utf8(const char *text, size_t len, uint32_t *c);

#endif
