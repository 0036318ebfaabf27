/*
 * rpc.h -- remote calls: DRPC over the streams of a yamux session.
 *
 * One stream of the session is one call.  No I/O, one thread, as yamux.h.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef WIRE_RPC_H
#define WIRE_RPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct RpcSession RpcSession;
typedef struct RpcCall RpcCall;

typedef struct RpcCallbacks
{
	/* Bytes to the transport. */
	void (*send)(void *arg, const uint8_t *data, size_t size);
	/* Server: a call begins; name as on the wire, "/package.Service/Method".  Set its user pointer and handlers. */
	void (*on_call)(void *arg, RpcCall *call, const char *name);
	/* Answer to rpc_ping(). */
	void (*on_pong)(void *arg, uint32_t value);
} RpcCallbacks;

/* Handlers of one call, of either side. */
typedef struct RpcHandlers
{
	/* A message of the peer. */
	void (*on_message)(void *user, RpcCall *call, const uint8_t *data, size_t size);
	/*
	 * The peer sends no more messages: error is NULL, or the peer's error text
	 * (code in *code).  Server: the call still wants an answer; client: it is
	 * over and call is gone after this.
	 */
	void (*on_end)(void *user, RpcCall *call, uint64_t code, const char *error);
	/* Server: the call is gone (cancelled, or the connection ended, or answered); free what belongs to it. */
	void (*on_gone)(void *user, RpcCall *call);
} RpcHandlers;

RpcSession *rpc_new(bool client, const RpcCallbacks *callbacks, void *arg);
/* Ends every call that is left (client: on_end with an error; server: on_gone). */
void rpc_free(RpcSession *session);
/* NULL, or why the connection must be closed. */
const char *rpc_input(RpcSession *session, const uint8_t *data, size_t size);
void rpc_ping(RpcSession *session, uint32_t value);

/*
 * Client: begins a call.  Messages go by rpc_send(); a call with exactly one
 * message is rpc_call_unary().  NULL: the session takes no more calls.
 */
RpcCall *rpc_call(RpcSession *session, const char *name, const RpcHandlers *handlers, void *user);
RpcCall *rpc_call_unary(RpcSession *session,
						const char *name,
						const void *message,
						size_t size,
						const RpcHandlers *handlers,
						void *user);

/* Server: what on_call sets; handlers must stay. */
void rpc_handle(RpcCall *call, const RpcHandlers *handlers, void *user);

bool rpc_send(RpcCall *call, const void *message, size_t size);
size_t rpc_pending(const RpcCall *call);
/* Client: no more messages from us; the peer's go on. */
void rpc_close_send(RpcCall *call);
/* Server: the answer is complete.  unary: ends with CloseSend, else with Close. */
void rpc_finish(RpcCall *call, bool unary);
/* Server: the call failed. */
void rpc_fail(RpcCall *call, uint64_t code, const char *text);
/* Client: gives the call up; no callback follows. */
void rpc_cancel(RpcCall *call);

#define RPC_UNIMPLEMENTED 12

#endif
