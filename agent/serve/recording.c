/*
 * recording.c -- films of the desktop: ffmpeg takes them, who stops one is given it.
 *
 * A film is H.264 in MP4, of at most 100 MiB, with its last picture as JPEG.  ffmpeg ends well when it is interrupted; one that
 * nobody stops ends when the desktop has not been used for ten minutes, or with the desktop.
 *
 * SPDX-License-Identifier: MIT
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "serve/child.h"
#include "serve/desktop.h"
#include "serve/http.h"

#define MAX_RUNNING 5
#define MAX_KEPT 5
#define MAX_VIDEO ((size_t) 100 << 20)
#define MAX_PICTURE ((size_t) 10 << 20)
#define STOP_MS 30000
#define IDLE_MS 600000

typedef struct Recording
{
	struct Recording *next;
	char id[37];
	char video[128];
	char picture[128];
	Child child;
	LoopTimer timer; /* looks whether the desktop is used; of a stop, its limit */
	bool stopping;
	bool killed;
	bool forgotten; /* freed when it has ended */
	Request *waiting[4];
} Recording;

static Recording *recordings; /* the newest first */

static bool
is_uuid(const char *id)
{
	for (int i = 0; i < 36; i++)
		if (i == 8 || i == 13 || i == 18 || i == 23 ? id[i] != '-' : strchr("0123456789abcdefABCDEF", id[i]) == NULL || id[i] == '\0')
			return false;
	return id[36] == '\0';
}

static void
drop_files(const Recording *r)
{
	unlink(r->video);
	unlink(r->picture);
}

static void
recording_free(Recording *r)
{
	drop_files(r);
	loop_timer_stop(&r->timer);
	free(r);
}

static Recording *
find(const char *id)
{
	for (Recording *r = recordings; r != NULL; r = r->next)
		if (strcasecmp(r->id, id) == 0)
			return r;
	return NULL;
}

static void
unlink_recording(Recording *r)
{
	for (Recording **link = &recordings; *link != NULL; link = &(*link)->next)
		if (*link == r)
		{
			*link = r->next;
			break;
		}
}

/* It is nobody's any more. */
static void
forget(Recording *r)
{
	unlink_recording(r);
	if (r->child.running)
	{
		r->forgotten = true;
		command_kill(&r->child.process, SIGKILL);
	}
	else
		recording_free(r);
}

/* What is given back ----------------------------------------------------------------- */

static size_t
file_size(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && st.st_size > 0 ? (size_t) st.st_size : 0;
}

/* Reads a file of that size to the end of text; false where it is another by now. */
static bool
append_file(char *text, size_t *len, const char *path, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t done = 0;
	ssize_t n = 1;

	while (fd >= 0 && done < size && n > 0)
	{
		n = read(fd, text + *len + done, size - done);
		done += n > 0 ? (size_t) n : 0;
	}
	if (fd >= 0)
		close(fd);
	*len += done;
	return done == size;
}

static void
give(const Recording *r, Request *request)
{
	size_t video = file_size(r->video);
	size_t picture = file_size(r->picture);
	unsigned char random[16];
	char boundary[33];
	char type[80];
	char *body;
	size_t len;
	bool ok;

	if (picture > MAX_PICTURE)
		picture = 0;
	body = malloc(video + picture + 512);
	if (body == NULL || getrandom(random, sizeof(random), 0) != (ssize_t) sizeof(random))
	{
		free(body);
		http_reply_error(request, 500, "Failed to stop recording.", "out of memory");
		return;
	}
	for (size_t i = 0; i < sizeof(random); i++)
		sprintf(boundary + 2 * i, "%02x", random[i]);
	len = (size_t) sprintf(body, "--%s\r\nContent-Type: video/mp4\r\n\r\n", boundary);
	ok = append_file(body, &len, r->video, video);
	if (ok && picture > 0)
	{
		len += (size_t) sprintf(body + len, "\r\n--%s\r\nContent-Type: image/jpeg\r\n\r\n", boundary);
		ok = append_file(body, &len, r->picture, picture);
	}
	len += (size_t) sprintf(body + len, "\r\n--%s--\r\n", boundary);
	snprintf(type, sizeof(type), "multipart/mixed; boundary=%s", boundary);
	if (ok)
		http_reply_bytes(request, 200, type, body, len);
	else
		http_reply_error(request, 500, "Failed to stop recording.", "the film cannot be read");
	free(body);
}

/* It has ended: what came of it. */
static void
answer(const Recording *r, Request *request)
{
	size_t video = file_size(r->video);
	char words[256];

	if (r->killed)
		http_reply_error(request, 500, "Recording is corrupted.", "ffmpeg did not end when it was asked to");
	else if (video == 0)
		http_reply_error(request, 500, "Failed to stop recording.", child_last_words(&r->child, words, sizeof(words)));
	else if (video > MAX_VIDEO)
		http_reply_message(request, 413, "Recording file exceeds maximum allowed size.");
	else
		give(r, request);
}

static void
on_ended(Child *child, int status)
{
	Recording *r = (Recording *) (void *) ((char *) child - offsetof(Recording, child));

	(void) status;
	loop_timer_stop(&r->timer);
	if (r->forgotten)
	{
		recording_free(r);
		return;
	}
	for (size_t i = 0; i < sizeof(r->waiting) / sizeof(r->waiting[0]); i++)
		if (r->waiting[i] != NULL)
		{
			Request *request = r->waiting[i];

			r->waiting[i] = NULL;
			answer(r, request);
			http_resume(request);
		}
}

/* Stopping -------------------------------------------------------------------------- */

static void
stop(Recording *r)
{
	if (r == NULL || r->stopping || !r->child.running)
		return;
	r->stopping = true;
	command_kill(&r->child.process, SIGINT);
	loop_timer_start(&r->timer, STOP_MS);
}

static void
on_time(void *arg)
{
	Recording *r = arg;
	int64_t idle = (loop_clock() - desktop_last_use()) / 1000000;

	if (r->stopping)
	{
		r->killed = true;
		command_kill(&r->child.process, SIGKILL);
	}
	else if (idle >= IDLE_MS)
		stop(r);
	else
		loop_timer_start(&r->timer, IDLE_MS - idle);
}

static void
on_gone(void *arg)
{
	for (Recording *r = recordings; r != NULL; r = r->next)
		for (size_t i = 0; i < sizeof(r->waiting) / sizeof(r->waiting[0]); i++)
			if (r->waiting[i] == arg)
				r->waiting[i] = NULL;
}

/* Requests -------------------------------------------------------------------------- */

/* The id that the body names, malloc'ed; NULL: the request is answered. */
static char *
read_id(Request *request)
{
	size_t len;
	const char *text = http_body(request, &len);
	json_error_t where;
	json_t *body = json_loadb(text, len, 0, &where);
	const char *id = json_string_value(json_object_get(body, "recording_id"));
	char *copy = NULL;

	if (!json_is_object(body))
		http_reply_error(request, 400, "Failed to decode request body.", body == NULL ? where.text : "It is no object.");
	else if (id == NULL || *id == '\0')
		http_reply_message(request, 400, "Missing recording_id.");
	else if (!is_uuid(id))
		http_reply_error(request, 400, "Invalid recording_id format.", "recording_id must be a valid UUID.");
	else
		copy = strdup(id);
	json_decref(body);
	return copy;
}

/* Of those that have ended only some are kept. */
static int
tidy(void)
{
	int running = 0;
	int kept = 0;
	Recording *next;

	for (Recording *r = recordings; r != NULL; r = next)
	{
		next = r->next;
		if (r->child.running && !r->stopping)
			running++;
		else if (r->child.running)
			continue;
		else if (++kept > MAX_KEPT)
			forget(r);
	}
	return running;
}

/* One that nobody has stopped: who waited for it may be gone. */
static Recording *
oldest_running(void)
{
	Recording *oldest = NULL;

	for (Recording *r = recordings; r != NULL; r = r->next)
		if (r->child.running && !r->stopping)
			oldest = r;
	return oldest;
}

/* ffmpeg, interrupted, ends the film; the shell lives on and has a picture made of its end. */
static bool
film(Recording *r, Agent *agent, const char *ffmpeg, char *error, size_t size)
{
	char command[4096];
	char display[32];
	char authority[128];
	const char *const env[] = {display, authority, NULL};
	int w, h;

	desktop_size(&w, &h);
	snprintf(display, sizeof(display), "DISPLAY=%s", desktop_display());
	snprintf(authority, sizeof(authority), "XAUTHORITY=%s", desktop_authority());
	snprintf(command, sizeof(command),
			 "trap : INT; '%s' -nostdin -loglevel error -y -f x11grab -framerate 10 -video_size %dx%d -i %s -vf mpdecimate,scale=1280:-2 -vsync vfr"
			 " -c:v libx264 -preset veryfast -crf 30 -pix_fmt yuv420p -movflags +faststart -fs %zu '%s';"
			 " '%s' -nostdin -loglevel quiet -y -sseof -2 -i '%s' -update 1 -q:v 5 '%s' || '%s' -nostdin -loglevel quiet -y -i '%s' -frames:v 1 '%s'; :",
			 ffmpeg, w, h, desktop_display(), MAX_VIDEO - ((size_t) 1 << 20), r->video, ffmpeg, r->video, r->picture, ffmpeg, r->video, r->picture);
	r->child.ended = on_ended;
	return child_start(&r->child, agent, command, env, error, size);
}

/* The desktop is there, or cannot be. */
typedef struct Beginning
{
	Request *request;
	Agent *agent;
	char *id;
} Beginning;

static void
begin_film(Beginning *b, const char *ffmpeg)
{
	Recording *r = find(b->id);
	char error[256] = "out of memory";

	if (r != NULL && r->child.running && !r->stopping)
	{
		http_reply_message(b->request, 200, "Recording started.");
		return;
	}
	if (r != NULL)
		forget(r);
	if (tidy() >= MAX_RUNNING)
		stop(oldest_running());
	r = calloc(1, sizeof(*r));
	if (r == NULL)
	{
		http_reply_error(b->request, 500, "Failed to start recording.", error);
		return;
	}
	snprintf(r->id, sizeof(r->id), "%s", b->id);
	snprintf(r->video, sizeof(r->video), "%s/%s.mp4", desktop_folder(), r->id);
	snprintf(r->picture, sizeof(r->picture), "%s/%s.jpg", desktop_folder(), r->id);
	drop_files(r);
	loop_timer_init(&r->timer, b->agent->loop, on_time, r);
	if (!film(r, b->agent, ffmpeg, error, sizeof(error)))
	{
		http_reply_error(b->request, 500, "Failed to start recording.", error);
		recording_free(r);
		return;
	}
	r->next = recordings;
	recordings = r;
	loop_timer_start(&r->timer, IDLE_MS);
	http_reply_message(b->request, 200, "Recording started.");
}

static void
on_desktop(void *arg, const char *why)
{
	Beginning *b = arg;
	char ffmpeg[256];

	if (b->request != NULL)
	{
		if (why != NULL)
			http_reply_error(b->request, 500, "Failed to start recording.", why);
		else if (!child_find("ffmpeg", ffmpeg, sizeof(ffmpeg)))
			http_reply_error(b->request, 500, "Failed to start recording.", "There is no ffmpeg in this workspace. Install it, for example: sudo apt-get install ffmpeg");
		else
			begin_film(b, ffmpeg);
		http_resume(b->request);
	}
	free(b->id);
	free(b);
}

static void
on_beginning_gone(void *arg)
{
	Beginning *b = arg;

	b->request = NULL;
}

void
recording_start(Request *request)
{
	char *id = read_id(request);
	Beginning *b = id != NULL ? calloc(1, sizeof(*b)) : NULL;

	if (b == NULL)
	{
		free(id);
		return;
	}
	*b = (Beginning){request, http_agent(request), id};
	http_wait(request, STOP_MS, on_beginning_gone, b);
	desktop_want(b->agent, on_desktop, b);
}

void
recording_stop(Request *request)
{
	char *id = read_id(request);
	Recording *r = id != NULL ? find(id) : NULL;
	size_t i = 0;

	if (id != NULL && r == NULL)
		http_reply_error(request, 404, "Recording not found.", "unknown recording ID");
	else if (r != NULL && !r->child.running)
		answer(r, request);
	else if (r != NULL)
	{
		while (i < sizeof(r->waiting) / sizeof(r->waiting[0]) && r->waiting[i] != NULL)
			i++;
		if (i == sizeof(r->waiting) / sizeof(r->waiting[0]))
			http_reply_message(request, 429, "Too many wait for this recording already.");
		else
		{
			r->waiting[i] = request;
			http_wait(request, STOP_MS + 5000, on_gone, request);
			stop(r);
		}
	}
	free(id);
}

void
recording_desktop_ended(void)
{
	for (Recording *r = recordings; r != NULL; r = r->next)
		stop(r);
}
