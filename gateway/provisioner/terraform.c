/*
 * terraform.c -- builds with the user's Terraform, a child in its own process group
 *
 * Secrets reach it in its environment only.  What it prints becomes lines of
 * the job's log while it runs.  A cancelled job gets SIGINT, so that Terraform
 * writes its state; after a grace time the whole group is killed.
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/initscript.h"
#include "provisioner/job.h"
#include "provisioner/plan.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_CAPTURE ((size_t) 64 << 20)
#define MAX_STATE ((size_t) 64 << 20)
#define MAX_LINE ((size_t) 1 << 20)
#define MAX_ARGS 512

extern char **environ;

typedef struct Buf
{
	char *data;
	size_t len;
	size_t cap;
} Buf;

static bool
put(Buf *b, const char *s, size_t n)
{
	if (b->len + n + 1 > b->cap)
	{
		const size_t cap = (b->len + n) * 2 + 256;
		char *data = realloc(b->data, cap);

		if (data == NULL)
			return false;
		b->data = data;
		b->cap = cap;
	}
	memcpy(b->data + b->len, s, n);
	b->len += n;
	b->data[b->len] = '\0';
	return true;
}

/* A list of texts that ends in NULL: arguments, environments. */
typedef struct List
{
	char **items;
	size_t n;
} List;

static void add(List *list, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void
add(List *list, const char *fmt, ...)
{
	va_list ap;

	list->items = realloc(list->items, (list->n + 2) * sizeof(char *));
	if (list->items == NULL)
		abort();
	va_start(ap, fmt);
	if (vasprintf(&list->items[list->n], fmt, ap) < 0)
		abort();
	va_end(ap);
	list->items[++list->n] = NULL;
}

static void
list_free(List *list)
{
	size_t i;

	for (i = 0; i < list->n; i++)
	{
		explicit_bzero(list->items[i], strlen(list->items[i]));
		free(list->items[i]);
	}
	free(list->items);
	*list = (List){0};
}

/* What a run of Terraform needs and gathers. */
typedef struct Run
{
	Job *job;
	const char *stage; /* of timings */
	List env;
	Buf *capture; /* NULL: standard output is a log of JSON lines */
	Buf out;
	Buf err;
	json_t *started; /* address -> event, for timings */
	char *last_error;
} Run;

static const char *
str(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s != NULL ? s : "";
}

/* -- environment --------------------------------------------------------- */

static void
host_env(List *env)
{
	char **at;

	for (at = environ; *at != NULL; at++)
		if (strncmp(*at, "CODER_", 6) != 0)
			add(env, "%s", *at);
}

static void
sha256_hex(const char *s, char out[static 65])
{
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	unsigned i;

	EVP_Digest(s, strlen(s), sum, &n, EVP_sha256(), NULL);
	for (i = 0; i < n; i++)
		snprintf(out + 2 * i, 3, "%02x", sum[i]);
}

static void
add_json(List *env, const char *name, const json_t *value)
{
	char *text = json_array_size(value) > 0 ? json_dumps(value, JSON_COMPACT) : NULL;

	add(env, "%s=%s", name, text != NULL ? text : "null");
	free(text);
}

static const char *
transition_word(const json_t *meta)
{
	const char *t = str(meta, "workspace_transition");

	return strcmp(t, "STOP") == 0 ? "stop" : strcmp(t, "DESTROY") == 0 ? "destroy" : "start";
}

/* Roles without an empty org_id. */
static json_t *
roles(const json_t *meta)
{
	json_t *out = json_array();
	const json_t *item;
	size_t i;

	json_array_foreach(json_object_get(meta, "workspace_owner_rbac_roles"), i, item)
	{
		json_t *role = json_pack("{s:s}", "name", str(item, "name"));

		if (str(item, "org_id")[0] != '\0')
			json_object_set_new(role, "org_id", json_string(str(item, "org_id")));
		json_array_append_new(out, role);
	}
	return out;
}

static void
metadata_env(List *env, const json_t *meta)
{
	static const char *const names[][2] = {
		{"CODER_AGENT_URL", "coder_url"},
		{"CODER_WORKSPACE_NAME", "workspace_name"},
		{"CODER_WORKSPACE_ID", "workspace_id"},
		{"CODER_WORKSPACE_BUILD_ID", "workspace_build_id"},
		{"CODER_WORKSPACE_OWNER", "workspace_owner"},
		{"CODER_WORKSPACE_OWNER_ID", "workspace_owner_id"},
		{"CODER_WORKSPACE_OWNER_EMAIL", "workspace_owner_email"},
		{"CODER_WORKSPACE_OWNER_NAME", "workspace_owner_name"},
		{"CODER_WORKSPACE_OWNER_LOGIN_TYPE", "workspace_owner_login_type"},
		{"CODER_WORKSPACE_OWNER_SESSION_TOKEN", "workspace_owner_session_token"},
		{"CODER_WORKSPACE_OWNER_OIDC_ACCESS_TOKEN", "workspace_owner_oidc_access_token"},
		{"CODER_WORKSPACE_OWNER_SSH_PUBLIC_KEY", "workspace_owner_ssh_public_key"},
		{"CODER_WORKSPACE_OWNER_SSH_PRIVATE_KEY", "workspace_owner_ssh_private_key"},
		{"CODER_WORKSPACE_TEMPLATE_ID", "template_id"},
		{"CODER_WORKSPACE_TEMPLATE_NAME", "template_name"},
		{"CODER_WORKSPACE_TEMPLATE_VERSION", "template_version"},
		{"CODER_TASK_ID", "task_id"},
		{"CODER_TASK_PROMPT", "task_prompt"},
	};
	const char *stage = str(meta, "prebuilt_workspace_build_stage");
	const json_t *tokens = json_object_get(meta, "running_agent_auth_tokens");
	json_t *list = roles(meta);
	const json_t *item;
	char hex[65];
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		add(env, "%s=%s", names[i][0], str(meta, names[i][1]));
	add(env, "CODER_WORKSPACE_TRANSITION=%s", transition_word(meta));
	add_json(env, "CODER_WORKSPACE_OWNER_GROUPS", json_object_get(meta, "workspace_owner_groups"));
	add_json(env, "CODER_WORKSPACE_OWNER_RBAC_ROLES", list);
	json_decref(list);
	if (strcmp(stage, "CREATE") == 0)
		add(env, "CODER_WORKSPACE_IS_PREBUILD=true");
	else if (strcmp(stage, "CLAIM") == 0)
		add(env, "CODER_WORKSPACE_IS_PREBUILD_CLAIM=true");
	json_array_foreach(tokens, i, item)
	{
		sha256_hex(json_array_size(tokens) == 1 ? "" : str(item, "agent_id"), hex);
		add(env, "CODER_RUNNING_WORKSPACE_AGENT_TOKEN_%s=%s", hex, str(item, "token"));
	}
	for (i = 0; i < INIT_TARGETS; i++)
	{
		char *script = initscript_template(init_targets[i].os, init_targets[i].arch);

		add(env, "CODER_AGENT_SCRIPT_%s_%s=%s", init_targets[i].os, init_targets[i].arch, script);
		free(script);
	}
}

static void
parameter_env(List *env, const Job *job)
{
	const json_t *value;
	const char *key;
	char hex[65];

	json_object_foreach(job->parameters, key, value)
	{
		sha256_hex(key, hex);
		add(env, "CODER_PARAMETER_%s=%s", hex, json_string_value(value));
	}
	json_object_foreach(job->previous, key, value)
	{
		sha256_hex(key, hex);
		add(env, "CODER_PARAMETER_PREVIOUS_%s=%s", hex, json_string_value(value));
	}
	json_object_foreach(job->external_auth, key, value)
	{
		add(env, "CODER_EXTERNAL_AUTH_ACCESS_TOKEN_%s=%s", key, json_string_value(value));
		add(env, "CODER_GIT_AUTH_ACCESS_TOKEN_%s=%s", key, json_string_value(value));
	}
}

static List
basic_env(const Job *job)
{
	List env = {0};

	host_env(&env);
	add(&env, "TF_PLUGIN_CACHE_DIR=%s", job->worker->tf_root);
	add(&env, "TF_IN_AUTOMATION=1");
	add(&env, "CHECKPOINT_DISABLE=1");
	return env;
}

static List
provision_env(const Job *job, bool parameters)
{
	List env = {0};

	host_env(&env);
	add(&env, "TF_IN_AUTOMATION=1");
	add(&env, "CHECKPOINT_DISABLE=1");
	metadata_env(&env, job->metadata);
	if (str(job->part, "log_level")[0] != '\0')
		add(&env, "TF_LOG=JSON");
	if (parameters)
		parameter_env(&env, job);
	return env;
}

/* -- output -------------------------------------------------------------- */

static const char *
level_of(const char *s)
{
	if (strcmp(s, "trace") == 0)
		return "TRACE";
	if (strcmp(s, "debug") == 0)
		return "DEBUG";
	if (strcmp(s, "warn") == 0 || strcmp(s, "warning") == 0)
		return "WARN";
	return strcmp(s, "error") == 0 ? "ERROR" : "INFO";
}

/* Where, the line itself, the values of its expressions, and why. */
static void
log_diagnostic(Run *run, const json_t *d)
{
	const json_t *range = json_object_get(d, "range");
	const json_t *snippet = json_object_get(d, "snippet");
	const json_t *value;
	Buf text = {0};
	char line[1200];
	size_t i;

	if (json_is_object(range))
	{
		const json_int_t at =
			json_integer_value(json_object_get(json_object_get(range, "start"), "line"));

		snprintf(line,
				 sizeof(line),
				 "on %s line %lld%s%.500s:\n",
				 str(range, "filename"),
				 (long long) at,
				 str(snippet, "context")[0] != '\0' ? ", in " : "",
				 str(snippet, "context"));
		put(&text, line, strlen(line));
		snprintf(line, sizeof(line), "  %lld: %.1000s\n", (long long) at, str(snippet, "code"));
		put(&text, line, strlen(line));
		json_array_foreach(json_object_get(snippet, "values"), i, value)
		{
			snprintf(line,
					 sizeof(line),
					 "    %.400s %.400s\n",
					 str(value, "traversal"),
					 str(value, "statement"));
			put(&text, line, strlen(line));
		}
		put(&text, "\n", 1);
	}
	put(&text, str(d, "detail"), strlen(str(d, "detail")));
	job_log_lines(run->job, "PROVISIONER", level_of(str(d, "severity")), text.data, text.len);
	if (strcmp(str(d, "severity"), "error") == 0 && run->last_error == NULL)
	{
		const char *detail = str(d, "detail");

		if (asprintf(&run->last_error,
					 "%s%s%.*s",
					 str(d, "summary"),
					 detail[0] != '\0' ? ": " : "",
					 400,
					 detail) < 0)
			run->last_error = NULL;
	}
	free(text.data);
}

/* Resources' start and end become timings of the build. */
static void
note_timing(Run *run, const json_t *event)
{
	const char *type = str(event, "type");
	const json_t *hook = json_object_get(event, "hook");
	const json_t *resource = json_object_get(hook, "resource");
	const char *under = strrchr(type, '_');
	char key[600];
	json_t *start;

	if (under == NULL || resource == NULL ||
		(strncmp(type, "apply_", 6) != 0 && strncmp(type, "refresh_", 8) != 0 &&
		 strncmp(type, "provision_", 10) != 0))
		return;
	snprintf(key, sizeof(key), "%.*s %.500s", (int) (under - type), type, str(resource, "addr"));
	if (strcmp(under, "_start") == 0)
	{
		json_object_set_new(run->started, key, json_integer((json_int_t) wall_ms()));
		return;
	}
	start = json_object_get(run->started, key);
	if (start == NULL || (strcmp(under, "_complete") != 0 && strcmp(under, "_errored") != 0))
		return;
	json_array_append_new(run->job->timings,
						  json_pack("{s:o, s:o, s:s, s:s, s:s, s:s, s:s}",
									"start",
									wall_text(json_integer_value(start)),
									"end",
									wall_text(wall_ms()),
									"action",
									str(hook, "action")[0] != '\0'		? str(hook, "action")
									: strncmp(type, "refresh_", 8) == 0 ? "state refresh"
																		: "provision",
									"source",
									str(resource, "implied_provider"),
									"resource",
									str(resource, "addr"),
									"stage",
									run->stage,
									"state",
									strcmp(under, "_complete") == 0 ? "COMPLETED" : "FAILED"));
	json_object_del(run->started, key);
}

static bool
is_blank(const char *s, size_t n)
{
	while (n > 0 && (s[n - 1] == ' ' || s[n - 1] == '\t' || s[n - 1] == '\r'))
		n--;
	return n == 0;
}

static void
log_line(Run *run, const char *line, size_t n, bool is_error)
{
	json_t *event = json_loadb(line, n, 0, NULL);
	const json_t *diagnostic = json_object_get(event, "diagnostic");

	if (is_blank(line, n))
		;
	else if (!json_is_object(event))
		job_log_lines(run->job, "PROVISIONER", is_error ? "ERROR" : "INFO", line, n);
	else if (!is_error || strcmp(str(event, "@level"), "trace") != 0)
	{
		const char *message = str(event, "@message");
		const char *level = level_of(str(event, "@level"));

		if (is_error && strcmp(level, "INFO") == 0)
			level = "DEBUG";
		job_log_lines(run->job, "PROVISIONER", level, message, strlen(message));
		if (json_is_object(diagnostic))
			log_diagnostic(run, diagnostic);
		note_timing(run, event);
	}
	json_decref(event);
}

static void
log_lines(Run *run, Buf *buf, bool is_error, bool at_end)
{
	size_t from = 0;
	char *nl;

	while (from < buf->len && (nl = memchr(buf->data + from, '\n', buf->len - from)) != NULL)
	{
		log_line(run, buf->data + from, (size_t) (nl - buf->data) - from, is_error);
		from = (size_t) (nl - buf->data) + 1;
	}
	if ((at_end || buf->len - from > MAX_LINE) && from < buf->len)
	{
		log_line(run, buf->data + from, buf->len - from, is_error);
		from = buf->len;
	}
	if (from > 0)
		memmove(buf->data, buf->data + from, buf->len - from);
	buf->len -= from;
}

/* -- the child ----------------------------------------------------------- */

static _Noreturn void
exec_child(const Run *run, char **argv, const char *dir, int out, int err)
{
	const struct rlimit none = {0, 0};
	sigset_t mask;

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGINT); /* a killed worker: stop, write the state */
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	sigemptyset(&mask);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	setrlimit(RLIMIT_CORE, &none);
	dup2(open("/dev/null", O_RDONLY), 0);
	dup2(out, 1);
	dup2(err, 2);
	for (int i = 3; i < 256; i++)
		close(i);
	if (chdir(dir) == 0)
		execvpe(argv[0], argv, run->env.items);
	dprintf(2, "could not run %s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

/* False at the end of the stream. */
static bool
drain(Run *run, int fd, bool is_error)
{
	char buf[65536];
	const ssize_t n = read(fd, buf, sizeof(buf));
	Buf *into = is_error ? &run->err : run->capture != NULL ? run->capture : &run->out;

	if (n < 0)
		return errno == EINTR || errno == EAGAIN;
	if (n == 0)
		return false;
	if (into->len + (size_t) n <= MAX_CAPTURE)
		put(into, buf, (size_t) n);
	if (is_error || run->capture == NULL)
		log_lines(run, into, is_error, false);
	return true;
}

/* Signals the group once when the job is cancelled, and kills it when the grace time is over. */
static void
watch_cancel(Run *run, pid_t pid, int64_t *interrupted)
{
	Job *job = run->job;

	if (*interrupted == 0 && (job->canceled || job->lost || prov_stopping))
	{
		if (job->canceled)
			job_log(job,
					"PROVISIONER_DAEMON",
					"INFO",
					"The job was canceled: Terraform is asked to stop.");
		else if (!job->lost)
			job_fail(job, "the provisioner was shut down while this job ran");
		kill(-pid, SIGINT);
		*interrupted = now_ms();
	}
	else if (*interrupted > 0 && now_ms() - *interrupted >
									 (prov_stopping ? 5000 : job->worker->options->cancel_grace_ms))
	{
		kill(-pid, SIGKILL);
		*interrupted = INT64_MAX;
	}
}

/* The process group, for the worker that comes after this one if this one is killed. */
static void
note_process(const Job *job, pid_t pid)
{
	char path[800];
	FILE *f;

	snprintf(path, sizeof(path), "%s.pid", job->work_dir);
	f = fopen(path, "we");
	if (f == NULL)
		return;
	fprintf(f, "%d\n", (int) pid);
	fclose(f);
}

/* Runs a command in the work folder; its exit status, or -1 when a signal ended it. */
static int
run_command(Run *run, char **argv)
{
	int out[2];
	int err[2];
	bool open_out = true;
	bool open_err = true;
	int64_t interrupted = 0;
	int status = 0;
	pid_t pid;

	if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0)
		return -1;
	pid = fork();
	if (pid == 0)
		exec_child(run, argv, run->job->work_dir, out[1], err[1]);
	setpgid(pid, pid);
	note_process(run->job, pid);
	close(out[1]);
	close(err[1]);
	while (open_out || open_err)
	{
		struct pollfd fds[3] = {{.fd = open_out ? out[0] : -1, .events = POLLIN},
								{.fd = open_err ? err[0] : -1, .events = POLLIN},
								{.fd = PQsocket(run->job->worker->db), .events = POLLIN}};

		poll(fds, 3, 100);
		if (fds[0].revents != 0)
			open_out = drain(run, out[0], false);
		if (fds[1].revents != 0)
			open_err = drain(run, err[0], true);
		job_tick(run->job);
		watch_cancel(run, pid, &interrupted);
		if (waitpid(pid, &status, WNOHANG) == pid)
		{
			/* A grandchild may hold the pipes open: take what is there and go. */
			fcntl(out[0], F_SETFL, O_NONBLOCK);
			fcntl(err[0], F_SETFL, O_NONBLOCK);
			while (open_out && (open_out = drain(run, out[0], false)) && errno != EAGAIN)
				;
			while (open_err && (open_err = drain(run, err[0], true)) && errno != EAGAIN)
				;
			pid = 0;
			break;
		}
	}
	close(out[0]);
	close(err[0]);
	if (pid != 0)
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	if (run->capture == NULL)
		log_lines(run, &run->out, false, true);
	log_lines(run, &run->err, true, true);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void
run_free(Run *run)
{
	list_free(&run->env);
	free(run->out.data);
	free(run->err.data);
	json_decref(run->started);
	free(run->last_error);
}

/* One command of Terraform.  False, with job->error, where it fails. */
static bool
terraform(Job *job, const char *stage, List env, Buf *capture, List *args)
{
	Run run = {
		.job = job, .stage = stage, .env = env, .capture = capture, .started = json_object()};
	const int64_t start = wall_ms();
	const int status = run_command(&run, args->items);

	if (capture == NULL)
		job_timing(job, stage, start, wall_ms(), status == 0);
	if (status != 0)
	{
		if (status == 127)
			job_fail(
				job,
				"this template needs Terraform, and \"terraform\" is not in the PATH of the provisioner");
		else if (run.last_error != NULL)
			job_fail(job, "terraform %s: %s", args->items[1], run.last_error);
		else if (status < 0)
			job_fail(job, "terraform %s was killed", args->items[1]);
		else
			job_fail(job, "terraform %s: exit status %d", args->items[1], status);
	}
	run_free(&run);
	list_free(args);
	return status == 0;
}

/* -- steps --------------------------------------------------------------- */

static bool
in_path(const char *name)
{
	const char *path = getenv("PATH");
	char *copy = strdup(path != NULL ? path : "/usr/local/bin:/usr/bin:/bin");
	char *save = NULL;
	bool found = false;
	char *dir;

	for (dir = strtok_r(copy, ":", &save); dir != NULL && !found; dir = strtok_r(NULL, ":", &save))
	{
		char full[1024];

		snprintf(full, sizeof(full), "%s/%s", dir, name);
		found = access(full, X_OK) == 0;
	}
	free(copy);
	return found;
}

/* At least 1.1; asked once per worker. */
static bool
check_version(Job *job)
{
	static int minor = -1;
	List args = {0};
	Buf out = {0};
	json_t *j;
	int major = 0;

	if (minor >= 0)
		return true;
	if (!in_path("terraform"))
		return job_fail(
			job,
			"this template needs Terraform, and \"terraform\" is not in the PATH of the provisioner");
	add(&args, "terraform");
	add(&args, "version");
	add(&args, "-json");
	if (!terraform(job, "init", basic_env(job), &out, &args))
	{
		free(out.data);
		return false;
	}
	j = json_loadb(out.data != NULL ? out.data : "", out.len, 0, NULL);
	if (sscanf(str(j, "terraform_version"), "%d.%d", &major, &minor) != 2 || major < 1 ||
		(major == 1 && minor < 1))
	{
		job_fail(job, "Terraform 1.1 or later is needed, not \"%s\"", str(j, "terraform_version"));
		minor = -1;
	}
	json_decref(j);
	free(out.data);
	return job->error == NULL;
}

static bool
write_file(Job *job, const char *name, const void *data, size_t len)
{
	char path[800];
	int fd;
	bool ok;

	snprintf(path, sizeof(path), "%s/%s", job->work_dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	ok = fd >= 0 && write(fd, data, len) == (ssize_t) len;
	if (fd >= 0)
		close(fd);
	return ok || job_fail(job, "could not write \"%s\": %s", path, strerror(errno));
}

static bool
step_init(Job *job)
{
	List args = {0};

	job->stage = "Initializing Terraform Directory";
	if (!job_make_work_dir(job) || !check_version(job))
		return false;
	add(&args, "terraform");
	add(&args, "init");
	add(&args, "-no-color");
	add(&args, "-input=false");
	add(&args, "-json");
	return terraform(job, "init", basic_env(job), NULL, &args);
}

static bool
step_plan(Job *job, const char *transition)
{
	const json_t *value;
	const char *key;
	List args = {0};

	json_object_set_new(job->metadata, "workspace_transition", json_string(transition));
	add(&args, "terraform");
	add(&args, "plan");
	add(&args, "-no-color");
	add(&args, "-input=false");
	add(&args, "-json");
	add(&args, "-refresh=true");
	add(&args, "-out=%s/terraform.tfplan", job->work_dir);
	if (strcmp(transition, "DESTROY") == 0)
		add(&args, "-destroy");
	json_object_foreach(job->variables, key, value)
	{
		add(&args, "-var");
		add(&args, "%s=%s", key, json_string_value(value));
	}
	return terraform(job, "plan", provision_env(job, true), NULL, &args);
}

static json_t *
step_show(Job *job, bool of_plan)
{
	List args = {0};
	Buf out = {0};
	json_t *j = NULL;

	add(&args, "terraform");
	add(&args, "show");
	add(&args, "-json");
	add(&args, "-no-color");
	if (of_plan)
		add(&args, "%s/terraform.tfplan", job->work_dir);
	if (terraform(job, "graph", basic_env(job), &out, &args))
	{
		j = json_loadb(out.data != NULL ? out.data : "", out.len, 0, NULL);
		if (j == NULL)
			job_fail(job, "terraform show did not print JSON");
	}
	free(out.data);
	return j;
}

static Graph *
step_graph(Job *job)
{
	List args = {0};
	Buf out = {0};
	Graph *g = NULL;

	add(&args, "terraform");
	add(&args, "graph");
	add(&args, "-type=plan");
	if (terraform(job, "graph", basic_env(job), &out, &args))
		g = graph_parse(out.data != NULL ? out.data : "", out.len);
	free(out.data);
	return g;
}

static json_t *
map_json(Job *job, const json_t *plan_or_state, const Graph *graph)
{
	json_t *resources = plan_resources(plan_or_state);
	char *error = NULL;
	json_t *mapped = plan_map(resources, graph, &error);

	if (mapped == NULL)
		job_fail(job, "%s", error != NULL ? error : "could not map the plan");
	free(error);
	json_decref(resources);
	return mapped;
}

/* Plan, show and map for a transition; graph is made when *graph is NULL. */
static json_t *
planned(Job *job, const char *transition, Graph **graph, json_t **plan_json)
{
	json_t *plan = NULL;
	json_t *mapped = NULL;

	if (step_plan(job, transition) && (plan = step_show(job, true)) != NULL &&
		(*graph != NULL || (*graph = step_graph(job)) != NULL))
		mapped = map_json(job, plan, *graph);
	if (plan_json != NULL)
		*plan_json = plan;
	else
		json_decref(plan);
	return mapped;
}

static json_t *
take(const json_t *mapped, const char *key)
{
	json_t *v = json_object_get(mapped, key);

	return v != NULL ? json_incref(v) : json_array();
}

/* Modules from .terraform/modules/modules.json: those that came from somewhere. */
static json_t *
modules_of(const Job *job)
{
	char path[800];
	json_t *out = json_array();
	json_t *j;
	const json_t *item;
	size_t i;

	snprintf(path, sizeof(path), "%s/.terraform/modules/modules.json", job->work_dir);
	j = json_load_file(path, 0, NULL);
	json_array_foreach(json_object_get(j, "Modules"), i, item) if (str(item, "Source")[0] != '\0')
		json_array_append_new(out,
							  json_pack("{s:s, s:s, s:s, s:s}",
										"source",
										str(item, "Source"),
										"version",
										str(item, "Version"),
										"key",
										str(item, "Key"),
										"dir",
										str(item, "Dir")));
	json_decref(j);
	return out;
}

static bool
run_import(Job *job, json_t **completed)
{
	Graph *graph = NULL;
	json_t *plan = NULL;
	json_t *start = NULL;
	json_t *stop = NULL;

	if (step_init(job))
	{
		job->stage = "Detecting persistent resources";
		start = planned(job, "START", &graph, &plan);
	}
	if (start != NULL)
	{
		job->stage = "Detecting ephemeral resources";
		stop = planned(job, "STOP", &graph, NULL);
	}
	if (stop != NULL)
	{
		char *text = json_dumps(plan, JSON_COMPACT);
		char *hex = hex_encode(text, strlen(text));

		*completed = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:O, s:O}",
							   "start_resources",
							   take(start, "resources"),
							   "stop_resources",
							   take(stop, "resources"),
							   "rich_parameters",
							   take(start, "parameters"),
							   "external_auth_providers",
							   take(start, "external_auth_providers"),
							   "presets",
							   take(start, "presets"),
							   "start_modules",
							   modules_of(job),
							   "plan",
							   hex,
							   "has_ai_tasks",
							   json_object_get(start, "has_ai_tasks"),
							   "has_external_agents",
							   json_object_get(start, "has_external_agents"));
		free(hex);
		free(text);
	}
	graph_free(graph);
	json_decref(plan);
	json_decref(start);
	json_decref(stop);
	return *completed != NULL;
}

static bool
run_dry(Job *job, json_t **completed)
{
	Graph *graph = NULL;
	json_t *mapped = NULL;

	if (step_init(job))
	{
		job->stage = "Detecting persistent resources";
		mapped = planned(job, "START", &graph, NULL);
	}
	if (mapped != NULL)
		*completed = json_pack(
			"{s:o, s:o}", "resources", take(mapped, "resources"), "modules", modules_of(job));
	graph_free(graph);
	json_decref(mapped);
	return *completed != NULL;
}

static void
read_state(Job *job)
{
	char path[800];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "%s/terraform.tfstate", job->work_dir);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0 && fstat(fd, &st) == 0 && (size_t) st.st_size <= MAX_STATE)
	{
		job->new_state = malloc((size_t) st.st_size + 1);
		if (job->new_state != NULL && read(fd, job->new_state, (size_t) st.st_size) == st.st_size)
		{
			job->new_state_len = (size_t) st.st_size;
			job->have_new_state = true;
		}
	}
	if (fd >= 0)
		close(fd);
}

static bool
step_apply(Job *job)
{
	List args = {0};
	bool ok;

	if (!job_applying(job))
		return false;
	add(&args, "terraform");
	add(&args, "apply");
	add(&args, "-no-color");
	add(&args, "-auto-approve");
	add(&args, "-input=false");
	add(&args, "-json");
	add(&args, "%s/terraform.tfplan", job->work_dir);
	ok = terraform(job, "apply", provision_env(job, false), NULL, &args);
	read_state(job); /* also of a failure: what was created must not be forgotten */
	return ok;
}

/* A workspace that ran in our sandbox before its template changed to Terraform. */
static bool
leave_native(Job *job, const char *transition)
{
	json_t *native = native_state_parse(job->state, job->state_len);
	const bool destroy = strcmp(transition, "DESTROY") == 0;
	json_t *request;
	json_t *answer;

	if (native == NULL)
		return true;
	request = json_pack("{s:s, s:s}",
						"op",
						destroy ? "delete" : "stop",
						"workspace",
						str(job->metadata, "workspace_id"));
	answer = sandbox_request(job->worker->sandbox_fd, request, 20000);
	if (!json_is_true(json_object_get(answer, "ok")))
		job_fail(job, "could not stop the workspace's sandbox: %s", str(answer, "error"));
	json_decref(answer);
	json_decref(request);
	json_decref(native);
	free(job->state);
	job->state = NULL;
	job->state_len = 0;
	return job->error == NULL;
}

static const char *
apply_stage(const char *transition)
{
	if (strcmp(transition, "STOP") == 0)
		return "Stopping workspace";
	return strcmp(transition, "DESTROY") == 0 ? "Destroying workspace" : "Starting workspace";
}

/* The plan is looked into only where a quota counts what it costs. */
static bool
commit_quota(Job *job, const char *transition)
{
	Graph *graph = NULL;
	json_t *plan = NULL;
	json_t *mapped = NULL;
	bool ok = true;

	if (strcmp(transition, "DESTROY") == 0 || !job_has_quota(job))
		return job->error == NULL;
	if ((plan = step_show(job, true)) == NULL || (graph = step_graph(job)) == NULL ||
		(mapped = map_json(job, plan, graph)) == NULL)
		ok = false;
	ok = ok && job_commit_quota(job, json_object_get(mapped, "resources"));
	graph_free(graph);
	json_decref(plan);
	json_decref(mapped);
	return ok;
}

static bool
plan_and_apply(Job *job, const char *transition)
{
	job->stage = "Planning Infrastructure";
	if (job->state_len > 0 && !write_file(job, "terraform.tfstate", job->state, job->state_len))
		return false;
	if (strcmp(transition, "DESTROY") == 0 && job->state_len == 0)
	{
		job_log(
			job, "PROVISIONER", "INFO", "The workspace has no state: there is nothing to destroy.");
		job->have_new_state = true;
		return true;
	}
	if (!step_plan(job, transition) || !commit_quota(job, transition))
		return false;
	job->stage = apply_stage(transition);
	job_log(job, "PROVISIONER_DAEMON", "INFO", "%s", "");
	return step_apply(job);
}

static bool
run_build(Job *job, json_t **completed)
{
	char transition[16];
	json_t *state = NULL;
	json_t *mapped = NULL;
	Graph *graph = NULL;

	snprintf(transition, sizeof(transition), "%s", str(job->metadata, "workspace_transition"));
	if (!leave_native(job, transition) || !step_init(job) || !plan_and_apply(job, transition))
		return false;
	job->stage = "Graphing Infrastructure";
	if ((state = step_show(job, false)) != NULL && (graph = step_graph(job)) != NULL)
		mapped = map_json(job, state, graph);
	if (mapped != NULL)
		*completed = json_pack("{s:o, s:o, s:[], s:o}",
							   "resources",
							   take(mapped, "resources"),
							   "modules",
							   modules_of(job),
							   "resource_replacements",
							   "ai_tasks",
							   take(mapped, "ai_tasks"));
	graph_free(graph);
	json_decref(state);
	json_decref(mapped);
	return *completed != NULL;
}

bool
terraform_run(Job *job, json_t **completed)
{
	switch (job->kind)
	{
		case JOB_IMPORT:
			return run_import(job, completed);
		case JOB_DRY_RUN:
			return run_dry(job, completed);
		case JOB_BUILD:
			return run_build(job, completed);
	}
	return false;
}
