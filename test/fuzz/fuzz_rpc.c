/*
 * fuzz_rpc.c -- the server's side of a yamux session with DRPC calls.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/drpc.c"
#include "wire/rpc.c"
#include "wire/yamux.c"

static void
discard(void *arg, const uint8_t *data, size_t size)
{
	(void) arg;
	(void) data;
	(void) size;
}

static void
message(void *user, RpcCall *call, const uint8_t *data, size_t size)
{
	(void) user;
	rpc_send(call, data, size);
}

static void
end(void *user, RpcCall *call, uint64_t code, const char *error)
{
	(void) user;
	(void) code;
	(void) error;
	rpc_finish(call, true);
}

static const RpcHandlers handlers = {message, end, NULL};

static void
on_call(void *arg, RpcCall *call, const char *name)
{
	(void) arg;
	if (name[0] == '!')
		rpc_fail(call, 0, name);
	else
		rpc_handle(call, &handlers, NULL);
}

static const RpcCallbacks callbacks = {discard, on_call, NULL};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	RpcSession *session;
	size_t piece;

	if (size < 1)
		return 0;
	piece = data[0] + 1u;
	session = rpc_new(false, &callbacks, NULL);
	for (size_t at = 1; at < size; at += piece)
		if (rpc_input(session, data + at, size - at < piece ? size - at : piece) != NULL)
			break;
	rpc_free(session);
	return 0;
}
