/*
 * rpc.c -- remote calls: DRPC over the streams of a yamux session.
 *
 * A unary call: client sends Invoke, Message, CloseSend; server answers
 * Message, CloseSend (or Error).  A stream: the server ends with Close.  Either
 * side then finishes its half of the yamux stream.
 *
 * SPDX-License-Identifier: MIT
 */
#include "wire/rpc.h"

#include <stdlib.h>
#include <string.h>

#include "wire/drpc.h"
#include "wire/wire.h"
#include "wire/yamux.h"

#define STREAM_ID 1 /* DRPC's own id: one call a yamux stream */
#define MAX_NAME 256
#define MAX_ERROR 1024

struct RpcCall
{
	RpcSession *session;
	YamuxStream *stream; /* NULL once it is gone */
	DrpcReader reader;
	const RpcHandlers *handlers;
	void *user;
	uint64_t next_message;
	bool invoked;	/* server: Invoke has been seen */
	bool peer_done; /* on_end has been called */
	bool answered;	/* server: finish or fail was called */
	bool sent_end;	/* client: CloseSend was sent */
	int busy;		/* a callback of this call runs: free it afterwards */
	bool dead;
};

struct RpcSession
{
	YamuxSession *yamux;
	const RpcCallbacks *callbacks;
	void *arg;
	bool client;
};

static void
free_call(RpcCall *call)
{
	call->dead = true;
	if (call->busy > 0)
		return;
	drpc_reader_free(&call->reader);
	free(call);
}

static void
enter(RpcCall *call)
{
	call->busy++;
}

/* False where the call is gone. */
static bool
leave(RpcCall *call)
{
	call->busy--;
	if (call->dead && call->busy == 0)
	{
		free_call(call);
		return false;
	}
	return !call->dead;
}

static RpcCall *
new_call(RpcSession *session, YamuxStream *stream)
{
	RpcCall *call = calloc(1, sizeof(*call));

	if (call == NULL)
		return NULL;
	call->session = session;
	call->stream = stream;
	call->next_message = 1;
	drpc_reader_init(&call->reader);
	return call;
}

static bool
send_packet(RpcCall *call, DrpcKind kind, const void *data, size_t size)
{
	size_t n = drpc_packet_size(STREAM_ID, call->next_message, size);
	uint8_t *packet;
	bool ok;

	if (call->stream == NULL || size > DRPC_MAX_PACKET)
		return false;
	packet = malloc(n);
	if (packet == NULL)
		return false;
	n = drpc_put_packet(packet, kind, STREAM_ID, call->next_message++, data, size);
	ok = yamux_write(call->stream, packet, n);
	free(packet);
	return ok;
}

/* Client: the call is over, in one way or the other. */
static void
end_client_call(RpcCall *call, uint64_t code, const char *error)
{
	YamuxStream *stream = call->stream;

	if (call->dead)
		return;
	call->stream = NULL;
	if (stream != NULL)
	{
		yamux_set_user(stream, NULL);
		yamux_finish(stream);
	}
	enter(call);
	if (!call->peer_done && call->handlers->on_end != NULL)
	{
		call->peer_done = true;
		call->handlers->on_end(call->user, call, code, error);
	}
	call->dead = true;
	leave(call);
}

/* Server: nobody waits for this call any more. */
static void
end_server_call(RpcCall *call)
{
	if (call->dead)
		return;
	call->stream = NULL;
	enter(call);
	if (call->handlers != NULL && call->handlers->on_gone != NULL)
		call->handlers->on_gone(call->user, call);
	call->dead = true;
	leave(call);
}

static void
on_error_packet(RpcCall *call, const DrpcPacket *packet)
{
	char text[MAX_ERROR];
	uint64_t code = 0;
	const uint8_t *data = packet->data;
	size_t size = packet->size;

	if (size >= 8)
	{
		code = wire_get64be(data);
		data += 8;
		size -= 8;
	}
	if (size >= sizeof(text))
		size = sizeof(text) - 1;
	memcpy(text, data, size);
	text[size] = '\0';
	end_client_call(call, code, text);
}

static bool
on_client_packet(RpcCall *call, const DrpcPacket *packet)
{
	switch (packet->kind)
	{
		case DRPC_MESSAGE:
			if (call->handlers->on_message != NULL)
				call->handlers->on_message(call->user, call, packet->data, packet->size);
			return !call->dead;
		case DRPC_ERROR:
			on_error_packet(call, packet);
			return false;
		case DRPC_CLOSE:
		case DRPC_CLOSE_SEND:
			end_client_call(call, 0, NULL);
			return false;
		case DRPC_CANCEL:
			end_client_call(call, 0, "cancelled by the server");
			return false;
		default:
			return true;
	}
}

static bool
on_invoke(RpcCall *call, const DrpcPacket *packet)
{
	char name[MAX_NAME];

	if (call->invoked || packet->size >= sizeof(name) || memchr(packet->data, '\0', packet->size) != NULL)
	{
		rpc_fail(call, 0, "protocol error: unexpected invoke");
		return false;
	}
	memcpy(name, packet->data, packet->size);
	name[packet->size] = '\0';
	call->invoked = true;
	call->session->callbacks->on_call(call->session->arg, call, name);
	return !call->dead;
}

static bool
on_server_packet(RpcCall *call, const DrpcPacket *packet)
{
	if (packet->kind == DRPC_METADATA)
		return true;
	if (packet->kind == DRPC_INVOKE)
		return on_invoke(call, packet);
	if (!call->invoked || call->handlers == NULL)
		return true;
	switch (packet->kind)
	{
		case DRPC_MESSAGE:
			if (!call->answered && call->handlers->on_message != NULL)
				call->handlers->on_message(call->user, call, packet->data, packet->size);
			return !call->dead;
		case DRPC_CLOSE_SEND:
		case DRPC_CLOSE:
		case DRPC_ERROR:
		case DRPC_CANCEL:
			if (!call->peer_done && !call->answered && call->handlers->on_end != NULL)
			{
				call->peer_done = true;
				call->handlers->on_end(call->user, call, 0, NULL);
			}
			return !call->dead;
		default:
			return true;
	}
}

static bool
on_packet(void *arg, const DrpcPacket *packet)
{
	RpcCall *call = arg;

	return call->session->client ? on_client_packet(call, packet) : on_server_packet(call, packet);
}

static void
on_data(void *arg, YamuxStream *stream, const uint8_t *data, size_t size)
{
	RpcCall *call = yamux_user(stream);
	const char *problem;

	(void) arg;
	if (call == NULL)
		return; /* the call is over, its stream not yet */
	enter(call);
	problem = drpc_read(&call->reader, data, size, on_packet, call);
	if (problem != NULL && !call->dead)
	{
		call->stream = NULL;
		yamux_set_user(stream, NULL);
		yamux_reset(stream);
		if (call->session->client)
			end_client_call(call, 0, problem);
		else
			end_server_call(call);
	}
	leave(call);
}

static void
on_stream_end(void *arg, YamuxStream *stream, bool reset)
{
	RpcCall *call = yamux_user(stream);
	RpcSession *session = arg;

	if (call == NULL)
	{
		if (!reset && !session->client)
			yamux_finish(stream);
		return;
	}
	yamux_set_user(stream, NULL);
	if (session->client)
	{
		if (reset)
			call->stream = NULL;
		end_client_call(call, 0, "the connection ended");
	}
	else
	{
		/* FIN without CloseSend is how a client cancels. */
		if (!reset)
			yamux_finish(stream);
		end_server_call(call);
	}
}

static void
on_stream(void *arg, YamuxStream *stream)
{
	RpcSession *session = arg;
	RpcCall *call = session->client ? NULL : new_call(session, stream);

	if (call == NULL)
		yamux_reset(stream);
	else
		yamux_set_user(stream, call);
}

static void
on_send(void *arg, const uint8_t *data, size_t size)
{
	RpcSession *session = arg;

	session->callbacks->send(session->arg, data, size);
}

static void
on_pong(void *arg, uint32_t value)
{
	RpcSession *session = arg;

	if (session->callbacks->on_pong != NULL)
		session->callbacks->on_pong(session->arg, value);
}

static const YamuxCallbacks yamux_callbacks = {on_send, on_stream, on_data, on_stream_end, on_pong};

RpcSession *
rpc_new(bool client, const RpcCallbacks *callbacks, void *arg)
{
	RpcSession *session = calloc(1, sizeof(*session));

	if (session == NULL)
		return NULL;
	session->client = client;
	session->callbacks = callbacks;
	session->arg = arg;
	session->yamux = yamux_new(client, &yamux_callbacks, session);
	if (session->yamux == NULL)
	{
		free(session);
		return NULL;
	}
	return session;
}

void
rpc_free(RpcSession *session)
{
	if (session == NULL)
		return;
	yamux_free(session->yamux);
	free(session);
}

const char *
rpc_input(RpcSession *session, const uint8_t *data, size_t size)
{
	return yamux_input(session->yamux, data, size);
}

void
rpc_ping(RpcSession *session, uint32_t value)
{
	yamux_ping(session->yamux, value);
}

RpcCall *
rpc_call(RpcSession *session, const char *name, const RpcHandlers *handlers, void *user)
{
	RpcCall *call = new_call(session, NULL);

	if (call == NULL)
		return NULL;
	call->stream = yamux_open(session->yamux, call);
	if (call->stream == NULL)
	{
		free_call(call);
		return NULL;
	}
	call->handlers = handlers;
	call->user = user;
	send_packet(call, DRPC_INVOKE, name, strlen(name));
	return call;
}

RpcCall *
rpc_call_unary(RpcSession *session,
			   const char *name,
			   const void *message,
			   size_t size,
			   const RpcHandlers *handlers,
			   void *user)
{
	RpcCall *call = rpc_call(session, name, handlers, user);

	if (call == NULL)
		return NULL;
	rpc_send(call, message, size);
	rpc_close_send(call);
	return call;
}

void
rpc_handle(RpcCall *call, const RpcHandlers *handlers, void *user)
{
	call->handlers = handlers;
	call->user = user;
}

bool
rpc_send(RpcCall *call, const void *message, size_t size)
{
	return !call->answered && !call->sent_end && send_packet(call, DRPC_MESSAGE, message, size);
}

size_t
rpc_pending(const RpcCall *call)
{
	return call->stream != NULL ? yamux_pending(call->stream) : 0;
}

void
rpc_close_send(RpcCall *call)
{
	if (call->sent_end)
		return;
	call->sent_end = true;
	send_packet(call, DRPC_CLOSE_SEND, NULL, 0);
}

/* The server's half is said; the stream ends when the client finishes its own. */
static void
finish_server(RpcCall *call)
{
	YamuxStream *stream = call->stream;

	call->answered = true;
	if (stream != NULL)
		yamux_set_user(stream, NULL);
	end_server_call(call);
}

void
rpc_finish(RpcCall *call, bool unary)
{
	if (call->answered || call->dead)
		return;
	send_packet(call, unary ? DRPC_CLOSE_SEND : DRPC_CLOSE, NULL, 0);
	finish_server(call);
}

void
rpc_fail(RpcCall *call, uint64_t code, const char *text)
{
	uint8_t data[8 + MAX_ERROR];
	size_t size = strlen(text) < MAX_ERROR ? strlen(text) : MAX_ERROR;

	if (call->answered || call->dead)
		return;
	wire_put64be(data, code);
	memcpy(data + 8, text, size);
	send_packet(call, DRPC_ERROR, data, 8 + size);
	finish_server(call);
}

void
rpc_cancel(RpcCall *call)
{
	call->peer_done = true;
	end_client_call(call, 0, NULL);
}
