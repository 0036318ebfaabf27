/*
 * client.c -- calls of the server's API.
 *
 * One connection serves all calls of a command.
 *
 * SPDX-License-Identifier: MIT
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "net/net.h"
#include "version.h"

#define TIMEOUT_MS 60000

static NetConn connection = {.fd = -1};

void
cli_need_login(Cli *cli)
{
	if (cli->url == NULL || cli->token == NULL)
		cli_fail("you are not signed in; sign in with \"coder login URL\"");
}

char *
cli_escape(const char *text)
{
	char *escaped = malloc(strlen(text) * 3 + 1);
	char *p = escaped;

	if (escaped == NULL)
		abort();
	for (; *text != '\0'; text++)
		if (isalnum((unsigned char) *text) || strchr("-_.~", *text) != NULL)
			*p++ = *text;
		else
			p += sprintf(p, "%%%02X", (unsigned char) *text);
	*p = '\0';
	return escaped;
}

CliAnswer
cli_call_raw(Cli *cli, const char *method, const char *path, const char *type, const void *body, size_t size)
{
	CliAnswer answer = {0};
	NetResponse response;
	NetUrl url;
	char error[300];
	char *full = cli_format("%s%s", cli->url, path);
	char *headers = cli_format("User-Agent: coder-cli/%s\r\nAccept: application/json\r\n%s%s%s%s%s%s",
							   CODER_VERSION,
							   cli->token ? "Coder-Session-Token: " : "",
							   cli->token ? cli->token : "",
							   cli->token ? "\r\n" : "",
							   type ? "Content-Type: " : "",
							   type ? type : "",
							   type ? "\r\n" : "");

	if (!net_url_parse(&url, full))
		cli_fail("\"%s\" is not the address of a server", cli->url);
	if (cli->token != NULL && strpbrk(cli->token, "\r\n") != NULL)
		cli_fail("the session token has a line break");
	if (net_request(&connection, &url, method, headers, body, size, TIMEOUT_MS, &response, error, sizeof(error)) != 0)
		answer.problem = cli_format("%s", error);
	else
	{
		answer.status = response.status;
		answer.body = response.body;
		answer.size = response.size;
		answer.build_version = response.build_version;
		answer.json = response.size > 0 ? json_loadb(response.body, response.size, JSON_DECODE_ANY, NULL) : NULL;
		free(response.location);
	}
	free(headers);
	free(full);
	return answer;
}

CliAnswer
cli_call(Cli *cli, const char *method, const char *path, const json_t *body)
{
	char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
	CliAnswer answer =
		cli_call_raw(cli, method, path, text ? "application/json" : NULL, text, text ? strlen(text) : 0);

	free(text);
	return answer;
}

void
cli_fail_answer(const CliAnswer *answer)
{
	json_t *validation;
	size_t i;

	if (answer->status == 0)
		cli_fail("%s", answer->problem);
	if (js_text(answer->json, "message")[0] == '\0')
		cli_fail("the server answered %d", answer->status);
	fprintf(stderr, "error: %s\n", js_text(answer->json, "message"));
	json_array_foreach(js_at(answer->json, "validations"), i, validation)
	{
		fprintf(stderr, "  %s: %s\n", js_text(validation, "field"), js_text(validation, "detail"));
	}
	if (js_text(answer->json, "detail")[0] != '\0')
		fprintf(stderr, "  %s\n", js_text(answer->json, "detail"));
	if (answer->status == 401)
		fprintf(stderr, "Sign in again with \"coder login\".\n");
	exit(1);
}

json_t *
cli_send(Cli *cli, const char *method, const char *path, const json_t *body)
{
	CliAnswer answer = cli_call(cli, method, path, body);

	if (answer.status < 200 || answer.status > 299)
		cli_fail_answer(&answer);
	free(answer.body);
	free(answer.build_version);
	return answer.json;
}

json_t *
cli_get(Cli *cli, const char *path)
{
	return cli_send(cli, "GET", path, NULL);
}
