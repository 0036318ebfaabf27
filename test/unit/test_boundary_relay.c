/*
 * test_boundary_relay.c -- what the agent does with frames of boundaries when the server refuses them, is away, or never tells.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../agent/run/boundary.c"

static Agent agent;
static Manifest manifest;
static Client *client;
static RpcSession *const session = (RpcSession *) &manifest; /* any but NULL: it is not looked into */

/* What was asked last, and its answer to come. */
static int ncalls;
static BoundaryLogs *asked;
static AgentReply answer_to;
static void *answer_arg;
static int64_t timer_ms; /* -1: not running */

bool
agent_call(Agent *of, const char *method, const ProtobufCMessage *request, AgentReply reply, void *arg)
{
	size_t size = protobuf_c_message_get_packed_size(request);
	uint8_t *bytes = malloc(size + 1);

	assert_ptr_equal(of, &agent);
	assert_string_equal(method, "ReportBoundaryLogs");
	assert_null(answer_to);
	protobuf_c_message_pack(request, bytes);
	coder__agent__v2__report_boundary_logs_request__free_unpacked(asked, NULL);
	asked = coder__agent__v2__report_boundary_logs_request__unpack(NULL, size, bytes);
	free(bytes);
	assert_non_null(asked);
	ncalls++;
	answer_to = reply;
	answer_arg = arg;
	return true;
}

void
agent_log(const Agent *of, const char *format, ...)
{
	(void) of;
	(void) format;
}

LoopFd *
loop_fd_add(Loop *loop, int fd, uint32_t events, LoopFdFn fn, void *arg)
{
	(void) loop;
	(void) fd;
	(void) events;
	(void) fn;
	(void) arg;
	return NULL;
}

void
loop_fd_del(LoopFd *watch)
{
	(void) watch;
}

void
loop_timer_init(LoopTimer *timer, Loop *loop, LoopFn fn, void *arg)
{
	*timer = (LoopTimer) {.loop = loop, .fn = fn, .arg = arg};
}

void
loop_timer_start(LoopTimer *timer, int64_t ms)
{
	(void) timer;
	timer_ms = ms;
}

void
loop_timer_stop(LoopTimer *timer)
{
	(void) timer;
	timer_ms = -1;
}

bool
loop_timer_running(const LoopTimer *timer)
{
	(void) timer;
	return timer_ms >= 0;
}

static void
answer(const char *error)
{
	AgentReply reply = answer_to;

	assert_non_null(reply);
	answer_to = NULL;
	reply(answer_arg, (const uint8_t *) "", 0, error);
}

static void
time_passes(void)
{
	assert_true(timer_ms >= 0);
	timer_ms = -1;
	agent.boundary->retry.fn(agent.boundary->retry.arg);
}

/* Bytes of a boundary, as they come from its socket; whether more can be read. */
static bool
feed(const void *bytes, size_t size)
{
	bool more;

	assert_true(size <= sizeof(client->buffer));
	memcpy(client->buffer, bytes, size);
	client->used = size;
	more = take_frames(client);
	send_batch(agent.boundary);
	return more;
}

/* A frame of n allowed requests. */
static void
feed_logs(size_t n)
{
	static const uint8_t entry[] = {0x0a, 4, 0x08, 1, 0x1a, 0};
	static uint8_t frame[BOUNDARY_FRAME_HEAD + BOUNDARY_FRAME_MAX];

	boundary_frame_head(frame, BOUNDARY_TAG_LOGS, n * sizeof(entry));
	for (size_t i = 0; i < n; i++)
		memcpy(frame + BOUNDARY_FRAME_HEAD + i * sizeof(entry), entry, sizeof(entry));
	assert_true(feed(frame, BOUNDARY_FRAME_HEAD + n * sizeof(entry)));
}

static int
setup(void **state)
{
	struct BoundaryRelay *relay = calloc(1, sizeof(*relay));

	(void) state;
	relay->agent = &agent;
	relay->last = &relay->first;
	loop_timer_init(&relay->retry, NULL, on_retry, relay);
	client = calloc(1, sizeof(*client));
	client->relay = relay;
	manifest = (Manifest) CODER__AGENT__V2__MANIFEST__INIT;
	manifest.boundary_batches = true;
	agent.boundary = relay;
	agent.rpc = session;
	agent.manifest = &manifest;
	ncalls = 0;
	timer_ms = -1;
	answer_to = NULL;
	return 0;
}

static int
teardown(void **state)
{
	(void) state;
	end_batch(agent.boundary, true);
	while (agent.boundary->first != NULL)
	{
		Frame *frame = agent.boundary->first;

		agent.boundary->first = frame->next;
		frame_free(frame);
	}
	coder__agent__v2__report_boundary_logs_request__free_unpacked(asked, NULL);
	asked = NULL;
	free(agent.boundary);
	free(client);
	return 0;
}

/* B23: given a server that knows no batches, whose first answer is an error, the next batch is forwarded and the first is counted as lost. */
static void
first_call_fails_at_a_server_without_batches(void **state)
{
	(void) state;
	manifest.boundary_batches = false;
	feed_logs(3);
	assert_int_equal(asked->n_logs, 3);
	assert_int_equal(asked->batch_id.len, 0);
	feed_logs(2);
	assert_int_equal(ncalls, 1);
	answer("the database is away");
	assert_int_equal(boundary_counts(&agent).batches_failed, 1);
	assert_int_equal(boundary_counts(&agent).logs_failed, 3);
	assert_int_equal(ncalls, 2);
	assert_int_equal(asked->n_logs, 2);
	assert_int_equal(asked->dropped, 0);
	answer(NULL);
	assert_int_equal(boundary_counts(&agent).forwarded, 1);
	assert_int_equal(boundary_counts(&agent).batches_failed, 1);
	assert_true(boundary_empty(&agent));
	assert_int_equal(ncalls, 2);
}

/* B23 S3: this server counts a batch once, so the same batch is sent again, and the next has another id. */
static void
first_call_fails_at_this_server(void **state)
{
	uint8_t id[BATCH_ID];

	(void) state;
	feed_logs(3);
	assert_int_equal(asked->batch_id.len, BATCH_ID);
	memcpy(id, asked->batch_id.data, BATCH_ID);
	feed_logs(2);
	answer("the database is away");
	assert_int_equal(ncalls, 1);
	assert_int_equal(timer_ms, RETRY_MS);
	feed_logs(1);
	assert_int_equal(ncalls, 1);
	time_passes();
	assert_int_equal(ncalls, 2);
	assert_int_equal(asked->n_logs, 3);
	assert_memory_equal(asked->batch_id.data, id, BATCH_ID);
	answer(NULL);
	assert_int_equal(ncalls, 3);
	assert_int_equal(asked->n_logs, 3); /* of two frames */
	assert_memory_not_equal(asked->batch_id.data, id, BATCH_ID);
	answer(NULL);
	assert_int_equal(boundary_counts(&agent).forwarded, 3);
	assert_int_equal(boundary_counts(&agent).batches_failed, 0);
	assert_true(boundary_empty(&agent));
}

/* B23: a batch that this server refuses eight times is given up, each time after a longer wait; the next tells how many entries were lost, until that is taken. */
static void
a_batch_that_is_always_refused(void **state)
{
	static const int64_t waits[ATTEMPTS - 1] = {250, 500, 1000, 2000, 4000, 8000, 10000};

	(void) state;
	feed_logs(5);
	for (int i = 0; i < ATTEMPTS - 1; i++)
	{
		answer("refused");
		assert_int_equal(timer_ms, waits[i]);
		assert_int_equal(boundary_counts(&agent).batches_failed, 0);
		time_passes();
		assert_int_equal(asked->n_logs, 5);
	}
	assert_int_equal(ncalls, ATTEMPTS);
	answer("refused");
	assert_int_equal(boundary_counts(&agent).batches_failed, 1);
	assert_int_equal(boundary_counts(&agent).logs_failed, 5);
	assert_int_equal(asked->n_logs, 0); /* goes at once, only to tell */
	assert_int_equal(asked->dropped, 5);
	feed_logs(1);
	answer(NULL);
	assert_int_equal(asked->n_logs, 1);
	assert_int_equal(asked->dropped, 0);
	answer(NULL);
	assert_int_equal(boundary_counts(&agent).forwarded, 1);
	assert_true(boundary_empty(&agent));
}

/* S13: connections that end do not use tries up: the batch is sent with its id when there is one again. */
static void
connections_are_lost(void **state)
{
	uint8_t id[BATCH_ID];

	(void) state;
	feed_logs(4);
	memcpy(id, asked->batch_id.data, BATCH_ID);
	for (int i = 0; i < 3 * ATTEMPTS; i++)
	{
		agent.rpc = NULL;
		answer("the connection ended");
		time_passes();
		assert_null(answer_to);
		agent.rpc = session;
		boundary_flush(&agent);
		assert_int_equal(asked->n_logs, 4);
		assert_memory_equal(asked->batch_id.data, id, BATCH_ID);
	}
	answer(NULL);
	assert_int_equal(boundary_counts(&agent).forwarded, 1);
	assert_int_equal(boundary_counts(&agent).logs_failed, 0);
}

/* B24: given 101 frames and no server, one is dropped; a hundred are sent when it comes, and that one is told of. */
static void
a_hundred_and_one_frames_without_a_server(void **state)
{
	size_t sent = 0;

	(void) state;
	agent.rpc = NULL;
	for (int i = 0; i < 101; i++)
		feed_logs(7);
	assert_int_equal(boundary_counts(&agent).batches_full, 1);
	assert_int_equal(boundary_counts(&agent).logs_full, 7);
	agent.rpc = session;
	boundary_flush(&agent);
	assert_int_equal(asked->dropped, 7);
	while (answer_to != NULL)
	{
		sent += asked->n_logs;
		answer(NULL);
	}
	assert_int_equal(sent, 700);
	assert_int_equal(boundary_counts(&agent).forwarded, 100);
	assert_true(boundary_empty(&agent));
}

/* B25 B26: what is no message is passed over, what is no frame ends the connection. */
static void
what_cannot_be_read(void **state)
{
	static const uint8_t garbage[] = {1, 0, 0, 3, 0x0a, 0xff, 0xff, 1, 0, 0, 6, 0x0a, 4, 0x08, 1, 0x1a, 0};
	static const uint8_t tag[] = {9, 0, 0, 0}, longer[] = {1, 0, 0x80, 1};

	(void) state;
	assert_true(feed(garbage, sizeof(garbage)));
	assert_int_equal(boundary_counts(&agent).unreadable, 1);
	assert_int_equal(asked->n_logs, 1);
	answer(NULL);
	assert_int_equal(boundary_counts(&agent).forwarded, 1);
	assert_false(feed(tag, sizeof(tag)));
	assert_false(feed(longer, sizeof(longer)));
	assert_int_equal(ncalls, 1);
}

/* B27: a status of 5 and 3 is those counters, and goes to this server as 8 entries that were lost; one that does not know gets none. */
static void
a_status(void **state)
{
	static const uint8_t five_three[] = {2, 0, 0, 6, 0x12, 4, 8, 5, 16, 3};

	(void) state;
	manifest.boundary_batches = false;
	assert_true(feed(five_three, sizeof(five_three)));
	assert_int_equal(boundary_counts(&agent).channel_full, 5);
	assert_int_equal(boundary_counts(&agent).batch_full, 3);
	assert_int_equal(ncalls, 0);
	manifest.boundary_batches = true;
	boundary_flush(&agent);
	assert_int_equal(asked->n_logs, 0);
	assert_int_equal(asked->dropped, 8);
	answer("refused");
	time_passes();
	assert_int_equal(asked->dropped, 8);
	answer(NULL);
	assert_true(boundary_empty(&agent));
	assert_int_equal(ncalls, 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(first_call_fails_at_a_server_without_batches, setup, teardown),
		cmocka_unit_test_setup_teardown(first_call_fails_at_this_server, setup, teardown),
		cmocka_unit_test_setup_teardown(a_batch_that_is_always_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(connections_are_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(a_hundred_and_one_frames_without_a_server, setup, teardown),
		cmocka_unit_test_setup_teardown(what_cannot_be_read, setup, teardown),
		cmocka_unit_test_setup_teardown(a_status, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
