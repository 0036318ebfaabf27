/*
 * main.c -- coder-server provisioner: the parent of the workers, the supervisor of sandboxes
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/job.h"
#include "provisioner/provisioner.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_DAEMONS 32
#define STOP_WORKERS_MS 6500

volatile sig_atomic_t prov_stopping = 0;

typedef struct Child
{
	pid_t pid;
	int fd;
	int64_t restart_at;
	int failures;
} Child;

static void
on_stop(int sig)
{
	(void) sig;
	prov_stopping = 1;
}

static const char *
env_or(const char *name, const char *def)
{
	const char *s = getenv(name);

	return s != NULL && s[0] != '\0' ? s : def;
}

/* "10m0s", "90s" or a number of seconds, in milliseconds; -1 where it is none of them. */
static int
duration_ms(const char *s)
{
	double seconds = 0;

	if (*s == '\0')
		return -1;
	while (*s != '\0')
	{
		char *end;
		const double n = isdigit((unsigned char) *s) ? strtod(s, &end) : -1;

		if (n < 0)
			return -1;
		s = end;
		seconds += n * (*s == 'h' ? 3600 : *s == 'm' ? 60 : 1);
		if (*s == 'h' || *s == 'm' || *s == 's')
			s++;
	}
	return seconds <= 86400 ? (int) (seconds * 1000) : -1;
}

static void
usage(void)
{
	puts(
		"Usage: coder-server provisioner [flags]\n"
		"\n"
		"Takes jobs from the database and runs them: imports of templates, builds of\n"
		"workspaces. coder-server starts one by itself; more may run on other machines.\n"
		"\n"
		"  --postgres-url URL, $CODER_PG_CONNECTION_URL     the database\n"
		"  --cache-dir DIR, $CODER_CACHE_DIRECTORY          work folders, Terraform's plugins\n"
		"  --config-dir DIR, $CODER_CONFIG_DIR              homes of sandboxed workspaces\n"
		"  --name NAME, $CODER_PROVISIONER_DAEMON_NAME      default: the host's name\n"
		"  -t, --tag KEY=VALUE, $CODER_PROVISIONERD_TAGS    jobs it is for; several: again, or parted by commas\n"
		"  $CODER_PROVISIONER_DAEMON_KEY                    a key of an organization, instead of tags: its jobs with the key's tags\n"
		"  --daemons N, $CODER_PROVISIONER_DAEMONS          jobs at a time (default 3)\n"
		"  --agent FILE, $CODER_AGENT_BINARY                the agent that sandboxes run\n"
		"  --force-cancel DURATION, $CODER_PROVISIONER_FORCE_CANCEL_INTERVAL\n"
		"                                                   Terraform's time to stop (default 3m)\n"
		"  -h, --help");
}

static char *
default_dir(const char *env, const char *below)
{
	const char *base = getenv(env);
	const char *home = getenv("HOME");
	char *out;

	if (asprintf(&out,
				 "%s%s/coderv2",
				 base != NULL && base[0] != '\0' ? base
				 : home != NULL					 ? home
												 : "/tmp",
				 base != NULL && base[0] != '\0' ? "" : below) < 0)
		abort();
	return out;
}

/* The agent beside this program: installed (…/coder) or in a source tree (../agent/coder). */
static const char *
find_agent(void)
{
	static char path[1024];
	char self[900];
	const ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	const char *given = getenv("CODER_AGENT_BINARY");
	char *slash;

	if (given != NULL && given[0] != '\0')
		return given;
	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	if (slash == NULL)
		return "coder";
	*slash = '\0';
	snprintf(path, sizeof(path), "%s/coder", self);
	if (access(path, X_OK) == 0)
		return path;
	slash = strrchr(self, '/');
	if (slash != NULL)
		*slash = '\0';
	snprintf(path, sizeof(path), "%s/agent/coder", self);
	return path;
}

static bool
make_dirs(const char *path)
{
	char copy[700];
	char *slash;

	snprintf(copy, sizeof(copy), "%s", path);
	for (slash = strchr(copy + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/'))
	{
		*slash = '\0';
		mkdir(copy, 0755);
		*slash = '/';
	}
	return mkdir(copy, 0700) == 0 || errno == EEXIST;
}

/* A name for this machine that stays: sandboxes and their homes belong to it. */
static const char *
host_identity(const char *data_dir)
{
	static char id[80];
	char path[700];
	FILE *f;

	snprintf(path, sizeof(path), "%s/workspaces", data_dir);
	make_dirs(path);
	snprintf(path, sizeof(path), "%s/workspaces/host", data_dir);
	f = fopen(path, "re");
	if (f != NULL && fgets(id, sizeof(id), f) != NULL)
		id[strcspn(id, "\n")] = '\0';
	if (f != NULL)
		fclose(f);
	if (id[0] != '\0')
		return id;
	f = fopen("/proc/sys/kernel/random/uuid", "re");
	if (f == NULL || fgets(id, sizeof(id), f) == NULL)
		snprintf(id, sizeof(id), "host-%ld", (long) time(NULL));
	if (f != NULL)
		fclose(f);
	id[strcspn(id, "\n")] = '\0';
	f = fopen(path, "we");
	if (f != NULL)
	{
		fprintf(f, "%s\n", id);
		fclose(f);
	}
	return id;
}

static void
default_name(char *name, size_t size)
{
	if (gethostname(name, size - 1) != 0)
		snprintf(name, size, "provisioner");
	name[strcspn(name, ".")] = '\0';
}

/* Adds "key=value,…" to an object; false where a tag is none. */
static bool
add_tags(json_t *tags, const char *list)
{
	while (*list != '\0')
	{
		const size_t n = strcspn(list, ",");
		const char *equals = memchr(list, '=', n);
		char *key = equals != NULL && equals > list ? strndup(list, (size_t) (equals - list)) : NULL;

		if (key == NULL || json_object_set_new(tags, key, json_stringn(equals + 1, n - (size_t) (equals + 1 - list))) != 0)
		{
			free(key);
			return false;
		}
		free(key);
		list += n + (list[n] == ',' ? 1 : 0);
	}
	return true;
}

static bool
parse_options(int argc, char **argv, ProvOptions *o)
{
	static const struct option flags[] = {{"postgres-url", required_argument, NULL, 'p'},
										  {"cache-dir", required_argument, NULL, 'c'},
										  {"config-dir", required_argument, NULL, 'd'},
										  {"name", required_argument, NULL, 'n'},
										  {"tag", required_argument, NULL, 't'},
										  {"daemons", required_argument, NULL, 'w'},
										  {"agent", required_argument, NULL, 'a'},
										  {"force-cancel", required_argument, NULL, 'f'},
										  {"help", no_argument, NULL, 'h'},
										  {NULL, 0, NULL, 0}};
	static char name[64];
	json_t *tags = json_object();
	size_t n_tags;
	bool tags_good = add_tags(tags, env_or("CODER_PROVISIONERD_TAGS", ""));
	int c;

	default_name(name, sizeof(name));
	o->conninfo = env_or("CODER_PG_CONNECTION_URL", NULL);
	o->key = env_or("CODER_PROVISIONER_DAEMON_KEY", NULL);
	o->cache_dir = env_or("CODER_CACHE_DIRECTORY", NULL);
	o->data_dir = env_or("CODER_CONFIG_DIR", NULL);
	o->name = env_or("CODER_PROVISIONER_DAEMON_NAME", name);
	o->workers = atoi(env_or("CODER_PROVISIONER_DAEMONS", "3"));
	o->cancel_grace_ms = duration_ms(env_or("CODER_PROVISIONER_FORCE_CANCEL_INTERVAL", "3m"));
	o->agent_path = find_agent();
	optind = 1;
	while ((c = getopt_long(argc, argv, "ht:", flags, NULL)) != -1)
		switch (c)
		{
			case 'p':
				o->conninfo = optarg;
				break;
			case 'c':
				o->cache_dir = optarg;
				break;
			case 'd':
				o->data_dir = optarg;
				break;
			case 'n':
				o->name = optarg;
				break;
			case 't':
				tags_good = add_tags(tags, optarg) && tags_good;
				break;
			case 'w':
				o->workers = atoi(optarg);
				break;
			case 'a':
				o->agent_path = optarg;
				break;
			case 'f':
				o->cancel_grace_ms = duration_ms(optarg);
				break;
			case 'h':
				usage();
				exit(0);
			default:
				usage();
				return false;
		}
	o->tags = json_dumps(tags, JSON_COMPACT);
	n_tags = json_object_size(tags);
	json_decref(tags);
	if (!tags_good)
	{
		fputs("provisioner: a tag must be KEY=VALUE\n", stderr);
		return false;
	}
	if (o->key != NULL && n_tags > 0)
	{
		fputs("provisioner: a provisioner key has tags of its own: give none beside it\n", stderr);
		return false;
	}
	if (o->cache_dir == NULL)
		o->cache_dir = default_dir("XDG_CACHE_HOME", "/.cache");
	if (o->data_dir == NULL)
		o->data_dir = default_dir("XDG_CONFIG_HOME", "/.config");
	if (o->conninfo == NULL)
	{
		fputs("provisioner: --postgres-url is needed\n", stderr);
		return false;
	}
	if (o->cancel_grace_ms < 0)
	{
		fputs("provisioner: --force-cancel must be a duration such as 90s or 10m\n", stderr);
		return false;
	}
	if (o->workers < 1 || o->workers > MAX_DAEMONS || optind < argc)
	{
		fprintf(stderr, "provisioner: --daemons must be between 1 and %d\n", MAX_DAEMONS);
		return false;
	}
	return true;
}

/* -- children ------------------------------------------------------------ */

static _Noreturn void
worker_child(const ProvOptions *options, WorkerSlot *slot, int index, int fd)
{
	Worker w = {.options = options, .slot = slot, .index = index, .sandbox_fd = fd};
	int rc;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	prctl(PR_SET_NAME, "coder-worker");
	if (getppid() == 1)
		_exit(0);
	signal(SIGCHLD, SIG_DFL);
	snprintf(w.work_root, sizeof(w.work_root), "%s/provisioner-%d/work", options->cache_dir, index);
	snprintf(w.tf_root, sizeof(w.tf_root), "%s/provisioner-%d/tf", options->cache_dir, index);
	if (!make_dirs(w.work_root) || !make_dirs(w.tf_root))
	{
		fprintf(stderr, "provisioner: could not make \"%s\": %s\n", w.work_root, strerror(errno));
		_exit(1);
	}
	rc = worker_main(&w);
	_exit(rc);
}

static void
start_worker(const ProvOptions *options, Supervisor *s, WorkerSlot *slots, Child *children, int i)
{
	const int size = 1 << 20;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0)
		return;
	setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	children[i].pid = fork();
	if (children[i].pid == 0)
	{
		close(fds[0]);
		worker_child(options, &slots[i], i, fds[1]);
	}
	close(fds[1]);
	children[i].fd = fds[0];
	sandbox_add_worker(s, fds[0]);
}

static void
reap(const ProvOptions *options, Supervisor *s, Child *children)
{
	int status;
	pid_t pid;
	int i;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
	{
		if (sandbox_child_exited(s, pid, status))
			continue;
		for (i = 0; i < options->workers; i++)
			if (children[i].pid == pid)
			{
				children[i].pid = 0;
				children[i].failures++;
				children[i].restart_at =
					now_ms() + (children[i].failures > 6 ? 10000 : 20LL << children[i].failures);
				if (!prov_stopping)
					fprintf(stderr,
							"provisioner: worker %d ended (%s %d); it starts again\n",
							i,
							WIFSIGNALED(status) ? "signal" : "status",
							WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
			}
	}
}

/* Sandboxes of running workspaces: state of the latest build, if that is a start that succeeded. */
static bool
restore_sandboxes(const ProvOptions *options, Supervisor *s)
{
	PGconn *db = prov_connect(options->conninfo);
	PGresult *res = PQexec(
		db,
		"SELECT b.workspace_id, pg_catalog.convert_from(b.provisioner_state, 'UTF8')\n"
		"  FROM coder.workspaces w\n"
		"  CROSS JOIN LATERAL (SELECT * FROM coder.workspace_builds x WHERE x.workspace_id = w.id\n"
		"					   ORDER BY x.build_number DESC LIMIT 1) b\n"
		"  JOIN coder.provisioner_jobs j ON j.id = b.job_id\n"
		" WHERE NOT w.deleted AND b.transition = 'start' AND j.job_status = 'succeeded'\n"
		"   AND pg_catalog.substr(b.provisioner_state, 1, 10) = '{\"engine\":'::bytea");
	const bool ok = PQresultStatus(res) == PGRES_TUPLES_OK;
	int i;

	for (i = 0; ok && i < PQntuples(res); i++)
	{
		const char *text = PQgetvalue(res, i, 1);
		json_t *state = native_state_parse((const uint8_t *) text, strlen(text));
		const char *host = json_string_value(json_object_get(state, "host"));

		if (host != NULL && strcmp(host, options->host_id) == 0)
			sandbox_restore(s, PQgetvalue(res, i, 0), json_object_get(state, "sandboxes"));
		json_decref(state);
	}
	PQclear(res);
	PQfinish(db);
	return ok;
}

static void
stop_workers(const ProvOptions *options, Supervisor *s, Child *children)
{
	const int64_t limit = now_ms() + STOP_WORKERS_MS;
	bool alive = true;
	int i;

	for (i = 0; i < options->workers; i++)
		if (children[i].pid > 0)
			kill(children[i].pid, SIGTERM);
	while (alive && now_ms() < limit)
	{
		sandbox_poll(s, 20);
		reap(options, s, children);
		for (alive = false, i = 0; i < options->workers; i++)
			alive = alive || children[i].pid > 0;
	}
	for (i = 0; i < options->workers; i++)
		if (children[i].pid > 0)
			kill(children[i].pid, SIGKILL);
}

static void
supervise(const ProvOptions *options, WorkerSlot *slots)
{
	Supervisor *s = sandbox_create(options);
	Child children[MAX_DAEMONS] = {{0}};
	int64_t restore_at = now_ms();
	int i;

	while (!prov_stopping)
	{
		for (i = 0; i < options->workers; i++)
			if (children[i].pid == 0 && now_ms() >= children[i].restart_at)
				start_worker(options, s, slots, children, i);
		if (restore_at != 0 && now_ms() >= restore_at)
			restore_at = restore_sandboxes(options, s) ? 0 : now_ms() + 1000;
		sandbox_poll(s, 200);
		reap(options, s, children);
	}
	prov_stopping = 1;
	stop_workers(options, s, children);
	sandbox_stop_all(s);
}

static void
install_signals(void)
{
	struct sigaction sa = {.sa_handler = on_stop};

	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	sa.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
}

/* A child that ends interrupts the poll at once. */
static void
on_child(int sig)
{
	(void) sig;
}

int
provisioner_main(int argc, char **argv)
{
	static ProvOptions options;
	struct sigaction sa = {.sa_handler = on_child};
	WorkerSlot *slots;

	if (!parse_options(argc, argv, &options))
		return 2;
	options.host_id = host_identity(options.data_dir);
	install_signals();
	prctl(PR_SET_CHILD_SUBREAPER, 1); /* what a killed worker leaves is reaped here */
	sigaction(SIGCHLD, &sa, NULL);
	slots = mmap(NULL,
				 sizeof(WorkerSlot) * MAX_DAEMONS,
				 PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS,
				 -1,
				 0);
	if (slots == MAP_FAILED)
		return 1;
	supervise(&options, slots);
	return 0;
}
