/*
 * fuzz_agent_text.c -- texts that the agent parses: schedules of scripts, and
 * the kernel's list of sockets.  A schedule that parses is asked for a moment.
 */
#include <stdlib.h>

#include "run/cron.c"
#include "serve/ports.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const time_t moment = 1776297600;
	ListeningPort ports[PORTS_MAX];
	char *text = malloc(size + 1);
	struct tm tm;
	Cron cron;
	size_t n;

	memcpy(text, data, size);
	text[size] = '\0';
	if (cron_parse(&cron, text) && gmtime_r(&moment, &tm) != NULL)
		cron_matches(&cron, &tm);
	n = ports_parse(text, ports, PORTS_MAX);
	for (size_t i = 0; i < n; i++)
		if (ports[i].port == 0)
			abort(); /* a socket that listens has a port */
	free(text);
	return 0;
}
