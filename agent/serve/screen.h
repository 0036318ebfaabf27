/*
 * screen.h -- pictures of a screen: made smaller, and as PNG.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_SERVE_SCREEN_H
#define AGENT_SERVE_SCREEN_H

#include <stddef.h>
#include <stdint.h>

#define SCREEN_MAX_SIDE 8192

/* pixels of four bytes (blue, green, red, nothing) as to_w * to_h of three (red, green, blue); malloc'ed, NULL out of memory. */
uint8_t *screen_scale(const uint8_t *pixels, int w, int h, int to_w, int to_h);

/* pixels of three bytes as PNG; malloc'ed, NULL out of memory. */
uint8_t *screen_png(const uint8_t *rgb, int w, int h, size_t *len);

/* As base64, NUL-terminated; malloc'ed, NULL out of memory. */
char *screen_base64(const uint8_t *data, size_t len);

#endif
