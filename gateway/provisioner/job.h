/*
 * job.h -- a worker of the provisioner and the job it runs
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_PROVISIONER_JOB_H
#define CODER_PROVISIONER_JOB_H

#include "provisioner/archive.h"

#include <jansson.h>
#include <libpq-fe.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PROVISIONER_VERSION "v2.32.0"

typedef struct ProvOptions
{
	const char *conninfo;
	const char *tags;		/* JSON object: only jobs that fit them */
	const char *key;		/* a provisioner key, which has tags of its own; NULL: none */
	const char *name;		/* daemons are called name-0, name-1, … */
	const char *cache_dir;	/* work folders, plugins of Terraform */
	const char *data_dir;	/* homes of sandboxes */
	const char *agent_path; /* the agent's binary, for sandboxes */
	const char *host_id;	/* of this machine: sandboxes belong to one */
	int workers;
	int cancel_grace_ms; /* from SIGINT to SIGKILL */
} ProvOptions;

/* What parent and worker share, so that the parent can end the job of a worker that crashed. */
typedef struct WorkerSlot
{
	char daemon[40];
	char job[40];
} WorkerSlot;

typedef struct Worker
{
	const ProvOptions *options;
	WorkerSlot *slot;
	int index;
	int sandbox_fd; /* to the supervisor of sandboxes */
	PGconn *db;
	char work_root[512]; /* <cache>/provisioner-<i>/work */
	char tf_root[512];	 /* <cache>/provisioner-<i>/tf: plugins */
} Worker;

typedef enum JobKind
{
	JOB_IMPORT,
	JOB_DRY_RUN,
	JOB_BUILD
} JobKind;

typedef struct Job
{
	Worker *worker;
	const char *id;
	JobKind kind;
	const json_t *part; /* workspace_build, template_import or template_dry_run */
	json_t *metadata;
	json_t *variables;	/* name -> text */
	json_t *parameters; /* name -> text */
	json_t *previous;
	json_t *external_auth; /* id -> token */
	Archive archive;
	uint8_t *state;
	size_t state_len;
	const char *stage;
	json_t *logs;	   /* not yet sent */
	json_t *timings;   /* provisioner.Timing */
	int64_t sent_at;   /* last update, ms */
	int64_t seen_at;   /* last heartbeat of the daemon, ms */
	int64_t queued_at; /* oldest line not yet sent, ms */
	bool canceled;
	bool lost; /* the job is not ours any more */
	char *error;
	char work_dir[640]; /* made when needed */
	uint8_t *new_state; /* of a build that failed after apply, too */
	size_t new_state_len;
	bool have_new_state;
} Job;

extern volatile sig_atomic_t prov_stopping;

/* A line of the job's log. */
extern void job_log(Job *job, const char *source, const char *level, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
extern void job_log_lines(Job *job, const char *source, const char *level, const char *text,
						  size_t len);

/* Fails the job: the first reason stays.  False, for "return". */
extern bool job_fail(Job *job, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* To be called often while something runs: sends logs, keeps the job alive, learns of a
 * cancellation. */
extern void job_tick(Job *job);

/*
 * Before anything outside is changed that another attempt could not find as it
 * was: from here on a job whose worker dies fails.  False where the job is not
 * this worker's any more, or the database does not answer: then nothing may be
 * changed.
 */
extern bool job_applying(Job *job);
extern void job_timing(Job *job, const char *stage, int64_t start_ms, int64_t end_ms, bool ok);
extern bool job_make_work_dir(Job *job);

/* Is what this build costs counted against its owner's quota? */
extern bool job_has_quota(Job *job);

/* Notes what the planned resources cost a day; false when that is more than the owner has left. */
extern bool job_commit_quota(Job *job, const json_t *resources);
extern int64_t now_ms(void);
extern int64_t wall_ms(void);
extern json_t *wall_text(int64_t ms); /* RFC 3339 */

/* worker.c */
extern int worker_main(Worker *worker);
extern PGconn *prov_connect(const char *conninfo);

/* The engines.  False when job->error says why; else *completed is the part of CompletedJob for the
 * job's kind. */
extern bool native_run(Job *job, json_t **completed);
extern void native_released(Job *job,
							bool stored); /* after the database has, or has not, taken the result */
extern bool terraform_run(Job *job, json_t **completed);

/* native state in a build's state? */
extern json_t *native_state_parse(const uint8_t *state, size_t len);

/* hex.c-like helpers */
extern char *hex_encode(const void *data, size_t len);
extern uint8_t *hex_decode(const char *hex, size_t *len);

/* sandbox.c: the supervisor's side and the worker's side */
typedef struct Supervisor Supervisor;
extern Supervisor *sandbox_create(const ProvOptions *options);
extern void sandbox_add_worker(Supervisor *s, int fd);
extern void sandbox_remove_worker(Supervisor *s, int fd);
extern int sandbox_poll(Supervisor *s, int timeout_ms); /* one round: requests, timers */
extern bool sandbox_child_exited(Supervisor *s, pid_t pid, int status);
extern void sandbox_restore(Supervisor *s, const char *workspace, const json_t *sandboxes);
extern void sandbox_stop_all(Supervisor *s);
extern json_t *sandbox_request(int fd, const json_t *request, int timeout_ms);

#endif /* CODER_PROVISIONER_JOB_H */
