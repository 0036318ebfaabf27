/*
 * jail.c -- namespaces of a boundary, and the command inside.
 *
 * The child makes a user namespace (its rights end with it: it cannot join
 * another network, nor look into processes outside), then a network and a mount
 * namespace; it makes the listeners, hands them to the parent and waits.  Its
 * sockets for DNS are bound to every address of port 53.
 *
 * SPDX-License-Identifier: MIT
 */
#include "boundary/jail.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ORIGINAL_DST 80 /* SO_ORIGINAL_DST, IP6T_SO_ORIGINAL_DST */
#define DNS_PORT 53
#define MAX_FDS (JAIL_LISTENERS + 2)

extern char **environ;

/* What the child hands out beside its descriptors. */
typedef struct Ready
{
	char kind; /* 'U' a user namespace waits for its maps, 'R' ready, 'E' an error */
	bool redirected;
	int nlisteners;
	int ndns;
	char error[300];
} Ready;

static bool
write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t) strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

/* Every id that is known here is the same inside. */
static bool
map_all(pid_t pid, const char *name)
{
	char path[64], map[4096] = "";
	unsigned long inside, outside, count;
	size_t n = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/%s", name);
	file = fopen(path, "re");
	if (file == NULL)
		return false;
	while (fscanf(file, "%lu %lu %lu", &inside, &outside, &count) == 3 && n < sizeof(map) - 100)
		n += (size_t) snprintf(map + n, sizeof(map) - n, "%lu %lu %lu\n", inside, inside, count);
	fclose(file);
	snprintf(path, sizeof(path), "/proc/%d/%s", (int) pid, name);
	return write_file(path, map);
}

static bool
map_one(pid_t pid)
{
	char path[64], map[64];

	snprintf(path, sizeof(path), "/proc/%d/setgroups", (int) pid);
	write_file(path, "deny");
	snprintf(path, sizeof(path), "/proc/%d/uid_map", (int) pid);
	snprintf(map, sizeof(map), "%u %u 1\n", (unsigned) geteuid(), (unsigned) geteuid());
	if (!write_file(path, map))
		return false;
	snprintf(path, sizeof(path), "/proc/%d/gid_map", (int) pid);
	snprintf(map, sizeof(map), "%u %u 1\n", (unsigned) getegid(), (unsigned) getegid());
	return write_file(path, map);
}

static void
send_ready(int fd, const Ready *ready, const int *fds, int nfds)
{
	struct iovec iov = {(void *) (uintptr_t) ready, sizeof(*ready)};
	union
	{
		char data[CMSG_SPACE(sizeof(int) * MAX_FDS)];
		struct cmsghdr align;
	} control = {0};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

	if (nfds > 0)
	{
		struct cmsghdr *c;

		message.msg_control = control.data;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t) nfds);
		c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * (size_t) nfds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * (size_t) nfds);
	}
	sendmsg(fd, &message, MSG_NOSIGNAL);
}

static bool
receive_ready(int fd, Ready *ready, int fds[static MAX_FDS], int *nfds)
{
	struct iovec iov = {ready, sizeof(*ready)};
	union
	{
		char data[CMSG_SPACE(sizeof(int) * MAX_FDS)];
		struct cmsghdr align;
	} control = {0};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.data, .msg_controllen = sizeof(control.data)};
	ssize_t n;
	struct cmsghdr *c;

	*nfds = 0;
	do
		n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t) sizeof(*ready))
		return false;
	c = CMSG_FIRSTHDR(&message);
	if (c != NULL && c->cmsg_type == SCM_RIGHTS)
	{
		*nfds = (int) ((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), sizeof(int) * (size_t) *nfds);
	}
	return true;
}

static _Noreturn void
give_up(int fd, const char *what, int error)
{
	Ready ready = {.kind = 'E'};

	snprintf(ready.error, sizeof(ready.error), "%s: %s", what, strerror(error));
	send_ready(fd, &ready, NULL, 0);
	_exit(1);
}

static int
bind_socket(int family, int type, bool loopback, int port)
{
	int fd = socket(family, type | SOCK_CLOEXEC, 0);
	struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t) port)};
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t) port)};
	int yes = 1;
	bool ok;

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof(yes));
	if (type == SOCK_DGRAM)
		setsockopt(fd, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, family == AF_INET ? IP_PKTINFO : IPV6_RECVPKTINFO, &yes, sizeof(yes));
	a4.sin_addr.s_addr = htonl(loopback ? INADDR_LOOPBACK : INADDR_ANY);
	a6.sin6_addr = loopback ? in6addr_loopback : in6addr_any;
	ok = bind(fd, family == AF_INET ? (struct sockaddr *) &a4 : (struct sockaddr *) &a6, family == AF_INET ? sizeof(a4) : sizeof(a6)) == 0;
	if (ok && type == SOCK_STREAM)
		ok = listen(fd, 256) == 0;
	if (ok)
		return fd;
	close(fd);
	return -1;
}

static uint16_t
port_of(int fd)
{
	struct sockaddr_storage address = {0};
	socklen_t size = sizeof(address);

	getsockname(fd, (struct sockaddr *) &address, &size);
	return ntohs(address.ss_family == AF_INET ? ((struct sockaddr_in *) &address)->sin_port : ((struct sockaddr_in6 *) &address)->sin6_port);
}

/* One listener that all TCP is led to; false where the kernel has no such rules. */
static bool
lead_all(int family, int fds[static MAX_FDS], int *n)
{
	int fd = bind_socket(family, SOCK_STREAM, true, 0);

	if (fd < 0)
		return false;
	if (jail_redirect(family, port_of(fd)) != 0)
	{
		close(fd);
		return false;
	}
	fds[(*n)++] = fd;
	return true;
}

/* Without such rules: the usual ports.  All others are refused by the kernel. */
static void
listen_usual(int family, int proxy_port, int fds[static MAX_FDS], int *n)
{
	static const int ports[] = {80, 443, 8443};
	int fd;

	for (size_t i = 0; i < sizeof(ports) / sizeof(ports[0]); i++)
		if (ports[i] != proxy_port && (fd = bind_socket(family, SOCK_STREAM, false, ports[i])) >= 0)
			fds[(*n)++] = fd;
}

static int
make_listeners(const JailOptions *options, bool ipv6, int fds[static MAX_FDS], bool *redirected)
{
	int n = 0;
	int fd;

	*redirected = lead_all(AF_INET, fds, &n);
	if (!*redirected)
		listen_usual(AF_INET, options->proxy_port, fds, &n);
	if (ipv6 && !(*redirected && lead_all(AF_INET6, fds, &n)))
		listen_usual(AF_INET6, options->proxy_port, fds, &n);
	if (!*redirected || options->proxy_named)
	{
		if ((fd = bind_socket(AF_INET, SOCK_STREAM, true, options->proxy_port)) >= 0)
			fds[n++] = fd;
		if (ipv6 && (fd = bind_socket(AF_INET6, SOCK_STREAM, true, options->proxy_port)) >= 0)
			fds[n++] = fd;
	}
	return n;
}

/* Services that resolve names for others would carry questions out. */
static void
mask_resolvers(void)
{
	static const char *const sockets[] = {"/run/systemd/resolve/io.systemd.Resolve", "/run/nscd/socket", "/var/run/nscd/socket"};
	struct stat st;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		return;
	for (size_t i = 0; i < sizeof(sockets) / sizeof(sockets[0]); i++)
		if (stat(sockets[i], &st) == 0 && S_ISSOCK(st.st_mode))
			mount("/dev/null", sockets[i], NULL, MS_BIND, NULL);
}

/* What a program needs as root; nothing that reaches into networks, mounts or other processes. */
static void
drop_capabilities(void)
{
	static const uint64_t kept = 1ull << CAP_CHOWN | 1ull << CAP_DAC_OVERRIDE | 1ull << CAP_FOWNER | 1ull << CAP_FSETID | 1ull << CAP_KILL |
		1ull << CAP_SETGID | 1ull << CAP_SETUID | 1ull << CAP_SETPCAP | 1ull << CAP_NET_BIND_SERVICE | 1ull << CAP_SYS_CHROOT |
		1ull << CAP_AUDIT_WRITE | 1ull << CAP_SETFCAP;
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2];

	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (unsigned long c = 0; c < 64; c++)
		if (c > CAP_LAST_CAP || !(kept >> c & 1))
			prctl(PR_CAPBSET_DROP, c, 0, 0, 0);
	if (syscall(SYS_capget, &head, data) != 0)
		return;
	for (int i = 0; i < 2; i++)
	{
		uint32_t mask = (uint32_t) (kept >> (32 * i));

		data[i].permitted &= mask;
		data[i].effective &= mask;
		data[i].inheritable = 0;
	}
	syscall(SYS_capset, &head, data);
}

/* A socket of the network outside would be a way out. */
static void
close_foreign_sockets(void)
{
	for (int fd = 0; fd < 65536; fd++)
	{
		int domain;
		socklen_t size = sizeof(domain);

		if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain != AF_UNIX)
		{
			close(fd);
			if (fd <= STDERR_FILENO && open("/dev/null", O_RDWR) != fd)
				_exit(126);
		}
		else if (errno == EBADF && fd > 4096)
			break;
	}
}

static _Noreturn void
run(int fd, char *const *argv)
{
	uint32_t size;
	sigset_t none;
	char *text;
	char *env[8192];
	size_t n = 0;

	/* The environment comes when all is ready: NUL-terminated texts. */
	if (recv(fd, &size, sizeof(size), MSG_WAITALL) != sizeof(size) || size > (uint32_t) 16 << 20 || (text = malloc(size + 1)) == NULL)
		_exit(126);
	for (size_t got = 0; got < size;)
	{
		ssize_t more = recv(fd, text + got, size - got, 0);

		if (more <= 0)
			_exit(126);
		got += (size_t) more;
	}
	for (char *p = text; p < text + size && n < sizeof(env) / sizeof(env[0]) - 1; p += strlen(p) + 1)
		env[n++] = p;
	env[n] = NULL;
	environ = env;
	close(fd);
	close_foreign_sockets();
	drop_capabilities();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	execvp(argv[0], argv);
	fprintf(stderr, "coder boundary: %s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

static _Noreturn void
child(int fd, const JailOptions *options, pid_t parent)
{
	Ready ready = {.kind = 'U'};
	int fds[MAX_FDS];
	bool ipv6;
	int error, dns;
	char go;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	if (!options->no_user_namespace)
	{
		if (unshare(CLONE_NEWUSER) != 0)
			give_up(fd, "could not make a user namespace (this machine may not allow them; as root there is --no-user-namespace)", errno);
		send_ready(fd, &ready, NULL, 0);
		if (recv(fd, &go, 1, 0) != 1)
			_exit(1);
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a change of credentials ends it */
	}
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) != 0)
		give_up(fd, "could not make a network namespace", errno);
	mask_resolvers();
	error = jail_make_routes(&ipv6);
	if (error != 0)
		give_up(fd, "could not set up the network", error);
	ready.kind = 'R';
	ready.nlisteners = make_listeners(options, ipv6, fds, &ready.redirected);
	if (ready.nlisteners == 0)
		give_up(fd, "could not listen", errno);
	if ((dns = bind_socket(AF_INET, SOCK_DGRAM, false, DNS_PORT)) >= 0)
		fds[ready.nlisteners + ready.ndns++] = dns;
	if (ipv6 && (dns = bind_socket(AF_INET6, SOCK_DGRAM, false, DNS_PORT)) >= 0)
		fds[ready.nlisteners + ready.ndns++] = dns;
	send_ready(fd, &ready, fds, ready.nlisteners + ready.ndns);
	for (int i = 0; i < ready.nlisteners + ready.ndns; i++)
		close(fds[i]);
	run(fd, options->argv);
}

/* In the network of all. */
static _Noreturn void
confined_child(int fd, const JailOptions *options, uint16_t port, pid_t parent)
{
	Ready ready = {.kind = 'R'};
	const char *problem;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	problem = jail_confine(port);
	if (problem != NULL)
	{
		ready.kind = 'E';
		snprintf(ready.error, sizeof(ready.error), "%s", problem);
		send_ready(fd, &ready, NULL, 0);
		_exit(1);
	}
	send_ready(fd, &ready, NULL, 0);
	run(fd, options->argv);
}

static bool
follow(Jail *jail, char *error, size_t error_size)
{
	Ready ready;
	int fds[MAX_FDS];
	int n;

	while (receive_ready(jail->fd, &ready, fds, &n))
	{
		if (ready.kind == 'E')
		{
			snprintf(error, error_size, "%.*s", (int) sizeof(ready.error) - 1, ready.error);
			return false;
		}
		if (ready.kind == 'U')
		{
			bool mapped = geteuid() == 0 ? map_all(jail->pid, "uid_map") && map_all(jail->pid, "gid_map") : map_one(jail->pid);

			if (!mapped && !map_one(jail->pid))
			{
				snprintf(error, error_size, "could not map the user into its namespace: %s", strerror(errno));
				return false;
			}
			send(jail->fd, "M", 1, MSG_NOSIGNAL);
			continue;
		}
		jail->redirected = ready.redirected;
		for (int i = 0; i < n; i++)
			if (i < ready.nlisteners)
				jail->listeners[jail->nlisteners++] = fds[i];
			else
				jail->dns[i - ready.nlisteners] = fds[i];
		return true;
	}
	snprintf(error, error_size, "the child that makes the network ended");
	return false;
}

bool
jail_start(Jail *jail, const JailOptions *options, char *error, size_t error_size)
{
	int pair[2];
	pid_t self = getpid();

	*jail = (Jail) {.dns = {-1, -1}, .proxy_port = options->proxy_port};
	if (options->landlock)
	{
		jail->listeners[0] = bind_socket(AF_INET, SOCK_STREAM, true, options->proxy_named ? options->proxy_port : 0);
		if (jail->listeners[0] < 0)
		{
			snprintf(error, error_size, "could not listen at 127.0.0.1:%d: %s", options->proxy_port, strerror(errno));
			return false;
		}
		jail->nlisteners = 1;
		jail->proxy_port = port_of(jail->listeners[0]);
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0 || (jail->pid = fork()) < 0)
	{
		snprintf(error, error_size, "%s", strerror(errno));
		return false;
	}
	if (jail->pid == 0)
	{
		close(pair[0]);
		if (options->landlock)
			confined_child(pair[1], options, (uint16_t) jail->proxy_port, self);
		child(pair[1], options, self);
	}
	close(pair[1]);
	jail->fd = pair[0];
	if (follow(jail, error, error_size))
		return true;
	kill(jail->pid, SIGKILL);
	waitpid(jail->pid, NULL, 0);
	return false;
}

void
jail_go(Jail *jail, char *const *env)
{
	uint32_t size = 0;

	for (char *const *p = env; *p != NULL; p++)
		size += (uint32_t) strlen(*p) + 1;
	send(jail->fd, &size, sizeof(size), MSG_NOSIGNAL);
	for (char *const *p = env; *p != NULL; p++)
		send(jail->fd, *p, strlen(*p) + 1, MSG_NOSIGNAL);
	close(jail->fd);
	jail->fd = -1;
}

bool
jail_destination(int fd, struct sockaddr_storage *address)
{
	socklen_t size = sizeof(*address);

	*address = (struct sockaddr_storage) {0};
	if (getsockname(fd, (struct sockaddr *) address, &size) != 0)
		return false;
	size = sizeof(*address);
	getsockopt(fd, address->ss_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, ORIGINAL_DST, address, &size);
	return true;
}
