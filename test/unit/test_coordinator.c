/*
 * test_coordinator.c -- who is told what: the message script of a client and
 * an agent, lost and overwritten streams, slow readers, refused input.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "stream/coordinator.c"

typedef Coder__Tailnet__V2__CoordinateRequest Request;

static const uint8_t agent_id[16] = {0xaa, 1};
static const uint8_t client_id[16] = {0xcc, 2};
static int wakes;

static void
on_wake(void *arg)
{
	(void) arg;
	wakes++;
}

static CoordPeer *
join(const uint8_t *id)
{
	CoordPeer *peer = coord_join(id, on_wake, NULL);

	assert_non_null(peer);
	return peer;
}

static ProtobufCBinaryData
bin(const uint8_t *id)
{
	return (ProtobufCBinaryData){16, (uint8_t *) id};
}

static bool
send_node(CoordPeer *peer, int derp)
{
	Request request = CODER__TAILNET__V2__COORDINATE_REQUEST__INIT;
	Coder__Tailnet__V2__CoordinateRequest__UpdateSelf self =
		CODER__TAILNET__V2__COORDINATE_REQUEST__UPDATE_SELF__INIT;
	Node node = CODER__TAILNET__V2__NODE__INIT;

	node.preferred_derp = derp;
	self.node = &node;
	request.update_self = &self;
	return coord_request(peer, &request);
}

static bool
send_tunnel(CoordPeer *peer, const uint8_t *id, size_t len, bool add)
{
	Request request = CODER__TAILNET__V2__COORDINATE_REQUEST__INIT;
	Coder__Tailnet__V2__CoordinateRequest__Tunnel tunnel = CODER__TAILNET__V2__COORDINATE_REQUEST__TUNNEL__INIT;

	tunnel.id = bin(id);
	tunnel.id.len = len;
	if (add)
		request.add_tunnel = &tunnel;
	else
		request.remove_tunnel = &tunnel;
	return coord_request(peer, &request);
}

static bool
send_ready(CoordPeer *peer, const uint8_t *id)
{
	Request request = CODER__TAILNET__V2__COORDINATE_REQUEST__INIT;
	Coder__Tailnet__V2__CoordinateRequest__ReadyForHandshake ready =
		CODER__TAILNET__V2__COORDINATE_REQUEST__READY_FOR_HANDSHAKE__INIT;
	Coder__Tailnet__V2__CoordinateRequest__ReadyForHandshake *list[1] = {&ready};

	ready.id = bin(id);
	request.n_ready_for_handshake = 1;
	request.ready_for_handshake = list;
	return coord_request(peer, &request);
}

static bool
send_disconnect(CoordPeer *peer)
{
	Request request = CODER__TAILNET__V2__COORDINATE_REQUEST__INIT;
	Coder__Tailnet__V2__CoordinateRequest__Disconnect disconnect =
		CODER__TAILNET__V2__COORDINATE_REQUEST__DISCONNECT__INIT;

	request.disconnect = &disconnect;
	return coord_request(peer, &request);
}

static Response *
take(CoordPeer *peer)
{
	size_t size;
	bool over;
	uint8_t *data = coord_take(peer, &size, &over);
	Response *response;

	if (data == NULL)
		return NULL;
	response = coder__tailnet__v2__coordinate_response__unpack(NULL, size, data);
	assert_non_null(response);
	free(data);
	return response;
}

/* The next answer is one update of this kind about id (with a node of this region when it is one). */
static void
expect(CoordPeer *peer, int kind, const uint8_t *id, int derp)
{
	Response *response = take(peer);

	assert_non_null(response);
	assert_int_equal(response->n_peer_updates, 1);
	assert_int_equal(response->peer_updates[0]->kind, kind);
	assert_int_equal(response->peer_updates[0]->id.len, 16);
	assert_memory_equal(response->peer_updates[0]->id.data, id, 16);
	if (kind == (int) KIND(NODE))
		assert_int_equal(response->peer_updates[0]->node->preferred_derp, derp);
	else
		assert_null(response->peer_updates[0]->node);
	coder__tailnet__v2__coordinate_response__free_unpacked(response, NULL);
}

static void
expect_error(CoordPeer *peer, const char *text)
{
	Response *response = take(peer);

	assert_non_null(response);
	assert_string_equal(response->error, text);
	coder__tailnet__v2__coordinate_response__free_unpacked(response, NULL);
}

static void
expect_nothing(CoordPeer *peer, bool want_over)
{
	size_t size;
	bool over;

	assert_null(coord_take(peer, &size, &over));
	assert_int_equal(over, want_over);
}

static void
expect_empty(void)
{
	CoordStats stats;

	coord_stats(&stats);
	assert_int_equal(stats.peers, 0);
	assert_int_equal(stats.tunnels, 0);
	for (size_t i = 0; i < BUCKETS; i++)
		assert_null(coord.buckets[i]);
}

static void
test_script(void **state)
{
	CoordPeer *a = join(agent_id);
	CoordPeer *c = join(client_id);

	(void) state;
	assert_true(send_tunnel(c, agent_id, 16, true));
	expect_nothing(a, false);
	expect_nothing(c, false);
	wakes = 0;
	assert_true(send_node(c, 999));
	assert_int_equal(wakes, 1);
	expect(a, KIND(NODE), client_id, 999);
	assert_true(send_node(c, 999));
	expect_nothing(a, false);
	assert_true(send_ready(a, client_id));
	expect(c, KIND(READY_FOR_HANDSHAKE), agent_id, 0);
	assert_true(send_node(a, 7));
	expect(c, KIND(NODE), agent_id, 7);
	expect_nothing(c, false);
	assert_true(send_tunnel(c, agent_id, 16, false));
	expect(a, KIND(DISCONNECTED), client_id, 0);
	expect(c, KIND(DISCONNECTED), agent_id, 0);
	assert_true(send_tunnel(c, agent_id, 16, true));
	expect(c, KIND(NODE), agent_id, 7);
	expect(a, KIND(NODE), client_id, 999);
	assert_false(send_disconnect(c));
	expect(a, KIND(DISCONNECTED), client_id, 0);
	expect_nothing(c, true);
	expect_nothing(a, false);
	assert_false(send_node(c, 1));
	coord_leave(c);
	expect_nothing(a, false);
	coord_leave(a);
	expect_empty();
}

static void
test_lost(void **state)
{
	CoordPeer *a = join(agent_id);
	CoordPeer *c = join(client_id);

	(void) state;
	send_tunnel(c, agent_id, 16, true);
	send_node(c, 1);
	send_node(a, 2);
	expect(a, KIND(NODE), client_id, 1);
	expect(c, KIND(NODE), agent_id, 2);
	/* The destination goes: the tunnel stays, and the new stream knows at once. */
	coord_leave(a);
	expect(c, KIND(LOST), agent_id, 0);
	a = join(agent_id);
	expect(a, KIND(NODE), client_id, 1);
	send_node(a, 2);
	expect(c, KIND(NODE), agent_id, 2);
	/* The source goes: its tunnel goes too. */
	coord_leave(c);
	expect(a, KIND(LOST), client_id, 0);
	c = join(client_id);
	send_node(c, 3);
	expect_nothing(a, false);
	expect_nothing(c, false);
	coord_leave(a);
	expect_nothing(c, false);
	coord_leave(c);
	expect_empty();
}

static void
test_overwritten(void **state)
{
	CoordPeer *a = join(agent_id);
	CoordPeer *c = join(client_id);
	CoordPeer *again;

	(void) state;
	send_tunnel(c, agent_id, 16, true);
	send_node(c, 1);
	send_node(a, 2);
	expect(a, KIND(NODE), client_id, 1);
	expect(c, KIND(NODE), agent_id, 2);
	again = join(agent_id);
	expect_error(a, "peer ID overwritten by new connection");
	expect_nothing(a, true);
	coord_leave(a);
	expect_nothing(c, false);
	expect(again, KIND(NODE), client_id, 1);
	send_node(again, 5);
	expect(c, KIND(NODE), agent_id, 5);
	coord_leave(again);
	coord_leave(c);
	expect_empty();
}

static void
test_refused(void **state)
{
	CoordPeer *a = join(agent_id);
	CoordPeer *c = join(client_id);

	(void) state;
	assert_true(send_ready(a, client_id));
	expect_error(a, "ready for handshake error: you do not share a tunnel with \"cc020000-0000-0000-0000-000000000000\"");
	expect_nothing(a, false);
	send_node(a, 1);
	send_node(c, 1);
	send_tunnel(c, agent_id, 16, true);
	expect(c, KIND(NODE), agent_id, 1);
	expect(a, KIND(NODE), client_id, 1);
	assert_false(send_tunnel(c, agent_id, 15, true));
	expect_error(c, "id is not 16 bytes");
	expect_nothing(c, true);
	expect(a, KIND(LOST), client_id, 0);
	coord_leave(c);
	coord_refuse(a, "authorization: no");
	expect_error(a, "authorization: no");
	expect_nothing(a, true);
	coord_leave(a);
	expect_empty();
}

/* Who does not read is removed, and others go on. */
static void
test_slow(void **state)
{
	CoordPeer *a = join(agent_id);
	CoordPeer *c = join(client_id);

	(void) state;
	send_tunnel(c, agent_id, 16, true);
	send_node(a, 1);
	expect(c, KIND(NODE), agent_id, 1);
	for (int i = 0; i < COORD_QUEUE; i++)
		assert_true(send_node(c, i + 1));
	expect_nothing(c, false);
	assert_true(send_node(c, 0));
	expect(c, KIND(DISCONNECTED), agent_id, 0);
	for (int i = 0; i < COORD_QUEUE; i++)
		expect(a, KIND(NODE), client_id, i + 1);
	expect_nothing(a, true);
	coord_leave(a);
	coord_leave(c);
	expect_empty();
}

static void
test_self(void **state)
{
	CoordPeer *a = join(agent_id);

	(void) state;
	assert_true(send_tunnel(a, agent_id, 16, true));
	assert_true(send_node(a, 1));
	expect_nothing(a, false);
	assert_true(send_tunnel(a, agent_id, 16, false));
	assert_true(send_tunnel(a, agent_id, 16, true));
	coord_leave(a);
	expect_empty();
}

/* The page names peers and tunnels, and who is only spoken of is no peer. */
static void
test_page(void **state)
{
	CoordPeer *c = join(client_id);
	char tunnel[200];
	size_t size;
	char *page;

	(void) state;
	send_tunnel(c, agent_id, 16, true);
	send_node(c, 1);
	page = coord_page(&size);
	assert_non_null(page);
	assert_int_equal(strlen(page), size);
	assert_non_null(strstr(page, "<h2>1 peers</h2>"));
	assert_non_null(strstr(page, "<h2>1 tunnels</h2>"));
	snprintf(tunnel, sizeof(tunnel), "<td><code>%02x%02x%02x%02x-", client_id[0], client_id[1], client_id[2], client_id[3]);
	assert_non_null(strstr(page, tunnel));
	snprintf(tunnel, sizeof(tunnel), "</td><td><code>%02x%02x%02x%02x-", agent_id[0], agent_id[1], agent_id[2], agent_id[3]);
	assert_non_null(strstr(page, tunnel));
	assert_non_null(strstr(page, "<td>yes</td>"));
	free(page);
	coord_leave(c);
	expect_empty();
}

/* What a watch was told, a line each: "+aa" joined, "=aa" requested, "-aa" left, "!aa" lost; and the requests. */
static struct
{
	char lines[256];
	uint8_t *requests[16];
	size_t sizes[16];
	size_t n;
} heard;

static void
hear(char sign, const uint8_t *id)
{
	size_t n = strlen(heard.lines);

	snprintf(heard.lines + n, sizeof(heard.lines) - n, "%c%02x ", sign, id[0]);
}

static void
hear_joined(void *arg, const uint8_t id[static COORD_ID_LEN])
{
	(void) arg;
	hear('+', id);
}

static void
hear_requested(void *arg, const uint8_t id[static COORD_ID_LEN], const uint8_t *request, size_t size)
{
	(void) arg;
	hear('=', id);
	assert_true(heard.n < 16);
	heard.requests[heard.n] = malloc(size + 1);
	memcpy(heard.requests[heard.n], request, size);
	heard.sizes[heard.n++] = size;
}

static void
hear_left(void *arg, const uint8_t id[static COORD_ID_LEN], bool lost)
{
	(void) arg;
	hear(lost ? '!' : '-', id);
}

static void
forget_heard(void)
{
	for (size_t i = 0; i < heard.n; i++)
		free(heard.requests[i]);
	memset(&heard, 0, sizeof(heard));
}

static void
test_watch(void **state)
{
	CoordWatch watch = {NULL, hear_joined, hear_requested, hear_left, NULL};
	CoordPeer *a = join(agent_id);
	CoordPeer *c = join(client_id);
	CoordPeer *again;
	Request *request;

	(void) state;
	assert_true(send_tunnel(c, agent_id, 16, true));
	assert_true(send_node(c, 999));
	coord_watch(&watch);
	/* What there is, whatever the order of peers: the agent, the client with its node and its tunnel. */
	assert_int_equal(strlen(heard.lines), strlen("+aa +cc =cc =cc "));
	assert_non_null(strstr(heard.lines, "+cc =cc =cc "));
	assert_non_null(strstr(heard.lines, "+aa "));
	request = coder__tailnet__v2__coordinate_request__unpack(NULL, heard.sizes[0], heard.requests[0]);
	assert_int_equal(request->update_self->node->preferred_derp, 999);
	coder__tailnet__v2__coordinate_request__free_unpacked(request, NULL);
	request = coder__tailnet__v2__coordinate_request__unpack(NULL, heard.sizes[1], heard.requests[1]);
	assert_memory_equal(request->add_tunnel->id.data, agent_id, 16);
	coder__tailnet__v2__coordinate_request__free_unpacked(request, NULL);
	forget_heard();

	assert_true(send_ready(a, client_id));
	again = join(agent_id);
	assert_true(send_node(again, 7));
	assert_false(send_disconnect(c));
	coord_leave(again);
	assert_string_equal(heard.lines, "=aa +aa =aa =cc -cc !aa ");
	forget_heard();
	coord_unwatch(&watch);
	coord_leave(a);
	coord_leave(c);
	assert_string_equal(heard.lines, "");
	expect_empty();
}

static void
remote_node(CoordRemote *remote, const uint8_t *id, int derp)
{
	Request request = CODER__TAILNET__V2__COORDINATE_REQUEST__INIT;
	Coder__Tailnet__V2__CoordinateRequest__UpdateSelf self = CODER__TAILNET__V2__COORDINATE_REQUEST__UPDATE_SELF__INIT;
	Node node = CODER__TAILNET__V2__NODE__INIT;

	node.preferred_derp = derp;
	self.node = &node;
	request.update_self = &self;
	coord_remote_request(remote, id, &request);
}

static void
remote_tunnel(CoordRemote *remote, const uint8_t *id, const uint8_t *to)
{
	Request request = CODER__TAILNET__V2__COORDINATE_REQUEST__INIT;
	Coder__Tailnet__V2__CoordinateRequest__Tunnel tunnel = CODER__TAILNET__V2__COORDINATE_REQUEST__TUNNEL__INIT;

	tunnel.id = bin(to);
	request.add_tunnel = &tunnel;
	coord_remote_request(remote, id, &request);
}

static void
test_remote(void **state)
{
	CoordWatch watch = {NULL, hear_joined, hear_requested, hear_left, NULL};
	CoordRemote *remote = coord_remote_open();
	CoordRemote *other = coord_remote_open();
	CoordPeer *a = join(agent_id);
	CoordPeer *c;
	CoordStats stats;

	(void) state;
	coord_watch(&watch);
	forget_heard();
	assert_true(coord_remote_join(remote, client_id));
	remote_node(remote, client_id, 5);
	assert_true(send_node(a, 7));
	remote_tunnel(remote, client_id, agent_id);
	expect(a, KIND(NODE), client_id, 5);
	remote_node(remote, client_id, 6);
	expect(a, KIND(NODE), client_id, 6);
	coord_stats(&stats);
	assert_int_equal(stats.peers, 1);
	assert_int_equal(stats.remote_peers, 1);
	/* Only what is here is told on. */
	assert_string_equal(heard.lines, "=aa ");
	coord_remote_leave(other, client_id, true);
	remote_node(other, client_id, 9);
	expect_nothing(a, false);
	coord_remote_leave(remote, client_id, true);
	expect(a, KIND(LOST), client_id, 0);

	/* A client that comes here from there, and back. */
	assert_true(coord_remote_join(remote, client_id));
	remote_tunnel(remote, client_id, agent_id);
	c = join(client_id);
	expect_nothing(a, false);
	assert_true(send_node(c, 8));
	expect(a, KIND(NODE), client_id, 8);
	coord_remote_leave(remote, client_id, true);
	expect_nothing(a, false);
	assert_true(coord_remote_join(other, client_id));
	expect(c, KIND(NODE), agent_id, 7);
	expect_error(c, "peer ID overwritten by new connection");
	expect_nothing(c, true);
	coord_leave(c);
	expect_nothing(a, false);
	remote_node(other, client_id, 4);
	expect(a, KIND(NODE), client_id, 4);

	/* All of a gateway is lost with it. */
	coord_remote_close(other);
	expect(a, KIND(LOST), client_id, 0);
	coord_remote_close(remote);
	coord_unwatch(&watch);
	forget_heard();
	coord_leave(a);
	expect_empty();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_script), cmocka_unit_test(test_lost), cmocka_unit_test(test_overwritten),
		cmocka_unit_test(test_refused), cmocka_unit_test(test_slow), cmocka_unit_test(test_self), cmocka_unit_test(test_page),
		cmocka_unit_test(test_watch), cmocka_unit_test(test_remote),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
