/*
 * probe.c -- a message through a relay, a question to a STUN server.
 *
 * SPDX-License-Identifier: MIT
 */
#include "tunnel/probe.h"
#include "tunnel/relay.h"
#include "wire/stun.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROUND_MS 50 /* the longest until *stop is seen */
#define MESSAGE_LEN 16
#define AGAIN_MS 100 /* a client is logged in a little later than it knows: what comes sooner is lost */
#define MAX_LINES 20 /* of what a client has to tell */
#define TRIES 3
#define STUN_RETRY_MS 400

/* An address of a host, IPv4 before IPv6. */
typedef struct Address
{
	struct sockaddr_storage any;
	socklen_t len;
	char text[INET6_ADDRSTRLEN];
} Address;

static bool
resolve(Address *address, const ProbeTarget *target)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *found = NULL, *best;
	char port[8];

	snprintf(port, sizeof(port), "%u", target->port);
	if (getaddrinfo(target->host, port, &hints, &found) != 0 || found == NULL)
		return false;
	best = found;
	for (struct addrinfo *a = found; a != NULL && best->ai_family != AF_INET; a = a->ai_next)
		if (a->ai_family == AF_INET)
			best = a;
	memcpy(&address->any, best->ai_addr, best->ai_addrlen);
	address->len = best->ai_addrlen;
	getnameinfo(best->ai_addr, best->ai_addrlen, address->text, sizeof(address->text), NULL, 0, NI_NUMERICHOST);
	freeaddrinfo(found);
	return true;
}

static bool
stopped(const atomic_bool *stop)
{
	return stop != NULL && atomic_load(stop);
}

/* Relays --------------------------------------------------------------------- */

typedef struct RelayProbe RelayProbe;

typedef struct Client
{
	RelayProbe *probe;
	Relay *relay;
	uint8_t public_key[WIRE_KEY_LEN];
	int64_t latency_ns;
	bool up;
	json_t *logs, *errs;
} Client;

struct RelayProbe
{
	Loop *loop;
	Client clients[2]; /* the first asks, the second answers */
	uint8_t message[MESSAGE_LEN]; /* the first byte counts */
	int64_t sent_at; /* 0: not yet */
	int64_t round_trip_ns;
	bool done;
};

static void
note(json_t *lines, const char *format, const char *text)
{
	if (json_array_size(lines) < MAX_LINES)
		json_array_append_new(lines, json_sprintf(format, text));
}

static void
on_up(void *arg, Relay *relay, int64_t latency_ns)
{
	Client *client = arg;

	(void) relay;
	client->up = true;
	client->latency_ns = latency_ns;
	note(client->logs, "%s", "logged in");
}

/* Sends the message when both are there, and again while it does not come back. */
static void
send_message(RelayProbe *probe)
{
	int64_t now = loop_clock();

	if (!probe->clients[0].up || !probe->clients[1].up || now - probe->sent_at < AGAIN_MS * INT64_C(1000000))
		return;
	probe->sent_at = now;
	probe->message[0]++;
	relay_send(probe->clients[0].relay, probe->clients[1].public_key, probe->message, MESSAGE_LEN);
}

static void
on_down(void *arg, Relay *relay, const char *reason)
{
	Client *client = arg;

	(void) relay;
	client->up = false;
	client->probe->sent_at = 0; /* both must be there again */
	note(client->errs, "%s", reason);
}

static void
on_packet(void *arg, Relay *relay, const uint8_t source[static WIRE_KEY_LEN], const uint8_t *packet, size_t n)
{
	Client *client = arg;
	RelayProbe *probe = client->probe;
	Client *other = client == &probe->clients[0] ? &probe->clients[1] : &probe->clients[0];

	if (n != MESSAGE_LEN || memcmp(packet + 1, probe->message + 1, n - 1) != 0 || memcmp(source, other->public_key, WIRE_KEY_LEN) != 0)
		return;
	if (client == &probe->clients[1])
		relay_send(relay, source, packet, n);
	else if (probe->sent_at != 0 && packet[0] == probe->message[0])
	{
		probe->round_trip_ns = loop_clock() - probe->sent_at;
		probe->done = true;
	}
}

static bool
client_start(Client *client, RelayProbe *probe, const ProbeTarget *target, const char *ip)
{
	RelayConfig config = {.region = 1,
						  .host = target->host,
						  .ip = ip,
						  .ca_file = target->ca_file,
						  .headers = target->headers,
						  .port = target->port,
						  .tls = target->tls,
						  .arg = client,
						  .up = on_up,
						  .down = on_down,
						  .packet = on_packet};

	client->probe = probe;
	crypto_box_keypair(config.public_key, config.private_key);
	memcpy(client->public_key, config.public_key, WIRE_KEY_LEN);
	note(client->logs, "connecting to %s", ip);
	client->relay = relay_create(probe->loop, &config);
	sodium_memzero(config.private_key, sizeof(config.private_key));
	return client->relay != NULL;
}

static const char *
last_error(const RelayProbe *probe)
{
	for (int i = 0; i < 2; i++)
	{
		const json_t *errs = probe->clients[i].errs;

		if (json_array_size(errs) > 0)
			return json_string_value(json_array_get(errs, json_array_size(errs) - 1));
	}
	return probe->sent_at != 0 ? "a message did not come back" : "timed out";
}

/* What the two found out; takes their lines. */
static json_t *
relay_result(RelayProbe *probe, bool ipv6)
{
	const Client *client = &probe->clients[0];
	const char *websocket = client->relay != NULL ? relay_websocket_reason(client->relay) : NULL;
	json_t *result = json_pack("{s:b, s:I, s:I, s:b, s:b, s:[o, o], s:[o, o]}", "can_exchange_messages", probe->done,
							   "round_trip_ns", (json_int_t) probe->round_trip_ns, "latency_ns",
							   (json_int_t) client->latency_ns, "ipv6", ipv6, "uses_websocket", websocket != NULL,
							   "client_logs", probe->clients[0].logs, probe->clients[1].logs, "client_errs",
							   probe->clients[0].errs, probe->clients[1].errs);

	if (result != NULL && websocket != NULL)
		json_object_set_new(result, "websocket_reason", json_string(websocket));
	if (result != NULL && !probe->done)
		json_object_set_new(result, "error", json_string(last_error(probe)));
	return result;
}

json_t *
probe_relay(const ProbeTarget *target, int timeout_ms, const atomic_bool *stop)
{
	RelayProbe probe = {.loop = loop_create()};
	int64_t end = loop_clock() + timeout_ms * INT64_C(1000000);
	Address address = {.len = 0};
	json_t *result;
	bool running = probe.loop != NULL;

	if (!running)
		return NULL;
	randombytes_buf(probe.message, sizeof(probe.message));
	for (int i = 0; i < 2; i++)
	{
		probe.clients[i].logs = json_array();
		probe.clients[i].errs = json_array();
	}
	if (!resolve(&address, target))
	{
		note(probe.clients[0].errs, "could not resolve %s", target->host);
		running = false;
	}
	for (int i = 0; i < 2 && running; i++)
		running = client_start(&probe.clients[i], &probe, target, address.text);
	while (running && !probe.done && !stopped(stop) && loop_clock() < end && json_array_size(probe.clients[0].errs) < TRIES)
	{
		send_message(&probe);
		loop_once(probe.loop, ROUND_MS);
	}
	result = relay_result(&probe, address.any.ss_family == AF_INET6);
	for (int i = 0; i < 2; i++)
		if (probe.clients[i].relay != NULL)
			relay_destroy(probe.clients[i].relay);
	loop_once(probe.loop, 0); /* what was put off ends with it */
	loop_destroy(probe.loop);
	return result;
}

/* STUN ----------------------------------------------------------------------- */

/* Waits for the answer to txid; false when until has come, or on *stop. */
static bool
stun_answer(int fd, const uint8_t txid[static WIRE_STUN_TXID_LEN], int64_t until, const atomic_bool *stop, uint8_t ip[static 16],
			uint16_t *port)
{
	while (loop_clock() < until && !stopped(stop))
	{
		struct pollfd wait = {.fd = fd, .events = POLLIN};
		uint8_t in[1500];
		const uint8_t *id;
		ssize_t n;

		if (poll(&wait, 1, ROUND_MS) <= 0)
			continue;
		n = recv(fd, in, sizeof(in), MSG_DONTWAIT);
		if (n > 0 && wire_stun_get_response(&id, ip, port, in, (size_t) n) == WIRE_OK && memcmp(id, txid, WIRE_STUN_TXID_LEN) == 0)
			return true;
	}
	return false;
}

static json_t *
stun_result(const uint8_t ip[static 16], uint16_t port, int64_t latency_ns, bool ipv6)
{
	static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	char text[INET6_ADDRSTRLEN] = "";
	bool v4 = memcmp(ip, mapped, sizeof(mapped)) == 0;

	inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? ip + 12 : ip, text, sizeof(text));
	return json_pack("{s:b, s:I, s:b, s:o}", "can_stun", true, "latency_ns", (json_int_t) latency_ns, "ipv6", ipv6, "address",
					 json_sprintf(v4 ? "%s:%d" : "[%s]:%d", text, port));
}

json_t *
probe_stun(const ProbeTarget *target, int timeout_ms, const atomic_bool *stop)
{
	int64_t end = loop_clock() + timeout_ms * INT64_C(1000000);
	uint8_t txid[WIRE_STUN_TXID_LEN], request[WIRE_STUN_REQUEST_LEN], ip[16];
	json_t *result = NULL;
	const char *error = "no answer";
	Address address;
	uint16_t port;
	int fd;

	if (!resolve(&address, target))
		return json_pack("{s:b, s:s}", "can_stun", false, "error", "could not resolve its name");
	fd = socket(address.any.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *) &address.any, address.len) < 0)
		error = strerror(errno);
	while (fd >= 0 && result == NULL && loop_clock() < end && !stopped(stop))
	{
		int64_t at = loop_clock(), again = at + STUN_RETRY_MS * INT64_C(1000000);

		randombytes_buf(txid, sizeof(txid));
		wire_stun_put_request(request, sizeof(request), txid);
		if (send(fd, request, sizeof(request), 0) < 0 && errno != ECONNREFUSED)
		{
			error = strerror(errno);
			break;
		}
		if (stun_answer(fd, txid, again < end ? again : end, stop, ip, &port))
			result = stun_result(ip, port, loop_clock() - at, address.any.ss_family == AF_INET6);
	}
	if (fd >= 0)
		close(fd);
	return result != NULL ? result : json_pack("{s:b, s:s}", "can_stun", false, "error", error);
}
