/*
 * test_rpc.c -- yamux, DRPC and calls over them: golden bytes, round trips,
 * truncations, hostile input.
 *
 * The golden bytes are the worked examples of the protocol.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "wire/drpc.c"
#include "wire/rpc.c"
#include "wire/yamux.c"

typedef struct Pipe
{
	uint8_t data[8 << 20];
	size_t size;
} Pipe;

static size_t
hex(uint8_t *out, const char *text)
{
	size_t n = 0;

	for (; *text != '\0'; text++)
		if (*text != ' ')
		{
			unsigned value;

			assert_int_equal(sscanf(text, "%2x", &value), 1);
			out[n++] = (uint8_t) value;
			text++;
		}
	return n;
}

static void
collect(void *arg, const uint8_t *data, size_t size)
{
	Pipe *pipe = arg;

	assert_true(pipe->size + size <= sizeof(pipe->data));
	memcpy(pipe->data + pipe->size, data, size);
	pipe->size += size;
}

static void
assert_bytes(Pipe *pipe, const char *expected)
{
	uint8_t want[4096];
	size_t n = hex(want, expected);

	assert_int_equal(pipe->size, n);
	assert_memory_equal(pipe->data, want, n);
	pipe->size = 0;
}

/* What a client is told. */
typedef struct Answer
{
	char messages[4096];
	char error[256];
	uint64_t code;
	int ended;
} Answer;

static void
client_message(void *user, RpcCall *call, const uint8_t *data, size_t size)
{
	Answer *answer = user;
	size_t have = strlen(answer->messages);

	(void) call;
	assert_true(have + size + 2 < sizeof(answer->messages));
	memcpy(answer->messages + have, data, size);
	strcpy(answer->messages + have + size, "|");
}

static void
client_end(void *user, RpcCall *call, uint64_t code, const char *error)
{
	Answer *answer = user;

	(void) call;
	answer->ended++;
	answer->code = code;
	snprintf(answer->error, sizeof(answer->error), "%s", error ? error : "");
}

static const RpcHandlers client_handlers = {client_message, client_end, NULL};

static void
no_call(void *arg, RpcCall *call, const char *name)
{
	(void) arg;
	(void) call;
	(void) name;
	fail();
}

static const RpcCallbacks client_callbacks = {collect, no_call, NULL};

static void
unary_call_has_the_bytes_of_the_example(void **state)
{
	static Pipe pipe;
	Answer answer = {0};
	uint8_t reply[128];
	size_t n;
	RpcSession *client = rpc_new(true, &client_callbacks, &pipe);

	(void) state;
	rpc_call_unary(client, "/coder.agent.v2.Agent/GetManifest", NULL, 0, &client_handlers, &answer);
	assert_bytes(&pipe,
				 "00 01 0001 00000001 00000000"
				 "00 00 0000 00000001 00000025 03 01 01 21"
				 "2f636f6465722e6167656e742e76322e4167656e742f4765744d616e6966657374"
				 "00 00 0000 00000001 00000004 05 01 02 00"
				 "00 00 0000 00000001 00000004 0d 01 03 00");

	n = hex(reply,
			"00 01 0002 00000001 00000000"
			"00 00 0000 00000001 00000008 05 01 01 04 0a02081e"
			"00 00 0000 00000001 00000004 0d 01 02 00");
	assert_null(rpc_input(client, reply, n));
	assert_string_equal(answer.messages, "\x0a\x02\x08\x1e|");
	assert_int_equal(answer.ended, 1);
	assert_string_equal(answer.error, "");
	assert_bytes(&pipe, "00 01 0004 00000001 00000000");
	rpc_free(client);
}

static void
error_has_its_code_and_text(void **state)
{
	static Pipe pipe;
	Answer answer = {0};
	uint8_t reply[64];
	RpcSession *client = rpc_new(true, &client_callbacks, &pipe);
	size_t n;

	(void) state;
	pipe.size = 0;
	rpc_call_unary(client, "/x", NULL, 0, &client_handlers, &answer);
	n = hex(reply, "00 00 0002 00000001 00000019 07 01 01 15 000000000000000c 556e696d706c656d656e746564");
	assert_null(rpc_input(client, reply, n));
	assert_int_equal(answer.code, 12);
	assert_string_equal(answer.error, "Unimplemented");
	assert_int_equal(answer.ended, 1);
	rpc_free(client);
}

/* A server that answers every message with itself, and ends with the client. */
typedef struct Server
{
	Pipe *pipe;
	int calls;
	int gone;
	bool unary;
} Server;

static void
server_message(void *user, RpcCall *call, const uint8_t *data, size_t size)
{
	(void) user;
	rpc_send(call, data, size);
}

static void
server_end(void *user, RpcCall *call, uint64_t code, const char *error)
{
	Server *server = user;

	(void) code;
	(void) error;
	rpc_finish(call, server->unary);
}

static void
server_gone(void *user, RpcCall *call)
{
	(void) call;
	((Server *) user)->gone++;
}

static const RpcHandlers server_handlers = {server_message, server_end, server_gone};

static void
server_call(void *arg, RpcCall *call, const char *name)
{
	Server *server = arg;

	server->calls++;
	if (strcmp(name, "/no") == 0)
	{
		rpc_handle(call, &server_handlers, server);
		rpc_fail(call, 0, "no");
		return;
	}
	rpc_handle(call, &server_handlers, server);
}

static void
server_send(void *arg, const uint8_t *data, size_t size)
{
	collect(((Server *) arg)->pipe, data, size);
}

static const RpcCallbacks server_callbacks = {server_send, server_call, NULL};

/* Moves bytes both ways, in pieces of the given size, until both are silent. */
static void
settle(RpcSession *client, Pipe *to_server, RpcSession *server, Pipe *to_client, size_t piece)
{
	static uint8_t copy[8 << 20];

	while (to_server->size > 0 || to_client->size > 0)
	{
		size_t n = to_server->size;

		memcpy(copy, to_server->data, n);
		to_server->size = 0;
		for (size_t at = 0; at < n; at += piece)
			assert_null(rpc_input(server, copy + at, n - at < piece ? n - at : piece));
		n = to_client->size;
		memcpy(copy, to_client->data, n);
		to_client->size = 0;
		for (size_t at = 0; at < n; at += piece)
			assert_null(rpc_input(client, copy + at, n - at < piece ? n - at : piece));
	}
}

static void
calls_go_both_ways_whatever_the_pieces(void **state)
{
	static Pipe to_server;
	static Pipe to_client;
	static const size_t pieces[] = {1, 7, 4096, 1 << 20};

	(void) state;
	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++)
	{
		Server server = {.pipe = &to_client, .unary = true};
		RpcSession *c = rpc_new(true, &client_callbacks, &to_server);
		RpcSession *s = rpc_new(false, &server_callbacks, &server);
		Answer one = {0};
		Answer two = {0};
		Answer no = {0};
		RpcCall *stream;

		rpc_call_unary(c, "/echo", "hello", 5, &client_handlers, &one);
		stream = rpc_call(c, "/echo", &client_handlers, &two);
		rpc_send(stream, "a", 1);
		rpc_send(stream, "b", 1);
		rpc_call_unary(c, "/no", "x", 1, &client_handlers, &no);
		settle(c, &to_server, s, &to_client, pieces[i]);
		assert_string_equal(one.messages, "hello|");
		assert_int_equal(one.ended, 1);
		assert_string_equal(two.messages, "a|b|");
		assert_int_equal(two.ended, 0);
		assert_string_equal(no.error, "no");
		rpc_close_send(stream);
		settle(c, &to_server, s, &to_client, pieces[i]);
		assert_int_equal(two.ended, 1);
		assert_int_equal(server.calls, 3);
		assert_int_equal(server.gone, 3);
		rpc_free(c);
		rpc_free(s);
	}
}

static void
large_messages_respect_the_window(void **state)
{
	static Pipe to_server;
	static Pipe to_client;
	static uint8_t big[1 << 20];
	Server server = {.pipe = &to_client, .unary = true};
	RpcSession *c = rpc_new(true, &client_callbacks, &to_server);
	RpcSession *s = rpc_new(false, &server_callbacks, &server);
	size_t seen = 0;
	RpcHandlers count = client_handlers;
	Answer answer = {0};

	(void) state;
	(void) seen;
	count.on_message = NULL;
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t) (i * 7);
	rpc_call_unary(c, "/echo", big, sizeof(big), &count, &answer);
	assert_true(to_server.size <= YAMUX_WINDOW + 1024);
	settle(c, &to_server, s, &to_client, 10000);
	assert_int_equal(answer.ended, 1);
	assert_string_equal(answer.error, "");
	rpc_free(c);
	rpc_free(s);
}

static void
every_truncation_waits_and_every_version_but_zero_breaks(void **state)
{
	static Pipe to_client;
	uint8_t call[128];
	size_t n = hex(call,
				   "00 01 0001 00000001 00000000"
				   "00 00 0000 00000001 00000009 03 01 01 05 2f6563686f"
				   "00 00 0000 00000001 00000005 05 01 02 01 61"
				   "00 00 0000 00000001 00000004 0d 01 03 00");

	(void) state;
	for (size_t cut = 0; cut < n; cut++)
	{
		Server server = {.pipe = &to_client, .unary = true};
		RpcSession *s = rpc_new(false, &server_callbacks, &server);
		uint8_t *exact = malloc(cut + (cut == 0));

		to_client.size = 0;
		memcpy(exact, call, cut);
		assert_null(rpc_input(s, exact, cut));
		free(exact);
		rpc_free(s);
		assert_int_equal(server.calls, server.gone);
	}
	for (int version = 1; version < 256; version++)
	{
		Server server = {.pipe = &to_client};
		RpcSession *s = rpc_new(false, &server_callbacks, &server);

		to_client.size = 0;
		call[0] = (uint8_t) version;
		assert_non_null(rpc_input(s, call, n));
		rpc_free(s);
	}
}

static void
hostile_frames_break_the_session(void **state)
{
	static Pipe to_client;
	static const char *const frames[] = {
		"00 04 0000 00000001 00000000",										 /* unknown type */
		"00 01 0001 00000002 00000000",										 /* an id of the server's */
		"00 01 0001 00000000 00000000",										 /* stream 0 */
		"00 01 0001 00000001 00000000 00 01 0001 00000001 00000000",		 /* twice */
		"00 00 0001 00000001 00040001",										 /* larger than the window */
		"00 01 0001 00000001 ffffffff",										 /* window overflow */
		"00 03 0000 00000000 00000001",										 /* the peer complains */
		"00 01 0001 00000001 00000000 00 01 0004 00000001 00000000 00 00 0004 00000001 00000001 00",
	};

	(void) state;
	for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++)
	{
		Server server = {.pipe = &to_client};
		RpcSession *s = rpc_new(false, &server_callbacks, &server);
		uint8_t data[128];
		size_t n = hex(data, frames[i]);
		const char *problem;

		to_client.size = 0;
		problem = rpc_input(s, data, n);
		/* The last one: its stream is gone after both ends, so its data is discarded. */
		if (i + 1 < sizeof(frames) / sizeof(frames[0]))
			assert_non_null(problem);
		rpc_free(s);
	}
}

static void
bad_packets_reset_their_call_only(void **state)
{
	static Pipe to_client;
	static const char *const packets[] = {
		"03 00 01 00",						 /* stream 0 */
		"03 01 02 00 03 01 01 00",			 /* ids go backwards */
		"02 01 01 01 61 05 01 01 00",		 /* kind changes within a packet */
		"3f 01 01 00",						 /* unknown kind */
		"03 01 01 ffffffffffffffffffff",	 /* varint too long */
		"03 01 01 81808002",				 /* larger than 4 MiB */
	};

	(void) state;
	for (size_t i = 0; i < sizeof(packets) / sizeof(packets[0]); i++)
	{
		Server server = {.pipe = &to_client};
		RpcSession *s = rpc_new(false, &server_callbacks, &server);
		uint8_t data[128] = {0};
		size_t n;

		to_client.size = 0;
		n = hex(data + 24, packets[i]);
		hex(data, "00 01 0001 00000001 00000000 00 00 0000 00000001");
		wire_put32be(data + 20, (uint32_t) n);
		assert_null(rpc_input(s, data, 24 + n));
		assert_true(to_client.size >= 12);
		assert_int_equal(to_client.data[to_client.size - 9], 8); /* RST */
		rpc_free(s);
	}
}

static void
a_connection_that_ends_ends_its_calls(void **state)
{
	static Pipe to_server;
	RpcSession *c = rpc_new(true, &client_callbacks, &to_server);
	Answer answer = {0};

	(void) state;
	to_server.size = 0;
	rpc_call(c, "/echo", &client_handlers, &answer);
	rpc_free(c);
	assert_int_equal(answer.ended, 1);
	assert_string_not_equal(answer.error, "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unary_call_has_the_bytes_of_the_example),
		cmocka_unit_test(error_has_its_code_and_text),
		cmocka_unit_test(calls_go_both_ways_whatever_the_pieces),
		cmocka_unit_test(large_messages_respect_the_window),
		cmocka_unit_test(every_truncation_waits_and_every_version_but_zero_breaks),
		cmocka_unit_test(hostile_frames_break_the_session),
		cmocka_unit_test(bad_packets_reset_their_call_only),
		cmocka_unit_test(a_connection_that_ends_ends_its_calls),
	};

	return cmocka_run_group_tests_name("rpc", tests, NULL, NULL);
}
