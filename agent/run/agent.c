/*
 * agent.c -- the agent's connection to the server, its tunnel, start and end.
 *
 * A connection that fails in any way is dropped whole and made anew; what must
 * not be lost (states, logs) waits in queues.  The tunnel and everything that
 * runs inside it stay over such a change.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "run/metrics.h"
#include "run/start.h"
#include "serve/debug.h"
#include "serve/desktop.h"
#include "serve/serve.h"
#include "version.h"

#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 10000
#define KEEPALIVE_MS 30000
#define TRIM_MS 3000
#define ARENAS 1
#define TRIM_BYTES ((size_t) 256 << 10)
#define STOP_POLL_MS 50
#define STOP_LIMIT_NS ((int64_t) 5 * 1000000000)
#define LOG_MAX ((off_t) 5 << 20)

static bool dropping; /* the connection is being closed: no new calls */
static LoopTimer keepalive;
static LoopTimer trim;

void
agent_log(const Agent *agent, const char *format, ...)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static FILE *file;
	char path[4200];
	char text[1024];
	char when[40];
	struct timespec now;
	struct tm tm;
	struct stat st;
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	pthread_mutex_lock(&lock);
	snprintf(path, sizeof(path), "%s/coder-agent.log", agent->options.log_dir);
	if (file == NULL)
		file = fopen(path, "ae");
	if (file != NULL)
	{
		fprintf(file, "%s.%03ldZ %s\n", when, now.tv_nsec / 1000000, text);
		fflush(file);
		if (fstat(fileno(file), &st) == 0 && st.st_size > LOG_MAX)
		{
			char old[4210];

			snprintf(old, sizeof(old), "%s.1", path);
			rename(path, old);
			fclose(file);
			file = NULL;
		}
	}
	fprintf(stderr, "%s.%03ldZ %s\n", when, now.tv_nsec / 1000000, text);
	pthread_mutex_unlock(&lock);
}

/* A unary call that waits for its answer. */
typedef struct Call
{
	Agent *agent;
	AgentReply reply;
	void *arg;
	uint8_t *data;
	size_t size;
	bool answered;
} Call;

static void
on_call_message(void *user, RpcCall *rpc_call, const uint8_t *data, size_t size)
{
	Call *call = user;

	(void) rpc_call;
	if (call->answered)
		return;
	call->data = malloc(size + 1);
	if (call->data == NULL)
		return;
	memcpy(call->data, data, size);
	call->size = size;
	call->answered = true;
}

static void
on_call_end(void *user, RpcCall *rpc_call, uint64_t code, const char *error)
{
	Call *call = user;

	(void) rpc_call;
	(void) code;
	if (!call->answered && error == NULL)
		error = "the server ended the call without an answer";
	call->reply(call->arg, call->answered ? call->data : NULL, call->size, call->answered ? NULL : error);
	free(call->data);
	free(call);
}

static const RpcHandlers call_handlers = {on_call_message, on_call_end, NULL};

bool
agent_call(Agent *agent, const char *method, const ProtobufCMessage *request, AgentReply reply, void *arg)
{
	size_t size = protobuf_c_message_get_packed_size(request);
	uint8_t *data;
	Call *call;
	char name[100];
	bool ok;

	if (agent->rpc == NULL || dropping)
		return false;
	data = malloc(size + 1);
	call = calloc(1, sizeof(*call));
	if (data == NULL || call == NULL)
	{
		free(data);
		free(call);
		return false;
	}
	call->agent = agent;
	call->reply = reply;
	call->arg = arg;
	protobuf_c_message_pack(request, data);
	snprintf(name, sizeof(name), "/coder.agent.v2.Agent/%s", method);
	ok = rpc_call_unary(agent->rpc, name, data, size, &call_handlers, call) != NULL;
	free(data);
	if (!ok)
		free(call);
	return ok;
}

void
agent_drop_connection(Agent *agent, const char *why)
{
	if (agent->ws == NULL || dropping)
		return;
	dropping = true;
	agent_log(agent, "dropping the connection: %s", why);
	net_ws_close(agent->ws, 1000, "");
}

static void
on_coord_end(void *arg, const char *reason)
{
	agent_drop_connection(arg, reason);
}

static void
on_node_changed(void *arg, const TunnelNode *self)
{
	Agent *agent = arg;

	if (agent->coord != NULL)
		coord_node_changed(agent->coord, self);
}

static bool
on_may_accept(void *arg, const uint8_t address[TUNNEL_ADDR_LEN], uint16_t port)
{
	(void) address;
	return serve_may_accept(arg, port);
}

static void
on_accepted(void *arg, int fd, const uint8_t address[TUNNEL_ADDR_LEN], uint16_t peer_port, uint16_t port)
{
	serve_accept(arg, fd, address, peer_port, port);
}

static void
on_tunnel_log(void *arg, const char *line)
{
	const Agent *agent = arg;

	if (agent->options.verbose)
		agent_log(agent, "tunnel: %s", line);
}

/* Makes the tunnel (once) and joins the coordinator. */
static void
join(Agent *agent)
{
	const Manifest *manifest = agent->manifest;
	TunnelConfig config = {.naddresses = 2,
						   .destination = true,
						   .force_websockets = manifest->derp_force_websockets != 0,
						   .arg = agent,
						   .node_changed = on_node_changed,
						   .may_accept = on_may_accept,
						   .accepted = on_accepted,
						   .log = on_tunnel_log};
	CoordConfig coord = {.server_url = agent->options.url, .is_agent = true, .arg = agent, .on_end = on_coord_end};

	if (agent->tunnel == NULL)
	{
		config.node_id = tunnel_node_id(manifest->agent_id.data);
		tunnel_address(config.addresses[0], manifest->agent_id.data, false);
		tunnel_address(config.addresses[1], manifest->agent_id.data, true);
		agent->tunnel = tunnel_create(agent->loop, &config);
	}
	if (agent->tunnel == NULL)
	{
		agent_drop_connection(agent, "could not make the tunnel");
		return;
	}
	if (manifest->derp_map != NULL)
		coord_set_derp_map(agent->tunnel, manifest->derp_map, agent->options.url);
	coord.tunnel = agent->tunnel;
	agent->coord = coord_start(agent->rpc, &coord);
	if (agent->coord == NULL)
		agent_drop_connection(agent, "could not reach the coordinator");
}

static void
on_start_scripts_done(Agent *agent, int worst)
{
	metric_set(METRIC_STARTUP_SECONDS, (double) (loop_clock() - agent->start_began) / 1e9, worst == 0 ? "true" : "false");
	lifecycle_set(agent,
				  worst == 0 ? CODER__AGENT__V2__LIFECYCLE__STATE__READY
				  : worst == 2 ? CODER__AGENT__V2__LIFECYCLE__STATE__START_TIMEOUT
							   : CODER__AGENT__V2__LIFECYCLE__STATE__START_ERROR);
	agent_flush_logs(agent);
	if (!agent->stopping)
		scripts_start_cron(agent);
}

static void
on_startup_told(void *arg, const uint8_t *data, size_t size, const char *error)
{
	Agent *agent = arg;

	(void) data;
	(void) size;
	if (error != NULL)
	{
		agent_drop_connection(agent, error);
		return;
	}
	if (agent->coord == NULL && !agent->stopping)
		join(agent);
	report_manifest(agent);
	if (agent->started || agent->stopping)
		return;
	agent->started = true;
	lifecycle_set(agent, CODER__AGENT__V2__LIFECYCLE__STATE__STARTING);
	agent->start_began = loop_clock();
	scripts_run(agent, SCRIPT_START, on_start_scripts_done);
}

static void
tell_startup(Agent *agent)
{
	Coder__Agent__V2__UpdateStartupRequest request = CODER__AGENT__V2__UPDATE_STARTUP_REQUEST__INIT;
	Coder__Agent__V2__Startup startup = CODER__AGENT__V2__STARTUP__INIT;

	startup.version = (char *) (uintptr_t) CODER_VERSION;
	startup.expanded_directory = agent->directory;
	request.startup = &startup;
	agent_call(agent, "UpdateStartup", &request.base, on_startup_told, agent);
}

static void
on_manifest(void *arg, const uint8_t *data, size_t size, const char *error)
{
	Agent *agent = arg;
	Manifest *manifest = error == NULL ? coder__agent__v2__manifest__unpack(NULL, size, data) : NULL;
	char *directory;

	if (manifest == NULL || manifest->agent_id.len != TUNNEL_ID_LEN)
	{
		agent_drop_connection(agent, error ? error : "the manifest cannot be read");
		if (manifest != NULL)
			coder__agent__v2__manifest__free_unpacked(manifest, NULL);
		return;
	}
	directory = manifest->directory[0] != '\0' ? agent_expand(manifest->directory, true) : strdup("");
	pthread_mutex_lock(&agent->env_lock);
	if (agent->manifest != NULL)
		coder__agent__v2__manifest__free_unpacked(agent->manifest, NULL);
	free(agent->directory);
	agent->manifest = manifest;
	agent->directory = directory != NULL ? directory : strdup("");
	pthread_mutex_unlock(&agent->env_lock);
	boundary_flush(agent);
	tell_startup(agent);
}

static void
on_rpc_send(void *arg, const uint8_t *data, size_t size)
{
	Agent *agent = arg;

	if (agent->ws != NULL && !net_ws_send(agent->ws, false, data, size))
		agent_drop_connection(agent, "the server takes no more data");
}

static const RpcCallbacks rpc_callbacks = {on_rpc_send, NULL, NULL};

static void
on_keepalive(void *arg)
{
	Agent *agent = arg;

	if (agent->rpc != NULL && !dropping)
		rpc_ping(agent->rpc, (uint32_t) loop_now(agent->loop));
	loop_timer_start(&keepalive, KEEPALIVE_MS);
}

static void
on_ws_open(void *arg, NetWs *ws)
{
	Agent *agent = arg;
	Coder__Agent__V2__GetManifestRequest request = CODER__AGENT__V2__GET_MANIFEST_REQUEST__INIT;

	(void) ws;
	agent->rpc = rpc_new(true, &rpc_callbacks, agent);
	if (agent->rpc == NULL)
	{
		agent_drop_connection(agent, "out of memory");
		return;
	}
	agent_log(agent, "connected to %s", agent->options.url);
	agent_call(agent, "GetManifest", &request.base, on_manifest, agent);
	lifecycle_flush(agent);
	agent_flush_logs(agent);
	report_connected(agent);
}

static void
on_ws_message(void *arg, NetWs *ws, bool text, const uint8_t *data, size_t size)
{
	Agent *agent = arg;
	const char *problem;

	(void) ws;
	if (agent->rpc == NULL || dropping)
		return;
	problem = text ? "the server sent text" : rpc_input(agent->rpc, data, size);
	if (problem != NULL)
		agent_drop_connection(agent, problem);
}

/* Deferred, so that no function of the session is on the stack. */
static void
clean_up(void *arg)
{
	Agent *agent = arg;
	RpcSession *rpc = agent->rpc;
	Coord *coord = agent->coord;

	agent->rpc = NULL;
	agent->coord = NULL;
	coord_free(coord);
	if (agent->tunnel != NULL)
		tunnel_peers_lost(agent->tunnel);
	if (rpc != NULL)
		rpc_free(rpc);
	dropping = false;
	report_disconnected(agent);
	loop_timer_start(&agent->reconnect, agent->backoff_ms);
	agent->backoff_ms = agent->backoff_ms * 1618 / 1000;
	if (agent->backoff_ms > BACKOFF_MAX_MS)
		agent->backoff_ms = BACKOFF_MAX_MS;
}

static void
on_ws_close(void *arg, NetWs *ws, int status, int code, const char *reason)
{
	Agent *agent = arg;

	(void) ws;
	agent->ws = NULL;
	agent->refused = status == 401;
	dropping = true;
	if (status != 0)
		agent_log(agent, "the server refused the connection: HTTP %d %s", status, reason ? reason : "");
	else
		agent_log(agent, "the connection ended: %s (%d)", reason && *reason ? reason : "closed", code);
	loop_defer(agent->loop, clean_up, agent);
}

static const NetWsHandlers ws_handlers = {on_ws_open, on_ws_message, on_ws_close, NULL};

static void
on_connect(void *arg)
{
	Agent *agent = arg;
	char url[4096];
	char headers[1024];

	snprintf(url, sizeof(url), "%s/api/v2/workspaceagents/me/rpc?role=agent&version=" AGENT_API_VERSION, agent->options.url);
	snprintf(headers,
			 sizeof(headers),
			 "Coder-Session-Token: %s\r\nUser-Agent: coder-agent/" CODER_VERSION "\r\n",
			 agent->options.token);
	agent->ws = net_ws_connect(agent->loop, url, headers, &ws_handlers, agent);
	if (agent->ws == NULL)
		loop_timer_start(&agent->reconnect, BACKOFF_MAX_MS);
}

/* Its last words are told, or nobody hears them any more. */
static void
on_stop_time(void *arg)
{
	Agent *agent = arg;

	agent_flush_logs(agent);
	if ((lifecycle_settled(agent) && agent_logs_empty(agent) && boundary_empty(agent)) || agent->refused || loop_clock() > agent->stop_deadline)
		loop_stop(agent->loop);
	else
		loop_timer_start(&agent->stop_timer, STOP_POLL_MS);
}

static void
on_stop_scripts_done(Agent *agent, int worst)
{
	lifecycle_set(agent,
				  worst == 0 ? CODER__AGENT__V2__LIFECYCLE__STATE__OFF
				  : worst == 2 ? CODER__AGENT__V2__LIFECYCLE__STATE__SHUTDOWN_TIMEOUT
							   : CODER__AGENT__V2__LIFECYCLE__STATE__SHUTDOWN_ERROR);
	agent->stop_deadline = loop_clock() + STOP_LIMIT_NS;
	loop_timer_start(&agent->stop_timer, STOP_POLL_MS);
}

static void
on_stop_signal(void *arg, int signo)
{
	Agent *agent = arg;

	if (agent->stopping)
		_exit(128 + signo);
	agent_log(agent, "stopping: %s", strsignal(signo));
	agent->stopping = true;
	lifecycle_set(agent, CODER__AGENT__V2__LIFECYCLE__STATE__SHUTTING_DOWN);
	serve_stop(agent);
	if (agent->coord != NULL)
		coord_disconnect(agent->coord);
	scripts_run(agent, SCRIPT_STOP, on_stop_scripts_done);
}

/* What a large transfer needed goes back to the system: an agent is idle most of its life. */
static void
on_trim(void *arg)
{
	(void) arg;
	if (mallinfo2().fordblks > TRIM_BYTES)
		malloc_trim(0);
	loop_timer_start(&trim, TRIM_MS);
}

int
agent_run(const AgentOptions *options)
{
	static Agent agent; /* threads of connections may still look at it when this ends */
	ssize_t n;

	mallopt(M_ARENA_MAX, ARENAS);
	agent.options = *options;
	agent.loop = loop_create();
	if (agent.loop == NULL)
		return 1;
	pthread_mutex_init(&agent.env_lock, NULL);
	n = readlink("/proc/self/exe", agent.self_path, sizeof(agent.self_path) - 1);
	agent.self_path[n > 0 ? n : 0] = '\0';
	agent.backoff_ms = BACKOFF_FIRST_MS;
	signal(SIGPIPE, SIG_IGN);
	loop_signal(agent.loop, SIGTERM, on_stop_signal, &agent);
	loop_signal(agent.loop, SIGINT, on_stop_signal, &agent);
	loop_signal(agent.loop, SIGHUP, on_stop_signal, &agent);
	loop_timer_init(&agent.reconnect, agent.loop, on_connect, &agent);
	loop_timer_init(&agent.stop_timer, agent.loop, on_stop_time, &agent);
	loop_timer_init(&keepalive, agent.loop, on_keepalive, &agent);
	loop_timer_start(&keepalive, KEEPALIVE_MS);
	loop_timer_init(&trim, agent.loop, on_trim, NULL);
	loop_timer_start(&trim, TRIM_MS);
	agent_log(&agent, "agent " CODER_VERSION " starts");
	metric_start();
	boundary_start(&agent, options->boundary_socket);
	debug_start(&agent);
	desktop_sweep();
	on_connect(&agent);
	loop_run(agent.loop);
	boundary_stop(&agent);
	agent_log(&agent, "agent ends");
	return 0;
}
