/*
 * pty.c -- port 2: terminals that outlive their connections.
 *
 *	client -> agent  an init, then messages: ptymsg.h
 *	agent -> client  raw output: first what the ring holds, then live
 *
 * A terminal is known by the ID of the init, any number of connections may
 * share it, and it is killed five minutes after the last one has gone.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run/metrics.h"
#include "serve/ptymsg.h"
#include "serve/ring.h"
#include "serve/serve.h"

#define IDLE_MS (5 * 60 * 1000)
#define INIT_MS 20000
#define REAP_MS 100
#define KILL_ROUNDS 50 /* of REAP_MS, until SIGKILL */
#define MAX_TERMINALS 64
#define MAX_KEYS ((size_t) 1 << 20) /* typed, and not yet taken by the terminal */
#define MAX_OUT ((size_t) 1 << 20) /* a client that reads slower than that is let go */

typedef struct Client
{
	struct Client *next;
	struct Terminal *terminal; /* NULL: no init yet */
	Agent *agent;
	int fd;
	LoopFd *watch;
	LoopTimer timer; /* for the init */
	uint8_t in[PTYMSG_MAX];
	size_t in_len;
	uint8_t *out;
	size_t out_len, out_room;
	uint8_t id[16]; /* of the report to the server */
} Client;

typedef struct Terminal
{
	struct Terminal *next;
	Agent *agent;
	char name[64];
	Process process;
	LoopFd *watch; /* of the terminal; NULL once it has ended */
	LoopTimer timer; /* idle, then reaping */
	int rounds;
	Client *clients;
	uint8_t *keys;
	size_t keys_len, keys_room;
	Ring ring;
} Terminal;

static Terminal *terminals;
static Client *strangers; /* without an init */

static void
client_free(Client *client)
{
	Client **link = client->terminal != NULL ? &client->terminal->clients : &strangers;

	while (*link != client)
		link = &(*link)->next;
	*link = client->next;
	if (client->terminal != NULL)
	{
		client->agent->pty_sessions--;
		report_connection(client->agent, client->id, false, CODER__AGENT__V2__CONNECTION__TYPE__RECONNECTING_PTY, 0, NULL);
		if (client->terminal->clients == NULL && client->terminal->watch != NULL)
			loop_timer_start(&client->terminal->timer, IDLE_MS);
	}
	loop_timer_stop(&client->timer);
	loop_fd_del(client->watch);
	close(client->fd);
	free(client->out);
	free(client);
}

static bool
grow(uint8_t **data, size_t *room, size_t need)
{
	uint8_t *bigger;

	if (need <= *room)
		return true;
	bigger = realloc(*data, need * 2);
	if (bigger == NULL)
		return false;
	*data = bigger;
	*room = need * 2;
	return true;
}

/* False: the client is gone. */
static bool
client_flush(Client *client)
{
	size_t done = 0;

	while (done < client->out_len)
	{
		ssize_t n = send(client->fd, client->out + done, client->out_len - done, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
		{
			client_free(client);
			return false;
		}
		if (n < 0)
			break;
		done += (size_t) n;
	}
	memmove(client->out, client->out + done, client->out_len - done);
	client->out_len -= done;
	loop_fd_set(client->watch, EPOLLIN | (client->out_len > 0 ? EPOLLOUT : 0u));
	return true;
}

static bool
client_send(Client *client, const uint8_t *data, size_t size)
{
	if (client->out_len + size > MAX_OUT || !grow(&client->out, &client->out_room, client->out_len + size))
	{
		client_free(client);
		return false;
	}
	memcpy(client->out + client->out_len, data, size);
	client->out_len += size;
	return client_flush(client);
}

static void
terminal_free(Terminal *terminal)
{
	Terminal **link = &terminals;

	while (*link != terminal)
		link = &(*link)->next;
	*link = terminal->next;
	loop_timer_stop(&terminal->timer);
	if (terminal->process.pidfd >= 0)
		close(terminal->process.pidfd);
	free(terminal->keys);
	free(terminal);
}

/* The terminal has ended: waits for its process, with more force as time goes. */
static void
on_reap(void *arg)
{
	Terminal *terminal = arg;

	if (waitpid(terminal->process.pid, NULL, WNOHANG) != 0)
	{
		terminal_free(terminal);
		return;
	}
	command_kill(&terminal->process, ++terminal->rounds > KILL_ROUNDS ? SIGKILL : SIGHUP);
	loop_timer_start(&terminal->timer, REAP_MS);
}

static void
terminal_end(Terminal *terminal)
{
	if (terminal->watch == NULL)
		return;
	loop_fd_del(terminal->watch);
	terminal->watch = NULL;
	while (terminal->clients != NULL)
		client_free(terminal->clients);
	close(terminal->process.in);
	loop_timer_become(&terminal->timer, on_reap);
	loop_timer_start(&terminal->timer, 1);
}

static void
on_idle(void *arg)
{
	terminal_end(arg);
}

static void
write_keys(Terminal *terminal)
{
	size_t done = 0;

	while (done < terminal->keys_len)
	{
		ssize_t n = write(terminal->process.in, terminal->keys + done, terminal->keys_len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t) n;
	}
	memmove(terminal->keys, terminal->keys + done, terminal->keys_len - done);
	terminal->keys_len -= done;
	loop_fd_set(terminal->watch, EPOLLIN | (terminal->keys_len > 0 ? EPOLLOUT : 0u));
}

static void
on_terminal(void *arg, uint32_t events)
{
	Terminal *terminal = arg;
	uint8_t buffer[4096];
	ssize_t n;

	if (terminal->keys_len > 0 && (events & EPOLLOUT))
		write_keys(terminal);
	if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0)
		return;
	n = read(terminal->process.out, buffer, sizeof(buffer));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
	{
		terminal_end(terminal);
		return;
	}
	ring_put(&terminal->ring, buffer, (size_t) n);
	for (Client *c = terminal->clients, *next; c != NULL; c = next)
	{
		next = c->next;
		client_send(c, buffer, (size_t) n);
	}
}

static void
resize(const Terminal *terminal, unsigned short rows, unsigned short columns)
{
	struct winsize size = {.ws_row = rows, .ws_col = columns};

	if (rows != 0 && columns != 0)
		ioctl(terminal->process.in, TIOCSWINSZ, &size);
}

static Terminal *
terminal_new(Agent *agent, const PtyInit *init)
{
	static const char *const extra[] = {"TERM=xterm-256color", NULL};
	Terminal *terminal = calloc(1, sizeof(*terminal));
	Command command = {.text = init->command,
					   .extra = extra,
					   .pty = true,
					   .rows = init->rows,
					   .columns = init->columns};
	char error[256];

	if (terminal == NULL)
		return NULL;
	terminal->agent = agent;
	strncpy(terminal->name, init->id, sizeof(terminal->name) - 1);
	if (command_start(agent, &command, &terminal->process, error, sizeof(error)) != 0)
	{
		agent_log(agent, "terminal: %s", error);
		free(terminal);
		return NULL;
	}
	fcntl(terminal->process.in, F_SETFL, fcntl(terminal->process.in, F_GETFL) | O_NONBLOCK);
	loop_timer_init(&terminal->timer, agent->loop, on_idle, terminal);
	terminal->watch = loop_fd_add(agent->loop, terminal->process.out, EPOLLIN, on_terminal, terminal);
	terminal->next = terminals;
	terminals = terminal;
	if (terminal->watch == NULL)
	{
		close(terminal->process.in);
		loop_timer_become(&terminal->timer, on_reap);
		loop_timer_start(&terminal->timer, 1);
		return NULL;
	}
	return terminal;
}

/* Joins the client to the terminal it asks for; false where it must go. */
static bool
attach(Client *client, const PtyInit *init)
{
	static uint8_t replay[RING_SIZE];
	Terminal *terminal = terminals;
	size_t count = 0;
	size_t size;
	Client **link = &strangers;

	for (Terminal *t = terminals; t != NULL; t = t->next)
		count++;
	while (terminal != NULL && (terminal->watch == NULL || strcasecmp(terminal->name, init->id) != 0))
		terminal = terminal->next;
	if (terminal == NULL && count < MAX_TERMINALS)
		terminal = terminal_new(client->agent, init);
	metric_add(METRIC_PTY_CONNECTIONS, 1);
	if (terminal == NULL)
	{
		metric_add(METRIC_PTY_ERRORS, 1, "create_command");
		return false;
	}
	resize(terminal, init->rows, init->columns);
	while (*link != client)
		link = &(*link)->next;
	*link = client->next;
	client->next = terminal->clients;
	terminal->clients = client;
	client->terminal = terminal;
	loop_timer_stop(&client->timer);
	loop_timer_stop(&terminal->timer);
	client->agent->pty_sessions++;
	tunnel_random_id(client->id);
	report_connection(client->agent, client->id, true, CODER__AGENT__V2__CONNECTION__TYPE__RECONNECTING_PTY, 0, NULL);
	size = ring_get(&terminal->ring, replay);
	if (size > 0)
		client_send(client, replay, size);
	return true;
}

static void
on_keys(Terminal *terminal, const PtyKeys *keys)
{
	if (keys->size > 0 && terminal->keys_len + keys->size <= MAX_KEYS &&
		grow(&terminal->keys, &terminal->keys_room, terminal->keys_len + keys->size))
	{
		memcpy(terminal->keys + terminal->keys_len, keys->data, keys->size);
		terminal->keys_len += keys->size;
		write_keys(terminal);
	}
	resize(terminal, keys->rows, keys->columns);
}

static void
consume(Client *client, size_t n)
{
	memmove(client->in, client->in + n, client->in_len - n);
	client->in_len -= n;
}

static bool
is_attached(const Client *client)
{
	for (const Terminal *t = terminals; t != NULL; t = t->next)
		for (const Client *c = t->clients; c != NULL; c = c->next)
			if (c == client)
				return true;
	return false;
}

/* The init, when it is here whole.  False: the client must go; *gone: it went. */
static bool
take_init(Client *client, bool *gone)
{
	PtyInit init;
	size_t used;
	PtyMsgResult result = ptymsg_init(&init, client->in, client->in_len, &used);
	bool ok;

	if (result != PTYMSG_OK)
		return result == PTYMSG_SHORT;
	consume(client, used);
	ok = attach(client, &init);
	json_decref(init.json);
	/* Sending the replay may have found the connection broken. */
	*gone = ok && !is_attached(client);
	return ok && !*gone;
}

/* Messages as far as they are whole; false on anything that is none. */
static bool
take_messages(Client *client)
{
	PtyMsgResult result;
	size_t done = 0;
	size_t used;
	PtyKeys keys;

	while ((result = ptymsg_keys(&keys, client->in + done, client->in_len - done, &used)) == PTYMSG_OK)
	{
		on_keys(client->terminal, &keys);
		json_decref(keys.json);
		done += used;
	}
	consume(client, done + (result == PTYMSG_SHORT ? used : 0));
	return result == PTYMSG_SHORT;
}

static void
on_client(void *arg, uint32_t events)
{
	Client *client = arg;
	bool gone = false;
	ssize_t n;

	if ((events & EPOLLOUT) && client->out_len > 0 && !client_flush(client))
		return;
	if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0)
		return;
	n = read(client->fd, client->in + client->in_len, sizeof(client->in) - client->in_len);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
	{
		client_free(client);
		return;
	}
	client->in_len += (size_t) n;
	if (client->terminal == NULL && !take_init(client, &gone))
	{
		if (!gone)
			client_free(client);
		return;
	}
	if (client->terminal != NULL && !take_messages(client))
		client_free(client);
}

static void
on_init_limit(void *arg)
{
	client_free(arg);
}

void
serve_pty(Agent *agent, int fd)
{
	Client *client = calloc(1, sizeof(*client));

	if (client == NULL)
	{
		close(fd);
		return;
	}
	client->agent = agent;
	client->fd = fd;
	client->watch = loop_fd_add(agent->loop, fd, EPOLLIN, on_client, client);
	if (client->watch == NULL)
	{
		close(fd);
		free(client);
		return;
	}
	client->next = strangers;
	strangers = client;
	loop_timer_init(&client->timer, agent->loop, on_init_limit, client);
	loop_timer_start(&client->timer, INIT_MS);
}

void
serve_pty_stop(void)
{
	for (Terminal *t = terminals; t != NULL; t = t->next)
		terminal_end(t);
	while (strangers != NULL)
		client_free(strangers);
}
