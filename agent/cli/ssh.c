/*
 * ssh.c -- ssh, config-ssh, ping, port-forward.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cli/cli.h"
#include "cli/sshforward.h"
#include "cli/tunnel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libssh/libssh.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define AGENT_SSH_PORT 1
#define DIAL_TIMEOUT_MS 30000
#define SSH_BUFFER 32768

static struct termios saved_terminal;
static bool terminal_is_raw;
static volatile sig_atomic_t resized;

static void
restore_terminal(void)
{
	if (terminal_is_raw)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &saved_terminal);
	terminal_is_raw = false;
}

static void
make_terminal_raw(void)
{
	struct termios raw;

	if (tcgetattr(STDIN_FILENO, &saved_terminal) != 0)
		return;
	raw = saved_terminal;
	cfmakeraw(&raw);
	if (tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0)
	{
		terminal_is_raw = true;
		atexit(restore_terminal);
	}
}

static void
on_winch(int signal_number)
{
	(void) signal_number;
	resized = 1;
}

static void
send_size(ssh_channel channel)
{
	struct winsize size;

	resized = 0;
	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0)
		ssh_channel_change_pty_size(channel, size.ws_col, size.ws_row);
}

static ssh_session
connect_ssh(CliTunnel *tunnel)
{
	int fd = cli_tunnel_dial(tunnel, AGENT_SSH_PORT, DIAL_TIMEOUT_MS);
	ssh_session session = ssh_new();
	int no = 0;
	long timeout = 30;

	if (fd < 0)
		cli_fail("could not reach the agent: %s", strerror(-fd));
	if (session == NULL)
		cli_fail("out of memory");
	/* The tunnel has proven who is at its other end; host keys add nothing. */
	ssh_options_set(session, SSH_OPTIONS_HOST, "workspace");
	ssh_options_set(session, SSH_OPTIONS_USER, "coder");
	ssh_options_set(session, SSH_OPTIONS_FD, &fd);
	ssh_options_set(session, SSH_OPTIONS_TIMEOUT, &timeout);
	ssh_options_set(session, SSH_OPTIONS_PROCESS_CONFIG, &no);
	ssh_options_set(session, SSH_OPTIONS_STRICTHOSTKEYCHECK, &no);
	ssh_options_set(session, SSH_OPTIONS_CIPHERS_C_S, "chacha20-poly1305@openssh.com,aes128-gcm@openssh.com,aes256-gcm@openssh.com,aes128-ctr");
	ssh_options_set(session, SSH_OPTIONS_CIPHERS_S_C, "chacha20-poly1305@openssh.com,aes128-gcm@openssh.com,aes256-gcm@openssh.com,aes128-ctr");
	if (ssh_connect(session) != SSH_OK)
		cli_fail("could not connect by SSH: %s", ssh_get_error(session));
	if (ssh_userauth_none(session, NULL) != SSH_AUTH_SUCCESS)
		cli_fail("the agent refused the SSH session: %s", ssh_get_error(session));
	return session;
}

/* The words after "--" as one command for the remote shell. */
static char *
remote_command(const Cli *cli)
{
	char *command = cli_format("%s", "");

	for (const char **word = cli->rest; word != NULL && *word != NULL; word++)
	{
		char *longer = cli_format("%s%s%s", command, command[0] ? " " : "", *word);

		free(command);
		command = longer;
	}
	for (int i = 1; i < cli->nargs; i++)
	{
		char *longer = cli_format("%s%s%s", command, command[0] ? " " : "", cli->args[i]);

		free(command);
		command = longer;
	}
	return command;
}

int
cli_ssh_on_data(ssh_session session, ssh_channel channel, void *data, uint32_t size, int is_stderr, void *fresh)
{
	(void) session;
	(void) channel;
	(void) data;
	(void) size;
	(void) is_stderr;
	*(bool *) fresh = true;
	return 0; /* it stays in the channel until it is read */
}

/* Variables of the session: those of --env, each NAME=VALUE, several with commas between. */
static void
send_environment(const Cli *cli, ssh_channel channel)
{
	const char *values[CLI_MAX_VALUES];
	int n = cli_flag_all(cli, "env", values, CLI_MAX_VALUES);

	for (int i = 0; i < n; i++)
		for (const char *p = values[i]; *p != '\0'; p += *p == ',')
		{
			char *entry = cli_format("%.*s", (int) strcspn(p, ","), p);
			char *equals = strchr(entry, '=');

			if (equals == NULL || equals == entry)
				cli_fail("--env %s: NAME=VALUE expected", entry);
			p += strlen(entry);
			*equals = '\0';
			if (ssh_channel_request_env(channel, entry, equals + 1) != SSH_OK)
				cli_fail("the agent takes no variable \"%s\"", entry);
		}
}

static ssh_channel
open_channel(const Cli *cli, ssh_session session, const char *command, bool pty)
{
	ssh_channel channel = ssh_channel_new(session);
	const char *term = getenv("TERM");
	struct winsize size = {.ws_row = 24, .ws_col = 80};

	if (channel == NULL || ssh_channel_open_session(channel) != SSH_OK)
		cli_fail("could not open an SSH session: %s", ssh_get_error(session));
	send_environment(cli, channel);
	if (cli_switch(cli, "forward-agent") && ssh_channel_request_auth_agent(channel) != SSH_OK)
		cli_fail("the workspace does not take the key agent: %s", ssh_get_error(session));
	if (pty)
	{
		ioctl(STDIN_FILENO, TIOCGWINSZ, &size);
		if (ssh_channel_request_pty_size(channel, term ? term : "xterm", size.ws_col, size.ws_row) != SSH_OK)
			cli_fail("the agent gave no terminal: %s", ssh_get_error(session));
	}
	if ((command[0] ? ssh_channel_request_exec(channel, command) : ssh_channel_request_shell(channel)) != SSH_OK)
		cli_fail("the agent did not start the command: %s", ssh_get_error(session));
	return channel;
}

static bool
write_all(int fd, const char *data, size_t size)
{
	while (size > 0)
	{
		ssize_t n = write(fd, data, size);

		if (n < 0 && errno == EAGAIN)
		{
			struct pollfd out = {fd, POLLOUT, 0};

			poll(&out, 1, -1);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		data += n;
		size -= (size_t) n;
	}
	return true;
}

/* Everything that has arrived, to standard output and error; false when our reader is gone. */
static bool
take_output(ssh_channel channel, char *buffer)
{
	int n;

	for (int is_stderr = 0; is_stderr <= 1; is_stderr++)
		while ((n = ssh_channel_read_nonblocking(channel, buffer, SSH_BUFFER, is_stderr)) > 0)
			if (!write_all(is_stderr ? STDERR_FILENO : STDOUT_FILENO, buffer, (size_t) n))
				return false;
	return true;
}

/* What is typed, to the far side; false after its end. */
static bool
take_input(ssh_channel channel, char *buffer)
{
	ssize_t n = read(STDIN_FILENO, buffer, SSH_BUFFER);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n <= 0)
	{
		ssh_channel_send_eof(channel);
		return false;
	}
	return ssh_channel_write(channel, buffer, (uint32_t) n) == n;
}

/* Until the far side is done; returns the remote exit status. */
static int
run_channel(ssh_session session, ssh_channel channel, CliForwards *forwards, bool *fresh)
{
	static char buffer[SSH_BUFFER];
	struct pollfd fds[2 + CLI_FORWARDS];
	struct ssh_channel_callbacks_struct callbacks = {.userdata = fresh, .channel_data_function = cli_ssh_on_data};
	bool input = true;
	int status;

	ssh_callbacks_init(&callbacks);
	ssh_set_channel_callbacks(channel, &callbacks);
	for (;;)
	{
		bool room;
		int n;

		*fresh = false;
		if (!take_output(channel, buffer) || ssh_channel_is_eof(channel) || ssh_channel_is_closed(channel))
			break;
		cli_forwards_round(forwards);
		/* A full window of the far side stops our reading, not the process. */
		room = ssh_channel_window_size(channel) > 0;
		fds[0] = (struct pollfd){ssh_get_fd(session), POLLIN, 0};
		fds[1] = (struct pollfd){input && room ? STDIN_FILENO : -1, POLLIN, 0};
		n = 2 + cli_forwards_poll(forwards, fds + 2);
		if (resized)
			send_size(channel);
		if (poll(fds, (nfds_t) n, *fresh ? 0 : 1000) < 0 && errno != EINTR)
			break;
		if (fds[1].revents != 0)
			input = take_input(channel, buffer);
	}
	take_output(channel, buffer);
	status = ssh_channel_get_exit_status(channel);
	ssh_remove_channel_callbacks(channel, &callbacks);
	return status < 0 ? 255 : status;
}

/* What the command line wants to reach here from there. */
static void
want_forwards(Cli *cli, CliForwards *forwards)
{
	const char *values[CLI_MAX_VALUES];
	int n = cli_flag_all(cli, "remote-forward", values, CLI_MAX_VALUES);

	if (n > CLI_REMOTE_PORTS)
		cli_fail("at most %d ports are forwarded", CLI_REMOTE_PORTS);
	for (; forwards->nports < n; forwards->nports++)
		if (!cli_remote_port_parse(values[forwards->nports], &forwards->ports[forwards->nports]))
			cli_fail("--remote-forward %s: PORT:HOST:PORT expected, as in 8080:localhost:80", values[forwards->nports]);
	if (!cli_switch(cli, "forward-agent"))
		return;
	forwards->key_agent = cli_flag(cli, "identity-agent");
	if (forwards->key_agent == NULL)
		forwards->key_agent = getenv("SSH_AUTH_SOCK");
	if (forwards->key_agent == NULL || *forwards->key_agent == '\0')
		cli_fail("there is no key agent: SSH_AUTH_SOCK is not set");
}

/* "coder.dev", "dev.coder", "owner--dev.agent" as host names of config-ssh. */
static char *
workspace_of_host(Cli *cli, const char *host)
{
	const char *prefix = cli_flag(cli, "ssh-host-prefix");
	const char *suffix = cli_flag(cli, "hostname-suffix");
	char *name = cli_format("%s", host);
	char *dashes;
	size_t len;

	if (prefix != NULL && strncmp(name, prefix, strlen(prefix)) == 0)
		name += strlen(prefix);
	len = strlen(name);
	if (suffix != NULL && len > strlen(suffix) + 1 && name[len - strlen(suffix) - 1] == '.' &&
		strcmp(name + len - strlen(suffix), suffix) == 0)
		name[len - strlen(suffix) - 1] = '\0';
	if (prefix == NULL && suffix == NULL)
		return name;
	dashes = strstr(name, "--");
	if (dashes != NULL)
	{
		char *second = strstr(dashes + 2, "--");

		if (second != NULL)
			return cli_format("%.*s/%.*s.%s", (int) (dashes - name), name, (int) (second - dashes - 2), dashes + 2, second + 2);
		return cli_format("%.*s/%s", (int) (dashes - name), name, dashes + 2);
	}
	return name;
}

static int stdio_fd = -1;

/* ssh ends its proxy with SIGHUP: the end of the stream ends the pump, and the agent is told. */
static void
on_stdio_signal(int signal_number)
{
	(void) signal_number;
	shutdown(stdio_fd, SHUT_RDWR);
}

static int
run_stdio(CliTunnel *tunnel)
{
	stdio_fd = cli_tunnel_dial(tunnel, AGENT_SSH_PORT, DIAL_TIMEOUT_MS);
	if (stdio_fd < 0)
		cli_fail("could not reach the agent: %s", strerror(-stdio_fd));
	signal(SIGHUP, on_stdio_signal);
	signal(SIGTERM, on_stdio_signal);
	signal(SIGINT, on_stdio_signal);
	cli_pump(STDIN_FILENO, STDOUT_FILENO, stdio_fd);
	close(stdio_fd);
	cli_tunnel_close(tunnel);
	return 0;
}

static int
run_ssh(Cli *cli)
{
	const char *wait = cli_flag(cli, "wait");
	const char *autostart = cli_flag(cli, "disable-autostart");
	static CliForwards forwards;
	bool fresh = false;
	json_t *agent;
	CliTunnel *tunnel;
	ssh_session session;
	ssh_channel channel;
	char *command;
	bool pty;
	int status;

	cli_need_login(cli);
	want_forwards(cli, &forwards);
	agent = cli_ready_agent(cli,
							workspace_of_host(cli, cli_arg(cli, 0)),
							autostart == NULL || strcmp(autostart, "false") == 0,
							wait == NULL || strcmp(wait, "no") != 0);
	tunnel = cli_tunnel_open(cli, agent);
	signal(SIGPIPE, SIG_IGN);
	if (cli_switch(cli, "stdio"))
		return run_stdio(tunnel);
	session = connect_ssh(tunnel);
	cli_forwards_begin(&forwards, session, &fresh);
	command = remote_command(cli);
	pty = isatty(STDIN_FILENO) && (command[0] == '\0' || cli_switch(cli, "tty"));
	channel = open_channel(cli, session, command, pty);
	if (pty)
	{
		signal(SIGWINCH, on_winch);
		make_terminal_raw();
	}
	status = run_channel(session, channel, &forwards, &fresh);
	restore_terminal();
	ssh_channel_free(channel);
	ssh_disconnect(session);
	cli_tunnel_close(tunnel);
	return status;
}

/*
 * config-ssh.  The lines that mark the section are those of Coder's own
 * command line, so that each replaces the other's.
 */
#define SECTION_BEGIN "# ------------START-CODER-----------"
#define SECTION_END "# ------------END-CODER------------"

static char *
read_file(const char *path)
{
	FILE *file = fopen(path, "re");
	char *text = NULL;
	size_t size = 0;

	if (file == NULL)
	{
		if (errno != ENOENT)
			cli_fail("could not read %s: %s", path, strerror(errno));
		return cli_format("%s", "");
	}
	if (getdelim(&text, &size, '\0', file) < 0)
		text = cli_format("%s", "");
	fclose(file);
	return text;
}

/* text without the section; a section that does not end is an error, not a loss. */
static char *
without_section(const char *path, const char *text)
{
	const char *begin = strstr(text, SECTION_BEGIN);
	const char *end = begin ? strstr(begin, SECTION_END) : NULL;

	if (begin == NULL)
		return cli_format("%s", text);
	if (end == NULL)
		cli_fail("%s: the section of coder has no end; mend it by hand", path);
	end += strlen(SECTION_END);
	while (*end == '\n')
		end++;
	return cli_format("%.*s%s", (int) (begin - text), text, end);
}

static char *
section(Cli *cli)
{
	json_t *config = cli_get(cli, "/api/v2/deployment/ssh");
	const char *prefix = js_text(config, "hostname_prefix");
	const char *suffix = js_text(config, "hostname_suffix");
	const char *key;
	json_t *value;
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *options = cli_format("%s", "");
	char *proxy;

	if (prefix[0] == '\0')
		prefix = "coder.";
	self[n > 0 ? n : 0] = '\0';
	json_object_foreach(json_object_get(config, "ssh_config_options"), key, value)
	{
		options = cli_format("%s\t%s %s\n", options, key, json_string_value(value));
	}
	options = cli_format("%s\tConnectTimeout 0\n\tStrictHostKeyChecking no\n\tUserKnownHostsFile /dev/null\n\tLogLevel ERROR\n", options);
	proxy = cli_format("\"%s\" --global-config \"%s\" ssh --stdio", self, cli->config_dir);
	return cli_format("%s\n"
					  "# This section is written by \"coder config-ssh\"; changes in it are lost.\n"
					  "Host %s*\n%s\tProxyCommand %s --ssh-host-prefix %s %%h\n"
					  "%s%s%s%s%s%s%s%s"
					  "%s\n",
					  SECTION_BEGIN,
					  prefix,
					  options,
					  proxy,
					  prefix,
					  suffix[0] ? "Host *." : "",
					  suffix,
					  suffix[0] ? "\n" : "",
					  suffix[0] ? options : "",
					  suffix[0] ? "\tProxyCommand " : "",
					  suffix[0] ? proxy : "",
					  suffix[0] ? " --hostname-suffix " : "",
					  suffix[0] ? cli_format("%s %%h\n", suffix) : "",
					  SECTION_END);
}

static void
write_ssh_config(const char *path, const char *text)
{
	char *fresh = cli_format("%s.coder-new", path);
	int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || !write_all(fd, text, strlen(text)) || fsync(fd) != 0 || close(fd) != 0 || rename(fresh, path) != 0)
		cli_fail("could not write %s: %s", path, strerror(errno));
}

static int
run_config_ssh(Cli *cli)
{
	const char *given = cli_flag(cli, "ssh-config-file");
	const char *home = getenv("HOME");
	char *path;
	char *old;
	char *kept;
	char *fresh;

	cli_need_login(cli);
	path = given ? cli_format("%s", given) : cli_format("%s/.ssh/config", home ? home : "");
	if (strncmp(path, "~/", 2) == 0)
		path = cli_format("%s%s", home ? home : "", path + 1);
	if (given == NULL)
		mkdir(cli_format("%s/.ssh", home ? home : ""), 0700);
	old = read_file(path);
	kept = without_section(path, old);
	if (cli_switch(cli, "remove"))
		fresh = kept;
	else
		fresh = cli_format("%s%s%s", kept, kept[0] && kept[strlen(kept) - 1] != '\n' ? "\n" : "", section(cli));
	if (cli_switch(cli, "dry-run"))
	{
		fputs(fresh, stdout);
		return 0;
	}
	if (strcmp(old, fresh) == 0)
	{
		puts("Nothing to change.");
		return 0;
	}
	if (!cli_confirm(cli, cli_format("Write %s?", path)))
		return 1;
	write_ssh_config(path, fresh);
	if (cli_switch(cli, "remove"))
		puts("The section is removed.");
	else
		puts("Done. Enter a workspace with \"ssh coder.WORKSPACE\".");
	return 0;
}

static volatile sig_atomic_t ping_ended;

static void
on_ping_signal(int signal_number)
{
	(void) signal_number;
	ping_ended = 1;
}

static int
run_ping(Cli *cli)
{
	const char *count_text = cli_flag(cli, "num");
	long count = count_text ? strtol(count_text, NULL, 10) : 0;
	CliTunnel *tunnel;
	int answered = 0;

	cli_need_login(cli);
	tunnel = cli_tunnel_open(cli, cli_ready_agent(cli, cli_arg(cli, 0), false, false));
	signal(SIGINT, on_ping_signal);
	for (long i = 0; (count == 0 || i < count) && !ping_ended; i++)
	{
		CliPing ping;
		struct timespec second = {1, 0};

		if (i > 0 && nanosleep(&second, NULL) != 0)
			break;
		if (cli_tunnel_ping(tunnel, 5000, &ping) != 0)
		{
			puts("no answer within 5 s");
			continue;
		}
		answered++;
		printf("pong from %s %s %s in %.1f ms\n", cli_arg(cli, 0), ping.direct ? "directly at" : "through relay", ping.path, ping.milliseconds);
		fflush(stdout);
	}
	cli_tunnel_close(tunnel);
	return answered > 0 ? 0 : 1;
}

typedef struct Forward
{
	int listener;
	struct in_addr address;
	int local_port;
	int remote_port;
} Forward;

typedef struct ForwardedConnection
{
	CliTunnel *tunnel;
	int fd;
	int remote_port;
} ForwardedConnection;

static int
parse_port(const char *text, const char *whole)
{
	char *end;
	long port = strtol(text, &end, 10);

	if (end == text || *end != '\0' || port < 1 || port > 65535)
		cli_fail("--tcp %s: [ADDRESS:]LOCAL[:REMOTE] with ports of 1 to 65535 expected", whole);
	return (int) port;
}

/* "8080", "8080:80", "0.0.0.0:8080:80" */
static Forward
parse_forward(const char *text)
{
	Forward forward = {.listener = -1};
	char *copy = cli_format("%s", text);
	char *last = strrchr(copy, ':');
	char *first = strchr(copy, ':');

	inet_pton(AF_INET, "127.0.0.1", &forward.address);
	if (first != NULL && first != last)
	{
		*first = '\0';
		if (inet_pton(AF_INET, copy, &forward.address) != 1)
			cli_fail("--tcp %s: \"%s\" is not an IPv4 address", text, copy);
		copy = first + 1;
	}
	if (last != NULL)
		*last = '\0';
	forward.local_port = parse_port(copy, text);
	forward.remote_port = last ? parse_port(last + 1, text) : forward.local_port;
	return forward;
}

static void
listen_forward(Forward *forward)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = forward->address, .sin_port = htons((uint16_t) forward->local_port)};
	int yes = 1;

	forward->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(forward->listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(forward->listener, (struct sockaddr *) &address, sizeof(address)) != 0 || listen(forward->listener, 64) != 0)
		cli_fail("could not listen on port %d: %s", forward->local_port, strerror(errno));
	printf("Forwarding port %d to port %d of the workspace.\n", forward->local_port, forward->remote_port);
	fflush(stdout);
}

/* A connection has a process-wide pump no longer than its own thread. */
static void *
forward_thread(void *arg)
{
	ForwardedConnection *connection = arg;
	int remote = cli_tunnel_dial(connection->tunnel, connection->remote_port, DIAL_TIMEOUT_MS);

	if (remote < 0)
		cli_note("port %d of the workspace: %s", connection->remote_port, strerror(-remote));
	else
	{
		cli_pump(connection->fd, connection->fd, remote);
		close(remote);
	}
	close(connection->fd);
	free(connection);
	return NULL;
}

static void
accept_forward(CliTunnel *tunnel, const Forward *forward)
{
	ForwardedConnection *connection = malloc(sizeof(*connection));
	pthread_t thread;

	if (connection == NULL)
		cli_fail("out of memory");
	connection->tunnel = tunnel;
	connection->remote_port = forward->remote_port;
	connection->fd = accept4(forward->listener, NULL, NULL, SOCK_CLOEXEC);
	if (connection->fd < 0 || pthread_create(&thread, NULL, forward_thread, connection) != 0)
	{
		if (connection->fd >= 0)
			close(connection->fd);
		free(connection);
		return;
	}
	pthread_detach(thread);
}

/* A descriptor that is readable once the process is to end; threads inherit that nothing interrupts them. */
static int
end_signals(void)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (fd < 0)
		cli_fail("could not wait for signals: %s", strerror(errno));
	return fd;
}

static int
run_port_forward(Cli *cli)
{
	const char *values[CLI_MAX_VALUES];
	Forward forwards[CLI_MAX_VALUES];
	struct pollfd fds[CLI_MAX_VALUES + 1];
	int n = cli_flag_all(cli, "tcp", values, CLI_MAX_VALUES);
	CliTunnel *tunnel;

	cli_need_login(cli);
	if (n == 0)
		cli_fail("name the ports with --tcp, as in --tcp 8080:80");
	for (int i = 0; i < n; i++)
		forwards[i] = parse_forward(values[i]);
	tunnel = cli_tunnel_open(cli, cli_ready_agent(cli, cli_arg(cli, 0), true, true));
	signal(SIGPIPE, SIG_IGN);
	fds[n] = (struct pollfd){end_signals(), POLLIN, 0};
	for (int i = 0; i < n; i++)
	{
		listen_forward(&forwards[i]);
		fds[i] = (struct pollfd){forwards[i].listener, POLLIN, 0};
	}
	puts("Ready; Ctrl-C ends it.");
	fflush(stdout);
	while (poll(fds, (nfds_t) n + 1, -1) >= 0 || errno == EINTR)
	{
		if (fds[n].revents & POLLIN)
		{
			cli_tunnel_close(tunnel);
			return 0;
		}
		for (int i = 0; i < n; i++)
			if (fds[i].revents & POLLIN)
				accept_forward(tunnel, &forwards[i]);
	}
	cli_fail("could not wait for connections: %s", strerror(errno));
}

static const CliFlag ssh_flags[] = {
	{"stdio", 0, NULL, NULL, "Copy the SSH connection to standard input and output (for ProxyCommand)."},
	{"tty", 't', NULL, NULL, "Ask for a terminal also for a command."},
	{"env", 'e', "name=value", NULL, "Variable of the session; may be repeated."},
	{"forward-agent", 'A', NULL, "CODER_SSH_FORWARD_AGENT", "Let the workspace use your key agent while you are in it."},
	{"identity-agent", 0, "socket", "CODER_SSH_IDENTITY_AGENT", "The key agent, in place of SSH_AUTH_SOCK."},
	{"remote-forward", 'R', "port:host:port", NULL, "Forward a port of the workspace to one that is within reach from here; may be repeated."},
	{"wait", 0, "yes|no", "CODER_SSH_WAIT", "Wait for the startup scripts that block login (default: yes)."},
	{"disable-autostart", 0, "true|false", "CODER_SSH_DISABLE_AUTOSTART", "Do not start a stopped workspace."},
	{"ssh-host-prefix", 0, "prefix", NULL, "What to cut from the front of the host name."},
	{"hostname-suffix", 0, "suffix", NULL, "What to cut from the end of the host name."},
	{NULL, 0, NULL, NULL, NULL},
};
static const CliFlag config_flags[] = {
	{"ssh-config-file", 0, "file", "CODER_SSH_CONFIG_FILE", "The file to write (default: ~/.ssh/config)."},
	{"dry-run", 'n', NULL, NULL, "Print the file instead of writing it."},
	{"remove", 0, NULL, NULL, "Take the section out again."},
	{NULL, 0, NULL, NULL, NULL},
};
static const CliFlag ping_flags[] = {
	{"num", 'n', "count", NULL, "How many pings (default: until Ctrl-C)."},
	{NULL, 0, NULL, NULL, NULL},
};
static const CliFlag forward_flags[] = {
	{"tcp", 'p', "[address:]local[:remote]", NULL, "A port to forward; may be repeated."},
	{NULL, 0, NULL, NULL, NULL},
};
static const char *const ssh_examples[] = {"coder ssh dev", "coder ssh dev -- uname -a", "tar c . | coder ssh dev -- tar x", NULL};
static const char *const forward_examples[] = {"coder port-forward dev --tcp 8080", "coder port-forward dev --tcp 8080:80 --tcp 5432", NULL};

const CliCommand cli_ssh_commands[] = {
	{"ssh", "<workspace> [-- command]", "Open a shell in a workspace, or run a command", ssh_flags, 1, -1, run_ssh, ssh_examples},
	{"config-ssh", "", "Make \"ssh coder.WORKSPACE\" work", config_flags, 0, 0, run_config_ssh, NULL},
	{"ping", "<workspace>", "Ping the agent of a workspace", ping_flags, 1, 1, run_ping, NULL},
	{"port-forward", "<workspace>", "Forward local ports to a workspace", forward_flags, 1, 1, run_port_forward, forward_examples},
	{NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
