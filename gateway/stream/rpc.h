/*
 * rpc.h -- a connection that carries calls, as rpc.c and tailnet.c share it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef STREAM_RPC_H
#define STREAM_RPC_H

#include "../db.h"
#include "../gateway.h"
#include "../websocket.h"
#include "wire/proto/tailnet.pb-c.h"
#include "wire/rpc.h"

typedef struct StreamConn
{
	GwLoop *loop;
	GwWs *ws;
	RpcSession *session;
	bool is_agent;		 /* the agent service, and its rules in the tailnet */
	bool monitor;		 /* this connection is the agent's life sign */
	bool monitoring;	 /* … and has been counted */
	bool broken;		 /* takes and sends nothing any more */
	uint8_t peer_id[16]; /* in the tailnet */
	char agent[37];		 /* the agent; for a client the only one allowed, or empty: any */
	char user[37];
	int calls;
	GwTimer tick;
	struct GwReport *life; /* a sign of life that is being noted */
	uint64_t last_pong;
} StreamConn;

/* tailnet.c: a call of the tailnet service.  method is the last part of name. */
void tailnet_begin_call(StreamConn *conn, RpcCall *call, const char *method, const char *name);

/* rpc.c */
/* Has it a connection to this process that is its life sign? */
bool stream_agent_is_here(const char *agent);
void stream_fail_unknown(RpcCall *call, const char *name);
/* Ends a call with the error of a statement. */
void stream_fail_sql(RpcCall *call, GwDbStatus status, const PGresult *result);
/* Sends object as a message; false (and a line in the log) if it is none of that type. */
bool stream_send_json(RpcCall *call, const ProtobufCMessageDescriptor *type, const json_t *object);
bool stream_parse_uuid(uint8_t dst[static 16], const char *text);
void stream_format_uuid(char dst[static 37], const uint8_t id[static 16]);

#endif
