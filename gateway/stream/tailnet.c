/*
 * tailnet.c -- the tailnet service: coordination, the relay map, workspace updates,
 * resume tokens.
 *
 * A Coordinate stream checks its requests in order, one at a time; a check may
 * need the database, so requests wait in a short queue.  What is allowed goes to
 * the coordinator, which wakes the stream's loop when there is news.
 *
 * The relay map is asked for once per loop and period, not per stream.
 *
 * SPDX-License-Identifier: MIT
 */
#include <arpa/inet.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "../event.h"
#include "coordinator.h"
#include "rpc.h"
#include "wire/pbjson.h"

#define MAX_REQUESTS 32			   /* that wait for their check */
#define MAX_UNSENT (1u << 20)	   /* bytes; beyond it news wait in the coordinator */
#define UNSENT_MS 100			   /* until the next try then */
#define DERP_MAP_MS 5000

typedef Coder__Tailnet__V2__CoordinateRequest Request;

static const GwStatement allowed_statement = {"tunnel_allowed", "SELECT coder.tunnel_allowed($1::uuid, $2::uuid)::text", 2, NULL};
static const GwStatement node_statement = {"agent_node", "SELECT coder.agent_node($1::uuid, $2::jsonb)", 2, NULL};
static const GwStatement derp_map_statement = {"derp_map_message", "SELECT coder.derp_map_message()::text", 0, NULL};
static const GwStatement updates_statement = {"workspace_updates", "SELECT coder.workspace_updates($1::uuid, $2::text, $3::uuid)::text", 3, NULL};
static const GwStatement resume_statement = {"tailnet_resume_token", "SELECT coder.tailnet_resume_token($1::uuid)::text", 1, NULL};

/* Coordinate ----------------------------------------------------------------- */

typedef struct Pending
{
	struct Pending *next;
	Request *request;
	bool allowed; /* its tunnel: the database has said so */
} Pending;

typedef struct Coordinate
{
	atomic_int refs; /* the call, and a wake-up on its way */
	atomic_bool waking;
	GwLoop *loop;
	StreamConn *conn;
	RpcCall *call; /* NULL: gone */
	CoordPeer *peer;
	Pending *first;
	Pending **last;
	int pending;
	GwQuery *query; /* the check of the first request */
	GwTimer unsent;
} Coordinate;

static void
release(Coordinate *c)
{
	if (atomic_fetch_sub(&c->refs, 1) == 1)
		free(c);
}

/* Sends the coordinator's news as far as the peer takes them. */
static void
drain(void *arg)
{
	Coordinate *c = arg;

	while (c->call != NULL)
	{
		uint8_t *data;
		size_t size;
		bool over;
		bool sent;

		if (rpc_pending(c->call) > MAX_UNSENT)
		{
			gw_timer_start(&c->unsent, c->loop, UNSENT_MS, drain, c);
			return;
		}
		data = coord_take(c->peer, &size, &over);
		if (data == NULL)
		{
			if (over)
				rpc_finish(c->call, false); /* on_coordinate_gone() follows */
			return;
		}
		sent = rpc_send(c->call, data, size);
		free(data);
		if (!sent)
		{
			rpc_fail(c->call, 0, "the answer could not be sent");
			return;
		}
	}
}

static void
on_wake(GwLoop *loop, void *arg)
{
	Coordinate *c = arg;

	(void) loop;
	atomic_store(&c->waking, false);
	drain(c);
	release(c);
}

/* From any thread, under the coordinator's lock. */
static void
wake(void *arg)
{
	Coordinate *c = arg;

	if (atomic_exchange(&c->waking, true))
		return;
	atomic_fetch_add(&c->refs, 1);
	gw_loop_post(c->loop, on_wake, c);
}

static void
drop_pending(Coordinate *c)
{
	Pending *pending = c->first;

	c->first = pending->next;
	if (c->first == NULL)
		c->last = &c->first;
	c->pending--;
	coder__tailnet__v2__coordinate_request__free_unpacked(pending->request, NULL);
	free(pending);
}

/* "fd7a:…/128" */
static bool
parse_address(uint8_t address[static 16], const char *text)
{
	const char *slash = strchr(text, '/');
	char host[INET6_ADDRSTRLEN];
	size_t n = slash != NULL ? (size_t) (slash - text) : sizeof(host);

	if (n >= sizeof(host) || strcmp(slash, "/128") != 0)
		return false;
	memcpy(host, text, n);
	host[n] = '\0';
	return inet_pton(AF_INET6, host, address) == 1;
}

/* An agent's addresses: its id below one of two prefixes, or the old fixed one. */
static bool
is_address_of(const uint8_t address[static 16], const uint8_t agent[static 16])
{
	static const uint8_t prefixes[2][6] = {{0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0}, {0xfd, 0x60, 0x62, 0x7a, 0xa4, 0x2b}};
	static const uint8_t fixed[16] = {0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0, 0x49, 0xd6,
									  0xb2, 0x59, 0xb7, 0xac, 0xb1, 0xb2, 0x48, 0xf4};

	for (int i = 0; i < 2; i++)
		if (memcmp(address, prefixes[i], 6) == 0 && memcmp(address + 6, agent + 6, 10) == 0)
			return true;
	return memcmp(address, fixed, 16) == 0;
}

static const char *
check_addresses(const StreamConn *conn, const Coder__Tailnet__V2__Node *node)
{
	uint8_t agent[16];
	uint8_t address[16];

	if (conn->is_agent && !stream_parse_uuid(agent, conn->agent))
		return "unknown agent";
	for (size_t i = 0; i < node->n_addresses; i++)
	{
		if (!parse_address(address, node->addresses[i]))
			return "invalid address bits, expected a /128 IPv6 prefix";
		if (conn->is_agent && !is_address_of(address, agent))
			return "invalid node address, not one of this agent";
	}
	return NULL;
}

/* NULL, or why the request is refused; *ask: the database must allow its tunnel first. */
static const char *
check_request(const StreamConn *conn, const Request *request, bool *ask)
{
	uint8_t only[16];
	const char *problem;

	*ask = false;
	if (request->update_self != NULL && request->update_self->node != NULL)
	{
		problem = check_addresses(conn, request->update_self->node);
		if (problem != NULL)
			return problem;
	}
	if (!conn->is_agent && request->n_ready_for_handshake > 0)
		return "clients may not send ready_for_handshake";
	if (request->add_tunnel == NULL)
		return NULL;
	if (conn->is_agent)
		return "agents cannot open tunnels";
	if (request->add_tunnel->id.len != sizeof(only))
		return NULL; /* the coordinator refuses it */
	if (conn->agent[0] == '\0')
		*ask = true;
	else if (!stream_parse_uuid(only, conn->agent) ||
			 memcmp(only, request->add_tunnel->id.data, sizeof(only)) != 0)
		return "agent not allowed on this connection";
	return NULL;
}

static void
ignore_node(void *arg, GwDbStatus status, PGresult *result)
{
	(void) arg;
	if (status != GW_DB_OK)
		gw_log(GW_WARN, "could not store the node of an agent: %s",
			   result != NULL ? PQresultErrorMessage(result) : "database not available");
	PQclear(result);
}

/* The API shows an agent's latencies. */
static void
store_node(const StreamConn *conn, const Coder__Tailnet__V2__Node *node)
{
	json_t *object = pbjson_from_message(&node->base);
	char *text = object != NULL ? json_dumps(object, JSON_COMPACT) : NULL;
	const char *values[2] = {conn->agent, text};

	if (text != NULL)
		gw_db_send_copy(conn->loop->db, GW_DB_FAST, &node_statement, 2, values, false, ignore_node, NULL);
	free(text);
	json_decref(object);
}

static void take_pending(Coordinate *c);

static void
refuse(Coordinate *c, const char *reason)
{
	char text[256];

	snprintf(text, sizeof(text), "authorization: %s", reason);
	coord_refuse(c->peer, text);
}

static void
on_allowed(void *arg, GwDbStatus status, PGresult *result)
{
	Coordinate *c = arg;

	c->query = NULL;
	if (status == GW_DB_OK && PQntuples(result) == 1 && !PQgetisnull(result, 0, 0) &&
		strcmp(PQgetvalue(result, 0, 0), "true") == 0)
	{
		c->first->allowed = true;
		take_pending(c);
	}
	else if (status == GW_DB_OK)
		refuse(c, "agent not found or you do not have permission");
	else
		refuse(c, "database not available");
	PQclear(result);
}

static void
ask_database(Coordinate *c, const uint8_t *agent)
{
	char id[37];
	const char *values[2] = {c->conn->user, id};

	stream_format_uuid(id, agent);
	c->query = gw_db_send_copy(c->loop->db, GW_DB_FAST, &allowed_statement, 2, values, true, on_allowed, c);
}

/* Checks and carries out what waits, until a check needs time. */
static void
take_pending(Coordinate *c)
{
	while (c->first != NULL && c->query == NULL)
	{
		const Request *request = c->first->request;
		bool ask;
		const char *problem = check_request(c->conn, request, &ask);

		if (problem != NULL)
		{
			refuse(c, problem);
			return;
		}
		if (ask && !c->first->allowed)
		{
			ask_database(c, request->add_tunnel->id.data);
			return;
		}
		if (coord_request(c->peer, request) && c->conn->monitor && request->update_self != NULL &&
			request->update_self->node != NULL)
			store_node(c->conn, request->update_self->node);
		drop_pending(c);
	}
}

static void
on_coordinate_message(void *user, RpcCall *call, const uint8_t *data, size_t size)
{
	Coordinate *c = user;
	Pending *pending = c->pending < MAX_REQUESTS ? calloc(1, sizeof(*pending)) : NULL;

	if (pending == NULL)
	{
		rpc_fail(call, 0, "too many requests at once");
		return;
	}
	pending->request = coder__tailnet__v2__coordinate_request__unpack(NULL, size, data);
	if (pending->request == NULL)
	{
		free(pending);
		rpc_fail(call, 0, "the request could not be decoded");
		return;
	}
	*c->last = pending;
	c->last = &pending->next;
	c->pending++;
	take_pending(c);
}

static void
on_coordinate_end(void *user, RpcCall *call, uint64_t code, const char *error)
{
	(void) user;
	(void) code;
	(void) error;
	rpc_finish(call, false);
}

static void
on_coordinate_gone(void *user, RpcCall *call)
{
	Coordinate *c = user;

	(void) call;
	c->call = NULL;
	c->conn->calls--;
	gw_timer_stop(&c->unsent);
	if (c->query != NULL)
		gw_db_detach(c->query);
	while (c->first != NULL)
		drop_pending(c);
	coord_leave(c->peer);
	release(c);
}

static const RpcHandlers coordinate_handlers = {on_coordinate_message, on_coordinate_end, on_coordinate_gone};

static void
begin_coordinate(StreamConn *conn, RpcCall *call)
{
	Coordinate *c = calloc(1, sizeof(*c));

	if (c != NULL)
	{
		atomic_init(&c->refs, 1);
		c->loop = conn->loop;
		c->conn = conn;
		c->call = call;
		c->last = &c->first;
		c->peer = coord_join(conn->peer_id, wake, c);
	}
	if (c == NULL || c->peer == NULL)
	{
		free(c);
		rpc_fail(call, 0, "out of memory");
		return;
	}
	conn->calls++;
	rpc_handle(call, &coordinate_handlers, c);
}

/* Relay maps ----------------------------------------------------------------- */

typedef struct MapStream
{
	struct MapStream *next;
	struct MapStream **prev;
	StreamConn *conn;
	RpcCall *call;
} MapStream;

/* Of one loop. */
typedef struct Maps
{
	GwLoop *loop;
	MapStream *streams;
	char *text;	   /* the current map as JSON; NULL: not known */
	json_t *object;
	GwQuery *query;
	GwTimer timer;
} Maps;

static Maps maps_of_loop[GW_MAX_LOOPS];

static void ask_map(void *arg);

static void
on_map(void *arg, GwDbStatus status, PGresult *result)
{
	Maps *maps = arg;
	const char *text = status == GW_DB_OK && PQntuples(result) == 1 ? PQgetvalue(result, 0, 0) : NULL;
	json_t *object;
	MapStream *next;

	maps->query = NULL;
	if (maps->streams != NULL)
		gw_timer_start(&maps->timer, maps->loop, DERP_MAP_MS, ask_map, maps);
	object = text != NULL && (maps->text == NULL || strcmp(maps->text, text) != 0) ? json_loads(text, 0, NULL) : NULL;
	if (object != NULL)
	{
		free(maps->text);
		json_decref(maps->object);
		maps->text = strdup(text);
		maps->object = object;
		for (MapStream *stream = maps->streams; stream != NULL; stream = next)
		{
			next = stream->next;
			stream_send_json(stream->call, &coder__tailnet__v2__derpmap__descriptor, object);
		}
	}
	PQclear(result);
}

static void
ask_map(void *arg)
{
	Maps *maps = arg;

	if (maps->streams == NULL)
	{
		/* What is cached would be old when the next stream comes. */
		free(maps->text);
		maps->text = NULL;
	}
	else if (maps->query == NULL)
		maps->query = gw_db_send_copy(maps->loop->db, GW_DB_FAST, &derp_map_statement, 0, NULL, true, on_map, maps);
}

static void
on_map_message(void *user, RpcCall *call, const uint8_t *data, size_t size)
{
	MapStream *stream = user;
	Maps *maps = &maps_of_loop[stream->conn->loop->index];

	(void) data;
	(void) size;
	if (stream->prev != NULL)
	{
		rpc_fail(call, 0, "protocol error: a second message");
		return;
	}
	stream->next = maps->streams;
	stream->prev = &maps->streams;
	if (stream->next != NULL)
		stream->next->prev = &stream->next;
	maps->streams = stream;
	maps->loop = stream->conn->loop;
	if (maps->text != NULL)
		stream_send_json(call, &coder__tailnet__v2__derpmap__descriptor, maps->object);
	else
		ask_map(maps);
}

static void
on_map_gone(void *user, RpcCall *call)
{
	MapStream *stream = user;

	(void) call;
	if (stream->prev != NULL)
	{
		*stream->prev = stream->next;
		if (stream->next != NULL)
			stream->next->prev = stream->prev;
	}
	stream->conn->calls--;
	free(stream);
}

/* The client's CloseSend is the rule here: the stream goes on. */
static const RpcHandlers map_handlers = {on_map_message, NULL, on_map_gone};

static void
begin_maps(StreamConn *conn, RpcCall *call)
{
	MapStream *stream = calloc(1, sizeof(*stream));

	if (stream == NULL)
	{
		rpc_fail(call, 0, "out of memory");
		return;
	}
	stream->conn = conn;
	stream->call = call;
	conn->calls++;
	rpc_handle(call, &map_handlers, stream);
}

/* Workspace updates ---------------------------------------------------------- */

typedef struct Updates
{
	StreamConn *conn;
	RpcCall *call;
	char owner[37]; /* empty: not asked yet */
	char *cursor;
	GwQuery *query;
	bool again; /* an event came while the query ran */
	GwSubscription *events;
} Updates;

static void ask_updates(Updates *updates);

static void
on_updates(void *arg, GwDbStatus status, PGresult *result)
{
	Updates *updates = arg;
	json_t *answer;
	const char *cursor;

	updates->query = NULL;
	if (status != GW_DB_OK || PQntuples(result) != 1)
	{
		stream_fail_sql(updates->call, status, result);
		PQclear(result);
		return;
	}
	answer = json_loads(PQgetvalue(result, 0, 0), 0, NULL);
	PQclear(result);
	cursor = json_string_value(json_object_get(answer, "cursor"));
	if (json_is_true(json_object_get(answer, "changed")))
		stream_send_json(updates->call, &coder__tailnet__v2__workspace_update__descriptor,
						 json_object_get(answer, "update"));
	if (cursor != NULL)
	{
		free(updates->cursor);
		updates->cursor = strdup(cursor);
	}
	json_decref(answer);
	if (updates->again)
		ask_updates(updates);
}

static void
ask_updates(Updates *updates)
{
	const char *values[3] = {updates->owner, updates->cursor, updates->conn->user};

	updates->again = updates->query != NULL;
	if (updates->query == NULL)
		updates->query = gw_db_send_copy(updates->conn->loop->db, GW_DB_FAST, &updates_statement, 3, values, true,
										 on_updates, updates);
}

static void
on_owner_event(void *arg, int64_t number, const char *payload, size_t len)
{
	(void) number;
	(void) payload;
	(void) len;
	ask_updates(arg);
}

static void
on_updates_message(void *user, RpcCall *call, const uint8_t *data, size_t size)
{
	Updates *updates = user;
	Coder__Tailnet__V2__WorkspaceUpdatesRequest *request =
		coder__tailnet__v2__workspace_updates_request__unpack(NULL, size, data);
	char channel[64];

	if (request == NULL || request->workspace_owner_id.len != 16 || updates->owner[0] != '\0')
	{
		if (request != NULL)
			coder__tailnet__v2__workspace_updates_request__free_unpacked(request, NULL);
		rpc_fail(call, 0, "the request is not one owner's id of 16 bytes");
		return;
	}
	stream_format_uuid(updates->owner, request->workspace_owner_id.data);
	coder__tailnet__v2__workspace_updates_request__free_unpacked(request, NULL);
	snprintf(channel, sizeof(channel), "workspace_owner:%s", updates->owner);
	updates->events = gw_event_subscribe(updates->conn->loop, channel, on_owner_event, updates);
	ask_updates(updates);
}

static void
on_updates_gone(void *user, RpcCall *call)
{
	Updates *updates = user;

	(void) call;
	if (updates->query != NULL)
		gw_db_detach(updates->query);
	if (updates->events != NULL)
		gw_event_unsubscribe(updates->events);
	updates->conn->calls--;
	free(updates->cursor);
	free(updates);
}

static const RpcHandlers updates_handlers = {on_updates_message, NULL, on_updates_gone};

static void
begin_updates(StreamConn *conn, RpcCall *call)
{
	Updates *updates;

	/* Only where a client may see everything of its user. */
	if (conn->is_agent || conn->agent[0] != '\0')
	{
		rpc_fail(call, RPC_UNIMPLEMENTED, "Unimplemented");
		return;
	}
	updates = calloc(1, sizeof(*updates));
	if (updates == NULL)
	{
		rpc_fail(call, 0, "out of memory");
		return;
	}
	updates->conn = conn;
	updates->call = call;
	conn->calls++;
	rpc_handle(call, &updates_handlers, updates);
}

/* Telemetry: accepted, not kept. --------------------------------------------- */

static void
on_telemetry_message(void *user, RpcCall *call, const uint8_t *data, size_t size)
{
	(void) user;
	(void) data;
	(void) size;
	rpc_send(call, NULL, 0);
	rpc_finish(call, true);
}

static const RpcHandlers telemetry_handlers = {on_telemetry_message, NULL, NULL};

/* Resume tokens --------------------------------------------------------------- */

typedef struct Resume
{
	StreamConn *conn;
	RpcCall *call;
	GwQuery *query;
	bool asked;
} Resume;

static void
on_resume_token(void *arg, GwDbStatus status, PGresult *result)
{
	Resume *resume = arg;
	json_t *answer;

	resume->query = NULL;
	if (status != GW_DB_OK || PQntuples(result) != 1)
		stream_fail_sql(resume->call, status, result);
	else
	{
		answer = json_loads(PQgetvalue(result, 0, 0), 0, NULL);
		if (stream_send_json(resume->call, &coder__tailnet__v2__refresh_resume_token_response__descriptor, answer))
			rpc_finish(resume->call, true);
		else
			rpc_fail(resume->call, 0, "internal error");
		json_decref(answer);
	}
	PQclear(result);
}

static void
on_resume_message(void *user, RpcCall *call, const uint8_t *data, size_t size)
{
	Resume *resume = user;
	char peer[37];
	const char *values[1] = {peer};

	(void) data;
	(void) size;
	if (resume->asked)
	{
		rpc_fail(call, 0, "protocol error: a second message for a unary call");
		return;
	}
	resume->asked = true;
	stream_format_uuid(peer, resume->conn->peer_id);
	resume->query = gw_db_send_copy(resume->conn->loop->db, GW_DB_FAST, &resume_statement, 1, values, true,
									on_resume_token, resume);
}

static void
on_resume_gone(void *user, RpcCall *call)
{
	Resume *resume = user;

	(void) call;
	if (resume->query != NULL)
		gw_db_detach(resume->query);
	resume->conn->calls--;
	free(resume);
}

static const RpcHandlers resume_handlers = {on_resume_message, NULL, on_resume_gone};

static void
begin_resume(StreamConn *conn, RpcCall *call)
{
	Resume *resume;

	/* An agent's id is its own; it needs no token for it. */
	if (conn->is_agent)
	{
		rpc_fail(call, RPC_UNIMPLEMENTED, "Unimplemented");
		return;
	}
	resume = calloc(1, sizeof(*resume));
	if (resume == NULL)
	{
		rpc_fail(call, 0, "out of memory");
		return;
	}
	resume->conn = conn;
	resume->call = call;
	conn->calls++;
	rpc_handle(call, &resume_handlers, resume);
}

void
tailnet_begin_call(StreamConn *conn, RpcCall *call, const char *method, const char *name)
{
	if (strcmp(method, "Coordinate") == 0)
		begin_coordinate(conn, call);
	else if (strcmp(method, "StreamDERPMaps") == 0)
		begin_maps(conn, call);
	else if (strcmp(method, "WorkspaceUpdates") == 0)
		begin_updates(conn, call);
	else if (strcmp(method, "PostTelemetry") == 0)
		rpc_handle(call, &telemetry_handlers, conn);
	else if (strcmp(method, "RefreshResumeToken") == 0)
		begin_resume(conn, call);
	else
		stream_fail_unknown(call, name);
}
