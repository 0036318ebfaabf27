/*
 * server_json.h -- the extension's JSON writer, for a program that knows nothing
 * of the server (whose headers have names in common with jansson's).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SERVER_JSON_H
#define SERVER_JSON_H

/* json_append_quoted and json_append_compact into fresh memory, of *n bytes; to be freed. */
extern char *server_json_quoted(const char *text, int len, int *n);
extern char *server_json_compact(const char *text, int len, int *n);

#endif
