/*
 * desktop.c -- the X server of the virtual desktop, who looks at it, and what is done on it.
 *
 *   down -> starting (the server tells its display) -> joining (our own RFB connection) -> up
 *
 * The server listens on a socket in a folder that only the agent's user can enter; there is no password beyond that, and none
 * is needed for the display but the key in that folder.  When it ends it is begun again by whoever wants it next.  Viewers are
 * joined to the socket byte by byte; actions are done one after the other over a connection of our own.
 *
 * SPDX-License-Identifier: MIT
 */
#include "serve/desktop.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "serve/child.h"
#include "serve/deskaction.h"
#include "serve/http.h"
#include "serve/rfb.h"
#include "serve/screen.h"
#include "serve/ws.h"

#define WIDTH 1920
#define HEIGHT 1080
#define START_MS 15000
#define ANSWER_MS 30000 /* for an action, besides its own time */
#define MAX_ACTIONS 32
#define MAX_VIEWERS 16
#define VIEW_BUFFER ((size_t) 1 << 20)
#define FOLDER "coder-desktop-"

typedef enum DesktopState
{
	DOWN,
	STARTING,
	JOINING,
	UP
} DesktopState;

typedef struct Waiter
{
	struct Waiter *next;
	void (*ready)(void *arg, const char *why);
	void *arg;
} Waiter;

typedef struct Viewer
{
	struct Viewer *next;
	ServeWs *ws;
	int fd;
	LoopFd *watch;
	uint8_t *out;
	size_t out_len;
	bool paused; /* its WebSocket is full */
} Viewer;

typedef struct Doing
{
	struct Doing *next;
	Request *request; /* NULL: nobody waits for it any more */
	DeskAction action;
	size_t at; /* the next step */
	bool begun, asked, drawing;
	bool repeated; /* the desktop had died under it */
} Doing;

/* A picture that is being made, on a thread. */
typedef struct Drawing
{
	Doing *doing;
	Loop *loop;
	uint8_t *pixels;
	int w, h, to_w, to_h;
	char *base64;
} Drawing;

static struct
{
	Agent *agent;
	DesktopState state;
	bool again; /* it begins when the one before has ended */
	Child server;
	Child manager;
	char folder[64];
	int lock; /* on the folder, while we live */
	char socket[100];
	char authority[100];
	char display[16];
	LoopTimer timer; /* of the start */
	Waiter *waiters;
	int fd; /* our own connection */
	LoopFd *watch;
	Rfb rfb;
	unsigned buttons; /* that we hold */
	Viewer *viewers;
	Doing *doing; /* the first is done, the others wait */
	LoopTimer step_timer;
	int64_t used;
} desk = {.lock = -1, .fd = -1};

static void pump(void);
static void act(void *arg, const char *why);

/* Asking for it ------------------------------------------------------------------- */

static void
tell_waiters(const char *why)
{
	Waiter *all = desk.waiters;

	desk.waiters = NULL;
	while (all != NULL)
	{
		Waiter *waiter = all;

		all = waiter->next;
		waiter->ready(waiter->arg, why);
		free(waiter);
	}
}

void
desktop_forget(void *arg)
{
	for (Waiter **link = &desk.waiters; *link != NULL; link = &(*link)->next)
		if ((*link)->arg == arg)
		{
			Waiter *waiter = *link;

			*link = waiter->next;
			free(waiter);
			return;
		}
}

const char *
desktop_display(void)
{
	return desk.state == UP ? desk.display : NULL;
}

const char *
desktop_authority(void)
{
	return desk.authority;
}

const char *
desktop_folder(void)
{
	return desk.folder;
}

void
desktop_size(int *width, int *height)
{
	*width = desk.rfb.width;
	*height = desk.rfb.height;
}

void
desktop_used(void)
{
	desk.used = loop_clock();
}

int64_t
desktop_last_use(void)
{
	return desk.used;
}

/* Files --------------------------------------------------------------------------- */

/* Removes a folder of ours with its files; there are no folders in it. */
static void
remove_folder(const char *path)
{
	DIR *dir = opendir(path);

	for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir != NULL)
		closedir(dir);
	rmdir(path);
}

/* Does nobody hold it?  An agent with other numbers of processes, as one in a container, looks like none by its number. */
static bool
is_left(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	bool left = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;

	if (fd >= 0)
		close(fd);
	return left;
}

void
desktop_sweep(void)
{
	DIR *tmp = opendir("/tmp");

	for (struct dirent *entry; tmp != NULL && (entry = readdir(tmp)) != NULL;)
	{
		char path[300];
		struct stat st;
		long pid;

		if (strncmp(entry->d_name, FOLDER, strlen(FOLDER)) != 0)
			continue;
		pid = strtol(entry->d_name + strlen(FOLDER), NULL, 10);
		snprintf(path, sizeof(path), "/tmp/%.255s", entry->d_name);
		if (pid > 0 && pid != getpid() && kill((pid_t) pid, 0) != 0 && errno == ESRCH && lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == getuid() && is_left(path))
			remove_folder(path);
	}
	if (tmp != NULL)
		closedir(tmp);
}

/* A folder that nobody else may enter. */
static bool
make_folder(char *error, size_t size)
{
	struct stat st;

	desktop_sweep();
	snprintf(desk.folder, sizeof(desk.folder), "/tmp/" FOLDER "%ld", (long) getpid());
	snprintf(desk.socket, sizeof(desk.socket), "%s/vnc", desk.folder);
	snprintf(desk.authority, sizeof(desk.authority), "%s/authority", desk.folder);
	if (mkdir(desk.folder, 0700) != 0 && errno != EEXIST)
	{
		snprintf(error, size, "%s: %s", desk.folder, strerror(errno));
		return false;
	}
	if (lstat(desk.folder, &st) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != getuid() || (st.st_mode & 077) != 0)
	{
		snprintf(error, size, "%s is somebody else's", desk.folder);
		return false;
	}
	if (desk.lock >= 0)
		close(desk.lock); /* /tmp may have been emptied meanwhile */
	desk.lock = open(desk.folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (desk.lock < 0 || flock(desk.lock, LOCK_EX | LOCK_NB) != 0)
	{
		snprintf(error, size, "%s: %s", desk.folder, strerror(errno));
		return false;
	}
	unlink(desk.socket);
	return true;
}

/* The key to the display, for whatever name it is called by. */
static bool
write_authority(void)
{
	static const char method[18] = "MIT-MAGIC-COOKIE-1";
	unsigned char entry[2 + 2 + 2 + 2 + sizeof(method) + 2 + 16] = {0xff, 0xff, 0, 0, 0, 0, 0, sizeof(method)};
	FILE *file;
	bool ok;

	memcpy(entry + 8, method, sizeof(method));
	entry[8 + sizeof(method) + 1] = 16;
	if (getrandom(entry + sizeof(entry) - 16, 16, 0) != 16)
		return false;
	unlink(desk.authority);
	file = fopen(desk.authority, "wxe");
	if (file == NULL)
		return false;
	ok = fchmod(fileno(file), 0600) == 0 && fwrite(entry, sizeof(entry), 1, file) == 1;
	return fclose(file) == 0 && ok;
}

/* Its end ------------------------------------------------------------------------- */

static void
doing_reply(Doing *doing, int status, json_t *answer)
{
	if (doing->request == NULL)
		json_decref(answer);
	else
	{
		http_reply_json(doing->request, status, answer);
		http_resume(doing->request);
	}
	doing->request = NULL;
}

static void
doing_free(Doing *doing)
{
	deskaction_free(&doing->action);
	free(doing);
}

/* Has nothing of it been done, so that it can be done on another desktop? */
static bool
may_repeat(const Doing *doing)
{
	return !doing->repeated && doing->request != NULL && (!doing->begun || doing->action.is_screenshot || doing->action.is_position);
}

static void
repeat(Doing *doing)
{
	doing->repeated = true;
	doing->asked = false;
	doing->at = 0;
}

/* All that is to be done cannot be, but for what may be done again. */
static void
fail_doing(const char *message, const char *why, bool again)
{
	Doing **link = &desk.doing;

	while (*link != NULL)
	{
		Doing *doing = *link;

		if (again && !doing->drawing && may_repeat(doing))
		{
			repeat(doing);
			link = &doing->next;
			continue;
		}
		doing_reply(doing, 500, json_pack("{s:s, s:s}", "message", message, "detail", why));
		if (doing->drawing)
			link = &doing->next; /* its thread ends it */
		else
		{
			*link = doing->next;
			doing_free(doing);
		}
	}
}

static void
close_connection(void)
{
	if (desk.watch != NULL)
		loop_fd_del(desk.watch);
	desk.watch = NULL;
	if (desk.fd >= 0)
		close(desk.fd);
	desk.fd = -1;
	rfb_free(&desk.rfb);
	desk.buttons = 0;
}

/* Without the X server there is nothing. */
static void
go_down(const char *message, const char *why)
{
	bool again = desk.state == UP && !desk.agent->stopping;

	desk.state = DOWN;
	desk.again = false;
	loop_timer_stop(&desk.timer);
	loop_timer_stop(&desk.step_timer);
	close_connection();
	if (desk.server.running)
		command_kill(&desk.server.process, SIGTERM);
	if (desk.manager.running)
		command_kill(&desk.manager.process, SIGTERM);
	agent_log(desk.agent, "the desktop is down: %s", why);
	recording_desktop_ended();
	fail_doing(message, why, again);
	tell_waiters(why);
	if (again && desk.doing != NULL && !desk.doing->drawing)
		desktop_want(desk.agent, act, NULL);
}

static void start(Agent *agent);

static void
on_server_ended(Child *child, int status)
{
	char words[256];
	char why[400];

	if (desk.again)
	{
		desk.again = false;
		start(desk.agent);
		return;
	}
	if (desk.state == DOWN)
		return;
	child_last_words(child, words, sizeof(words));
	snprintf(why, sizeof(why), "the X server has ended with status %d: %s", status, words);
	go_down(desk.state == UP ? "The desktop has ended." : "Failed to start desktop session.", why);
}

static void
on_manager_ended(Child *child, int status)
{
	(void) child;
	(void) status;
}

/* Our own connection ---------------------------------------------------------------- */

static int
dial_server(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", desk.socket);
	if (fd >= 0 && connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0)
	{
		close(fd);
		fd = -1;
	}
	return fd;
}

static void
flush(void)
{
	size_t sent = 0;

	while (desk.fd >= 0 && sent < desk.rfb.out_len)
	{
		ssize_t n = send(desk.fd, desk.rfb.out + sent, desk.rfb.out_len - sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break; /* a full socket, or an end that reading tells */
		sent += (size_t) n;
	}
	if (sent > 0)
		memmove(desk.rfb.out, desk.rfb.out + sent, desk.rfb.out_len - sent);
	desk.rfb.out_len -= sent;
	if (desk.watch != NULL)
		loop_fd_set(desk.watch, EPOLLIN | (desk.rfb.out_len > 0 ? EPOLLOUT : 0));
}

/* What manages windows, where there is something that does. */
static void
start_manager(void)
{
	static const char *const known[] = {"openbox", "xfwm4", "icewm", "fluxbox", "matchbox-window-manager", "jwm", "twm"};
	const char *own = getenv("CODER_AGENT_DESKTOP_COMMAND");
	char display[32];
	char authority[128];
	const char *const env[] = {display, authority, NULL};
	char path[4096];
	char command[4200] = "";
	char error[256];

	snprintf(display, sizeof(display), "DISPLAY=%s", desk.display);
	snprintf(authority, sizeof(authority), "XAUTHORITY=%s", desk.authority);
	if (desk.manager.running)
		return;
	if (own != NULL && *own != '\0')
		snprintf(command, sizeof(command), "%s", own);
	for (size_t i = 0; *command == '\0' && i < sizeof(known) / sizeof(known[0]); i++)
		if (child_find(known[i], path, sizeof(path)))
			snprintf(command, sizeof(command), "exec '%s'", path);
	desk.manager.ended = on_manager_ended;
	if (*command != '\0' && !child_start(&desk.manager, desk.agent, command, env, error, sizeof(error)))
		agent_log(desk.agent, "the desktop has no window manager: %s", error);
}

static void
come_up(void)
{
	desk.state = UP;
	loop_timer_stop(&desk.timer);
	agent_log(desk.agent, "the desktop runs on display %s, %d x %d", desk.display, desk.rfb.width, desk.rfb.height);
	start_manager();
	tell_waiters(NULL);
	pump();
}

static void
on_connection(void *arg, uint32_t events)
{
	uint8_t bytes[65536];
	ssize_t n;

	(void) arg;
	if ((events & EPOLLOUT) != 0)
		flush();
	n = read(desk.fd, bytes, sizeof(bytes));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || !rfb_feed(&desk.rfb, bytes, (size_t) n))
	{
		char why[160];

		snprintf(why, sizeof(why), "%s", n <= 0 ? "the X server has closed the connection" : desk.rfb.error);
		go_down(desk.state == UP ? "The desktop has ended." : "Failed to start desktop session.", why);
		return;
	}
	flush();
	if (desk.state == JOINING && rfb_ready(&desk.rfb))
		come_up();
	else if (desk.state == UP)
		pump();
}

static void
join_server(void)
{
	desk.state = JOINING;
	rfb_init(&desk.rfb);
	desk.fd = dial_server();
	if (desk.fd >= 0)
		desk.watch = loop_fd_add(desk.agent->loop, desk.fd, EPOLLIN, on_connection, NULL);
	if (desk.watch == NULL)
		go_down("Failed to start desktop session.", "the X server does not listen");
}

/* Its beginning --------------------------------------------------------------------- */

/* The display's number, by which the server says that it is ready. */
static void
on_server_said(Child *child)
{
	if (desk.state != STARTING || strchr(child->out, '\n') == NULL)
		return;
	snprintf(desk.display, sizeof(desk.display), ":%d", atoi(child->out));
	join_server();
}

static void
on_start_limit(void *arg)
{
	(void) arg;
	go_down("Failed to start desktop session.", "the X server did not start in time");
}

static bool
find_server(char *path, size_t size)
{
	return child_find("Xtigervnc", path, size) || child_find("Xvnc", path, size);
}

static const char no_server[] = "There is no Xvnc in this workspace. Install TigerVNC's server, for example: sudo apt-get install tigervnc-standalone-server openbox";

static void
start(Agent *agent)
{
	char path[2048];
	char command[4096];
	char error[256] = "the key to the display cannot be written";

	desk.agent = agent;
	desk.state = STARTING;
	if (desk.timer.loop == NULL)
		loop_timer_init(&desk.timer, agent->loop, on_start_limit, NULL);
	if (!find_server(path, sizeof(path)))
	{
		go_down("Failed to start desktop session.", no_server);
		return;
	}
	if (desk.server.running)
	{
		/* The one that ran before is about to end. */
		desk.again = true;
		command_kill(&desk.server.process, SIGKILL);
		loop_timer_start(&desk.timer, START_MS);
		return;
	}
	desk.server.said = on_server_said;
	desk.server.ended = on_server_ended;
	if (make_folder(error, sizeof(error)) && write_authority())
	{
		snprintf(command, sizeof(command),
				 "exec '%s' -displayfd 1 -geometry %dx%d -depth 24 -desktop workspace -auth %s -nolisten tcp -rfbport -1"
				 " -rfbunixpath %s -rfbunixmode 0600 -SecurityTypes None -AlwaysShared -AcceptSetDesktopSize=0 -FrameRate 30 -s 0",
				 path, WIDTH, HEIGHT, desk.authority, desk.socket);
		if (child_start(&desk.server, agent, command, NULL, error, sizeof(error)))
		{
			loop_timer_start(&desk.timer, START_MS);
			return;
		}
	}
	go_down("Failed to start desktop session.", error);
}

void
desktop_want(Agent *agent, void (*ready)(void *arg, const char *why), void *arg)
{
	Waiter *waiter = desk.state != UP ? calloc(1, sizeof(*waiter)) : NULL;

	desktop_used();
	if (desk.state == UP)
		ready(arg, NULL);
	else if (waiter == NULL)
		ready(arg, "out of memory");
	else
	{
		*waiter = (Waiter){desk.waiters, ready, arg};
		desk.waiters = waiter;
		if (desk.state == DOWN)
			start(agent);
	}
}

/* Viewers --------------------------------------------------------------------------- */

static void
viewer_flush(Viewer *viewer)
{
	size_t sent = 0;

	while (sent < viewer->out_len)
	{
		ssize_t n = send(viewer->fd, viewer->out + sent, viewer->out_len - sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break;
		sent += (size_t) n;
	}
	if (sent > 0)
		memmove(viewer->out, viewer->out + sent, viewer->out_len - sent);
	viewer->out_len -= sent;
	loop_fd_set(viewer->watch, (viewer->paused ? 0 : EPOLLIN) | (viewer->out_len > 0 ? EPOLLOUT : 0));
}

static void
viewer_leave(Viewer *viewer, const char *why)
{
	if (viewer->watch != NULL)
		loop_fd_del(viewer->watch);
	viewer->watch = NULL;
	if (viewer->fd >= 0)
		close(viewer->fd);
	viewer->fd = -1;
	serve_ws_close(viewer->ws, 1011, why);
}

static void
on_viewed(void *arg, uint32_t events)
{
	Viewer *viewer = arg;
	uint8_t bytes[65536];
	ssize_t n;

	if ((events & EPOLLOUT) != 0)
		viewer_flush(viewer);
	if (viewer->paused && (events & (EPOLLHUP | EPOLLERR)) == 0)
		return;
	n = read(viewer->fd, bytes, sizeof(bytes));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
	{
		viewer_leave(viewer, "The desktop has ended.");
		return;
	}
	serve_ws_send_bytes(viewer->ws, bytes, (size_t) n);
	viewer->paused = serve_ws_unsent(viewer->ws) > 0;
	viewer_flush(viewer);
}

static void
on_view_drained(void *arg)
{
	Viewer *viewer = arg;

	viewer->paused = false;
	if (viewer->watch != NULL)
		viewer_flush(viewer);
}

static void
on_view_message(void *arg, const uint8_t *data, size_t size)
{
	Viewer *viewer = arg;
	uint8_t *grown = viewer->out_len + size <= VIEW_BUFFER && viewer->watch != NULL ? realloc(viewer->out, viewer->out_len + size + 1) : NULL;

	if (grown == NULL)
	{
		viewer_leave(viewer, "The desktop takes nothing any more.");
		return;
	}
	desktop_used();
	viewer->out = grown;
	memcpy(grown + viewer->out_len, data, size);
	viewer->out_len += size;
	viewer_flush(viewer);
}

static void
on_view_closed(void *arg)
{
	Viewer *viewer = arg;

	desktop_forget(viewer);
	for (Viewer **link = &desk.viewers; *link != NULL; link = &(*link)->next)
		if (*link == viewer)
		{
			*link = viewer->next;
			break;
		}
	if (viewer->watch != NULL)
		loop_fd_del(viewer->watch);
	if (viewer->fd >= 0)
		close(viewer->fd);
	free(viewer->out);
	free(viewer);
}

static void
view(void *arg, const char *why)
{
	Viewer *viewer = arg;

	if (why == NULL)
	{
		viewer->fd = dial_server();
		viewer->watch = viewer->fd >= 0 ? loop_fd_add(desk.agent->loop, viewer->fd, EPOLLIN, on_viewed, viewer) : NULL;
		if (viewer->watch == NULL)
			viewer_leave(viewer, "The desktop does not answer.");
	}
	else
		viewer_leave(viewer, why);
}

void
desktop_vnc(Request *request)
{
	static const ServeWsHandlers handlers = {on_view_message, on_view_closed, on_view_drained};
	Agent *agent = http_agent(request);
	Viewer *viewer;
	char path[2048];
	int n = 0;

	for (viewer = desk.viewers; viewer != NULL; viewer = viewer->next)
		n++;
	if (!find_server(path, sizeof(path)))
	{
		http_reply_error(request, 500, "Failed to start desktop session.", no_server);
		return;
	}
	viewer = n < MAX_VIEWERS ? calloc(1, sizeof(*viewer)) : NULL;
	if (viewer == NULL)
	{
		http_reply_message(request, 429, "Too many look at the desktop already.");
		return;
	}
	viewer->fd = -1;
	viewer->ws = serve_ws_upgrade(request, &handlers, viewer);
	if (viewer->ws == NULL)
	{
		free(viewer);
		return;
	}
	viewer->next = desk.viewers;
	desk.viewers = viewer;
	desktop_want(agent, view, viewer);
}

/* Actions --------------------------------------------------------------------------- */

static void
done(Doing *doing, int status, json_t *answer)
{
	desk.doing = doing->next;
	doing_reply(doing, status, answer);
	doing_free(doing);
	pump();
}

static void
on_drawn(void *arg)
{
	Drawing *drawing = arg;
	Doing *doing = drawing->doing;

	if (drawing->base64 == NULL)
		done(doing, 500, json_pack("{s:s, s:s}", "message", "Screenshot failed.", "detail", "out of memory"));
	else
		done(doing, 200,
			 json_pack("{s:s, s:s, s:i, s:i}", "output", "screenshot", "screenshot_data", drawing->base64, "screenshot_width", drawing->to_w, "screenshot_height",
					   drawing->to_h));
	free(drawing->base64);
	free(drawing);
}

static void *
draw(void *arg)
{
	Drawing *drawing = arg;
	uint8_t *rgb = screen_scale(drawing->pixels, drawing->w, drawing->h, drawing->to_w, drawing->to_h);
	size_t len = 0;
	uint8_t *png = rgb != NULL ? screen_png(rgb, drawing->to_w, drawing->to_h, &len) : NULL;

	drawing->base64 = png != NULL ? screen_base64(png, len) : NULL;
	free(png);
	free(rgb);
	free(drawing->pixels);
	drawing->pixels = NULL;
	if (!loop_post(drawing->loop, on_drawn, drawing))
		abort();
	return NULL;
}

/* Makes the picture on a thread: the loop has more to do than to wait for it. */
static void
begin_drawing(Doing *doing)
{
	Drawing *drawing = calloc(1, sizeof(*drawing));
	pthread_attr_t attributes;
	pthread_t thread;
	bool begun = false;

	if (drawing != NULL)
	{
		*drawing = (Drawing){doing, desk.agent->loop, desk.rfb.pixels, desk.rfb.width, desk.rfb.height, doing->action.width, doing->action.height, NULL};
		desk.rfb.pixels = NULL;
		pthread_attr_init(&attributes);
		pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
		begun = pthread_create(&thread, &attributes, draw, drawing) == 0;
		pthread_attr_destroy(&attributes);
	}
	doing->drawing = begun;
	if (begun)
		return;
	if (drawing != NULL)
		free(drawing->pixels);
	free(drawing);
	done(doing, 500, json_pack("{s:s, s:s}", "message", "Screenshot failed.", "detail", "out of memory"));
}

static void
answer(Doing *doing)
{
	char text[64];

	if (doing->action.is_screenshot)
	{
		begin_drawing(doing);
		return;
	}
	if (doing->action.is_position)
	{
		int x = desk.rfb.pointer_x;
		int y = desk.rfb.pointer_y;

		deskaction_told(&doing->action, desk.rfb.width, desk.rfb.height, &x, &y);
		snprintf(text, sizeof(text), "x=%d,y=%d", x, y);
	}
	else
		snprintf(text, sizeof(text), "%s action performed", doing->action.name);
	done(doing, 200, json_pack("{s:s}", "output", text));
}

static void
do_step(const DeskStep *step)
{
	switch (step->kind)
	{
		case DESK_KEY_DOWN:
		case DESK_KEY_UP:
			rfb_key(&desk.rfb, step->value, step->kind == DESK_KEY_DOWN);
			break;
		case DESK_MOVE:
			rfb_pointer(&desk.rfb, step->x, step->y, desk.buttons);
			break;
		case DESK_PRESS:
		case DESK_RELEASE:
			desk.buttons = step->kind == DESK_PRESS ? desk.buttons | step->value : desk.buttons & ~step->value;
			rfb_pointer(&desk.rfb, desk.rfb.pointer_x, desk.rfb.pointer_y, desk.buttons);
			break;
		case DESK_WAIT:
			break;
	}
}

static void
on_step_time(void *arg)
{
	(void) arg;
	pump();
}

/* Does what is first in the queue, as far as it can be done now. */
static void
pump(void)
{
	Doing *doing = desk.doing;

	if (desk.state != UP || doing == NULL || doing->drawing || loop_timer_running(&desk.step_timer))
		return;
	if (!doing->begun)
		deskaction_fit(&doing->action, desk.rfb.width, desk.rfb.height);
	doing->begun = true;
	while (doing->at < doing->action.n_steps)
	{
		const DeskStep *step = &doing->action.steps[doing->at++];

		do_step(step);
		/* Nobody waits: what is held is let go at once. */
		if (step->kind == DESK_WAIT && doing->request != NULL)
		{
			flush();
			loop_timer_start(&desk.step_timer, step->value);
			return;
		}
	}
	if (!doing->asked)
	{
		doing->asked = true;
		if (!rfb_ask(&desk.rfb, doing->action.is_screenshot))
		{
			done(doing, 500, json_pack("{s:s, s:s}", "message", "Screenshot failed.", "detail", "out of memory"));
			return;
		}
		flush();
	}
	else if (!desk.rfb.pending)
		answer(doing);
}

static void
on_doing_gone(void *arg)
{
	Doing *doing = arg;

	doing->request = NULL;
	if (doing == desk.doing && loop_timer_running(&desk.step_timer))
		loop_timer_start(&desk.step_timer, 0);
}

static void
act(void *arg, const char *why)
{
	/* Where it has gone down all that was to be done has failed already. */
	(void) arg;
	if (why == NULL)
		pump();
}

void
desktop_action(Request *request)
{
	Agent *agent = http_agent(request);
	size_t len;
	const char *text = http_body(request, &len);
	json_error_t where;
	json_t *body = json_loadb(text, len, 0, &where);
	char error[256];
	Doing *doing = calloc(1, sizeof(*doing));
	Doing **link = &desk.doing;
	int64_t ms = 0;
	int n = 0;

	for (; *link != NULL; link = &(*link)->next, n++)
		ms += (*link)->action.ms + ANSWER_MS;
	if (doing == NULL || n >= MAX_ACTIONS)
		http_reply_message(request, 429, "Too much is to be done on the desktop already.");
	else if (!json_is_object(body))
		http_reply_error(request, 400, "Failed to decode request body.", body == NULL ? where.text : "It is no object.");
	else if (!deskaction_parse(&doing->action, body, error, sizeof(error)))
		http_reply_message(request, 400, error);
	else
	{
		if (desk.step_timer.loop == NULL)
			loop_timer_init(&desk.step_timer, agent->loop, on_step_time, NULL);
		doing->request = request;
		*link = doing;
		http_wait(request, ms + doing->action.ms + START_MS + ANSWER_MS, on_doing_gone, doing);
		doing = NULL;
		desktop_want(agent, act, NULL);
	}
	free(doing);
	json_decref(body);
}

/* The end ----------------------------------------------------------------------------- */

void
desktop_stop(void)
{
	if (desk.agent == NULL)
		return;
	if (desk.state != DOWN)
		go_down("The desktop has ended.", "the agent ends");
	if (*desk.folder != '\0')
		remove_folder(desk.folder);
}
