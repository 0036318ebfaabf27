/*
 * ssh.c -- the SSH server inside the tunnel (ports 1 and 22).
 *
 * One thread per connection, as libssh keeps one thread's state; it polls the
 * connection together with the pipes, terminals and sockets of its channels.
 * The tunnel has proven who the peer is, so every user name is let in.
 *
 * Flow control: data of the client is read off a channel only while the other
 * end takes it, and output only while the client's window is open, so neither
 * side makes this one buffer.
 *
 * SPDX-License-Identifier: MIT
 */
#include "run/metrics.h"
#include "serve/portowner.h"
#include "serve/ssh.h"

#include <errno.h>
#include <fcntl.h>
#include <libssh/callbacks.h>
#include <libssh/server.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "serve/sftp.h"
#include "serve/sshforward.h"
#include "tunnel/tunnel.h"

#define MAX_CHANNELS 64
#define MAX_ENV 128
#define IO_SIZE 32768
#define THREAD_STACK ((size_t) 512 << 10)
#define HANDSHAKE_SECONDS 30L
#define POLL_MS 30000
#define NO_PIDFD_MS 100

typedef struct Channel
{
	struct Channel *next;
	struct Connection *connection;
	ssh_channel ssh;
	struct ssh_channel_callbacks_struct callbacks;
	char *env[MAX_ENV + 1];
	int nenv;
	char term[128];
	bool pty;
	const char *magic; /* as metrics call what it is counted as */
	unsigned short rows, columns;
	bool started; /* shell, exec, subsystem or forward */
	bool has_process;
	bool reaped;
	int status; /* of waitpid */
	const char *display; /* of ssh -X; NULL: none */
	char *greeting; /* what is shown before anything else, or NULL */
	size_t greeted; /* bytes of it */
	int blocked_status; /* file transfers are off: end with this, if not 0 */
	Process process;
	SftpServer *sftp;
	int in; /* where the client's data goes, -1: nowhere (any more) */
	int out, err; /* where data for the client comes from, -1: ended */
	bool forward;
	char pending[IO_SIZE]; /* of the client, not yet taken by in */
	size_t pending_from, pending_to;
	uint8_t id[16]; /* of the report to the server */
	bool reported;
	Coder__Agent__V2__Connection__Type type;
	bool counted;
} Channel;

typedef struct Connection
{
	struct Connection *next;
	Agent *agent;
	int fd;
	int wake; /* eventfd: serve_stop() wants an end */
	atomic_bool stop;
	ssh_session session;
	ssh_event event;
	struct ssh_server_callbacks_struct callbacks;
	struct ssh_callbacks_struct common;
	SshListeners listeners;
	const char *key_agent; /* socket of ssh -A; NULL: not asked for */
	Channel *channels;
	int nchannels;
	bool authenticated;
} Connection;

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static Connection *connections;

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static ssh_key host_key;

static void
make_host_key(void)
{
	ssh_init();
	if (ssh_pki_generate(SSH_KEYTYPE_ED25519, 0, &host_key) != SSH_OK)
		host_key = NULL;
}

/* Reports travel to the loop's thread. */
typedef struct Report
{
	Agent *agent;
	uint8_t id[16];
	bool connect;
	Coder__Agent__V2__Connection__Type type;
	int code;
} Report;

static void
on_report(void *arg)
{
	Report *report = arg;

	report_connection(report->agent,
					  report->id,
					  report->connect,
					  report->type,
					  report->code,
					  report->code != 0 ? "process exited with error status" : NULL);
	free(report);
}

static void
tell(const Channel *channel, bool connect, int code)
{
	Report *report = calloc(1, sizeof(*report));

	if (report == NULL)
		return;
	report->agent = channel->connection->agent;
	memcpy(report->id, channel->id, sizeof(report->id));
	report->connect = connect;
	report->type = channel->type;
	report->code = code;
	if (!loop_post(report->agent->loop, on_report, report))
		free(report);
}

static void
close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void
set_nonblocking(int fd)
{
	if (fd >= 0)
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/*
 * A process whose channel went: without a terminal it lives on, and its end is
 * awaited by the loop's thread.
 */
typedef struct Orphan
{
	struct Orphan *next;
	Agent *agent;
	Process process;
	LoopFd *watch;
	LoopTimer timer; /* where there is no pidfd */
} Orphan;

static Orphan *orphans; /* of the loop's thread */

static void
orphan_check(void *arg)
{
	Orphan *orphan = arg;
	Orphan **link = &orphans;

	if (waitpid(orphan->process.pid, NULL, WNOHANG) == 0)
	{
		if (orphan->watch == NULL)
			loop_timer_start(&orphan->timer, 1000);
		return;
	}
	while (*link != orphan)
		link = &(*link)->next;
	*link = orphan->next;
	loop_timer_stop(&orphan->timer);
	if (orphan->watch != NULL)
		loop_fd_del(orphan->watch);
	close_fd(&orphan->process.pidfd);
	free(orphan);
}

static void
on_orphan_fd(void *arg, uint32_t events)
{
	(void) events;
	orphan_check(arg);
}

static void
orphan_adopt(void *arg)
{
	Orphan *orphan = arg;

	orphan->next = orphans;
	orphans = orphan;
	loop_timer_init(&orphan->timer, orphan->agent->loop, orphan_check, orphan);
	if (orphan->process.pidfd >= 0)
		orphan->watch = loop_fd_add(orphan->agent->loop, orphan->process.pidfd, EPOLLIN, on_orphan_fd, orphan);
	orphan_check(orphan);
}

static void
channel_abandon_process(Channel *channel)
{
	Connection *connection = channel->connection;
	Orphan *orphan;

	if (!channel->has_process || channel->reaped)
		return;
	if (channel->pty || connection->stop)
		command_kill(&channel->process, SIGHUP);
	orphan = calloc(1, sizeof(*orphan));
	if (orphan == NULL)
		return;
	orphan->agent = connection->agent;
	orphan->process = channel->process;
	channel->process.pidfd = -1;
	if (!loop_post(connection->agent->loop, orphan_adopt, orphan))
		free(orphan);
}

static void
channel_count(Channel *channel, int by)
{
	Agent *agent = channel->connection->agent;

	if (channel->type == CODER__AGENT__V2__CONNECTION__TYPE__VSCODE)
		atomic_fetch_add(&agent->vscode_sessions, by);
	else if (channel->type == CODER__AGENT__V2__CONNECTION__TYPE__JETBRAINS)
		atomic_fetch_add(&agent->jetbrains_sessions, by);
	else
		atomic_fetch_add(&agent->ssh_sessions, by);
}

static void
session_channel_free(Channel *channel)
{
	Channel **link = &channel->connection->channels;

	while (*link != channel)
		link = &(*link)->next;
	*link = channel->next;
	channel->connection->nchannels--;
	if (channel->out != channel->in)
		close_fd(&channel->out);
	close_fd(&channel->in);
	close_fd(&channel->err);
	channel_abandon_process(channel);
	close_fd(&channel->process.pidfd);
	if (channel->counted)
		channel_count(channel, -1);
	if (channel->reported)
		tell(channel, false, channel->forward ? 0 : channel->reaped && WIFEXITED(channel->status) ? WEXITSTATUS(channel->status) : 1);
	ssh_unlisten(&channel->connection->listeners, channel);
	sftp_server_end(channel->sftp);
	free(channel->greeting);
	ssh_remove_channel_callbacks(channel->ssh, &channel->callbacks);
	ssh_channel_free(channel->ssh);
	for (int i = 0; i < channel->nenv; i++)
		free(channel->env[i]);
	free(channel);
}

static void
channel_count_as(Channel *channel, Coder__Agent__V2__Connection__Type type)
{
	channel->type = type;
	channel->counted = true;
	channel_count(channel, 1);
	tunnel_random_id(channel->id);
	channel->reported = true;
	tell(channel, true, 0);
}

/* What a session is counted as: by a variable that Coder's clients set. */
static void
channel_begin(Channel *channel)
{
	const char *type = "";

	for (int i = 0; i < channel->nenv; i++)
		if (strncmp(channel->env[i], "CODER_SSH_SESSION_TYPE=", 23) == 0)
			type = channel->env[i] + 23;
	channel->started = true;
	channel->magic = *type == '\0' || strcasecmp(type, "ssh") == 0 ? "ssh" : strcasecmp(type, "vscode") == 0 ? "vscode" : strcasecmp(type, "jetbrains") == 0 ? "jetbrains" : "unknown";
	metric_add(METRIC_SESSIONS, 1, channel->magic, channel->pty ? "yes" : "no");
	if (strcasecmp(type, "vscode") == 0)
		channel_count_as(channel, CODER__AGENT__V2__CONNECTION__TYPE__VSCODE);
	else if (*type == '\0' || strcasecmp(type, "ssh") == 0)
		channel_count_as(channel, CODER__AGENT__V2__CONNECTION__TYPE__SSH);
}

/* Programs that move files, by the base name of the command's first word. */
bool
ssh_command_moves_files(const char *command)
{
	static const char *const names[] = {"nc", "rsync", "scp", "sftp"};
	const char *word = command + strspn(command, " \t");
	size_t len = strcspn(word, " \t");

	for (const char *p = word; p < word + len; p++)
		if (*p == '/')
		{
			len -= (size_t) (p + 1 - word);
			word = p + 1;
		}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strlen(names[i]) == len && memcmp(names[i], word, len) == 0)
			return true;
	return false;
}

static int
start_command(Channel *channel, const char *text)
{
	Agent *agent = channel->connection->agent;
	char term[160];
	char key_agent[280];
	char display[280];
	const char *extra[4] = {NULL};
	int n = 0;
	Command command = {.text = text,
					   .env = (const char *const *) channel->env,
					   .extra = extra,
					   .pty = channel->pty,
					   .rows = channel->rows,
					   .columns = channel->columns};
	char error[256];

	if (channel->started)
		return 1;
	channel_begin(channel);
	if (agent->options.block_file_transfer && text != NULL && ssh_command_moves_files(text))
	{
		static const char words[] = "\002File transfer has been disabled.\n";

		channel->blocked_status = 65;
		ssh_channel_write(channel->ssh, words, sizeof(words) - 1);
		return 0;
	}
	if (channel->pty)
	{
		snprintf(term, sizeof(term), "TERM=%s", channel->term);
		extra[n++] = term;
	}
	if (channel->connection->key_agent != NULL)
	{
		snprintf(key_agent, sizeof(key_agent), "SSH_AUTH_SOCK=%s", channel->connection->key_agent);
		extra[n++] = key_agent;
	}
	if (channel->display != NULL)
	{
		snprintf(display, sizeof(display), "DISPLAY=%s", channel->display);
		extra[n++] = display;
	}
	if (channel->pty && text == NULL)
		channel->greeting = greeting_text(agent);
	if (command_start(agent, &command, &channel->process, error, sizeof(error)) != 0)
	{
		agent_log(agent, "ssh: %s", error);
		metric_add(METRIC_SESSION_ERRORS, 1, channel->magic, channel->pty ? "yes" : "no", "start_command");
		channel->blocked_status = 229;
		return 0;
	}
	channel->has_process = true;
	channel->in = channel->process.in;
	channel->out = channel->process.out;
	channel->err = channel->process.err;
	set_nonblocking(channel->in);
	set_nonblocking(channel->out);
	set_nonblocking(channel->err);
	return 0;
}

static int
on_env(ssh_session session, ssh_channel ssh, const char *name, const char *value, void *arg)
{
	Channel *channel = arg;
	char *entry;

	(void) session;
	(void) ssh;
	if (channel->started || channel->nenv == MAX_ENV || *name == '\0' || strchr(name, '=') != NULL ||
		asprintf(&entry, "%s=%s", name, value) < 0)
		return 1;
	channel->env[channel->nenv++] = entry;
	return 0;
}

static unsigned short
clamp(int n, unsigned short preset)
{
	return n > 0 && n <= UINT16_MAX ? (unsigned short) n : preset;
}

static int
on_pty(ssh_session session, ssh_channel ssh, const char *term, int width, int height, int px, int py, void *arg)
{
	Channel *channel = arg;

	(void) session;
	(void) ssh;
	(void) px;
	(void) py;
	if (channel->started || channel->pty)
		return 1;
	snprintf(channel->term, sizeof(channel->term), "%s", term != NULL ? term : "");
	channel->pty = true;
	channel->columns = clamp(width, 80);
	channel->rows = clamp(height, 24);
	return 0;
}

static int
on_window_change(ssh_session session, ssh_channel ssh, int width, int height, int px, int py, void *arg)
{
	Channel *channel = arg;
	struct winsize size = {.ws_row = clamp(height, 24), .ws_col = clamp(width, 80)};

	(void) session;
	(void) ssh;
	(void) px;
	(void) py;
	if (!channel->pty)
		return 1;
	channel->rows = size.ws_row;
	channel->columns = size.ws_col;
	if (channel->out >= 0)
		ioctl(channel->out, TIOCSWINSZ, &size);
	return 0;
}

static int
on_shell(ssh_session session, ssh_channel ssh, void *arg)
{
	(void) session;
	(void) ssh;
	return start_command(arg, NULL);
}

static int
on_exec(ssh_session session, ssh_channel ssh, const char *command, void *arg)
{
	(void) session;
	(void) ssh;
	return start_command(arg, command);
}

static int
on_subsystem(ssh_session session, ssh_channel ssh, const char *name, void *arg)
{
	Channel *channel = arg;
	Connection *connection = channel->connection;

	(void) session;
	if (channel->started || strcmp(name, "sftp") != 0)
		return 1;
	channel_begin(channel);
	if (connection->agent->options.block_file_transfer)
	{
		channel->blocked_status = 65;
		return 0;
	}
	metric_add(METRIC_SFTP, 1);
	channel->sftp = sftp_server_start(connection->agent, connection->session, ssh);
	if (channel->sftp == NULL)
		metric_add(METRIC_SFTP_ERRORS, 1);
	return channel->sftp != NULL ? 0 : 1;
}

int
ssh_signal_number(const char *name)
{
	static const struct
	{
		const char *name;
		int number;
	} signals[] = {{"ABRT", SIGABRT}, {"ALRM", SIGALRM}, {"FPE", SIGFPE},   {"HUP", SIGHUP},   {"ILL", SIGILL},
				   {"INT", SIGINT},   {"KILL", SIGKILL}, {"PIPE", SIGPIPE}, {"QUIT", SIGQUIT}, {"SEGV", SIGSEGV},
				   {"TERM", SIGTERM}, {"USR1", SIGUSR1}, {"USR2", SIGUSR2}};

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		if (strcmp(signals[i].name, name) == 0)
			return signals[i].number;
	return SIGKILL;
}

/* For all sessions of the connection from now on, as the client has one key agent. */
static void
on_key_agent(ssh_session session, ssh_channel ssh, void *arg)
{
	Connection *connection = ((Channel *) arg)->connection;

	(void) session;
	(void) ssh;
	connection->key_agent = ssh_listen_agent(&connection->listeners);
}

static void
on_display(ssh_session session, ssh_channel ssh, int single, const char *protocol, const char *cookie, uint32_t screen, void *arg)
{
	Channel *channel = arg;

	(void) session;
	(void) ssh;
	if (channel->display == NULL && !channel->started)
		channel->display = ssh_listen_display(&channel->connection->listeners, channel, single != 0, protocol, cookie, screen);
}

static void
on_signal(ssh_session session, ssh_channel ssh, const char *name, void *arg)
{
	Channel *channel = arg;

	(void) session;
	(void) ssh;
	if (channel->has_process && !channel->reaped)
		command_kill(&channel->process, ssh_signal_number(name));
}

static Channel *
session_channel_new(Connection *connection, ssh_channel ssh)
{
	Channel *channel = calloc(1, sizeof(*channel));

	if (channel == NULL)
		return NULL;
	channel->connection = connection;
	channel->ssh = ssh;
	channel->in = channel->out = channel->err = channel->process.pidfd = -1;
	channel->callbacks.userdata = channel;
	channel->callbacks.channel_env_request_function = on_env;
	channel->callbacks.channel_pty_request_function = on_pty;
	channel->callbacks.channel_pty_window_change_function = on_window_change;
	channel->callbacks.channel_shell_request_function = on_shell;
	channel->callbacks.channel_exec_request_function = on_exec;
	channel->callbacks.channel_subsystem_request_function = on_subsystem;
	channel->callbacks.channel_signal_function = on_signal;
	channel->callbacks.channel_auth_agent_req_function = on_key_agent;
	channel->callbacks.channel_x11_req_function = on_display;
	ssh_callbacks_init(&channel->callbacks);
	ssh_set_channel_callbacks(ssh, &channel->callbacks);
	channel->next = connection->channels;
	connection->channels = channel;
	connection->nchannels++;
	return channel;
}

static ssh_channel
on_open_session(ssh_session session, void *arg)
{
	Connection *connection = arg;
	ssh_channel ssh;

	if (connection->nchannels >= MAX_CHANNELS)
		return NULL;
	ssh = ssh_channel_new(session);
	if (ssh != NULL && session_channel_new(connection, ssh) == NULL)
	{
		ssh_channel_free(ssh);
		return NULL;
	}
	return ssh;
}

static int
on_auth_none(ssh_session session, const char *user, void *arg)
{
	(void) session;
	(void) user;
	((Connection *) arg)->authenticated = true;
	return SSH_AUTH_SUCCESS;
}

static int
on_service(ssh_session session, const char *service, void *arg)
{
	(void) session;
	(void) service;
	(void) arg;
	return 0;
}

static int
dial(const char *host, int port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *list = NULL;
	char service[8];
	int fd = -1;

	snprintf(service, sizeof(service), "%d", port);
	if (getaddrinfo(host, service, &hints, &list) != 0)
		return -1;
	for (struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next)
	{
		fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) != 0)
			close_fd(&fd);
	}
	freeaddrinfo(list);
	return fd;
}

/* A channel for a socket that is connected already; NULL: the socket is closed. */
static Channel *
forward_channel(Connection *connection, ssh_channel ssh, int fd)
{
	Channel *channel = ssh != NULL ? session_channel_new(connection, ssh) : NULL;

	if (channel == NULL)
	{
		if (ssh != NULL)
			ssh_channel_free(ssh);
		close(fd);
		return NULL;
	}
	set_nonblocking(fd);
	channel->started = true;
	channel->forward = true;
	channel->in = channel->out = fd;
	return channel;
}

/* ssh -R, and its end. */
static void
on_global_request(ssh_session session, ssh_message message, void *arg)
{
	Connection *connection = arg;
	const char *address = ssh_message_global_request_address(message);
	int port = ssh_message_global_request_port(message);
	int listens;

	(void) session;
	if (connection->authenticated && address != NULL && !connection->agent->options.block_reverse_forwarding)
		switch (ssh_message_subtype(message))
		{
			case SSH_GLOBAL_REQUEST_TCPIP_FORWARD:
				listens = ssh_listen_port(&connection->listeners, address, port);
				if (listens >= 0)
				{
					ssh_message_global_request_reply_success(message, (uint16_t) listens);
					return;
				}
				break;
			case SSH_GLOBAL_REQUEST_CANCEL_TCPIP_FORWARD:
				if (ssh_unlisten_port(&connection->listeners, address, port))
				{
					ssh_message_global_request_reply_success(message, 0);
					return;
				}
				break;
			default:
				break;
		}
	ssh_message_reply_default(message);
}

/* Connections to what listens for the client. */
static void
accept_forwards(Connection *connection)
{
	ssh_channel ssh;
	int fd;

	while (connection->nchannels < MAX_CHANNELS && (fd = ssh_listeners_accept(&connection->listeners, connection->session, &ssh)) >= 0)
		forward_channel(connection, ssh, fd);
}

/* What the server callbacks leave: of it, only forwarding of local ports is offered. */
static int
on_message(ssh_session session, ssh_message message, void *arg)
{
	Connection *connection = arg;
	Channel *channel;
	int fd;

	(void) session;
	if (ssh_message_type(message) != SSH_REQUEST_CHANNEL_OPEN ||
		ssh_message_subtype(message) != SSH_CHANNEL_DIRECT_TCPIP || !connection->authenticated ||
		connection->agent->options.block_local_forwarding || connection->nchannels >= MAX_CHANNELS)
		return 1;
	fd = dial(ssh_message_channel_request_open_destination(message),
			  ssh_message_channel_request_open_destination_port(message));
	if (fd < 0)
		return 1;
	channel = forward_channel(connection, ssh_message_channel_request_open_reply_accept(message), fd);
	if (channel != NULL && ports_is_jetbrains(fd))
		channel_count_as(channel, CODER__AGENT__V2__CONNECTION__TYPE__JETBRAINS);
	return 0;
}

/* The client's data to the process; the client's end of data closes its input. */
static void
pump_in(Channel *channel)
{
	for (;;)
	{
		int n;

		while (channel->pending_from < channel->pending_to)
		{
			ssize_t put = write(channel->in, channel->pending + channel->pending_from, channel->pending_to - channel->pending_from);

			if (put < 0 && (errno == EAGAIN || errno == EINTR))
				return;
			if (put < 0)
				break;
			channel->pending_from += (size_t) put;
		}
		if (channel->pending_from < channel->pending_to)
			break; /* nobody reads any more: what comes is thrown away */
		channel->pending_from = channel->pending_to = 0;
		n = ssh_channel_read_nonblocking(channel->ssh, channel->pending, sizeof(channel->pending), 0);
		if (n > 0)
		{
			channel->pending_to = (size_t) n;
			continue;
		}
		if (n == 0 && !ssh_channel_is_eof(channel->ssh))
			return;
		break;
	}
	channel->pending_from = channel->pending_to = 0;
	if (channel->forward && channel->out >= 0)
		shutdown(channel->in, SHUT_WR);
	else if (!channel->pty)
		close(channel->in);
	channel->in = -1; /* a terminal or socket stays as out, unless that has ended before */
}

/* Input that has nowhere to go still has to be taken off the channel. */
static void
discard(Channel *channel)
{
	while (ssh_channel_read_nonblocking(channel->ssh, channel->pending, sizeof(channel->pending), 0) > 0)
		;
}

/* Output to the client; -1 in *fd when there is no more. */
static void
pump_out(Channel *channel, int *fd, bool is_stderr)
{
	char buffer[IO_SIZE];

	for (int round = 0; round < 8 && *fd >= 0; round++)
	{
		uint32_t window = ssh_channel_window_size(channel->ssh);
		ssize_t n;

		if (window == 0)
			return;
		n = read(*fd, buffer, window < sizeof(buffer) ? window : sizeof(buffer));
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0)
		{
			/* One way of a connection may end before the other. */
			if (channel->forward && n == 0 && channel->in >= 0)
			{
				ssh_channel_send_eof(channel->ssh);
				*fd = -1;
				return;
			}
			/* A terminal answers EIO when its last process has let it go. */
			if (*fd == channel->in)
				channel->in = -1;
			close_fd(fd);
			return;
		}
		if ((is_stderr ? ssh_channel_write_stderr(channel->ssh, buffer, (uint32_t) n)
					   : ssh_channel_write(channel->ssh, buffer, (uint32_t) n)) < 0)
			return;
	}
}

/* What is shown before the shell says anything; true while there is more of it. */
static bool
greet(Channel *channel)
{
	size_t left = channel->greeting != NULL ? strlen(channel->greeting) - channel->greeted : 0;
	uint32_t window = ssh_channel_window_size(channel->ssh);

	if (left > window)
		left = window;
	if (left > 0 && ssh_channel_write(channel->ssh, channel->greeting + channel->greeted, (uint32_t) left) > 0)
		channel->greeted += left;
	if (channel->greeting != NULL && channel->greeting[channel->greeted] == '\0')
	{
		free(channel->greeting);
		channel->greeting = NULL;
	}
	return channel->greeting != NULL;
}

static void
check_process(Channel *channel)
{
	if (channel->has_process && !channel->reaped &&
		waitpid(channel->process.pid, &channel->status, WNOHANG) == channel->process.pid)
	{
		channel->reaped = true;
		close_fd(&channel->process.pidfd);
	}
}

/* True when the terminal of a process that has ended holds no more output. */
static bool
terminal_empty(const Channel *channel)
{
	struct pollfd p = {channel->out, POLLIN, 0};

	return channel->out < 0 || poll(&p, 1, 0) == 0 || (p.revents & POLLIN) == 0;
}

static void
finish(Channel *channel, int status)
{
	ssh_channel_send_eof(channel->ssh);
	if (status >= 0)
		ssh_channel_request_send_exit_status(channel->ssh, status);
	ssh_channel_close(channel->ssh);
}

/* One round of a channel; false when it is over. */
static bool
channel_round(Channel *channel)
{
	if (ssh_channel_is_closed(channel->ssh))
		return false;
	if (channel->blocked_status != 0)
	{
		finish(channel, channel->blocked_status);
		return false;
	}
	if (!channel->started)
		return true;
	if (channel->sftp != NULL)
	{
		if (sftp_server_serve(channel->sftp))
			return true;
		finish(channel, 0);
		return false;
	}
	if (channel->in >= 0)
		pump_in(channel);
	else
		discard(channel);
	check_process(channel);
	if (greet(channel))
		return true;
	if (channel->out >= 0)
		pump_out(channel, &channel->out, false);
	if (channel->err >= 0)
		pump_out(channel, &channel->err, true);
	if (channel->has_process)
	{
		bool drained = channel->pty ? terminal_empty(channel) : channel->out < 0 && channel->err < 0;

		if (!channel->reaped || !drained)
			return true;
		/* Killed by a signal is 255, as the reference does. */
		finish(channel, WIFEXITED(channel->status) ? WEXITSTATUS(channel->status) : 255);
		return false;
	}
	if (channel->out < 0 && (!channel->forward || channel->in < 0))
	{
		finish(channel, -1);
		return false;
	}
	return true;
}

static int
fill_poll(Connection *connection, struct pollfd *fds, int *timeout)
{
	int n = 0;

	fds[n++] = (struct pollfd){ssh_get_fd(connection->session),
							   (short) (POLLIN | (ssh_get_poll_flags(connection->session) & SSH_WRITE_PENDING ? POLLOUT : 0)),
							   0};
	fds[n++] = (struct pollfd){connection->wake, POLLIN, 0};
	if (connection->nchannels < MAX_CHANNELS)
		n += ssh_listeners_poll(&connection->listeners, fds + n);
	for (Channel *c = connection->channels; c != NULL; c = c->next)
	{
		bool open = ssh_channel_window_size(c->ssh) > 0;

		if (c->in >= 0 && c->pending_from < c->pending_to)
			fds[n++] = (struct pollfd){c->in, POLLOUT, 0};
		if (c->out >= 0 && open)
			fds[n++] = (struct pollfd){c->out, POLLIN, 0};
		if (c->err >= 0 && open)
			fds[n++] = (struct pollfd){c->err, POLLIN, 0};
		if (c->has_process && !c->reaped)
		{
			if (c->process.pidfd >= 0)
				fds[n++] = (struct pollfd){c->process.pidfd, POLLIN, 0};
			else
				*timeout = NO_PIDFD_MS;
		}
	}
	return n;
}

static void
serve(Connection *connection)
{
	struct pollfd fds[2 + SSH_LISTENERS + MAX_CHANNELS * 4];

	while (!connection->stop)
	{
		int timeout = POLL_MS;
		int n = fill_poll(connection, fds, &timeout);

		if (poll(fds, (nfds_t) n, timeout) < 0 && errno != EINTR)
			break;
		if (ssh_event_dopoll(connection->event, 0) == SSH_ERROR || !ssh_is_connected(connection->session))
			break;
		accept_forwards(connection);
		for (Channel *c = connection->channels, *next; c != NULL; c = next)
		{
			next = c->next;
			if (!channel_round(c))
				session_channel_free(c);
		}
	}
}

static bool
handshake(Connection *connection)
{
	ssh_bind bind = ssh_bind_new();
	long timeout = HANDSHAKE_SECONDS;
	ssh_key key;
	bool ok = false;

	pthread_once(&key_once, make_host_key);
	key = host_key != NULL ? ssh_key_dup(host_key) : NULL;
	connection->session = ssh_new();
	connection->event = ssh_event_new();
	if (bind != NULL && key != NULL && connection->session != NULL && connection->event != NULL)
	{
		bool no = false;

		ssh_bind_options_set(bind, SSH_BIND_OPTIONS_PROCESS_CONFIG, &no);
		ssh_bind_options_set(bind, SSH_BIND_OPTIONS_IMPORT_KEY, key); /* bind owns it now */
		ssh_set_server_callbacks(connection->session, &connection->callbacks);
		ssh_set_callbacks(connection->session, &connection->common);
		ssh_set_message_callback(connection->session, on_message, connection);
		if (ssh_bind_accept_fd(bind, connection->session, connection->fd) == SSH_OK)
		{
			connection->fd = -1; /* the session's */
			ssh_options_set(connection->session, SSH_OPTIONS_TIMEOUT, &timeout);
			ssh_set_auth_methods(connection->session, SSH_AUTH_METHOD_NONE);
			ok = ssh_handle_key_exchange(connection->session) == SSH_OK &&
				ssh_event_add_session(connection->event, connection->session) == SSH_OK;
		}
	}
	if (bind != NULL)
		ssh_bind_free(bind);
	return ok;
}

static void
connection_free(Connection *connection)
{
	Connection **link;

	while (connection->channels != NULL)
		session_channel_free(connection->channels);
	ssh_unlisten(&connection->listeners, NULL);
	pthread_mutex_lock(&list_lock);
	for (link = &connections; *link != connection; link = &(*link)->next)
		;
	*link = connection->next;
	pthread_mutex_unlock(&list_lock);
	if (connection->event != NULL)
		ssh_event_free(connection->event);
	if (connection->session != NULL)
	{
		ssh_disconnect(connection->session);
		ssh_free(connection->session);
	}
	close_fd(&connection->fd);
	close(connection->wake);
	free(connection);
}

static void *
connection_main(void *arg)
{
	Connection *connection = arg;

	if (handshake(connection))
		serve(connection);
	else
		metric_add(METRIC_SSH_FAILED, 1);
	connection_free(connection);
	return NULL;
}

void
serve_ssh(Agent *agent, int fd)
{
	Connection *connection = calloc(1, sizeof(*connection));
	pthread_attr_t attributes;
	pthread_t thread;
	bool started;

	if (connection == NULL || (connection->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
	{
		free(connection);
		close(fd);
		return;
	}
	connection->agent = agent;
	connection->fd = fd;
	connection->callbacks.userdata = connection;
	connection->callbacks.auth_none_function = on_auth_none;
	connection->callbacks.service_request_function = on_service;
	connection->callbacks.channel_open_request_session_function = on_open_session;
	ssh_callbacks_init(&connection->callbacks);
	connection->common.userdata = connection;
	connection->common.global_request_function = on_global_request;
	ssh_callbacks_init(&connection->common);
	pthread_mutex_lock(&list_lock);
	connection->next = connections;
	connections = connection;
	pthread_mutex_unlock(&list_lock);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, THREAD_STACK);
	started = pthread_create(&thread, &attributes, connection_main, connection) == 0;
	pthread_attr_destroy(&attributes);
	if (!started)
	{
		agent_log(agent, "ssh: could not start a thread");
		connection_free(connection);
	}
}

void
serve_ssh_stop(void)
{
	uint64_t one = 1;

	pthread_mutex_lock(&list_lock);
	for (Connection *c = connections; c != NULL; c = c->next)
	{
		c->stop = true;
		if (write(c->wake, &one, sizeof(one)) < 0)
			continue; /* it is awake already */
	}
	pthread_mutex_unlock(&list_lock);
	for (const Orphan *o = orphans; o != NULL; o = o->next)
		command_kill(&o->process, SIGHUP);
}
