/*
 * worker.c -- a worker of the provisioner: waits for jobs, runs one at a time
 *
 * A process of its own with one connection to the database, which also
 * listens: a posted job is taken within a round trip.  Every exit of a job
 * tells the database; what a worker that died left is ended, or put back in
 * the queue, by the one that the parent starts in its place.
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/job.h"
#include "provisioner/template.h"
#include "secret.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HEARTBEAT_MS 10000
#define UPDATE_MS 1000
#define FLUSH_MS 250
#define FLUSH_LINES 100
#define MAX_LINE 1024

/* A statement whose answer was an error of the database, not of the connection. */
typedef enum CallStatus
{
	CALL_OK,
	CALL_REFUSED,
	CALL_LOST
} CallStatus;

int64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t
wall_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

char *
hex_encode(const void *data, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *p = data;
	char *out = malloc(len * 2 + 1);
	size_t i;

	if (out == NULL)
		abort();
	for (i = 0; i < len; i++)
	{
		out[2 * i] = digits[p[i] >> 4];
		out[2 * i + 1] = digits[p[i] & 15];
	}
	out[2 * len] = '\0';
	return out;
}

/* NULL where it is not hex. */
uint8_t *
hex_decode(const char *hex, size_t *len)
{
	const size_t n = strlen(hex);
	uint8_t *out = malloc(n / 2 + 1);
	size_t i;

	if (out == NULL || n % 2 != 0 || strspn(hex, "0123456789abcdefABCDEF") != n)
	{
		free(out);
		return NULL;
	}
	for (i = 0; i < n / 2; i++)
	{
		unsigned byte;

		sscanf(hex + 2 * i, "%2x", &byte);
		out[i] = (uint8_t) byte;
	}
	*len = n / 2;
	return out;
}

/* -- database ------------------------------------------------------------ */

PGconn *
prov_connect(const char *conninfo)
{
	char *secrets = gw_secrets_read();
	const char *const keys[] = {"dbname", "application_name", "connect_timeout", "options", NULL};
	const char *const values[] = {conninfo, "coder provisioner", "5", secrets != NULL && *secrets != '\0' ? secrets : NULL, NULL};
	PGconn *pg = PQconnectdbParams(keys, values, 1);

	free(secrets);
	return pg;
}

/* Until it works, or the process is to stop. */
static bool
reconnect(Worker *w)
{
	int wait = 50;

	while (!prov_stopping)
	{
		PGresult *res;

		PQfinish(w->db);
		w->db = prov_connect(w->options->conninfo);
		if (PQstatus(w->db) == CONNECTION_OK)
		{
			res = PQexec(w->db, "LISTEN provisioner_job_posted; LISTEN provisioner_job_cancel");
			if (PQresultStatus(res) == PGRES_COMMAND_OK)
			{
				PQclear(res);
				return true;
			}
			PQclear(res);
		}
		poll(NULL, 0, wait);
		wait = wait * 2 > 2000 ? 2000 : wait * 2;
	}
	return false;
}

/* One call; *answer, if wanted, gets the first column as text (to be freed), *why the error. */
static CallStatus
call(Worker *w, const char *sql, int n, const char *const *params, char **answer, char **why)
{
	PGresult *res = PQexecParams(w->db, sql, n, NULL, params, NULL, NULL, 0);
	CallStatus status = CALL_OK;

	if (answer != NULL)
		*answer = NULL;
	if (PQresultStatus(res) == PGRES_TUPLES_OK)
	{
		if (answer != NULL && PQntuples(res) > 0 && !PQgetisnull(res, 0, 0))
			*answer = strdup(PQgetvalue(res, 0, 0));
	}
	else
	{
		const char *message = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);

		status = PQstatus(w->db) == CONNECTION_OK ? CALL_REFUSED : CALL_LOST;
		if (why != NULL)
			*why = strdup(message != NULL ? message : PQerrorMessage(w->db));
	}
	PQclear(res);
	return status;
}

/* The same, again after a lost connection; the calls are such that a second one does no harm. */
static CallStatus
call_again(Worker *w, const char *sql, int n, const char *const *params, char **answer, char **why)
{
	int tries;

	for (tries = 0; tries < 20; tries++)
	{
		const CallStatus status = call(w, sql, n, params, answer, why);

		if (status != CALL_LOST)
			return status;
		if (why != NULL)
		{
			free(*why);
			*why = NULL;
		}
		if (!reconnect(w))
			break;
	}
	if (why != NULL)
		*why = strdup("the database does not answer");
	return CALL_LOST;
}

static bool
register_worker(Worker *w)
{
	const char *key = w->options->key;
	char name[64];
	const char *own[] = {name, "{terraform}", w->options->tags, PROVISIONER_VERSION};
	const char *keyed[] = {name, "{terraform}", PROVISIONER_VERSION, key};
	char *answer = NULL;
	char *why = NULL;

	snprintf(name, sizeof(name), "%.50s-%d", w->options->name, w->index);
	if (call_again(w,
				   key != NULL ? "SELECT coder.provisioner_register_key($1, $2, $3, $4)"
							   : "SELECT coder.provisioner_register($1, $2, $3, $4)",
				   4,
				   key != NULL ? keyed : own,
				   &answer,
				   &why) != CALL_OK ||
		answer == NULL)
	{
		fprintf(stderr, "provisioner: could not register: %s\n", why != NULL ? why : "no answer");
		free(why);
		free(answer);
		return false;
	}
	snprintf(w->slot->daemon, sizeof(w->slot->daemon), "%s", answer);
	free(answer);
	return true;
}

/* -- log ----------------------------------------------------------------- */

static void
append_log(Job *job, const char *source, const char *level, const char *line)
{
	json_array_append_new(job->logs,
						  json_pack("{s:s, s:s, s:I, s:s, s:s}",
									"source",
									source,
									"level",
									level,
									"created_at",
									(json_int_t) wall_ms(),
									"stage",
									job->stage,
									"output",
									line));
}

void
job_log(Job *job, const char *source, const char *level, const char *fmt, ...)
{
	va_list ap;
	char *text;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	if (n == 0)
		append_log(job, source, level, "");
	else
		job_log_lines(job, source, level, text, (size_t) n);
	if (job->queued_at == 0)
		job->queued_at = now_ms();
	free(text);
	if (json_array_size(job->logs) >= FLUSH_LINES)
		job_tick(job);
}

/* Bytes that are not UTF-8 become "?": what a program prints may be anything. */
static void
make_utf8(char *s)
{
	json_t *j = json_string(s);

	if (j == NULL)
		for (; *s != '\0'; s++)
			if ((unsigned char) *s >= 0x80)
				*s = '?';
	json_decref(j);
}

void
job_log_lines(Job *job, const char *source, const char *level, const char *text, size_t len)
{
	const char *end = text + len;

	while (text < end)
	{
		const char *nl = memchr(text, '\n', (size_t) (end - text));
		size_t n = (size_t) ((nl != NULL ? nl : end) - text);
		char line[MAX_LINE + 1];

		if (n > MAX_LINE)
			n = MAX_LINE;
		memcpy(line, text, n);
		line[n] = '\0';
		if (n > 0 && line[n - 1] == '\r')
			line[n - 1] = '\0';
		make_utf8(line);
		append_log(job, source, level, line);
		if (job->queued_at == 0)
			job->queued_at = now_ms();
		text = nl != NULL ? nl + 1 : end;
	}
}

bool
job_fail(Job *job, const char *fmt, ...)
{
	va_list ap;

	if (job->error != NULL)
		return false;
	va_start(ap, fmt);
	if (vasprintf(&job->error, fmt, ap) < 0)
		job->error = NULL;
	va_end(ap);
	if (job->error != NULL)
		make_utf8(job->error);
	return false;
}

/* provisioner_update(): extra has more fields, or is NULL.  The answer, or NULL. */
static json_t *
update(Job *job, json_t *extra)
{
	json_t *body = extra != NULL ? extra : json_object();
	const char *params[3] = {job->worker->slot->daemon, job->id, NULL};
	json_t *answer = NULL;
	char *text = NULL;
	char *why = NULL;
	CallStatus status;

	json_object_set_new(body, "job_id", json_string(job->id));
	json_object_set(body, "logs", job->logs);
	params[2] = json_dumps(body, JSON_COMPACT);
	json_decref(body);
	status = call_again(
		job->worker, "SELECT coder.provisioner_update($1, $2, $3)", 3, params, &text, &why);
	if (status == CALL_REFUSED)
	{
		job->lost = true; /* canceled and gone, or the reaper was faster */
		job_fail(job, "the database refused an update: %s", why);
	}
	else if (status == CALL_OK)
		json_array_clear(job->logs);
	job->sent_at = now_ms();
	job->queued_at = 0;
	if (text != NULL)
		answer = json_loads(text, 0, NULL);
	if (json_is_true(json_object_get(answer, "canceled")))
		job->canceled = true;
	free((char *) (uintptr_t) params[2]);
	free(text);
	free(why);
	return answer;
}

bool
job_has_quota(Job *job)
{
	json_t *answer = update(job, json_pack("{s:n}", "daily_cost"));
	const json_t *quota = json_object_get(answer, "quota");
	const bool has = json_integer_value(json_object_get(quota, "budget")) >= 0;

	json_decref(answer);
	return has;
}

bool
job_commit_quota(Job *job, const json_t *resources)
{
	const char *stage = job->stage;
	json_int_t cost = 0;
	const json_t *resource;
	const json_t *quota;
	json_t *answer;
	bool ok;
	size_t i;

	json_array_foreach(resources, i, resource) cost +=
		json_integer_value(json_object_get(resource, "daily_cost"));
	if (cost <= 0)
		return true;
	answer = update(job, json_pack("{s:I}", "daily_cost", cost));
	quota = json_object_get(answer, "quota");
	ok = json_is_true(json_object_get(quota, "ok"));
	job->stage = "Commit quota";
	job_log(job, "PROVISIONER", "INFO", "Build cost       -   %lld", (long long) cost);
	job_log(job,
			"PROVISIONER",
			"INFO",
			"Budget           -   %lld",
			(long long) json_integer_value(json_object_get(quota, "budget")));
	job_log(job,
			"PROVISIONER",
			"INFO",
			"Credits consumed -   %lld",
			(long long) json_integer_value(json_object_get(quota, "consumed")));
	if (!ok)
	{
		job_log(job, "PROVISIONER", "WARN", "%s", "This build would exceed your quota. Failing.");
		job_fail(job, "insufficient quota");
	}
	json_decref(answer);
	job->stage = stage;
	return ok;
}

bool
job_applying(Job *job)
{
	json_t *answer = update(job, json_pack("{s:b}", "applying", 1));

	if (answer == NULL)
		job_fail(job, "the database does not answer: nothing was changed");
	json_decref(answer);
	return job->error == NULL;
}

void
job_tick(Job *job)
{
	Worker *w = job->worker;
	const int64_t now = now_ms();
	PGnotify *note;

	PQconsumeInput(w->db);
	while ((note = PQnotifies(w->db)) != NULL)
	{
		if (strcmp(note->relname, "provisioner_job_cancel") == 0 &&
			strcmp(note->extra, job->id) == 0)
			job->sent_at = 0; /* anybody can NOTIFY: the job's row, asked below, says whether it is so */
		PQfreemem(note);
	}
	if (job->lost)
		return;
	if (now - job->seen_at >= HEARTBEAT_MS)
	{
		const char *params[] = {w->slot->daemon};

		job->seen_at = now;
		call(w, "SELECT coder.provisioner_heartbeat($1)", 1, params, NULL, NULL);
	}
	if (now - job->sent_at >= UPDATE_MS || json_array_size(job->logs) >= FLUSH_LINES ||
		(job->queued_at != 0 && now - job->queued_at >= FLUSH_MS))
		json_decref(update(job, NULL));
}

json_t *
wall_text(int64_t ms)
{
	char out[40];
	char full[48];
	time_t t = (time_t) (ms / 1000);
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(out, sizeof(out), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(full, sizeof(full), "%s.%03dZ", out, (int) (ms % 1000));
	return json_string(full);
}

void
job_timing(Job *job, const char *stage, int64_t start_ms, int64_t end_ms, bool ok)
{
	char resource[32];

	snprintf(resource, sizeof(resource), "coder_stage_%s", stage);
	json_array_append_new(job->timings,
						  json_pack("{s:o, s:o, s:s, s:s, s:s, s:s, s:s}",
									"start",
									wall_text(start_ms),
									"end",
									wall_text(end_ms),
									"action",
									"terraform",
									"source",
									"coder",
									"resource",
									resource,
									"stage",
									stage,
									"state",
									ok ? "COMPLETED" : "FAILED"));
}

/* -- a job --------------------------------------------------------------- */

/* [{"name": …, "value": …}] as an object. */
static json_t *
by_name(const json_t *list, const char *key, const char *value)
{
	json_t *out = json_object();
	const json_t *item;
	size_t i;

	json_array_foreach(list, i, item)
	{
		const char *name = json_string_value(json_object_get(item, key));

		if (name != NULL && json_is_string(json_object_get(item, value)))
			json_object_set(out, name, json_object_get(item, value));
	}
	return out;
}

static bool
load_archive(Job *job)
{
	const char *params[] = {job->worker->slot->daemon, job->id};
	PGresult *res = PQexecParams(
		job->worker->db, "SELECT coder.provisioner_file($1, $2)", 2, NULL, params, NULL, NULL, 1);
	char *error = NULL;
	bool ok = false;

	if (PQresultStatus(res) != PGRES_TUPLES_OK || PQgetisnull(res, 0, 0))
		job_fail(job, "could not load the template: %s", PQresultErrorMessage(res));
	else if (!arc_read(
				 &job->archive, PQgetvalue(res, 0, 0), (size_t) PQgetlength(res, 0, 0), &error))
		job_fail(job, "the template's archive is refused: %s", error);
	else
		ok = true;
	free(error);
	PQclear(res);
	return ok;
}

/* <work>/Session<job id>, with the archive in it. */
bool
job_make_work_dir(Job *job)
{
	char *error = NULL;
	int fd;

	snprintf(job->work_dir, sizeof(job->work_dir), "%s/Session%s", job->worker->work_root, job->id);
	if (mkdir(job->work_dir, 0700) != 0)
		return job_fail(
			job, "could not make the work folder \"%s\": %s", job->work_dir, strerror(errno));
	fd = open(job->work_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || !arc_unpack(&job->archive, fd, &error))
		job_fail(job, "%s", error != NULL ? error : "could not open the work folder");
	if (fd >= 0)
		close(fd);
	free(error);
	return job->error == NULL;
}

/* Import: variables, readme and tags, before anything is planned. */
static bool
parse_step(Job *job, Tpl *tpl)
{
	const ArchiveFile *readme = arc_find(&job->archive, "README.md");
	char *hex = readme != NULL ? hex_encode(readme->data, readme->len) : NULL;
	char *error = NULL;
	json_t *tags;
	json_t *answer;

	job->stage = "Parsing template parameters";
	job_log(job, "PROVISIONER_DAEMON", "INFO", "%s", "");
	tags = tpl_workspace_tags(tpl, &error);
	if (tags == NULL)
	{
		job_fail(job, "%s", error);
		free(error);
		free(hex);
		return false;
	}
	answer = update(job,
					json_pack("{s:o, s:O?, s:s, s:o}",
							  "template_variables",
							  tpl_variables(tpl),
							  "user_variable_values",
							  json_object_get(job->part, "user_variable_values"),
							  "readme",
							  hex != NULL ? hex : "",
							  "workspace_tags",
							  tags));
	free(hex);
	if (json_is_string(json_object_get(answer, "error")))
		job_fail(job, "%s", json_string_value(json_object_get(answer, "error")));
	json_decref(job->variables);
	job->variables = by_name(json_object_get(answer, "variable_values"), "name", "value");
	json_decref(answer);
	return job->error == NULL;
}

/* Has this build left Terraform resources that only Terraform can remove? */
static bool
has_terraform_state(const Job *job)
{
	json_t *native = native_state_parse(job->state, job->state_len);
	const bool terraform = job->state_len > 0 && native == NULL;

	json_decref(native);
	return terraform;
}

static bool
run_engine(Job *job, json_t **completed, bool *native)
{
	TplInput in = {
		.metadata = job->metadata, .variables = job->variables, .parameters = job->parameters};
	char *error = NULL;
	Tpl *tpl = tpl_open(&job->archive, &in, &error);
	const char *why;
	bool ok = true;

	if (tpl == NULL)
	{
		job_fail(job, "the template does not parse: %s", error);
		free(error);
		return false;
	}
	why = tpl_needs_terraform(tpl);
	if (why == NULL && has_terraform_state(job))
		why = "the workspace's state, which Terraform wrote";
	if (job->kind == JOB_IMPORT)
		ok = parse_step(job, tpl);
	*native = why == NULL;
	if (ok && why != NULL)
		job_log(job, "PROVISIONER_DAEMON", "DEBUG", "Terraform is used because of %s.", why);
	tpl_close(tpl);
	if (!ok)
		return false;
	return *native ? native_run(job, completed) : terraform_run(job, completed);
}

static const char *
part_name(JobKind kind)
{
	return kind == JOB_BUILD	? "workspace_build"
		   : kind == JOB_IMPORT ? "template_import"
								: "template_dry_run";
}

static const char *
error_code(const char *error)
{
	if (strstr(error, "missing parameter") != NULL)
		return "MISSING_TEMPLATE_PARAMETER";
	return strstr(error, "required template variables") != NULL ? "REQUIRED_TEMPLATE_VARIABLES"
																: "";
}

static void
send_failure(Job *job)
{
	json_t *part = json_object();
	json_t *body;
	const char *params[3] = {job->worker->slot->daemon, job->id, NULL};
	char *why = NULL;

	if (job->kind == JOB_BUILD)
	{
		char *hex = hex_encode(job->have_new_state ? job->new_state : (const uint8_t *) "",
							   job->have_new_state ? job->new_state_len : 0);

		json_object_set_new(part, "state", json_string(hex));
		json_object_set(part, "timings", job->timings);
		free(hex);
	}
	body = json_pack("{s:s, s:s, s:s, s:o}",
					 "job_id",
					 job->id,
					 "error",
					 job->error,
					 "error_code",
					 error_code(job->error),
					 part_name(job->kind),
					 part);
	params[2] = json_dumps(body, JSON_COMPACT);
	if (call_again(
			job->worker, "SELECT coder.provisioner_fail($1, $2, $3)", 3, params, NULL, &why) !=
		CALL_OK)
		fprintf(stderr, "provisioner: job %s: could not store its failure: %s\n", job->id, why);
	free((char *) (uintptr_t) params[2]);
	json_decref(body);
	free(why);
}

static bool
send_completed(Job *job, json_t *completed)
{
	json_t *body = json_pack("{s:s, s:O}", "job_id", job->id, part_name(job->kind), completed);
	const char *params[3] = {job->worker->slot->daemon, job->id, NULL};
	char *why = NULL;
	CallStatus status;

	if (job->kind == JOB_BUILD)
	{
		char *hex = hex_encode(job->new_state != NULL ? job->new_state : (const uint8_t *) "",
							   job->new_state_len);

		json_object_set_new(completed, "state", json_string(hex));
		json_object_set(completed, "timings", job->timings);
		free(hex);
	}
	params[2] = json_dumps(body, JSON_COMPACT);
	status = call_again(
		job->worker, "SELECT coder.provisioner_complete($1, $2, $3)", 3, params, NULL, &why);
	if (status != CALL_OK)
		job_fail(job, "could not store the result: %s", why);
	free((char *) (uintptr_t) params[2]);
	json_decref(body);
	free(why);
	return status == CALL_OK;
}

static void
remove_dir(const char *path)
{
	char *argv[] = {"rm", "-rf", "--one-file-system", "--", (char *) (uintptr_t) path, NULL};
	pid_t pid = path[0] != '\0' ? fork() : -1;

	if (pid == 0)
	{
		execv("/bin/rm", argv);
		_exit(127);
	}
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static void
job_end(Job *job)
{
	char pid_file[800];

	remove_dir(job->work_dir);
	if (job->work_dir[0] != '\0')
	{
		snprintf(pid_file, sizeof(pid_file), "%s.pid", job->work_dir);
		unlink(pid_file);
	}
	arc_free(&job->archive);
	json_decref(job->metadata);
	json_decref(job->variables);
	json_decref(job->parameters);
	json_decref(job->previous);
	json_decref(job->external_auth);
	json_decref(job->logs);
	json_decref(job->timings);
	free(job->state);
	free(job->new_state);
	free(job->error);
}

static bool
job_begin(Job *job, Worker *w, const json_t *acquired)
{
	const char *hex;
	JobKind kind;

	*job = (Job){.worker = w,
				 .stage = "Setting up",
				 .logs = json_array(),
				 .timings = json_array(),
				 .sent_at = now_ms(),
				 .seen_at = now_ms()};
	job->id = json_string_value(json_object_get(acquired, "job_id"));
	for (kind = JOB_IMPORT; kind <= JOB_BUILD; kind++)
		if (json_is_object(json_object_get(acquired, part_name(kind))))
		{
			job->kind = kind;
			job->part = json_object_get(acquired, part_name(kind));
		}
	job->metadata = json_deep_copy(json_object_get(job->part, "metadata"));
	if (job->metadata == NULL)
		job->metadata = json_object();
	job->variables = by_name(json_object_get(job->part, "variable_values"), "name", "value");
	job->parameters = by_name(json_object_get(job->part, "rich_parameter_values"), "name", "value");
	job->previous =
		by_name(json_object_get(job->part, "previous_parameter_values"), "name", "value");
	job->external_auth =
		by_name(json_object_get(job->part, "external_auth_providers"), "id", "access_token");
	hex = json_string_value(json_object_get(job->part, "state"));
	if (hex != NULL)
		job->state = hex_decode(hex, &job->state_len);
	return job->id != NULL && job->part != NULL;
}

static void
run_job(Worker *w, const json_t *acquired)
{
	json_t *completed = NULL;
	bool native = false;
	bool ok = false;
	Job job;

	if (!job_begin(&job, w, acquired))
	{
		fprintf(stderr, "provisioner: a job of an unknown kind was passed over\n");
		job_end(&job);
		return;
	}
	snprintf(w->slot->job, sizeof(w->slot->job), "%s", job.id);
	job_log(&job, "PROVISIONER_DAEMON", "INFO", "%s", "");
	ok = load_archive(&job) && run_engine(&job, &completed, &native);
	if (!ok && job.error == NULL)
		job_fail(&job, "the job did not succeed");
	if (ok && job.canceled)
		ok = job_fail(&job, "the job was canceled");
	job.stage = "Cleaning Up";
	if (!ok && !job.lost)
		job_log(&job, "PROVISIONER_DAEMON", "ERROR", "%s", job.error);
	job_log(&job, "PROVISIONER_DAEMON", "INFO", "%s", "");
	if (!job.lost)
		json_decref(update(&job, NULL));
	if (ok)
		ok = !job.lost && send_completed(&job, completed);
	if (native)
		native_released(&job, ok);
	if (!ok && !job.lost)
		send_failure(&job);
	w->slot->job[0] = '\0';
	json_decref(completed);
	job_end(&job);
}

/* -- the loop ------------------------------------------------------------ */

/* Takes and runs one job; false if there is none. */
static bool
next_job(Worker *w)
{
	const char *params[] = {w->slot->daemon};
	char *text = NULL;
	char *why = NULL;
	json_t *acquired;
	const CallStatus status =
		call(w, "SELECT coder.provisioner_acquire($1)", 1, params, &text, &why);

	if (status == CALL_LOST)
		reconnect(w);
	else if (status == CALL_REFUSED)
	{
		fprintf(stderr, "provisioner: %s\n", why);
		poll(NULL, 0, 500);
		register_worker(w);
	}
	free(why);
	if (text == NULL)
		return false;
	acquired = json_loads(text, 0, NULL);
	free(text);
	run_job(w, acquired);
	json_decref(acquired);
	return true;
}

/* The state that Terraform had written for a job, as hex; empty if none. */
static char *
leftover_state(const Worker *w, const char *job)
{
	char path[800];
	char *data;
	char *hex;
	long size;
	FILE *f;

	snprintf(path, sizeof(path), "%s/Session%s/terraform.tfstate", w->work_root, job);
	f = fopen(path, "rbe");
	if (f == NULL)
		return strdup("");
	fseek(f, 0, SEEK_END);
	size = ftell(f);
	rewind(f);
	data = malloc((size_t) (size > 0 ? size : 0) + 1);
	if (data == NULL || size < 0 || fread(data, 1, (size_t) size, f) != (size_t) size)
		size = 0;
	fclose(f);
	hex = hex_encode(data, (size_t) size);
	free(data);
	return hex;
}

/* Is this process still at work in the folder? */
static bool
works_in(int pid, const char *dir)
{
	char link[64];
	char cwd[800];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/%d/cwd", pid);
	n = readlink(link, cwd, sizeof(cwd) - 1);
	if (n < 0)
		return false;
	cwd[n] = '\0';
	return strcmp(cwd, dir) == 0;
}

/* Whoever still works in the folder: plugins, commands of local-exec. */
static void
kill_workers_in(const char *dir)
{
	DIR *proc = opendir("/proc");
	const struct dirent *entry;

	while (proc != NULL && (entry = readdir(proc)) != NULL)
	{
		const int pid = atoi(entry->d_name);

		if (pid > 1 && works_in(pid, dir))
			kill(pid, SIGKILL);
	}
	if (proc != NULL)
		closedir(proc);
}

/* Ends the Terraform of a killed worker: it is given time to write its state. */
static void
end_leftover(const char *dir)
{
	char path[800];
	const int64_t start = now_ms();
	int pid = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s.pid", dir);
	f = fopen(path, "re");
	if (f == NULL || fscanf(f, "%d", &pid) != 1)
		pid = 0;
	if (f != NULL)
		fclose(f);
	unlink(path);
	/* The kernel has sent SIGINT when the worker died; a second one would make Terraform give up
	 * its state. */
	while (pid > 1 && works_in(pid, dir) && now_ms() - start < 10000 && !prov_stopping)
		poll(NULL, 0, 20);
	kill_workers_in(dir);
}

/* Back in the queue, where nothing was changed yet and it was not tried too often. */
static bool
put_back(Worker *w, const char *job)
{
	const char *params[] = {w->slot->daemon, job};
	char *answer = NULL;
	bool done;

	call_again(w, "SELECT coder.provisioner_put_back($1, $2)", 2, params, &answer, NULL);
	done = answer != NULL && strcmp(answer, "t") == 0;
	free(answer);
	return done;
}

/* What Terraform had written of its state is kept, so that nothing it created is forgotten. */
static void
fail_leftover(Worker *w, const char *job, const char *type)
{
	const char *params[3] = {w->slot->daemon, job, NULL};
	char *hex = leftover_state(w, job);
	json_t *body = json_pack("{s:s, s:s}",
							 "job_id",
							 job,
							 "error",
							 "the provisioner ended while this job ran; try again");

	if (strcmp(type, "workspace_build") == 0)
		json_object_set_new(
			body, "workspace_build", json_pack("{s:s, s:[]}", "state", hex, "timings"));
	params[2] = json_dumps(body, JSON_COMPACT);
	call_again(w, "SELECT coder.provisioner_fail($1, $2, $3)", 3, params, NULL, NULL);
	free((char *) (uintptr_t) params[2]);
	json_decref(body);
	free(hex);
}

/*
 * Jobs that this worker, or one of its name before it, left running when it
 * was killed: what had changed nothing yet is done again, by whoever is free;
 * the rest ends with a clear error.
 */
static void
end_leftovers(Worker *w)
{
	const char *params[] = {w->slot->daemon};
	PGresult *res = PQexecParams(
		w->db,
		"SELECT j.id, j.type FROM coder.provisioner_jobs j WHERE j.worker_id = $1::pg_catalog.uuid "
		"AND j.completed_at IS NULL AND j.started_at IS NOT NULL",
		1,
		NULL,
		params,
		NULL,
		NULL,
		0);
	int i;

	for (i = 0; PQresultStatus(res) == PGRES_TUPLES_OK && i < PQntuples(res); i++)
	{
		const char *job = PQgetvalue(res, i, 0);
		char dir[700];

		snprintf(dir, sizeof(dir), "%s/Session%s", w->work_root, job);
		end_leftover(dir);
		if (!put_back(w, job))
			fail_leftover(w, job, PQgetvalue(res, i, 1));
		remove_dir(dir);
	}
	PQclear(res);
	w->slot->job[0] = '\0';
}

static bool
drop_notifications(Worker *w)
{
	bool any = false;
	PGnotify *note;

	while ((note = PQnotifies(w->db)) != NULL)
	{
		any = true;
		PQfreemem(note);
	}
	return any;
}

static void
wait_for_work(Worker *w)
{
	struct pollfd pfd = {.fd = PQsocket(w->db), .events = POLLIN};

	if (pfd.fd < 0 || PQstatus(w->db) != CONNECTION_OK)
	{
		reconnect(w);
		return;
	}
	if (drop_notifications(w)) /* came with the answer that there is no job: look again */
		return;
	poll(&pfd, 1, HEARTBEAT_MS);
	PQconsumeInput(w->db);
	drop_notifications(w);
}

int
worker_main(Worker *w)
{
	if (!reconnect(w))
		return 0;
	while (!prov_stopping && !register_worker(w))
		poll(NULL, 0, 500);
	if (!prov_stopping) /* else it has no name yet */
		end_leftovers(w);
	while (!prov_stopping)
		if (!next_job(w))
			wait_for_work(w);
	PQfinish(w->db);
	return 0;
}
