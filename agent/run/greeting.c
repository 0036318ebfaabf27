/*
 * greeting.c -- what a terminal shows first: announcements, and the message of the day.
 *
 * Announcements are asked for when a terminal opens, so they are current and an
 * agent that nobody enters asks for none.  Where the server does not answer in
 * a moment, the shell does not wait for it.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "run/agent.h"

#define ANSWER_MS 1500
#define MAX_MOTD 65536

/* A question of an SSH thread to the loop's; the last of the two frees it. */
typedef struct Question
{
	Agent *agent;
	pthread_mutex_t lock;
	pthread_cond_t answered;
	bool done;
	bool left; /* nobody waits any more */
	char *text; /* the answer */
} Question;

static void
question_free(Question *question)
{
	pthread_mutex_destroy(&question->lock);
	pthread_cond_destroy(&question->answered);
	free(question->text);
	free(question);
}

/* Lines end as a terminal wants them, whose own settings are not the shell's yet. */
static void
put_lines(FILE *out, const char *text, size_t size)
{
	for (size_t i = 0; i < size; i++)
	{
		if (text[i] == '\n' && (i == 0 || text[i - 1] != '\r'))
			fputc('\r', out);
		fputc(text[i], out);
	}
}

static char *
text_of(const Coder__Agent__V2__GetAnnouncementBannersResponse *response)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	if (out == NULL)
		return NULL;
	for (size_t i = 0; i < response->n_announcement_banners; i++)
	{
		const Coder__Agent__V2__BannerConfig *banner = response->announcement_banners[i];

		if (!banner->enabled || banner->message[0] == '\0')
			continue;
		put_lines(out, banner->message, strlen(banner->message));
		fputs("\r\n\r\n", out);
	}
	fclose(out);
	return text;
}

static void
settle(Question *question, char *text)
{
	bool left;

	pthread_mutex_lock(&question->lock);
	question->text = text;
	question->done = true;
	left = question->left;
	pthread_cond_signal(&question->answered);
	pthread_mutex_unlock(&question->lock);
	if (left)
		question_free(question);
}

static void
on_banners(void *arg, const uint8_t *data, size_t size, const char *error)
{
	Coder__Agent__V2__GetAnnouncementBannersResponse *response =
		error == NULL ? coder__agent__v2__get_announcement_banners_response__unpack(NULL, size, data) : NULL;
	char *text = response != NULL ? text_of(response) : NULL;

	if (response != NULL)
		coder__agent__v2__get_announcement_banners_response__free_unpacked(response, NULL);
	settle(arg, text);
}

static void
ask(void *arg)
{
	Question *question = arg;
	Coder__Agent__V2__GetAnnouncementBannersRequest request = CODER__AGENT__V2__GET_ANNOUNCEMENT_BANNERS_REQUEST__INIT;

	if (!agent_call(question->agent, "GetAnnouncementBanners", &request.base, on_banners, question))
		settle(question, NULL);
}

/* The announcements, or NULL. */
static char *
announcements(Agent *agent)
{
	Question *question = calloc(1, sizeof(*question));
	struct timespec until;
	char *text = NULL;
	bool done;

	if (question == NULL)
		return NULL;
	question->agent = agent;
	pthread_mutex_init(&question->lock, NULL);
	pthread_cond_init(&question->answered, NULL);
	if (!loop_post(agent->loop, ask, question))
	{
		question_free(question);
		return NULL;
	}
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += ANSWER_MS / 1000;
	until.tv_nsec += ANSWER_MS % 1000 * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	pthread_mutex_lock(&question->lock);
	while (!question->done && pthread_cond_timedwait(&question->answered, &question->lock, &until) != ETIMEDOUT)
		;
	done = question->done;
	question->left = true;
	if (done)
	{
		text = question->text;
		question->text = NULL;
	}
	pthread_mutex_unlock(&question->lock);
	if (done)
		question_free(question);
	return text;
}

/* The file's text, or "" where it is not wanted (~/.hushlogin) or cannot be read. */
static size_t
read_motd(Agent *agent, char *text, size_t size)
{
	char *hush = agent_expand("~/.hushlogin", true);
	char *path = NULL;
	FILE *file;
	size_t n = 0;

	pthread_mutex_lock(&agent->env_lock);
	if (agent->manifest != NULL && agent->manifest->motd_path[0] != '\0')
		path = agent_expand(agent->manifest->motd_path, true);
	pthread_mutex_unlock(&agent->env_lock);
	file = path != NULL && (hush == NULL || access(hush, F_OK) != 0) ? fopen(path, "re") : NULL;
	if (file != NULL)
	{
		n = fread(text, 1, size, file);
		fclose(file);
	}
	free(hush);
	free(path);
	return n;
}

char *
greeting_text(Agent *agent)
{
	char *banners = announcements(agent);
	char *motd = malloc(MAX_MOTD);
	size_t n = motd != NULL ? read_motd(agent, motd, MAX_MOTD) : 0;
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	if (out != NULL)
	{
		if (banners != NULL)
			fputs(banners, out);
		put_lines(out, motd, n);
		fclose(out);
	}
	free(banners);
	free(motd);
	if (text != NULL && text[0] == '\0')
	{
		free(text);
		text = NULL;
	}
	return text;
}
