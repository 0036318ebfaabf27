/*
 * rpc.c -- the calls of agents and tailnet clients: yamux and DRPC over a WebSocket.
 *
 * Everything of a connection lives on its loop.  A unary call of an agent is one
 * statement, coder.agent_rpc(); several run at once.  The tailnet's calls are in
 * tailnet.c.  What breaks the session closes the WebSocket; the connection is
 * freed in on_close(), and nowhere else.
 *
 * An agent is supervised as the reference does: a yamux ping and a heartbeat
 * in the database every 15 s, and the end after 30 s without an answer or when
 * the database says that the agent's build is over.
 *
 * SPDX-License-Identifier: MIT
 */
#include "rpc.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "../reply.h"
#include "report.h"
#include "stream.h"
#include "wire/pbjson.h"
#include "wire/proto/agent.pb-c.h"

#define AGENT_SERVICE "/coder.agent.v2.Agent/"
#define TAILNET_SERVICE "/coder.tailnet.v2.Tailnet/"
#define MAX_QUEUE (16u << 20)	/* bytes to a peer that does not read */
#define MAX_MESSAGE (5u << 20)
#define MAX_CALLS 256			/* at once on one connection */
#define PING_MS 15000
#define SILENCE_MS 30000
#define AGAIN_MS 2000
#define GONE_TRIES 15			/* then it is called so for its silence */

/* Statements ----------------------------------------------------------------- */

static const GwStatement agent_rpc_statement = {"agent_rpc", "SELECT coder.agent_rpc($1::uuid, $2::text, $3::jsonb)::text", 3, NULL};

/* Unary calls of the agent service ------------------------------------------- */

typedef struct Method
{
	const char *name;
	const ProtobufCMessageDescriptor *request;
	const ProtobufCMessageDescriptor *response;
} Method;

#define METHOD(name, in, out) {name, &coder__agent__v2__##in##__descriptor, &coder__agent__v2__##out##__descriptor}

static const Method methods[] = {
	METHOD("GetManifest", get_manifest_request, manifest),
	METHOD("GetServiceBanner", get_service_banner_request, service_banner),
	METHOD("UpdateStats", update_stats_request, update_stats_response),
	METHOD("UpdateLifecycle", update_lifecycle_request, lifecycle),
	METHOD("BatchUpdateAppHealths", batch_update_app_health_request, batch_update_app_health_response),
	METHOD("UpdateStartup", update_startup_request, startup),
	METHOD("BatchUpdateMetadata", batch_update_metadata_request, batch_update_metadata_response),
	METHOD("BatchCreateLogs", batch_create_logs_request, batch_create_logs_response),
	METHOD("GetAnnouncementBanners", get_announcement_banners_request, get_announcement_banners_response),
	METHOD("ScriptCompleted", workspace_agent_script_completed_request, workspace_agent_script_completed_response),
	METHOD("GetResourcesMonitoringConfiguration", get_resources_monitoring_configuration_request,
		   get_resources_monitoring_configuration_response),
	METHOD("PushResourcesMonitoringUsage", push_resources_monitoring_usage_request,
		   push_resources_monitoring_usage_response),
	{"ReportConnection", &coder__agent__v2__report_connection_request__descriptor,
	 &google__protobuf__empty__descriptor},
	METHOD("CreateSubAgent", create_sub_agent_request, create_sub_agent_response),
	METHOD("DeleteSubAgent", delete_sub_agent_request, delete_sub_agent_response),
	METHOD("ListSubAgents", list_sub_agents_request, list_sub_agents_response),
	METHOD("ReportBoundaryLogs", report_boundary_logs_request, report_boundary_logs_response),
	METHOD("UpdateAppStatus", update_app_status_request, update_app_status_response),
};

typedef struct UnaryCall
{
	StreamConn *conn;
	RpcCall *call;
	const Method *method;
	GwQuery *query; /* NULL: not asked yet, or answered */
	GwReport *report; /* the same, of what goes together with that of others */
	json_t *logs;	/* of a boundary, for this server's log once they are counted; else NULL */
	bool asked;
} UnaryCall;

static void
on_unary_gone(void *user, RpcCall *call)
{
	UnaryCall *unary = user;

	(void) call;
	if (unary->query != NULL)
		gw_db_detach(unary->query);
	if (unary->report != NULL)
		gw_report_detach(unary->report);
	unary->conn->calls--;
	json_decref(unary->logs);
	free(unary);
}

static void
copy_text(json_t *line, const char *name, const json_t *from, const char *member, const char *otherwise)
{
	json_t *value = json_object_get(from, member);

	json_object_set_new(line, name, json_is_string(value) ? json_incref(value) : json_string(otherwise));
}

/* One line a request that a boundary decided, as JSON, with all its fields: what is in it came from a workspace. */
static void
log_boundary(json_t *logs, json_t *who)
{
	size_t i;
	json_t *one;

	if (json_object_get(who, "workspace_id") == NULL)
		return;
	json_array_foreach(logs, i, one)
	{
		json_t *http = json_object_get(one, "http_request");
		bool allowed = json_is_true(json_object_get(one, "allowed"));
		json_t *line = http != NULL ? json_copy(who) : NULL;
		char *text;

		if (line == NULL)
			continue;
		json_object_set_new(line, "decision", json_string(allowed ? "allow" : "deny"));
		copy_text(line, "http_method", http, "method", "");
		copy_text(line, "http_url", http, "url", "");
		copy_text(line, "event_time", one, "time", "0001-01-01T00:00:00Z");
		if (allowed)
			copy_text(line, "matched_rule", http, "matched_rule", "");
		text = json_dumps(line, JSON_COMPACT | JSON_ENSURE_ASCII);
		if (text != NULL)
			gw_log(GW_INFO, "boundary_request %s", text);
		free(text);
		json_decref(line);
	}
}

void
stream_fail_sql(RpcCall *call, GwDbStatus status, const PGresult *result)
{
	const char *text = "database not available";

	if (status == GW_DB_FAILED && result != NULL)
	{
		const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

		/* Class ZC is written for the peer; other texts are for the log. */
		if (state != NULL && strncmp(state, "ZC", 2) == 0)
			text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
		else
		{
			gw_log(GW_ERROR, "call of a peer: %s", PQresultErrorMessage(result));
			text = "internal error";
		}
	}
	rpc_fail(call, 0, text);
}

bool
stream_send_json(RpcCall *call, const ProtobufCMessageDescriptor *type, const json_t *object)
{
	char error[256] = "";
	size_t size;
	uint8_t *bytes = object != NULL ? pbjson_encode(type, object, &size, error, sizeof(error)) : NULL;
	bool ok = bytes != NULL && rpc_send(call, bytes, size);

	if (bytes == NULL)
		gw_log(GW_ERROR, "could not encode %s: %s", type->name, object != NULL ? error : "the answer is not JSON");
	free(bytes);
	return ok;
}

static void
on_unary_answer(void *arg, GwDbStatus status, PGresult *result)
{
	UnaryCall *unary = arg;
	json_t *object;

	unary->query = NULL;
	if (status != GW_DB_OK || PQntuples(result) != 1)
	{
		stream_fail_sql(unary->call, status, result);
		PQclear(result);
		return;
	}
	object = PQgetisnull(result, 0, 0)
				 ? json_object()
				 : json_loadb(PQgetvalue(result, 0, 0), (size_t) PQgetlength(result, 0, 0), JSON_ALLOW_NUL, NULL);
	if (stream_send_json(unary->call, unary->method->response, object))
		rpc_finish(unary->call, true);
	else
		rpc_fail(unary->call, 0, "internal error");
	json_decref(object);
	PQclear(result);
}

/* A sample is stored, or not. */
static void
on_sampled(void *arg, GwDbStatus status, const PGresult *result, json_t *response, const char *refusal)
{
	UnaryCall *unary = arg;

	unary->report = NULL;
	if (status != GW_DB_OK)
		stream_fail_sql(unary->call, status, result);
	else if (refusal != NULL)
		rpc_fail(unary->call, 0, refusal);
	else if (stream_send_json(unary->call, unary->method->response, response))
		rpc_finish(unary->call, true);
	else
		rpc_fail(unary->call, 0, "internal error");
}

/* A report is counted, or not. */
static void
on_reported(void *arg, GwDbStatus status, const PGresult *result, json_t *who, const char *refusal)
{
	UnaryCall *unary = arg;

	unary->report = NULL;
	if (status != GW_DB_OK)
	{
		stream_fail_sql(unary->call, status, result);
		return;
	}
	if (refusal != NULL)
	{
		rpc_fail(unary->call, 0, refusal);
		return;
	}
	log_boundary(unary->logs, who);
	/* The answer is empty. */
	rpc_send(unary->call, (const uint8_t *) "", 0);
	rpc_finish(unary->call, true);
}

static void
on_unary_message(void *user, RpcCall *call, const uint8_t *data, size_t size)
{
	UnaryCall *unary = user;
	const char *values[3] = {unary->conn->agent, unary->method->name, NULL};
	json_t *object;
	char *text;

	if (unary->asked)
	{
		rpc_fail(call, 0, "protocol error: a second message for a unary call");
		return;
	}
	unary->asked = true;
	object = pbjson_decode(unary->method->request, data, size);
	text = object != NULL ? json_dumps(object, JSON_COMPACT) : NULL;
	if (unary->method->response == &coder__agent__v2__report_boundary_logs_response__descriptor)
		unary->logs = json_incref(json_object_get(object, "logs"));
	json_decref(object);
	if (text == NULL)
	{
		rpc_fail(call, 0, "the request could not be decoded");
		return;
	}
	values[2] = text;
	if (unary->logs != NULL)
	{
		unary->report = gw_report_send(unary->conn->loop, GW_REPORT_BOUNDARY, unary->conn->agent, text, on_reported, unary);
		if (unary->report == NULL)
			rpc_fail(call, 0, "out of memory");
	}
	else if (unary->method->response == &coder__agent__v2__update_stats_response__descriptor)
	{
		unary->report = gw_report_send(unary->conn->loop, GW_REPORT_SAMPLE, unary->conn->agent, text, on_sampled, unary);
		if (unary->report == NULL)
			rpc_fail(call, 0, "out of memory");
	}
	else
		unary->query = gw_db_send_copy(unary->conn->loop->db, GW_DB_FAST, &agent_rpc_statement, 3, values, false,
									   on_unary_answer, unary);
	free(text);
}

static void
on_unary_end(void *user, RpcCall *call, uint64_t code, const char *error)
{
	UnaryCall *unary = user;

	(void) code;
	(void) error;
	if (!unary->asked)
		rpc_fail(call, 0, "protocol error: no message");
}

static const RpcHandlers unary_handlers = {on_unary_message, on_unary_end, on_unary_gone};

static void
begin_agent_call(StreamConn *conn, RpcCall *call, const Method *method)
{
	UnaryCall *unary = calloc(1, sizeof(*unary));

	if (unary == NULL)
	{
		rpc_fail(call, 0, "out of memory");
		return;
	}
	unary->conn = conn;
	unary->call = call;
	unary->method = method;
	conn->calls++;
	rpc_handle(call, &unary_handlers, unary);
}

void
stream_fail_unknown(RpcCall *call, const char *name)
{
	char text[320];

	snprintf(text, sizeof(text), "protocol error: unknown rpc: \"%s\"", name);
	rpc_fail(call, 0, text);
}

static void
on_call(void *arg, RpcCall *call, const char *name)
{
	StreamConn *conn = arg;

	if (conn->calls >= MAX_CALLS)
	{
		rpc_fail(call, 0, "too many calls at once");
		return;
	}
	if (strncmp(name, TAILNET_SERVICE, sizeof(TAILNET_SERVICE) - 1) == 0)
	{
		tailnet_begin_call(conn, call, name + sizeof(TAILNET_SERVICE) - 1, name);
		return;
	}
	if (conn->is_agent && strncmp(name, AGENT_SERVICE, sizeof(AGENT_SERVICE) - 1) == 0)
	{
		for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
			if (strcmp(methods[i].name, name + sizeof(AGENT_SERVICE) - 1) == 0)
			{
				begin_agent_call(conn, call, &methods[i]);
				return;
			}
		/* A call of a newer agent, which does without it only after this answer. */
		rpc_fail(call, RPC_UNIMPLEMENTED, "Unimplemented");
		return;
	}
	stream_fail_unknown(call, name);
}

/* Agents that are connected to this process ---------------------------------- */

/*
 * An agent that reconnects may have two connections for a while, on two loops:
 * it is gone when the last one is.
 */
typedef struct Online
{
	struct Online *next;
	char agent[37];
	int connections;
} Online;

#define ONLINE_BUCKETS 4096

static struct
{
	pthread_mutex_t lock;
	Online *buckets[ONLINE_BUCKETS];
} online = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Adds by (1, -1 or 0); the number of connections after that. */
static int
count_online(const char *agent, int by)
{
	uint32_t h = 2166136261u;
	Online **link;
	Online *entry;
	int n = 0;

	for (const char *p = agent; *p != '\0'; p++)
		h = (h ^ (uint8_t) *p) * 16777619u;
	pthread_mutex_lock(&online.lock);
	link = &online.buckets[h % ONLINE_BUCKETS];
	while (*link != NULL && strcmp((*link)->agent, agent) != 0)
		link = &(*link)->next;
	entry = *link;
	if (entry == NULL && by > 0)
	{
		entry = *link = h2o_mem_alloc(sizeof(*entry));
		memset(entry, 0, sizeof(*entry));
		strcpy(entry->agent, agent);
	}
	if (entry != NULL)
	{
		n = entry->connections += by;
		if (n <= 0)
		{
			*link = entry->next;
			free(entry);
		}
	}
	pthread_mutex_unlock(&online.lock);
	return n;
}

bool
stream_agent_is_here(const char *agent)
{
	return count_online(agent, 0) > 0;
}

/* Supervision ---------------------------------------------------------------- */

static void on_tick(void *arg);

/* What was not noted is made good by the next beat, which comes soon where that is likely to help. */
static void
on_noted(void *arg, GwDbStatus status, const PGresult *result, json_t *who, const char *refusal)
{
	StreamConn *conn = arg;

	(void) refusal;
	conn->life = NULL;
	if (status == GW_DB_FAILED)
		gw_log(GW_WARN, "could not note that an agent is connected: %s", result != NULL ? PQresultErrorMessage(result) : "the answer is not understood");
	if (json_is_true(json_object_get(who, "over")))
		gw_ws_close(conn->ws, 1000, "the agent's build is over");
	else if (status != GW_DB_OK || json_is_true(json_object_get(who, "again")))
		gw_timer_start(&conn->tick, conn->loop, AGAIN_MS, on_tick, conn);
}

static void
tell_life(StreamConn *conn, GwLife life)
{
	if (conn->life == NULL)
		conn->life = gw_report_life(conn->loop, life, conn->agent, on_noted, conn);
}

static void
on_tick(void *arg)
{
	StreamConn *conn = arg;
	uint64_t now = h2o_now(conn->loop->ctx.loop);
	uint64_t silent = now - conn->last_pong;

	if (silent >= SILENCE_MS)
	{
		gw_ws_close(conn->ws, 1001, "Ping failed");
		return;
	}
	rpc_ping(conn->session, (uint32_t) now);
	tell_life(conn, GW_LIFE_BEAT);
	/* An answer that came a moment after a ping must not buy the agent one more interval. */
	gw_timer_start(&conn->tick, conn->loop, silent + PING_MS > SILENCE_MS ? SILENCE_MS - silent : PING_MS, on_tick, conn);
}

static void
on_pong(void *arg, uint32_t value)
{
	StreamConn *conn = arg;

	(void) value;
	conn->last_pong = h2o_now(conn->loop->ctx.loop);
}

static void
start_monitor(StreamConn *conn)
{
	count_online(conn->agent, 1);
	tell_life(conn, GW_LIFE_HERE);
	conn->last_pong = h2o_now(conn->loop->ctx.loop);
	rpc_ping(conn->session, (uint32_t) conn->last_pong);
	gw_timer_start(&conn->tick, conn->loop, PING_MS, on_tick, conn);
}

/* The end of an agent's last connection, until it is noted. */
typedef struct Gone
{
	GwLoop *loop;
	GwTimer timer;
	int tries;
	char agent[37];
} Gone;

static void note_gone(void *arg);

static void
on_gone_noted(void *arg, GwDbStatus status, const PGresult *result, json_t *who, const char *refusal)
{
	Gone *gone = arg;

	(void) refusal;
	if (status == GW_DB_OK && !json_is_true(json_object_get(who, "again")))
		free(gone);
	else if (gone->loop->stopping || ++gone->tries == GONE_TRIES)
	{
		gw_log(GW_WARN, "could not note the end of an agent: %s", result != NULL ? PQresultErrorMessage(result) : "database not available");
		free(gone);
	}
	else
		gw_timer_start(&gone->timer, gone->loop, AGAIN_MS, note_gone, gone);
}

static void
note_gone(void *arg)
{
	Gone *gone = arg;

	if (gw_report_life(gone->loop, GW_LIFE_GONE, gone->agent, on_gone_noted, gone) == NULL)
		free(gone);
}

static void
stop_monitor(StreamConn *conn)
{
	Gone *gone;

	gw_timer_stop(&conn->tick);
	if (conn->life != NULL)
		gw_report_detach(conn->life);
	conn->life = NULL;
	if (count_online(conn->agent, -1) > 0 || (gone = calloc(1, sizeof(*gone))) == NULL)
		return;
	gone->loop = conn->loop;
	strcpy(gone->agent, conn->agent);
	note_gone(gone);
}

/* The connection ------------------------------------------------------------- */

static void
on_send(void *arg, const uint8_t *data, size_t size)
{
	StreamConn *conn = arg;

	/* Over the cap the WebSocket closes itself; on_close follows. */
	if (!conn->broken && !gw_ws_send(conn->ws, GW_WS_BINARY, data, size))
		conn->broken = true;
}

static const RpcCallbacks rpc_callbacks = {on_send, on_call, on_pong};

static void
on_open(GwWs *ws, void *arg)
{
	StreamConn *conn = arg;

	(void) ws;
	if (conn->monitor)
	{
		start_monitor(conn);
		conn->monitoring = true;
	}
}

static void
on_message(GwWs *ws, void *arg, int opcode, const uint8_t *data, size_t len)
{
	StreamConn *conn = arg;
	const char *problem;

	if (conn->broken)
		return;
	if (opcode != GW_WS_BINARY)
	{
		conn->broken = true;
		gw_ws_close(ws, 1003, "binary messages only");
		return;
	}
	problem = rpc_input(conn->session, data, len);
	if (problem != NULL)
	{
		conn->broken = true;
		gw_ws_close(ws, 1011, problem);
	}
}

static void
on_close(GwWs *ws, void *arg, int code, const char *reason, size_t len)
{
	StreamConn *conn = arg;

	(void) ws;
	gw_log(GW_DEBUG, "%s %s is gone: %d %.*s", conn->is_agent ? "agent" : "tailnet client",
		   conn->is_agent ? conn->agent : conn->user, code, (int) len, reason);
	conn->broken = true;
	rpc_free(conn->session);
	if (conn->monitoring)
		stop_monitor(conn);
	free(conn);
}

/* A UUID's text of the plan; false where it is there and is none. */
static bool
copy_uuid(char dst[static 37], json_t *plan, const char *key)
{
	const char *text = json_string_value(json_object_get(plan, key));

	dst[0] = '\0';
	if (text == NULL)
		return true;
	if (strlen(text) != 36)
		return false;
	strcpy(dst, text);
	return true;
}

bool
stream_parse_uuid(uint8_t dst[static 16], const char *text)
{
	int n = 0;

	for (; *text != '\0'; text++)
	{
		int digit = *text >= '0' && *text <= '9'   ? *text - '0'
					: *text >= 'a' && *text <= 'f' ? *text - 'a' + 10
					: *text >= 'A' && *text <= 'F' ? *text - 'A' + 10
												   : -1;

		if (*text == '-')
			continue;
		if (digit < 0 || n == 32)
			return false;
		dst[n / 2] = (uint8_t) (n % 2 == 0 ? digit << 4 : dst[n / 2] | digit);
		n++;
	}
	return n == 32;
}

void
stream_format_uuid(char dst[static 37], const uint8_t id[static 16])
{
	static const char hex[] = "0123456789abcdef";

	for (int i = 0; i < 16; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*dst++ = '-';
		*dst++ = hex[id[i] >> 4];
		*dst++ = hex[id[i] & 15];
	}
	*dst = '\0';
}

static StreamConn *
conn_of_plan(GwLoop *loop, json_t *plan)
{
	StreamConn *conn = calloc(1, sizeof(*conn));
	const char *service = json_string_value(json_object_get(plan, "service"));
	const char *peer = json_string_value(json_object_get(plan, "peer_id"));

	if (conn == NULL)
		return NULL;
	conn->loop = loop;
	conn->is_agent = service != NULL && strcmp(service, "agent") == 0;
	conn->monitor = conn->is_agent && !json_is_false(json_object_get(plan, "monitor"));
	if (service != NULL && peer != NULL && stream_parse_uuid(conn->peer_id, peer) &&
		copy_uuid(conn->agent, plan, "agent_id") && copy_uuid(conn->user, plan, "user_id") &&
		(!conn->is_agent || conn->agent[0] != '\0'))
		conn->session = rpc_new(false, &rpc_callbacks, conn);
	if (conn->session == NULL)
	{
		free(conn);
		return NULL;
	}
	return conn;
}

void
gw_stream_rpc(h2o_req_t *req, json_t *plan)
{
	static const GwWsHandlers handlers = {on_open, on_message, NULL, on_close};
	static const GwWsOptions options = {.max_message = MAX_MESSAGE, .max_queue = MAX_QUEUE};
	StreamConn *conn = conn_of_plan(gw_loop_of(req), plan);

	if (conn == NULL)
	{
		gw_reply_error(req, 500, "An internal server error occurred.", "The plan of the connection is not understood.");
		return;
	}
	conn->ws = gw_ws_upgrade(req, &options, &handlers, conn);
	if (conn->ws == NULL)
	{
		rpc_free(conn->session);
		free(conn);
	}
}
