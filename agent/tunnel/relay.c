/*
 * relay.c -- a DERP client.
 *
 * States: waiting (for the timer) -> resolving (a thread) -> connecting -> TLS
 * -> upgrade sent -> server key awaited -> up.  Any failure leads to waiting.
 * In a WebSocket the same bytes go: out is put into its frames when it is
 * written, and in is what was taken out of them.
 * ClientInfo is followed at once by packets; ServerInfo is only read.
 *
 * SPDX-License-Identifier: MIT
 */
#include "tunnel/relay.h"
#include "wire/wsframe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOGIN_MS 10000
#define SILENCE_MS 120000
#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 5000
#define MAX_QUEUE (8 * 1024 * 1024)
#define MAX_EARLY 65536 /* kept for a connection that is on its way: a first handshake */
#define MAX_RESPONSE 16384
#define READ_SIZE 65536
#define READ_ROUNDS 8
#define MAX_WS_FRAME (4 * 1024 * 1024)
#define WS_WRITE 65536 /* of the stream, in one frame */

typedef enum RelayState
{
	RELAY_WAITING,
	RELAY_RESOLVING,
	RELAY_CONNECTING,
	RELAY_TLS,
	RELAY_UPGRADE,
	RELAY_SERVER_KEY,
	RELAY_UP
} RelayState;

typedef struct Buffer
{
	uint8_t *bytes;
	size_t start, end, cap;
} Buffer;

/* A name looked up in a thread; relay is NULL once nobody waits. */
typedef struct Lookup
{
	Loop *loop;
	Relay *relay;
	char host[256];
	char port[8];
	struct addrinfo *found;
} Lookup;

struct Relay
{
	Loop *loop;
	RelayConfig config;
	char *host, *ip, *cert_name, *ca_file, *headers;
	RelayState state;
	int fd;
	LoopFd *watch;
	SSL *ssl;
	Lookup *lookup;
	struct addrinfo *addresses; /* of the lookup; next_address is tried next */
	struct addrinfo *next_address;
	LoopTimer timer; /* pause, login limit, silence limit */
	int backoff_ms;
	int64_t asked; /* when the upgrade was sent */
	int64_t last_read;
	int64_t last_used;
	bool home;
	bool flush_due; /* a deferred flush is on its way */
	bool gone; /* destroyed while that call waits */
	bool want_write; /* the socket is full */
	Buffer in, out;
	Buffer framed_in, framed_out; /* of a WebSocket */
	bool websocket;
	char websocket_reason[64];
	Buffer early; /* frames of packets from before the login */
};

static void on_fd(void *arg, uint32_t events);
static void on_timer(void *arg);

/* Room for n more bytes at the end. */
static uint8_t *
buffer_reserve(Buffer *b, size_t n)
{
	size_t used = b->end - b->start;
	size_t cap = b->cap == 0 ? 16384 : b->cap;
	uint8_t *bytes;

	if (b->cap - b->end >= n && b->cap > 0)
		return b->bytes + b->end;
	if (b->start > 0)
	{
		memmove(b->bytes, b->bytes + b->start, used);
		b->start = 0;
		b->end = used;
	}
	while (cap - used < n)
		cap *= 2;
	if (cap != b->cap)
	{
		bytes = realloc(b->bytes, cap);
		if (bytes == NULL)
			return NULL;
		b->bytes = bytes;
		b->cap = cap;
	}
	return b->bytes + b->end;
}

/* n bytes at the front are done with; an empty large buffer is given back. */
static void
buffer_consume(Buffer *b, size_t n)
{
	b->start += n;
	if (b->start < b->end)
		return;
	b->start = b->end = 0;
	if (b->cap > 4 * READ_SIZE)
	{
		free(b->bytes);
		*b = (Buffer){0};
	}
}

static void
buffer_free(Buffer *b)
{
	free(b->bytes);
	*b = (Buffer){0};
}

int
relay_region(const Relay *relay)
{
	return relay->config.region;
}

bool
relay_is_up(const Relay *relay)
{
	return relay->state == RELAY_UP;
}

const char *
relay_websocket_reason(const Relay *relay)
{
	return relay->websocket_reason[0] != '\0' ? relay->websocket_reason : NULL;
}

int64_t
relay_last_used(const Relay *relay)
{
	return relay->last_used;
}

/* Closes what there is of a connection. */
static void
disconnect(Relay *relay)
{
	loop_fd_del(relay->watch);
	relay->watch = NULL;
	if (relay->ssl != NULL)
		SSL_free(relay->ssl);
	relay->ssl = NULL;
	if (relay->fd >= 0)
		close(relay->fd);
	relay->fd = -1;
	if (relay->lookup != NULL)
		relay->lookup->relay = NULL;
	relay->lookup = NULL;
	buffer_free(&relay->in);
	buffer_free(&relay->out);
	buffer_free(&relay->framed_in);
	buffer_free(&relay->framed_out);
	relay->want_write = false;
}

static void
free_addresses(Relay *relay)
{
	if (relay->addresses != NULL)
		freeaddrinfo(relay->addresses);
	relay->addresses = relay->next_address = NULL;
}

/* The connection is no more: wait, and try again. */
static void
fail(Relay *relay, const char *reason)
{
	disconnect(relay);
	free_addresses(relay);
	relay->state = RELAY_WAITING;
	loop_timer_start(&relay->timer, relay->backoff_ms + (int) randombytes_uniform(100));
	relay->backoff_ms *= 2;
	if (relay->backoff_ms > BACKOFF_MAX_MS)
		relay->backoff_ms = BACKOFF_MAX_MS;
	relay->config.down(relay->config.arg, relay, reason);
}

/* I/O, plain or TLS: bytes moved, 0 if it must wait, -1 at the end. */

static ssize_t
ssl_result(Relay *relay, int n)
{
	int error = n > 0 ? SSL_ERROR_NONE : SSL_get_error(relay->ssl, n);

	ERR_clear_error();
	if (n > 0)
		return n;
	if (error == SSL_ERROR_WANT_WRITE)
		relay->want_write = true;
	return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static ssize_t
relay_read(Relay *relay, uint8_t *to, size_t n)
{
	ssize_t got;

	if (relay->ssl != NULL)
		return ssl_result(relay, SSL_read(relay->ssl, to, (int) n));
	got = recv(relay->fd, to, n, 0);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	return got > 0 ? got : -1;
}

static ssize_t
relay_write(Relay *relay, const uint8_t *from, size_t n)
{
	ssize_t put;

	if (relay->ssl != NULL)
		return ssl_result(relay, SSL_write(relay->ssl, from, (int) n));
	put = send(relay->fd, from, n, MSG_NOSIGNAL);
	if (put < 0 && (errno == EAGAIN || errno == EINTR))
	{
		relay->want_write = true;
		return 0;
	}
	return put > 0 ? put : -1;
}

static void
put_ws_frame(Relay *relay, int op, const uint8_t *data, size_t n)
{
	uint8_t *to = buffer_reserve(&relay->framed_out, n + WIRE_WS_HEADER_MAX);
	uint8_t mask[4];

	if (to == NULL)
		return;
	randombytes_buf(mask, sizeof(mask));
	relay->framed_out.end += wire_ws_put(to, op, mask, data, n);
}

/* What is to be written next; of a WebSocket, a frame at a time: the rest may yet be dropped. */
static Buffer *
to_write(Relay *relay)
{
	Buffer *out = &relay->out;
	size_t n = out->end - out->start;

	if (!relay->websocket)
		return out;
	if (relay->framed_out.end == relay->framed_out.start && n > 0 && relay->state > RELAY_UPGRADE)
	{
		n = n < WS_WRITE ? n : WS_WRITE;
		put_ws_frame(relay, WIRE_WS_BINARY, out->bytes + out->start, n);
		buffer_consume(out, n);
	}
	return &relay->framed_out;
}

/* False if the connection failed. */
static bool
flush(Relay *relay)
{
	relay->want_write = false;
	while (relay->state >= RELAY_UPGRADE)
	{
		Buffer *out = to_write(relay);

		if (out->end == out->start)
			break;

		ssize_t n = relay_write(relay, out->bytes + out->start, out->end - out->start);

		if (n < 0)
		{
			fail(relay, "could not write to the relay");
			return false;
		}
		if (n == 0)
			break;
		buffer_consume(out, (size_t) n);
	}
	loop_fd_set(relay->watch, relay->want_write ? EPOLLIN | EPOLLOUT : EPOLLIN);
	return true;
}

static void
on_flush(void *arg)
{
	Relay *relay = arg;

	relay->flush_due = false;
	if (relay->gone)
		free(relay);
	else if (relay->state >= RELAY_UPGRADE)
		flush(relay);
}

/* What is queued in one round goes out with few writes at its end. */
static void
flush_later(Relay *relay)
{
	if (!relay->flush_due && !relay->want_write)
		relay->flush_due = loop_defer(relay->loop, on_flush, relay);
}

static void
put_frame(Relay *relay, uint8_t type, const void *payload, size_t n)
{
	uint8_t *to = buffer_reserve(&relay->out, WIRE_DERP_HEADER_LEN + n);

	if (to == NULL)
		return;
	relay->out.end += wire_derp_put(to, WIRE_DERP_HEADER_LEN + n, type, payload, n);
	flush_later(relay);
}

void
relay_send(Relay *relay, const uint8_t to[static WIRE_KEY_LEN], const uint8_t *packet, size_t n)
{
	size_t size = WIRE_DERP_HEADER_LEN + WIRE_KEY_LEN + n;
	bool up = relay->state == RELAY_UP;
	Buffer *queue = up ? &relay->out : &relay->early;
	uint8_t *p;

	relay->last_used = loop_now(relay->loop);
	if (queue->end - queue->start + size > (up ? MAX_QUEUE : MAX_EARLY) ||
		(p = buffer_reserve(queue, size)) == NULL)
		return;
	queue->end += wire_derp_put_send(p, size, to, packet, n);
	if (up)
		flush_later(relay);
}

/* What was sent before the login goes out now. */
static void
send_early(Relay *relay)
{
	size_t n = relay->early.end - relay->early.start;
	uint8_t *to = n == 0 ? NULL : buffer_reserve(&relay->out, n);

	if (to != NULL)
	{
		wire_put_bytes(to, relay->early.bytes + relay->early.start, n);
		relay->out.end += n;
	}
	buffer_free(&relay->early);
}

void
relay_set_home(Relay *relay, bool home)
{
	uint8_t byte = home ? 1 : 0;

	if (relay->home == home)
		return;
	relay->home = home;
	if (relay->state == RELAY_UP)
		put_frame(relay, WIRE_DERP_NOTE_PREFERRED, &byte, 1);
}

/* The relay has told its key: say who we are, proving the private key. */
static void
log_in(Relay *relay, const uint8_t *server_key)
{
	static const char info[] = "{\"version\":2,\"CanAckPings\":true}";
	uint8_t nonce[WIRE_DERP_NONCE_LEN];
	uint8_t box[WIRE_DERP_BOX_MAC + sizeof(info) - 1];
	uint8_t *to;
	size_t cap = 256;

	randombytes_buf(nonce, sizeof(nonce));
	to = buffer_reserve(&relay->out, cap);
	if (to == NULL || crypto_box_easy(box,
									  (const uint8_t *) info,
									  sizeof(info) - 1,
									  nonce,
									  server_key,
									  relay->config.private_key) != 0)
	{
		fail(relay, "could not log in to the relay");
		return;
	}
	relay->out.end += wire_derp_put_client_info(
		to, cap, relay->config.public_key, nonce, box, sizeof(box));
	relay->state = RELAY_UP;
	relay->backoff_ms = BACKOFF_MIN_MS;
	free_addresses(relay);
	if (relay->home)
		put_frame(relay, WIRE_DERP_NOTE_PREFERRED, "\1", 1);
	send_early(relay);
	flush_later(relay);
	loop_timer_start(&relay->timer, SILENCE_MS);
	relay->config.up(relay->config.arg, relay, relay->last_read - relay->asked);
}

/* False if the connection failed. */
static bool
on_frame(Relay *relay, const WireDerpFrame *frame)
{
	const uint8_t *key;
	const uint8_t *packet;
	size_t n;

	if (relay->state == RELAY_SERVER_KEY)
	{
		if (wire_derp_get_server_key(&key, frame) == WIRE_OK)
			log_in(relay, key);
		else
			fail(relay, "the relay does not speak DERP");
	}
	else if (frame->type == WIRE_DERP_RECV_PACKET)
	{
		if (wire_derp_get_packet(&key, &packet, &n, frame) == WIRE_OK)
			relay->config.packet(relay->config.arg, relay, key, packet, n);
		else
			fail(relay, "the relay sent a bad packet");
	}
	else if (frame->type == WIRE_DERP_PING && frame->n == 8)
		put_frame(relay, WIRE_DERP_PONG, frame->payload, 8);
	return relay->state == RELAY_UP;
}

static void
take_frames(Relay *relay)
{
	WireDerpFrame frame;
	size_t need;

	for (;;)
	{
		Buffer *in = &relay->in;
		WireResult result =
			wire_derp_get(&frame, &need, in->bytes + in->start, in->end - in->start);

		if (result == WIRE_SHORT)
			return;
		if (result == WIRE_BAD)
		{
			fail(relay, "the relay sent a frame that is too long");
			return;
		}
		if (!on_frame(relay, &frame))
			return;
		buffer_consume(in, wire_derp_size(&frame));
		if (in->end == in->start)
			return;
	}
}

/* False if the connection failed. */
static bool
on_ws_frame(Relay *relay, const WireWsFrame *frame)
{
	uint8_t *to;

	if (frame->op == WIRE_WS_PING)
	{
		put_ws_frame(relay, WIRE_WS_PONG, frame->data, frame->size);
		flush_later(relay);
	}
	else if (frame->op == WIRE_WS_BINARY || frame->op == WIRE_WS_CONTINUATION)
	{
		to = buffer_reserve(&relay->in, frame->size);
		if (to == NULL)
		{
			fail(relay, "out of memory");
			return false;
		}
		wire_put_bytes(to, frame->data, frame->size);
		relay->in.end += frame->size;
	}
	else if (frame->op != WIRE_WS_PONG)
	{
		fail(relay, frame->op == WIRE_WS_CLOSE ? "the relay closed the WebSocket" : "the relay sent a bad WebSocket frame");
		return false;
	}
	return true;
}

/* Takes the stream out of the WebSocket's frames, then the relay's frames out of the stream. */
static void
take_ws_frames(Relay *relay)
{
	Buffer *framed = &relay->framed_in;
	WireWsFrame frame;
	const char *problem;
	size_t n;

	while ((n = wire_ws_get(&frame, framed->bytes + framed->start, framed->end - framed->start, MAX_WS_FRAME, &problem)) > 0)
	{
		if (!on_ws_frame(relay, &frame))
			return;
		buffer_consume(framed, n);
		if (framed->end == framed->start)
			break;
	}
	if (problem != NULL)
		fail(relay, "the relay sent a bad WebSocket frame");
	else if (relay->in.end > relay->in.start)
		take_frames(relay);
}

/* What came behind the answer to the upgrade belongs to the WebSocket. */
static void
begin_websocket(Relay *relay)
{
	buffer_free(&relay->framed_in);
	relay->framed_in = relay->in;
	relay->in = (Buffer){0};
	if (relay->framed_in.end > relay->framed_in.start)
		take_ws_frames(relay);
}

/* Not 101.  Something on the way that does not know this upgrade lets a WebSocket pass. */
static void
refused(Relay *relay, const char *text, size_t n)
{
	bool retry = n >= 12 && text[9] == '4' && !relay->websocket;

	if (retry)
	{
		relay->websocket = true;
		snprintf(relay->websocket_reason, sizeof(relay->websocket_reason), "the answer to the upgrade was %.3s", text + 9);
	}
	fail(relay, retry ? "the upgrade was refused: a WebSocket is next" : "the relay refused the upgrade");
	if (retry)
		loop_timer_start(&relay->timer, 0);
}

/* The answer to the upgrade, up to its empty line. */
static void
take_response(Relay *relay)
{
	Buffer *in = &relay->in;
	const char *text = (const char *) in->bytes + in->start;
	size_t n = in->end - in->start;
	const char *end = memmem(text, n, "\r\n\r\n", 4);

	if (end == NULL)
	{
		if (n > MAX_RESPONSE)
			fail(relay, "the relay's answer is too long");
		return;
	}
	if (n < 12 || strncasecmp(text, "HTTP/1.1 101", 12) != 0)
	{
		refused(relay, text, n);
		return;
	}
	relay->state = RELAY_SERVER_KEY;
	buffer_consume(in, (size_t) (end + 4 - text));
	if (relay->websocket)
		begin_websocket(relay);
	else if (in->end > in->start)
		take_frames(relay);
}

static void
on_readable(Relay *relay)
{
	for (int i = 0; i < READ_ROUNDS && relay->state >= RELAY_UPGRADE; i++)
	{
		Buffer *in = relay->websocket && relay->state > RELAY_UPGRADE ? &relay->framed_in : &relay->in;
		uint8_t *to = buffer_reserve(in, READ_SIZE);
		ssize_t n = to == NULL ? -1 : relay_read(relay, to, READ_SIZE);

		if (n < 0)
		{
			fail(relay, "the relay closed the connection");
			return;
		}
		if (n == 0)
			return;
		in->end += (size_t) n;
		relay->last_read = loop_clock();
		if (relay->state == RELAY_UPGRADE)
			take_response(relay);
		else if (relay->websocket)
			take_ws_frames(relay);
		else
			take_frames(relay);
	}
}

static void
websocket_headers(char *dst, size_t cap)
{
	uint8_t nonce[16];
	char key[sodium_base64_ENCODED_LEN(sizeof(nonce), sodium_base64_VARIANT_ORIGINAL)];

	randombytes_buf(nonce, sizeof(nonce));
	sodium_bin2base64(key, sizeof(key), nonce, sizeof(nonce), sodium_base64_VARIANT_ORIGINAL);
	snprintf(dst, cap, "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Protocol: derp\r\n", key);
}

static void
send_upgrade(Relay *relay)
{
	const RelayConfig *c = &relay->config;
	bool odd_port = c->port != (c->tls ? 443 : 80);
	Buffer *out = relay->websocket ? &relay->framed_out : &relay->out;
	char upgrade[160] = "Upgrade: DERP\r\n";
	char port[8] = "";
	uint8_t *to;
	int n;

	if (odd_port)
		snprintf(port, sizeof(port), ":%u", c->port);
	if (relay->websocket)
		websocket_headers(upgrade, sizeof(upgrade));
	to = buffer_reserve(out, 8192);
	n = to == NULL ? -1
				   : snprintf((char *) to,
							  8192,
							  "GET /derp HTTP/1.1\r\nHost: %s%s\r\nConnection: Upgrade\r\n"
							  "%s%s\r\n",
							  relay->host,
							  port,
							  upgrade,
							  relay->headers != NULL ? relay->headers : "");
	if (n < 0 || n >= 8192)
	{
		fail(relay, "could not ask the relay");
		return;
	}
	out->end += (size_t) n;
	relay->state = RELAY_UPGRADE;
	relay->asked = loop_clock();
	flush(relay);
}

/* One context for the process: the roots take memory, and only who needs TLS pays. */
static SSL_CTX *
tls_context(const char *ca_file)
{
	static const char *const bundles[] = {"/etc/ssl/certs/ca-certificates.crt",
										  "/etc/pki/tls/certs/ca-bundle.crt",
										  "/etc/ssl/cert.pem"};
	static SSL_CTX *context;

	if (context != NULL)
		return context;
	context = SSL_CTX_new(TLS_client_method());
	if (context == NULL)
		return NULL;
	SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
	SSL_CTX_set_mode(context,
					 SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
						 SSL_MODE_RELEASE_BUFFERS);
	if (ca_file != NULL)
		SSL_CTX_load_verify_locations(context, ca_file, NULL);
	else if (getenv("SSL_CERT_FILE") != NULL)
		SSL_CTX_load_verify_locations(context, getenv("SSL_CERT_FILE"), NULL);
	else
		for (size_t i = 0; i < sizeof(bundles) / sizeof(*bundles); i++)
			if (SSL_CTX_load_verify_locations(context, bundles[i], NULL) == 1)
				break;
	ERR_clear_error();
	return context;
}

static bool
tls_begin(Relay *relay)
{
	static const uint8_t alpn[] = "\x08http/1.1";
	SSL_CTX *context = tls_context(relay->ca_file);
	const char *name = relay->cert_name != NULL ? relay->cert_name : relay->host;

	relay->ssl = context == NULL ? NULL : SSL_new(context);
	if (relay->ssl == NULL)
		return false;
	SSL_set_fd(relay->ssl, relay->fd);
	SSL_set_tlsext_host_name(relay->ssl, relay->host);
	SSL_set_alpn_protos(relay->ssl, alpn, sizeof(alpn) - 1);
	if (!relay->config.insecure)
	{
		struct in6_addr ip;

		SSL_set_verify(relay->ssl, SSL_VERIFY_PEER, NULL);
		if (inet_pton(AF_INET, name, &ip) == 1 || inet_pton(AF_INET6, name, &ip) == 1)
			X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(relay->ssl), name);
		else
			SSL_set1_host(relay->ssl, name);
	}
	relay->state = RELAY_TLS;
	return true;
}

static void
tls_step(Relay *relay)
{
	ssize_t done;

	relay->want_write = false;
	done = ssl_result(relay, SSL_connect(relay->ssl));
	if (done > 0)
		send_upgrade(relay);
	else if (done < 0)
		fail(relay,
			 SSL_get_verify_result(relay->ssl) == X509_V_OK
				 ? "could not agree with the relay on TLS"
				 : "the relay's certificate is not trusted");
	else
		loop_fd_set(relay->watch, relay->want_write ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* Tries the addresses in turn, until one connects or is on its way. */
static void
connect_next(Relay *relay)
{
	static const int on = 1;

	while (relay->next_address != NULL)
	{
		const struct addrinfo *a = relay->next_address;

		relay->next_address = a->ai_next;
		relay->fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (relay->fd < 0)
			continue;
		setsockopt(relay->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		setsockopt(relay->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
		if (connect(relay->fd, a->ai_addr, a->ai_addrlen) == 0 || errno == EINPROGRESS)
		{
			relay->state = RELAY_CONNECTING;
			relay->watch = loop_fd_add(relay->loop, relay->fd, EPOLLOUT, on_fd, relay);
			if (relay->watch != NULL)
				return;
		}
		close(relay->fd);
		relay->fd = -1;
	}
	fail(relay, "could not connect to the relay");
}

static void
on_connecting(Relay *relay)
{
	int error = 0;
	socklen_t n = sizeof(error);

	getsockopt(relay->fd, SOL_SOCKET, SO_ERROR, &error, &n);
	if (error != 0)
	{
		disconnect(relay);
		connect_next(relay);
		return;
	}
	if (!relay->config.tls)
		send_upgrade(relay);
	else if (tls_begin(relay))
		tls_step(relay);
	else
		fail(relay, "could not start TLS");
}

static void
on_fd(void *arg, uint32_t events)
{
	Relay *relay = arg;

	if (relay->state == RELAY_CONNECTING)
		on_connecting(relay);
	else if (relay->state == RELAY_TLS)
		tls_step(relay);
	else
	{
		if ((events & EPOLLOUT) != 0 && !flush(relay))
			return;
		if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
			on_readable(relay);
	}
}

/* Names. */

static void
on_looked_up(void *arg)
{
	Lookup *lookup = arg;
	Relay *relay = lookup->relay;

	if (relay != NULL)
	{
		relay->lookup = NULL;
		relay->addresses = relay->next_address = lookup->found;
		lookup->found = NULL;
		if (relay->addresses != NULL)
			connect_next(relay);
		else
			fail(relay, "could not resolve the relay's name");
	}
	if (lookup->found != NULL)
		freeaddrinfo(lookup->found);
	free(lookup);
}

static void
look_up(Lookup *lookup, int flags)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags};

	if (getaddrinfo(lookup->host, lookup->port, &hints, &lookup->found) != 0)
		lookup->found = NULL;
}

static void *
lookup_thread(void *arg)
{
	Lookup *lookup = arg;

	look_up(lookup, AI_ADDRCONFIG);
	loop_post(lookup->loop, on_looked_up, lookup);
	return NULL;
}

static void
resolve(Relay *relay)
{
	Lookup *lookup = calloc(1, sizeof(*lookup));
	const char *name = relay->ip != NULL ? relay->ip : relay->host;
	pthread_attr_t attr;
	pthread_t thread;
	bool started;

	relay->state = RELAY_RESOLVING;
	loop_timer_start(&relay->timer, LOGIN_MS);
	if (lookup == NULL)
	{
		fail(relay, "out of memory");
		return;
	}
	lookup->loop = relay->loop;
	lookup->relay = relay;
	snprintf(lookup->host, sizeof(lookup->host), "%s", name);
	snprintf(lookup->port, sizeof(lookup->port), "%u", relay->config.port);
	relay->lookup = lookup;
	look_up(lookup, AI_NUMERICHOST);
	if (lookup->found != NULL)
	{
		on_looked_up(lookup);
		return;
	}
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 256 * 1024);
	started = pthread_create(&thread, &attr, lookup_thread, lookup) == 0;
	pthread_attr_destroy(&attr);
	if (!started)
		on_looked_up(lookup);
}

static void
on_timer(void *arg)
{
	Relay *relay = arg;
	int64_t silent;

	if (relay->state == RELAY_WAITING)
	{
		resolve(relay);
		return;
	}
	if (relay->state != RELAY_UP)
	{
		fail(relay, "the relay did not answer in time");
		return;
	}
	silent = (loop_now(relay->loop) - relay->last_read) / 1000000;
	if (silent >= SILENCE_MS)
		fail(relay, "the relay is silent");
	else
		loop_timer_start(&relay->timer, SILENCE_MS - silent + 1);
}

static char *
copy(const char *text)
{
	return text == NULL || *text == '\0' ? NULL : strdup(text);
}

Relay *
relay_create(Loop *loop, const RelayConfig *config)
{
	Relay *relay = calloc(1, sizeof(*relay));

	if (relay == NULL)
		return NULL;
	relay->loop = loop;
	relay->config = *config;
	relay->host = strdup(config->host);
	relay->ip = copy(config->ip);
	relay->cert_name = copy(config->cert_name);
	relay->ca_file = copy(config->ca_file);
	relay->headers = copy(config->headers);
	relay->fd = -1;
	relay->backoff_ms = BACKOFF_MIN_MS;
	relay->websocket = config->websocket;
	loop_timer_init(&relay->timer, loop, on_timer, relay);
	loop_timer_start(&relay->timer, 0);
	return relay;
}

void
relay_destroy(Relay *relay)
{
	if (relay == NULL)
		return;
	disconnect(relay);
	buffer_free(&relay->early);
	free_addresses(relay);
	loop_timer_stop(&relay->timer);
	relay->state = RELAY_WAITING;
	free(relay->host);
	free(relay->ip);
	free(relay->cert_name);
	free(relay->ca_file);
	free(relay->headers);
	sodium_memzero(&relay->config, sizeof(relay->config));
	if (relay->flush_due)
		relay->gone = true; /* the deferred call frees it */
	else
		free(relay);
}
