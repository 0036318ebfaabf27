/*
 * sandbox.c -- workspaces as sandboxed processes on this machine
 *
 * The supervisor is the provisioner's first process, single-threaded and
 * small.  Workers ask it over sequenced-packet sockets:
 *
 *	 prepare   set up new sandboxes; answers when their shells stand ready
 *	 go        the build is stored: end the old sandboxes, let the new ones run
 *	 abort     it was not: end the new ones
 *	 stop      end all sandboxes of a workspace; answers when they are gone
 *	 delete    the same, and remove its home
 *
 * A sandbox is bubblewrap around the workspace agent.  As root, it runs under
 * a user id of its own (the owner of its home); else in a user namespace.  It
 * dies with the supervisor, which starts it again from the database's state.
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/job.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FIRST_UID 200000u
#define LAST_UID 265535u
#define READY_MS 10000
#define STOP_MS 10000
#define SHUTDOWN_MS 1000 /* when the server stops */
#define MAX_BACKOFF_MS 60000
#define MAX_MESSAGE (1u << 20)
#define MAX_WORKERS 64

/* Descriptors inside of the sandbox's first process. */
#define FD_READY 3
#define FD_GO 4
#define FD_ARGS 5
#define FD_PASSWD 6
#define FD_GROUP 7

typedef enum BoxState
{
	BOX_STARTING, /* waits for its shell */
	BOX_READY,	  /* waits for go */
	BOX_RUNNING,
	BOX_STOPPING,
	BOX_WAITING /* died; starts again at due */
} BoxState;

typedef struct Box
{
	struct Box *next;
	char *workspace;
	json_t *spec;
	BoxState state;
	pid_t pid; /* of bwrap */
	int ready_fd;
	int go_fd;
	int64_t due; /* of the state's limit */
	int64_t started;
	int failures;
	bool desired; /* starts again when it dies */
	int waiter;	  /* worker that waits for a prepare, or -1 */
} Box;

/* A stop or delete that waits for the last sandbox to end. */
typedef struct Pending
{
	struct Pending *next;
	char *workspace;
	int fd;
	bool remove;
} Pending;

struct Supervisor
{
	const ProvOptions *options;
	Box *boxes;
	Pending *pending;
	int fds[MAX_WORKERS];
	int n_fds;
};

Supervisor *
sandbox_create(const ProvOptions *options)
{
	Supervisor *s = calloc(1, sizeof(*s));

	if (s == NULL)
		abort();
	s->options = options;
	return s;
}

void
sandbox_add_worker(Supervisor *s, int fd)
{
	if (s->n_fds < MAX_WORKERS)
		s->fds[s->n_fds++] = fd;
}

void
sandbox_remove_worker(Supervisor *s, int fd)
{
	Box *box;
	Pending *p;
	int i;

	for (i = 0; i < s->n_fds; i++)
		if (s->fds[i] == fd)
			s->fds[i--] = s->fds[--s->n_fds];
	for (box = s->boxes; box != NULL; box = box->next)
		if (box->waiter == fd)
			box->waiter = -1;
	for (p = s->pending; p != NULL; p = p->next)
		if (p->fd == fd)
			p->fd = -1;
	close(fd);
}

static void
reply(int fd, const char *error)
{
	json_t *j = error == NULL ? json_pack("{s:b}", "ok", 1)
							  : json_pack("{s:b, s:s}", "ok", 0, "error", error);
	char *text = json_dumps(j, JSON_COMPACT);

	if (fd >= 0 && send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		fprintf(stderr, "provisioner: could not answer a worker: %s\n", strerror(errno));
	free(text);
	json_decref(j);
}

/* -- folders ------------------------------------------------------------- */

static bool
is_uuid(const char *s)
{
	return strlen(s) == 36 && strspn(s, "0123456789abcdefABCDEF-") == 36;
}

static void
workspace_dir(const Supervisor *s, const char *workspace, char *out, size_t size)
{
	snprintf(out, size, "%s/workspaces/%s", s->options->data_dir, workspace);
}

/* A user id that no other home has. */
static uid_t
free_uid(const char *root)
{
	static unsigned char used[(LAST_UID - FIRST_UID + 1) / 8 + 1];
	DIR *dir = opendir(root);
	const struct dirent *entry;
	uid_t uid;

	memset(used, 0, sizeof(used));
	while (dir != NULL && (entry = readdir(dir)) != NULL)
	{
		char path[1100];
		struct stat st;

		snprintf(path, sizeof(path), "%s/%s/home", root, entry->d_name);
		if (lstat(path, &st) == 0 && st.st_uid >= FIRST_UID && st.st_uid <= LAST_UID)
			used[(st.st_uid - FIRST_UID) / 8] |=
				(unsigned char) (1u << ((st.st_uid - FIRST_UID) % 8));
	}
	if (dir != NULL)
		closedir(dir);
	for (uid = FIRST_UID; uid <= LAST_UID; uid++)
		if ((used[(uid - FIRST_UID) / 8] & (1u << ((uid - FIRST_UID) % 8))) == 0)
			return uid;
	return 0;
}

static bool
make_dirs(const char *path, mode_t mode)
{
	char copy[1024];
	char *slash;

	snprintf(copy, sizeof(copy), "%s", path);
	for (slash = strchr(copy + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/'))
	{
		*slash = '\0';
		if (mkdir(copy, 0755) != 0 && errno != EEXIST)
			return false;
		*slash = '/';
	}
	return mkdir(copy, mode) == 0 || errno == EEXIST;
}

/* The home of a workspace, made where it is missing; its owner is the sandbox's user. */
static bool
open_home(const Supervisor *s, const char *workspace, char *home, size_t size, uid_t *uid,
		  char *why, size_t why_size)
{
	char dir[900];
	char root[800];
	struct stat st;

	snprintf(root, sizeof(root), "%s/workspaces", s->options->data_dir);
	workspace_dir(s, workspace, dir, sizeof(dir));
	snprintf(home, size, "%s/home", dir);
	if (!make_dirs(dir, 0700))
	{
		snprintf(why, why_size, "could not make the folder \"%s\": %s", dir, strerror(errno));
		return false;
	}
	if (lstat(home, &st) != 0)
	{
		*uid = geteuid() == 0 ? free_uid(root) : geteuid();
		if (*uid == 0 || mkdir(home, 0700) != 0 || (geteuid() == 0 && chown(home, *uid, *uid) != 0))
		{
			snprintf(
				why, why_size, "could not make the home folder \"%s\": %s", home, strerror(errno));
			return false;
		}
		return true;
	}
	*uid = st.st_uid;
	if (!S_ISDIR(st.st_mode) || (geteuid() == 0 && (*uid < FIRST_UID || *uid > LAST_UID)))
	{
		snprintf(why, why_size, "\"%s\" is not the home of a sandbox", home);
		return false;
	}
	return true;
}

static int
remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void) st;
	(void) type;
	(void) ftw;
	remove(path);
	return 0;
}

/* Does not follow links.  Large homes take a while, so a child does it. */
static void
remove_workspace(const Supervisor *s, const char *workspace)
{
	char dir[900];
	char trash[960];

	if (!is_uuid(workspace))
		return;
	workspace_dir(s, workspace, dir, sizeof(dir));
	snprintf(trash, sizeof(trash), "%s.deleted", dir);
	if (rename(dir, trash) != 0)
		return;
	if (fork() == 0)
	{
		nftw(trash, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
		_exit(0);
	}
}

/* -- bubblewrap ---------------------------------------------------------- */

/* Arguments, each followed by a zero byte, as bwrap --args reads them: a token must not show in ps.
 */
typedef struct Args
{
	char *data;
	size_t len;
	size_t cap;
} Args;

static void
arg(Args *a, const char *s)
{
	const size_t n = strlen(s) + 1;

	if (a->cap - a->len < n)
	{
		a->cap = (a->len + n) * 2 + 1024;
		a->data = realloc(a->data, a->cap);
		if (a->data == NULL)
			abort();
	}
	memcpy(a->data + a->len, s, n);
	a->len += n;
}

static void
arg3(Args *a, const char *option, const char *x, const char *y)
{
	arg(a, option);
	arg(a, x);
	if (y != NULL)
		arg(a, y);
}

static void
system_dirs(Args *a)
{
	static const char *const dirs[] = {"/bin", "/sbin", "/lib", "/lib64", "/lib32", "/libx32"};
	size_t i;

	arg3(a, "--ro-bind", "/usr", "/usr");
	for (i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
	{
		char target[256];
		const ssize_t n = readlink(dirs[i], target, sizeof(target) - 1);

		if (n > 0)
		{
			target[n] = '\0';
			arg3(a, "--symlink", target, dirs[i]);
		}
		else
			arg3(a, "--ro-bind-try", dirs[i], dirs[i]);
	}
	arg3(a, "--ro-bind", "/etc", "/etc");
	arg3(a, "--ro-bind-try", "/run/systemd/resolve", "/run/systemd/resolve");
	arg3(a, "--ro-bind-try", "/var/lib/ca-certificates", "/var/lib/ca-certificates");
}

/* The certificates that the server was told to trust: its agents trust them, too. */
static const char *
certificates(void)
{
	const char *file = getenv("SSL_CERT_FILE");

	return file != NULL && access(file, R_OK) == 0 ? file : NULL;
}

static void
mounts(const Supervisor *s, Args *a, const char *home)
{
	static const char *const writable[] = {"/tmp", "/var/tmp", "/dev/shm"};
	static const char *const parents[] = {
		"/var", "/run", "/home", "/opt", "/opt/coder", "/opt/coder/bin"};
	char fd[16];
	size_t i;

	for (i = 0; i < sizeof(parents) / sizeof(parents[0]); i++)
	{
		arg3(a, "--perms", "0755", NULL); /* bwrap's own would be closed to the user */
		arg3(a, "--dir", parents[i], NULL);
	}

	system_dirs(a);
	arg3(a, "--proc", "/proc", NULL);
	arg3(a, "--dev", "/dev", NULL);
	for (i = 0; i < 3; i++)
	{
		arg3(a, "--perms", "1777", NULL);
		arg3(a, "--tmpfs", writable[i], NULL);
	}
	arg3(a, "--bind", home, "/home/coder");
	arg3(a, "--ro-bind", s->options->agent_path, "/opt/coder/bin/coder");
	if (certificates() != NULL)
		arg3(a, "--ro-bind", certificates(), "/opt/coder/certificates.pem");
	snprintf(fd, sizeof(fd), "%d", FD_PASSWD);
	arg3(a, "--perms", "0644", NULL);
	arg3(a, "--ro-bind-data", fd, "/etc/passwd");
	snprintf(fd, sizeof(fd), "%d", FD_GROUP);
	arg3(a, "--perms", "0644", NULL);
	arg3(a, "--ro-bind-data", fd, "/etc/group");
	arg3(a, "--chdir", "/home/coder", NULL);
}

static void
environment(Args *a, const json_t *spec)
{
	const char *key;
	const json_t *value;

	arg(a, "--clearenv");
	arg3(a, "--setenv", "HOME", "/home/coder");
	arg3(a, "--setenv", "USER", "coder");
	arg3(a, "--setenv", "LOGNAME", "coder");
	arg3(a, "--setenv", "SHELL", access("/bin/bash", X_OK) == 0 ? "/bin/bash" : "/bin/sh");
	arg3(a, "--setenv", "LANG", "C.UTF-8");
	if (certificates() != NULL)
		arg3(a, "--setenv", "SSL_CERT_FILE", "/opt/coder/certificates.pem");
	arg3(
		a,
		"--setenv",
		"PATH",
		"/home/coder/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/coder/bin");
	json_object_foreach(json_object_get(spec, "env"), key, value) if (json_is_string(value) &&
																	  key[0] != '\0' &&
																	  strchr(key, '=') == NULL)
		arg3(a, "--setenv", key, json_string_value(value));
}

/* bwrap's own arguments: the process drops to the user, says that it is ready, waits, becomes the
 * command. */
static void
command(Args *a, const json_t *spec, uid_t uid)
{
	const json_t *words = json_object_get(spec, "command");
	char id[16];
	size_t i;

	arg(a, "bwrap");
	arg(a, "--args");
	snprintf(id, sizeof(id), "%d", FD_ARGS);
	arg(a, id);
	arg(a, "--");
	if (geteuid() == 0)
	{
		snprintf(id, sizeof(id), "%u", (unsigned) uid);
		arg(a, "/usr/bin/setpriv");
		arg3(a, "--reuid", id, NULL);
		arg3(a, "--regid", id, NULL);
		arg(a, "--clear-groups");
		arg3(a, "--inh-caps", "-all", NULL);
		arg3(a, "--bounding-set", "-all", NULL);
		arg(a, "--no-new-privs");
	}
	arg(a, "/bin/sh");
	arg(a, "-c");
	arg(a, "printf r >&3; exec 3>&-; read -r go <&4 || exit 1; exec 4<&-; exec \"$@\"");
	arg(a, "sandbox");
	if (json_array_size(words) == 0)
	{
		arg(a, "/opt/coder/bin/coder");
		arg(a, "agent");
	}
	for (i = 0; i < json_array_size(words); i++)
		arg(a, json_string_value(json_array_get(words, i)));
}

static int
memory_file(const char *name, const void *data, size_t len)
{
	const int fd = memfd_create(name, 0);

	if (fd >= 0 && (write(fd, data, len) != (ssize_t) len || lseek(fd, 0, SEEK_SET) != 0))
	{
		close(fd);
		return -1;
	}
	return fd;
}

static void
limit(int resource, rlim_t value)
{
	struct rlimit rl;

	if (getrlimit((__rlimit_resource_t) resource, &rl) == 0)
	{
		rl.rlim_cur = rl.rlim_max == RLIM_INFINITY || value < rl.rlim_max ? value : rl.rlim_max;
		rl.rlim_max = rl.rlim_cur;
		setrlimit((__rlimit_resource_t) resource, &rl);
	}
}

/* In the child: descriptors to their places, limits, then bubblewrap. */
static _Noreturn void
exec_bwrap(const int fds[static 5], int log_fd, char **argv)
{
	char *envp[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL};
	sigset_t none;
	int high[5];
	int i;

	for (i = 0; i < 5; i++)
		high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 20);
	dup2(open("/dev/null", O_RDONLY), 0);
	dup2(log_fd, 1);
	dup2(log_fd, 2);
	for (i = 0; i < 5; i++)
		dup2(high[i], FD_READY + i);
	for (i = FD_GROUP + 1; i < 1024; i++)
		close(i);
	limit(RLIMIT_CORE, 0);
	limit(RLIMIT_NOFILE, 65536);
	limit(RLIMIT_NPROC, 8192);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGINT, SIG_IGN); /* a Ctrl-C at the terminal is the supervisor's to pass on */
	setpgid(0, 0);
	execvpe("bwrap", argv, envp);
	dprintf(2, "could not run bwrap (package bubblewrap): %s\n", strerror(errno));
	_exit(127);
}

static void
build_args(const Supervisor *s, const Box *box, const char *home, Args *a)
{
	const char *host = json_string_value(json_object_get(box->spec, "hostname"));

	arg(a, "--unshare-pid");
	arg(a, "--unshare-ipc");
	arg(a, "--unshare-uts");
	arg(a, "--unshare-cgroup-try");
	arg(a, "--die-with-parent");
	arg(a, "--new-session");
	arg3(a, "--hostname", host != NULL && host[0] != '\0' ? host : "workspace", NULL);
	if (geteuid() == 0)
	{
		arg3(a, "--cap-add", "CAP_SETUID", NULL);
		arg3(a, "--cap-add", "CAP_SETGID", NULL);
		arg3(a, "--cap-add", "CAP_SETPCAP", NULL);
	}
	else
		arg(a, "--unshare-user");
	mounts(s, a, home);
	environment(a, box->spec);
}

/* Texts that follow one another, as an array that ends in NULL.  Points into args. */
static char **
as_argv(const Args *args)
{
	char **out = NULL;
	size_t n = 0;
	size_t at;

	for (at = 0; at < args->len; at += strlen(args->data + at) + 1)
	{
		out = realloc(out, (n + 2) * sizeof(*out));
		if (out == NULL)
			abort();
		out[n++] = args->data + at;
		out[n] = NULL;
	}
	return out;
}

/* Starts the process; false with the reason in why. */
static bool
box_start(Supervisor *s, Box *box, char *why, size_t size)
{
	char home[1024];
	char path[1100];
	char passwd[256];
	char group[128];
	int ready[2] = {-1, -1};
	int go[2] = {-1, -1};
	Args args = {0};
	Args words = {0};
	char **argv;
	uid_t uid;
	gid_t gid;
	int fds[5];
	int log_fd;

	if (!open_home(s, box->workspace, home, sizeof(home), &uid, why, size))
		return false;
	if (access(s->options->agent_path, X_OK) != 0)
	{
		snprintf(why,
				 size,
				 "the agent's binary \"%s\" cannot be run: %s",
				 s->options->agent_path,
				 strerror(errno));
		return false;
	}
	gid = geteuid() == 0 ? uid : getegid();
	build_args(s, box, home, &args);
	command(&words, box->spec, uid);
	argv = as_argv(&words);
	snprintf(passwd,
			 sizeof(passwd),
			 "root:x:0:0:root:/root:/usr/sbin/nologin\ncoder:x:%u:%u:coder:/home/coder:%s\n",
			 (unsigned) uid,
			 (unsigned) gid,
			 access("/bin/bash", X_OK) == 0 ? "/bin/bash" : "/bin/sh");
	snprintf(group, sizeof(group), "root:x:0:\ntty:x:5:\ncoder:x:%u:\n", (unsigned) gid);
	workspace_dir(s, box->workspace, path, sizeof(path));
	strncat(path, "/sandbox.log", sizeof(path) - strlen(path) - 1);
	log_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
	if (pipe2(ready, O_CLOEXEC) != 0 || pipe2(go, O_CLOEXEC) != 0)
		abort();
	fds[0] = ready[1];
	fds[1] = go[0];
	fds[2] = memory_file("args", args.data, args.len);
	fds[3] = memory_file("passwd", passwd, strlen(passwd));
	fds[4] = memory_file("group", group, strlen(group));
	box->pid = fork();
	if (box->pid == 0)
		exec_bwrap(fds, log_fd, argv);
	explicit_bzero(args.data, args.len);
	free(args.data);
	free(argv);
	free(words.data);
	for (int i = 0; i < 5; i++)
		close(fds[i]);
	close(log_fd);
	box->ready_fd = ready[0];
	box->go_fd = go[1];
	fcntl(box->ready_fd, F_SETFL, O_NONBLOCK);
	box->state = BOX_STARTING;
	box->started = now_ms();
	box->due = box->started + READY_MS;
	return true;
}

static void
close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static Box *
box_create(Supervisor *s, const char *workspace, const json_t *spec, int waiter)
{
	Box *box = calloc(1, sizeof(*box));

	if (box == NULL)
		abort();
	box->workspace = strdup(workspace);
	box->spec = json_deep_copy(spec);
	box->ready_fd = box->go_fd = -1;
	box->waiter = waiter;
	box->next = s->boxes;
	s->boxes = box;
	return box;
}

static void
box_free(Supervisor *s, Box *box)
{
	Box **at;

	for (at = &s->boxes; *at != NULL; at = &(*at)->next)
		if (*at == box)
		{
			*at = box->next;
			break;
		}
	close_fd(&box->ready_fd);
	close_fd(&box->go_fd);
	json_decref(box->spec);
	free(box->workspace);
	free(box);
}

/* First process in the sandbox below bwrap's own: it gets SIGTERM, so that an agent runs its stop
 * scripts. */
static pid_t
inner_pid(pid_t bwrap)
{
	pid_t pid = bwrap;
	int level;

	for (level = 0; level < 2; level++)
	{
		char path[64];
		FILE *f;
		int child = 0;

		snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int) pid, (int) pid);
		f = fopen(path, "re");
		if (f == NULL || fscanf(f, "%d", &child) != 1)
			child = 0;
		if (f != NULL)
			fclose(f);
		if (child == 0)
			break;
		pid = child;
	}
	return pid;
}

static void
box_stop(Supervisor *s, Box *box)
{
	box->desired = false;
	if (box->state == BOX_WAITING)
	{
		box_free(s, box);
		return;
	}
	if (box->state == BOX_STOPPING)
		return;
	if (box->state == BOX_RUNNING)
	{
		const pid_t inner = inner_pid(box->pid);

		kill(inner, SIGTERM);
	}
	else
		kill(box->pid, SIGKILL);
	box->state = BOX_STOPPING;
	box->due = now_ms() + STOP_MS;
}

static void
stop_workspace(Supervisor *s, const char *workspace, bool only_running)
{
	Box *box;
	Box *next;

	for (box = s->boxes; box != NULL; box = next)
	{
		next = box->next;
		if (strcmp(box->workspace, workspace) == 0 &&
			(!only_running || box->state == BOX_RUNNING || box->state == BOX_WAITING))
			box_stop(s, box);
	}
}

static void
box_go(Box *box)
{
	box->state = BOX_RUNNING;
	box->desired = true;
	box->waiter = -1;
	if (write(box->go_fd, "go\n", 3) != 3)
		kill(box->pid, SIGKILL);
	close_fd(&box->go_fd);
}

/* Last lines of what a sandbox printed. */
static void
log_tail(const Supervisor *s, const char *workspace, char *out, size_t size)
{
	char path[1100];
	int fd;
	ssize_t n;

	workspace_dir(s, workspace, path, sizeof(path));
	strncat(path, "/sandbox.log", sizeof(path) - strlen(path) - 1);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd >= 0 ? read(fd, out, size - 1) : 0;
	if (fd >= 0)
		close(fd);
	n = n > 0 ? n : 0;
	while (n > 0 && (out[n - 1] == '\n' || out[n - 1] == ' '))
		n--;
	out[n] = '\0';
}

/* A prepare is answered when its last sandbox stands ready, or the first one fails. */
static void
prepare_settled(Supervisor *s, int fd, const char *workspace, const char *error)
{
	Box *box;
	Box *next;

	if (error == NULL)
	{
		for (box = s->boxes; box != NULL; box = box->next)
			if (box->waiter == fd && box->state == BOX_STARTING)
				return;
		reply(fd, NULL);
		return;
	}
	for (box = s->boxes; box != NULL; box = next)
	{
		next = box->next;
		if (box->waiter == fd && strcmp(box->workspace, workspace) == 0)
		{
			box->waiter = -1;
			box_stop(s, box);
		}
	}
	reply(fd, error);
}

static void
settle_pending(Supervisor *s)
{
	Pending **at = &s->pending;

	while (*at != NULL)
	{
		Pending *p = *at;
		const Box *box;

		for (box = s->boxes; box != NULL; box = box->next)
			if (strcmp(box->workspace, p->workspace) == 0)
				break;
		if (box != NULL)
		{
			at = &p->next;
			continue;
		}
		if (p->remove)
			remove_workspace(s, p->workspace);
		reply(p->fd, NULL);
		*at = p->next;
		free(p->workspace);
		free(p);
	}
}

/* True if the process was a sandbox. */
bool
sandbox_child_exited(Supervisor *s, pid_t pid, int status)
{
	Box *box;
	char why[512];
	char tail[400];

	for (box = s->boxes; box != NULL; box = box->next)
		if (box->pid == pid && box->state != BOX_WAITING)
			break;
	if (box == NULL)
		return false;
	(void) status;
	close_fd(&box->ready_fd);
	close_fd(&box->go_fd);
	if (box->waiter >= 0)
	{
		const int waiter = box->waiter;
		char *workspace = strdup(box->workspace);

		log_tail(s, workspace, tail, sizeof(tail));
		snprintf(why,
				 sizeof(why),
				 "the sandbox could not be set up: %s",
				 tail[0] != '\0' ? tail : "it ended at once");
		box_free(s, box);
		prepare_settled(s, waiter, workspace, why);
		free(workspace);
	}
	else if (box->desired)
	{
		const int64_t lived = now_ms() - box->started;

		box->failures = lived > MAX_BACKOFF_MS ? 0 : box->failures + 1;
		box->state = BOX_WAITING;
		box->pid = 0;
		box->due = now_ms() + (box->failures > 6 ? MAX_BACKOFF_MS : 500LL << box->failures);
		fprintf(stderr,
				"provisioner: the sandbox of workspace %s ended; it starts again\n",
				box->workspace);
	}
	else
		box_free(s, box);
	settle_pending(s);
	return true;
}

/* Ready sandboxes, and those whose time is over. */
static void
box_round(Supervisor *s, Box *box, int64_t now)
{
	char why[256];
	char byte;

	if (box->state == BOX_STARTING && box->ready_fd >= 0 && read(box->ready_fd, &byte, 1) == 1)
	{
		close_fd(&box->ready_fd);
		box->state = BOX_READY;
		if (box->desired)
			box_go(box);
		else
			prepare_settled(s, box->waiter, box->workspace, NULL);
		return;
	}
	if (now < box->due)
		return;
	if (box->state == BOX_STARTING || box->state == BOX_STOPPING)
	{
		kill(box->pid, SIGKILL);
		box->due = now + STOP_MS;
	}
	else if (box->state == BOX_WAITING && !box_start(s, box, why, sizeof(why)))
	{
		fprintf(stderr, "provisioner: workspace %s: %s\n", box->workspace, why);
		box->due = now + MAX_BACKOFF_MS;
	}
}

/* -- requests ------------------------------------------------------------ */

static void
request_prepare(Supervisor *s, int fd, const char *workspace, const json_t *sandboxes)
{
	const json_t *spec;
	char why[512];
	size_t i;

	if (json_array_size(sandboxes) == 0)
	{
		reply(fd, NULL);
		return;
	}
	json_array_foreach(sandboxes, i, spec)
	{
		Box *box = box_create(s, workspace, spec, fd);

		if (!box_start(s, box, why, sizeof(why)))
		{
			box_free(s, box);
			prepare_settled(s, fd, workspace, why);
			return;
		}
	}
}

static void
request_go(Supervisor *s, const char *workspace, bool run)
{
	Box *box;
	Box *next;

	if (run)
		stop_workspace(s, workspace, true);
	for (box = s->boxes; box != NULL; box = next)
	{
		next = box->next;
		if (strcmp(box->workspace, workspace) != 0 || box->state != BOX_READY)
			continue;
		if (run)
			box_go(box);
		else
		{
			box->waiter = -1;
			box_stop(s, box);
		}
	}
}

static void
request_stop(Supervisor *s, int fd, const char *workspace, bool remove)
{
	Pending *p = calloc(1, sizeof(*p));

	if (p == NULL)
		abort();
	stop_workspace(s, workspace, false);
	p->workspace = strdup(workspace);
	p->fd = fd;
	p->remove = remove;
	p->next = s->pending;
	s->pending = p;
	settle_pending(s);
}

static void
handle_request(Supervisor *s, int fd, const json_t *j)
{
	const char *op = json_string_value(json_object_get(j, "op"));
	const char *workspace = json_string_value(json_object_get(j, "workspace"));

	if (op == NULL || workspace == NULL || !is_uuid(workspace))
		reply(fd, "the request is not valid");
	else if (strcmp(op, "prepare") == 0)
		request_prepare(s, fd, workspace, json_object_get(j, "sandboxes"));
	else if (strcmp(op, "go") == 0 || strcmp(op, "abort") == 0)
	{
		request_go(s, workspace, op[0] == 'g');
		reply(fd, NULL);
	}
	else if (strcmp(op, "stop") == 0 || strcmp(op, "delete") == 0)
		request_stop(s, fd, workspace, op[0] == 'd');
	else
		reply(fd, "there is no such request");
}

static bool
read_request(Supervisor *s, int fd)
{
	static char buf[MAX_MESSAGE];
	const ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
	json_t *j;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return false;
	j = json_loadb(buf, (size_t) n, 0, NULL);
	explicit_bzero(buf, (size_t) n);
	handle_request(s, fd, j);
	json_decref(j);
	return true;
}

/* Waits up to timeout_ms for requests and for sandboxes that become ready. */
int
sandbox_poll(Supervisor *s, int timeout_ms)
{
	struct pollfd fds[MAX_WORKERS + 256];
	int n = s->n_fds;
	int64_t now = now_ms();
	Box *next;
	Box *box;
	int i;

	for (i = 0; i < s->n_fds; i++)
		fds[i] = (struct pollfd){.fd = s->fds[i], .events = POLLIN};
	for (box = s->boxes; box != NULL; box = box->next)
	{
		if (box->ready_fd >= 0 && n < MAX_WORKERS + 256)
			fds[n++] = (struct pollfd){.fd = box->ready_fd, .events = POLLIN};
		if (box->state != BOX_RUNNING && box->state != BOX_READY && box->due - now < timeout_ms)
			timeout_ms = box->due > now ? (int) (box->due - now) : 0;
	}
	if (poll(fds, (nfds_t) n, timeout_ms) < 0)
		return -1;
	n = s->n_fds;
	for (i = 0; i < n; i++)
		if (fds[i].revents != 0 && !read_request(s, fds[i].fd))
			sandbox_remove_worker(s, fds[i].fd);
	now = now_ms();
	for (box = s->boxes; box != NULL; box = next)
	{
		next = box->next;
		box_round(s, box, now);
	}
	return 0;
}

/* At start: what the database says should run. */
void
sandbox_restore(Supervisor *s, const char *workspace, const json_t *sandboxes)
{
	const json_t *spec;
	const Box *box;
	size_t i;

	for (box = s->boxes; box != NULL; box = box->next)
		if (strcmp(box->workspace, workspace) == 0)
			return;
	json_array_foreach(sandboxes, i, spec)
	{
		Box *fresh = box_create(s, workspace, spec, -1);

		fresh->desired = true;
		fresh->state = BOX_WAITING;
		fresh->due = now_ms();
	}
}

/* Ends all of them, waiting up to SHUTDOWN_MS for the agents to say good-bye. */
void
sandbox_stop_all(Supervisor *s)
{
	const int64_t limit_at = now_ms() + SHUTDOWN_MS;
	Box *box;
	Box *next;

	for (box = s->boxes; box != NULL; box = next)
	{
		next = box->next;
		box_stop(s, box);
	}
	while (s->boxes != NULL)
	{
		int status;
		const pid_t pid = waitpid(-1, &status, WNOHANG);

		if (pid > 0)
			sandbox_child_exited(s, pid, status);
		else if (pid < 0 || now_ms() > limit_at)
			break;
		else
			poll(NULL, 0, 5);
	}
	for (box = s->boxes; box != NULL; box = box->next)
		if (box->pid > 0)
			kill(box->pid, SIGKILL);
}

/* The worker's side: one request, one answer; NULL if there is none in time. */
json_t *
sandbox_request(int fd, const json_t *request, int timeout_ms)
{
	static char buf[8192];
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	char *text = json_dumps(request, JSON_COMPACT);
	json_t *answer = NULL;
	ssize_t n;

	if (send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t) strlen(text) &&
		poll(&pfd, 1, timeout_ms) == 1 && (n = recv(fd, buf, sizeof(buf), 0)) > 0)
		answer = json_loadb(buf, (size_t) n, 0, NULL);
	free(text);
	return answer;
}
