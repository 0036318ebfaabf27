/*
 * agent.h -- the workspace agent: its state, and what its parts offer each other.
 *
 * One loop on the main thread does everything but SSH connections, which have a
 * thread each (libssh blocks).  What those threads read is behind env_lock.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_RUN_AGENT_H
#define AGENT_RUN_AGENT_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "agent.pb-c.h"
#include "loop.h"
#include "net/coord.h"
#include "net/net.h"
#include "tunnel/tunnel.h"
#include "wire/rpc.h"

#define AGENT_API_VERSION "2.8"

typedef Coder__Agent__V2__Manifest Manifest;
typedef Coder__Agent__V2__WorkspaceAgentScript Script;
typedef Coder__Agent__V2__Lifecycle__State LifecycleState;

typedef struct AgentOptions
{
	char *url;
	char *token;
	char *log_dir;
	char *script_data_dir;
	char *boundary_socket;
	char *prometheus_address; /* "": none, as of the next */
	char *debug_address;
	bool block_file_transfer;
	bool block_local_forwarding;
	bool block_reverse_forwarding;
	bool verbose;
} AgentOptions;

typedef struct LogSource LogSource;
typedef struct Agent Agent;
typedef struct BoundaryRelay BoundaryRelay;

/* Answer of a call; data is NULL where it failed (error says why). */
typedef void (*AgentReply)(void *arg, const uint8_t *data, size_t size, const char *error);

struct Agent
{
	Loop *loop;
	AgentOptions options;
	char self_path[4096];

	/* The connection to the server. */
	NetWs *ws;
	RpcSession *rpc;
	Coord *coord;
	Tunnel *tunnel;
	LoopTimer reconnect;
	int64_t backoff_ms;

	/* Guarded by env_lock: replaced whole when a new manifest comes. */
	pthread_mutex_t env_lock;
	Manifest *manifest;
	char *directory; /* expanded */

	/* lifecycle.c */
	struct
	{
		LifecycleState state;
		struct timespec at;
	} lifecycle[10];
	int nlifecycle;
	int lifecycle_sent;
	bool lifecycle_busy;
	bool started;	/* scripts were started, once */
	bool stopping;
	bool refused;	/* the server no longer knows this agent: its workspace is being deleted */
	int64_t stop_deadline;
	LoopTimer stop_timer;

	/* log.c */
	LogSource *logs;
	LoopTimer log_timer;
	bool log_busy;
	bool log_full;
	size_t log_queued;

	/* report.c */
	LoopTimer tick;
	struct MetadataItem *metadata;
	size_t nmetadata;
	bool metadata_busy;
	struct AppProbe *apps;
	size_t napps;
	LoopTimer stats_timer;
	int64_t stats_interval_ms;
	TunnelTraffic reported; /* of the tunnel */
	struct PeerSample *samples; /* of peers that were pinged for the next report */
	size_t n_samples;
	size_t pings; /* on their way */
	atomic_int ssh_sessions;
	atomic_int vscode_sessions;
	atomic_int jetbrains_sessions;
	int pty_sessions;
	int64_t start_began; /* of its scripts, loop_clock() */
	int connections; /* open streams through the tunnel */

	BoundaryRelay *boundary; /* boundary.c; NULL: its socket could not be made */
};

void agent_log(const Agent *agent, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* agent.c: one unary call of the agent service; false where there is no connection. */
bool agent_call(Agent *agent, const char *method, const ProtobufCMessage *request, AgentReply reply, void *arg);
/* Gives the connection up, as a failed call asks for; it is made anew. */
void agent_drop_connection(Agent *agent, const char *why);

/* lifecycle.c */
void lifecycle_set(Agent *agent, LifecycleState state);
void lifecycle_flush(Agent *agent);
bool lifecycle_settled(const Agent *agent);

/* log.c: lines of scripts to the server. */
void agent_send_log(Agent *agent, const ProtobufCBinaryData *source, Coder__Agent__V2__Log__Level level, const char *text, size_t size);
void agent_flush_logs(Agent *agent);
bool agent_logs_empty(const Agent *agent);

/* script.c */
typedef enum ScriptKind
{
	SCRIPT_START,
	SCRIPT_STOP,
	SCRIPT_CRON
} ScriptKind;
/* Runs all scripts of a kind at once; done(arg, worst) when all have ended: 0, 1 an error, 2 a timeout. */
void scripts_run(Agent *agent, ScriptKind kind, void (*done)(Agent *agent, int worst));
void scripts_start_cron(Agent *agent);

/* report.c: metadata, stats, health of apps. */
void report_manifest(Agent *agent); /* a manifest came */
void report_connected(Agent *agent);
void report_disconnected(Agent *agent);
void report_count_boundary(const Agent *agent); /* into the metrics */
void report_connection(Agent *agent, const uint8_t id[16], bool connect, Coder__Agent__V2__Connection__Type type, int code, const char *reason);

/* boundary.c: from the log socket of boundaries to the server. */
typedef struct BoundaryCounts
{
	uint64_t forwarded; /* frames */
	uint64_t batches_full, logs_full; /* dropped: the queue was full */
	uint64_t batches_failed, logs_failed; /* dropped: the server did not take them */
	uint64_t channel_full, batch_full; /* dropped by the boundary itself */
	uint64_t unreadable;
} BoundaryCounts;
void boundary_start(Agent *agent, const char *path);
void boundary_flush(Agent *agent); /* there is a connection and a manifest */
bool boundary_empty(const Agent *agent);
void boundary_stop(Agent *agent);
BoundaryCounts boundary_counts(const Agent *agent);

/* greeting.c: what a terminal shows first, of the server's announcements and the template's message of the day; NULL: nothing.
 * The server is asked, for which a thread other than the loop's waits for a moment.  The caller frees it. */
char *greeting_text(Agent *agent);

/* command.c: environment and processes; callable from any thread. */
typedef struct Command
{
	const char *text; /* NULL or "": a login shell */
	const char *const *env; /* NULL-terminated; more variables, of the SSH client */
	const char *const *extra; /* the same, strongest: TERM, SSH_TTY, CODER_SCRIPT_* */
	bool pty;
	unsigned short rows;
	unsigned short columns;
	bool merge_output; /* stderr goes where stdout goes */
	bool plain; /* by sh, not by the user's shell */
	const char *directory; /* where it begins; NULL or "": the agent's */
	bool ends_with_agent; /* however the agent ends */
} Command;

typedef struct Process
{
	pid_t pid;
	int pidfd; /* readable when it has ended; -1 where the kernel has none */
	int in; /* its standard input, or the terminal */
	int out; /* its standard output; the same descriptor as in for a terminal */
	int err; /* -1 where merged or a terminal */
} Process;

/* 0, or -1 with the reason in error.  The caller closes the descriptors. */
int command_start(Agent *agent, const Command *command, Process *process, char *error, size_t error_size);
/* Reaps it; the shell's view of its status (128 + signal where killed by one). */
int command_wait(const Process *process);
void command_kill(const Process *process, int signal_number); /* the whole group */
char *agent_expand(const char *text, bool path); /* $VAR, ~, and relative to home */

/* serve/ */
void serve_accept(Agent *agent, int fd, const uint8_t address[16], uint16_t peer_port, uint16_t port);
bool serve_may_accept(Agent *agent, uint16_t port);
void serve_ssh(Agent *agent, int fd); /* a thread of its own */
void serve_pty(Agent *agent, int fd);
void serve_speedtest(Agent *agent, int fd);
void serve_http(Agent *agent, int fd);
void serve_forward(Agent *agent, int fd, uint16_t port);
void serve_stop(Agent *agent);

int agent_main(int argc, char **argv);

#endif
