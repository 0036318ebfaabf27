/*
 * cluster.c -- the embedded PostgreSQL: initdb, start, stop.
 *
 * PostgreSQL refuses to run as root, so root gives the cluster to an
 * unprivileged user.  Where that user cannot reach the folder (/root/.config),
 * the server gets a mount namespace in which the folder lies below /mnt; its
 * socket stays reachable for everybody by the real path.
 *
 * SPDX-License-Identifier: MIT
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cluster.h"
#include "gateway.h"

#define MAX_SOCKET_PATH 107
#define START_TIMEOUT_MS 120000 /* crash recovery may take long */
#define LOG_KEEP (10 * 1024 * 1024)

struct GwCluster
{
	char *dir;		/* <config>/postgres, as this process sees it */
	char *data;		/* dir/data */
	char *run;		/* the socket's folder */
	char *bindir;
	char *in_dir;	/* the three as the server sees them */
	char *in_run;
	char *in_bindir;
	char *prefix;	/* of the PostgreSQL installation, if it must be mounted too */
	bool mounted;	/* the server needs its own mount namespace */
	bool preload;	/* the extension's library is installed */
	bool drop;		/* we are root */
	struct passwd user;
	int lock_fd;
	pid_t pid;
};

static char *format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static char *
format(const char *fmt, ...)
{
	char *text = NULL;
	va_list args;

	va_start(args, fmt);
	if (vasprintf(&text, fmt, args) < 0)
		abort();
	va_end(args);
	return text;
}

static void
sleep_ms(long ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&t, NULL);
}

/* First line of a command's output, or NULL. */
static char *
command_line(const char *command)
{
	FILE *pipe = popen(command, "r");
	char line[PATH_MAX] = "";

	if (pipe == NULL)
		return NULL;
	if (fgets(line, sizeof(line), pipe) == NULL)
		line[0] = '\0';
	pclose(pipe);
	line[strcspn(line, "\n")] = '\0';
	return line[0] != '\0' ? strdup(line) : NULL;
}

/* The folder of initdb and postgres; NULL if there is none. */
static char *
find_bindir(const char *wanted)
{
	static const int versions[] = {18, 17, 16, 15};
	char *found;

	if (wanted != NULL)
		return strdup(wanted);
	found = command_line("pg_config --bindir 2>/dev/null");
	for (size_t i = 0; i < 4; i++)
	{
		char *initdb = found != NULL ? format("%s/initdb", found) : NULL;
		bool ok = initdb != NULL && access(initdb, X_OK) == 0;

		free(initdb);
		if (ok)
			return found;
		free(found);
		found = format("/usr/lib/postgresql/%d/bin", versions[i]);
	}
	return found;
}

/* Can a user who owns nothing on the way reach path?  Every folder must be o+x. */
static bool
reachable(const char *path)
{
	char part[PATH_MAX];
	struct stat st;
	size_t len = strlen(path);

	if (len >= sizeof(part))
		return false;
	for (size_t i = 1; i < len; i++)
	{
		if (path[i] != '/')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (stat(part, &st) != 0 || (st.st_mode & S_IXOTH) == 0)
			return false;
	}
	return true;
}

static bool
make_dirs(const char *path, mode_t mode)
{
	char part[PATH_MAX];

	if (strlen(path) >= sizeof(part))
		return false;
	strcpy(part, path);
	for (char *p = part + 1; *p != '\0'; p++)
	{
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(part, mode) != 0 && errno != EEXIST)
			return false;
		*p = '/';
	}
	return mkdir(part, mode) == 0 || errno == EEXIST;
}

/* Who runs the server when we are root. */
static bool
find_user(GwCluster *cluster)
{
	static const char *const names[] = {"coder", "postgres", "nobody"};

	cluster->drop = geteuid() == 0;
	for (size_t i = 0; i < 3 && cluster->drop; i++)
	{
		struct passwd *pw = getpwnam(names[i]);

		if (pw == NULL || pw->pw_uid == 0)
			continue;
		cluster->user = *pw;
		cluster->user.pw_name = strdup(pw->pw_name);
		return true;
	}
	if (cluster->drop)
		gw_log(GW_ERROR, "PostgreSQL must not run as root, and there is no user coder, postgres or nobody to run it");
	return !cluster->drop;
}

/* In the child: the folders the server's user cannot reach appear below /mnt. */
static bool
enter_namespace(const GwCluster *cluster)
{
	int dir_fd;
	int prefix_fd = -1;
	char source[64];

	/* The folders are opened inside the new namespace: a mount of the old one cannot be bound. */
	if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		return false;
	dir_fd = open(cluster->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (cluster->prefix != NULL)
		prefix_fd = open(cluster->prefix, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0 || mount("tmpfs", "/mnt", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=64k") != 0)
		return false;
	snprintf(source, sizeof(source), "/proc/self/fd/%d", dir_fd);
	if (mkdir("/mnt/postgres", 0755) != 0 || mount(source, "/mnt/postgres", NULL, MS_BIND, NULL) != 0)
		return false;
	snprintf(source, sizeof(source), "/proc/self/fd/%d", prefix_fd);
	return cluster->prefix == NULL ||
		   (mkdir("/mnt/install", 0755) == 0 && mount(source, "/mnt/install", NULL, MS_BIND, NULL) == 0);
}

static void
become_user(const GwCluster *cluster)
{
	if (!cluster->drop)
		return;
	if (initgroups(cluster->user.pw_name, cluster->user.pw_gid) != 0 ||
		setresgid(cluster->user.pw_gid, cluster->user.pw_gid, cluster->user.pw_gid) != 0 ||
		setresuid(cluster->user.pw_uid, cluster->user.pw_uid, cluster->user.pw_uid) != 0 || setuid(0) == 0)
	{
		fprintf(stderr, "could not become user %s: %s\n", cluster->user.pw_name, strerror(errno));
		_exit(1);
	}
}

/*
 * Forks a program of the installation as the server's user, its output to the
 * log.  The log is opened before the privileges go, the death signal set after.
 */
static pid_t
spawn(const GwCluster *cluster, char *const argv[])
{
	char *log = format("%s/postgres.log", cluster->dir);
	int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	pid_t parent = getpid();
	pid_t pid;
	sigset_t none;

	free(log);
	if (fd < 0)
		return -1;
	pid = fork();
	if (pid != 0)
	{
		close(fd);
		return pid;
	}
	setsid();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	dup2(fd, 1);
	dup2(fd, 2);
	fd = open("/dev/null", O_RDONLY);
	dup2(fd, 0);
	if (cluster->mounted && !enter_namespace(cluster))
	{
		fprintf(stderr,
				"could not make %s reachable for user %s: %s\n"
				"hint: name a folder that this user can reach, as in CODER_CONFIG_DIR=/var/lib/coder\n",
				cluster->dir,
				cluster->user.pw_name,
				strerror(errno));
		_exit(1);
	}
	become_user(cluster);
	prctl(PR_SET_PDEATHSIG, SIGINT);
	if (getppid() != parent)
		_exit(1);
	umask(077);
	if (chdir("/") == 0)
		execv(argv[0], argv);
	fprintf(stderr, "could not run %s: %s\n", argv[0], strerror(errno));
	_exit(1);
}

/* The end of the log to the user, who has nothing else to go by. */
static void
show_log(const GwCluster *cluster)
{
	char *path = format("%s/postgres.log", cluster->dir);
	FILE *file = fopen(path, "r");
	char line[1024];

	gw_log(GW_ERROR, "the last lines of %s:", path);
	if (file != NULL)
	{
		if (fseek(file, -1500, SEEK_END) == 0 && fgets(line, sizeof(line), file) == NULL)
			line[0] = '\0';
		while (fgets(line, sizeof(line), file) != NULL)
			fprintf(stderr, "    %s", line);
		fclose(file);
	}
	free(path);
}

static bool
write_file(const char *path, const char *text, const GwCluster *cluster)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	size_t len = strlen(text);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, text, len) == (ssize_t) len;
	if (ok && cluster->drop)
		ok = fchown(fd, cluster->user.pw_uid, cluster->user.pw_gid) == 0;
	return close(fd) == 0 && ok;
}

/*
 * coder.conf, written anew at each start and included by postgresql.conf.  What
 * an administrator wants otherwise goes into ALTER SYSTEM, which wins.
 */
static bool
write_conf(const GwCluster *cluster)
{
	struct sysinfo info;
	unsigned long mb;
	char *path;
	char *text;
	bool ok;

	sysinfo(&info);
	mb = (unsigned long) (info.totalram * info.mem_unit / 1048576);
	mb = mb / 16 < 32 ? 32 : mb / 16 > 512 ? 512 : mb / 16;
	path = format("%s/coder.conf", cluster->data);
	text = format("# Written by coder-server at each start.  Change settings with ALTER SYSTEM, which wins.\n"
				  "listen_addresses = ''\n"
				  "max_connections = 100\n"
				  "shared_buffers = %luMB\n"
				  "work_mem = 8MB\n"
				  "max_wal_size = 1GB\n"
				  "random_page_cost = 1.1\n"
				  "jit = off\n"
				  "log_parameter_max_length = 0\n"
				  "log_parameter_max_length_on_error = 0\n"
				  "log_line_prefix = '%%m [%%p] '\n"
				  "timezone = 'UTC'\n"
				  "log_timezone = 'UTC'\n"
				  "%s",
				  mb, cluster->preload ? "shared_preload_libraries = 'coder'\ncoder.database = 'coder'\n" : "");
	ok = write_file(path, text, cluster);
	free(path);
	free(text);
	return ok;
}

/* Peer authentication: root (or whoever we are) and the server's user are role coder. */
static bool
write_access(const GwCluster *cluster)
{
	struct passwd *me = getpwuid(geteuid());
	char *hba = format("%s/pg_hba.conf", cluster->data);
	char *ident = format("%s/pg_ident.conf", cluster->data);
	char *map;
	bool ok;

	map = format("coder \"%s\" coder\n%s%s%s", me != NULL ? me->pw_name : "root", cluster->drop ? "coder \"" : "",
				 cluster->drop ? cluster->user.pw_name : "", cluster->drop ? "\" coder\n" : "");
	ok = write_file(hba,
					"# The gateway and the administrator come through the socket, as the users of pg_ident.conf.\n"
					"local all all peer map=coder\n"
					"local replication all peer map=coder\n",
					cluster) &&
		 write_file(ident, map, cluster);
	free(hba);
	free(ident);
	free(map);
	return ok;
}

static bool
init_cluster(GwCluster *cluster)
{
	char *program = format("%s/initdb", cluster->in_bindir);
	char *data = format("%s/data.new", cluster->in_dir);
	char *real = format("%s/data.new", cluster->dir);
	char *remove = format("rm -rf '%s'", real);
	char *argv[] = {program, "-D", data, "-U", "coder", "-E", "UTF8", "--locale=C", "--auth-local=peer",
					"--auth-host=reject", "--no-instructions", "--no-sync", NULL};
	char *conf;
	FILE *file;
	int status = -1;
	pid_t pid;
	bool ok;

	gw_log(GW_INFO, "making a PostgreSQL cluster in %s", cluster->data);
	if (strchr(real, '\'') == NULL && access(real, F_OK) == 0 && system(remove) != 0)
		gw_log(GW_WARN, "could not remove %s", real);
	pid = spawn(cluster, argv);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	ok = pid > 0 && status == 0;
	conf = format("%s/postgresql.conf", real);
	file = ok ? fopen(conf, "a") : NULL;
	if (file != NULL)
	{
		fprintf(file, "\ninclude_if_exists = 'coder.conf'\n");
		fclose(file);
	}
	sync();
	/* Under its name only when whole, so that a kill in between leaves nothing half made. */
	ok = file != NULL && rename(real, cluster->data) == 0 && write_access(cluster);
	if (!ok)
	{
		gw_log(GW_ERROR, "could not make a PostgreSQL cluster in %s", cluster->data);
		show_log(cluster);
	}
	free(program);
	free(data);
	free(real);
	free(remove);
	free(conf);
	return ok;
}

static pid_t
pid_of_file(const char *path)
{
	FILE *file = fopen(path, "r");
	long pid = 0;

	if (file == NULL)
		return 0;
	if (fscanf(file, "%ld", &pid) != 1)
		pid = 0;
	fclose(file);
	return (pid_t) pid;
}

/* Is pid a living process whose current folder is the data folder, that is, the server? */
static bool
is_server(const GwCluster *cluster, pid_t pid)
{
	char path[64];
	struct stat cwd;
	struct stat data;
	char state = 'Z';
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int) pid);
	file = fopen(path, "r");
	if (file == NULL)
		return false;
	if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
		state = 'Z';
	fclose(file);
	snprintf(path, sizeof(path), "/proc/%d/cwd", (int) pid);
	return state != 'Z' && state != 'X' && stat(path, &cwd) == 0 && stat(cluster->data, &data) == 0 &&
		   cwd.st_dev == data.st_dev && cwd.st_ino == data.st_ino;
}

/*
 * A server that outlived its launcher ends first; a pid file whose process is
 * somebody else's, or a zombie, would make PostgreSQL refuse to start.
 */
static void
clear_stale(const GwCluster *cluster)
{
	char *file = format("%s/postmaster.pid", cluster->data);
	char *lock = format("%s/.s.PGSQL.5432.lock", cluster->run);
	pid_t pid = pid_of_file(file);

	for (int i = 0; pid > 0 && i < 600 && is_server(cluster, pid); i++)
	{
		if (i == 0)
			gw_log(GW_INFO, "waiting for the PostgreSQL of an earlier start (pid %d) to end", (int) pid);
		if (i % 300 == 1)
			kill(pid, i < 300 ? SIGINT : SIGQUIT);
		sleep_ms(100);
	}
	if (pid > 0 && !is_server(cluster, pid))
	{
		unlink(file);
		unlink(lock);
	}
	free(file);
	free(lock);
}

static bool
is_ready(const GwCluster *cluster)
{
	char *path = format("%s/postmaster.pid", cluster->data);
	FILE *file = fopen(path, "r");
	char line[256];
	bool ready = false;

	free(path);
	if (file == NULL)
		return false;
	for (int i = 1; i <= 8 && fgets(line, sizeof(line), file) != NULL; i++)
		if (i == 8)
			ready = strncmp(line, "ready", 5) == 0;
		else if (i == 1 && atoi(line) != cluster->pid)
			break;
	fclose(file);
	return ready;
}

static bool
start_server(GwCluster *cluster)
{
	char *program = format("%s/postgres", cluster->in_bindir);
	char *data = format("%s/data", cluster->in_dir);
	char *sockets = format("unix_socket_directories=%s", cluster->in_run);
	char *argv[] = {program, "-D", data, "-c", sockets, "-c", "port=5432", NULL};
	int status;
	bool ok = false;

	clear_stale(cluster);
	cluster->pid = spawn(cluster, argv);
	for (int i = 0; i < START_TIMEOUT_MS / 5 && cluster->pid > 0; i++)
	{
		if (waitpid(cluster->pid, &status, WNOHANG) == cluster->pid)
			cluster->pid = 0;
		else if ((ok = is_ready(cluster)))
			break;
		else
			sleep_ms(5);
	}
	free(program);
	free(data);
	free(sockets);
	if (!ok)
	{
		gw_log(GW_ERROR, "PostgreSQL did not start");
		show_log(cluster);
	}
	return ok;
}

/* The folder is ours and nobody else's launcher works on it. */
static bool
prepare_dir(GwCluster *cluster)
{
	char *lock = format("%s/launcher.lock", cluster->dir);
	char *log = format("%s/postgres.log", cluster->dir);
	char *old = format("%s/postgres.log.1", cluster->dir);
	struct stat st;
	bool ok;

	/* The folders on the way are made open, so that the server's user can pass. */
	ok = make_dirs(cluster->dir, cluster->drop ? 0755 : 0700) && make_dirs(cluster->run, 0700) &&
		 chmod(cluster->dir, 0700) == 0;
	if (ok && cluster->drop)
		ok = chown(cluster->dir, cluster->user.pw_uid, cluster->user.pw_gid) == 0 &&
			 chown(cluster->run, cluster->user.pw_uid, cluster->user.pw_gid) == 0;
	if (!ok)
		gw_log(GW_ERROR, "could not make the folder %s: %s", cluster->dir, strerror(errno));
	if (ok)
	{
		cluster->lock_fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		ok = cluster->lock_fd >= 0 && flock(cluster->lock_fd, LOCK_EX | LOCK_NB) == 0;
		if (!ok)
			gw_log(GW_ERROR, "another coder-server (pid %d) uses %s; stop it, or choose another --global-config",
				   (int) pid_of_file(lock), cluster->dir);
		else if (ftruncate(cluster->lock_fd, 0) != 0 || dprintf(cluster->lock_fd, "%d\n", (int) getpid()) < 0)
			gw_log(GW_WARN, "could not write %s", lock);
	}
	if (ok && stat(log, &st) == 0 && st.st_size > LOG_KEEP)
		rename(log, old);
	free(lock);
	free(log);
	free(old);
	return ok;
}

/* Where the server sees what. */
static void
plan_paths(GwCluster *cluster)
{
	char *library;

	cluster->in_dir = cluster->dir;
	cluster->in_run = cluster->run;
	cluster->in_bindir = cluster->bindir;
	if (cluster->drop)
	{
		bool dir_ok = reachable(cluster->dir);
		bool bin_ok = reachable(cluster->bindir) && access(cluster->bindir, X_OK) == 0;

		cluster->mounted = !dir_ok || !bin_ok;
		if (cluster->mounted)
		{
			cluster->in_dir = strdup("/mnt/postgres");
			if (strncmp(cluster->run, cluster->dir, strlen(cluster->dir)) == 0)
				cluster->in_run = format("/mnt/postgres%s", cluster->run + strlen(cluster->dir));
		}
		if (!bin_ok)
		{
			/* .../lib/postgresql/15/bin: programs find share/ beside lib/ */
			char *p = strdup(cluster->bindir);
			const char *tail = p;

			for (int i = 0; i < 4; i++)
			{
				char *slash = strrchr(p, '/');

				if (slash == NULL || slash == p)
					break;
				*slash = '\0';
			}
			tail = cluster->bindir + strlen(p);
			cluster->in_bindir = format("/mnt/install%s", tail);
			cluster->prefix = p;
		}
	}
	library = format("%s/../lib/coder.so", cluster->bindir);
	cluster->preload = access(library, F_OK) == 0;
	free(library);
	if (!cluster->preload)
	{
		char *command = format("'%s/pg_config' --pkglibdir 2>/dev/null", cluster->bindir);
		char *pkglibdir = command_line(command);

		free(command);
		library = format("%s/coder.so", pkglibdir != NULL ? pkglibdir : "");
		cluster->preload = access(library, F_OK) == 0;
		free(library);
		free(pkglibdir);
	}
}

GwCluster *
gw_cluster_start(const char *config_dir, const char *bindir)
{
	GwCluster *cluster = calloc(1, sizeof(*cluster));
	char *version = NULL;
	char *program;

	if (cluster == NULL || !find_user(cluster))
		return NULL;
	cluster->bindir = find_bindir(bindir);
	program = format("%s/postgres", cluster->bindir);
	if (access(program, X_OK) != 0)
	{
		gw_log(GW_ERROR, "there is no PostgreSQL in %s: install postgresql-15, or set CODER_PG_BINDIR", cluster->bindir);
		return NULL;
	}
	free(program);
	cluster->dir = format("%s/postgres", config_dir);
	cluster->data = format("%s/data", cluster->dir);
	cluster->run = format("%s/run", cluster->dir);
	if (strlen(cluster->run) + sizeof("/.s.PGSQL.5432") > MAX_SOCKET_PATH)
	{
		unsigned long hash = 5381;

		/* Sockets have short names: the folder goes where there is room. */
		for (const char *p = cluster->dir; *p != '\0'; p++)
			hash = hash * 33 + (unsigned char) *p;
		free(cluster->run);
		cluster->run = format("/tmp/.coder-%lx-%u", hash, (unsigned) geteuid());
	}
	if (!prepare_dir(cluster))
		return NULL;
	plan_paths(cluster);
	version = format("%s/PG_VERSION", cluster->data);
	if (access(version, F_OK) != 0 && !init_cluster(cluster))
		return NULL;
	free(version);
	if (!write_conf(cluster))
	{
		gw_log(GW_ERROR, "could not write %s/coder.conf: %s", cluster->data, strerror(errno));
		return NULL;
	}
	return start_server(cluster) ? cluster : NULL;
}

char *
gw_cluster_conninfo(const GwCluster *cluster, const char *dbname)
{
	return format("host='%s' port=5432 user=coder dbname=%s", cluster->run, dbname);
}

bool
gw_cluster_reaped(GwCluster *cluster, pid_t pid)
{
	if (cluster == NULL || pid != cluster->pid)
		return false;
	cluster->pid = 0;
	return true;
}

bool
gw_cluster_restart(GwCluster *cluster)
{
	return start_server(cluster);
}

pid_t
gw_cluster_pid(const GwCluster *cluster)
{
	return cluster->pid;
}

void
gw_cluster_stop(GwCluster *cluster)
{
	if (cluster == NULL || cluster->pid <= 0)
		return;
	kill(cluster->pid, SIGINT);
	for (int i = 0; i < 7000; i++)
	{
		pid_t r = waitpid(cluster->pid, NULL, WNOHANG);

		if (r == cluster->pid || (r < 0 && errno == ECHILD))
			break;
		if (i == 6000)
			kill(cluster->pid, SIGQUIT);
		sleep_ms(5);
	}
	cluster->pid = 0;
}
