/*
 * netstack.c -- TCP inside the tunnel, over lwIP.
 *
 * A Stream joins one lwIP connection with the far end of a socket pair:
 *
 *	owner's fd  <-- rx queue <-- lwIP    bytes are acknowledged to lwIP (window)
 *	            --> tcp_write --> lwIP   only when the socket took them
 *
 * lwIP listens on ports, not on all of them, so a listener is made when the
 * first SYN for a port arrives that the owner wants.
 *
 * SPDX-License-Identifier: MIT
 */
#include "tunnel/netstack.h"

#include <errno.h>
#include <lwip/init.h>
#include <lwip/ip6_addr.h>
#include <lwip/netif.h>
#include <lwip/priv/tcp_priv.h>
#include <lwip/tcp.h>
#include <poll.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_STREAMS 1024
#define MAX_LISTENERS 256
#define CHUNK 65536 /* moved from a socket to lwIP at once */

typedef struct Listener
{
	struct Listener *next;
	struct Netstack *ns;
	struct tcp_pcb *pcb;
	uint16_t port;
} Listener;

/* What lwIP delivered in one call: one packet, or a few that were out of order. */
typedef struct Received
{
	struct Received *next;
	struct pbuf *data;
} Received;

typedef struct Stream
{
	struct Stream *prev, *next;
	Netstack *ns;
	struct tcp_pcb *pcb; /* NULL once lwIP has let go */
	int fd;
	LoopFd *watch; /* NULL once the owner has closed: hang-up would be reported for ever */
	Received *rx; /* received, not yet taken by the socket */
	Received **rx_tail;
	bool rx_fin; /* the peer has sent FIN */
	bool rx_done; /* and the socket's reader has been told */
	bool tx_done; /* the owner will send no more */
} Stream;

struct NetstackDial
{
	NetstackDial *prev, *next;
	Netstack *ns;
	struct tcp_pcb *pcb;
	LoopTimer timer;
	NetstackDialFn fn;
	void *arg;
	int result; /* what the timer will tell */
};

struct Netstack
{
	Loop *loop;
	NetstackConfig config;
	struct netif netif;
	Stream *streams;
	size_t nstreams;
	Listener *listeners;
	size_t nlisteners;
	NetstackDial *dials;
};

/* lwIP is one for the process; so are its timers, which run while it has connections. */
static struct
{
	int users;
	LoopTimer timer;
	Loop *loop;
} stack;

uint32_t
netstack_random(void)
{
	return randombytes_random();
}

static void
on_stack_timer(void *arg)
{
	(void) arg;
	tcp_tmr();
	if (tcp_active_pcbs != NULL || tcp_tw_pcbs != NULL)
		loop_timer_start(&stack.timer, TCP_TMR_INTERVAL);
}

/* lwIP calls this when a connection comes into being. */
void
tcp_timer_needed(void)
{
	if (stack.users > 0 && !loop_timer_running(&stack.timer))
		loop_timer_start(&stack.timer, TCP_TMR_INTERVAL);
}

/* The interface that has this source address; lwIP would take the first that is up. */
struct netif *
netstack_route(const struct ip6_addr *src, const struct ip6_addr *dest)
{
	struct netif *netif;

	(void) dest;
	NETIF_FOREACH(netif)
	{
		if (netif_get_ip6_addr_match(netif, src) >= 0)
			return netif;
	}
	return NULL;
}

static void
address_to_lwip(ip_addr_t *to, const uint8_t from[static 16])
{
	memset(to, 0, sizeof(*to));
	memcpy(ip_2_ip6(to)->addr, from, 16);
}

static void
address_from_lwip(uint8_t to[static 16], const ip_addr_t *from)
{
	memcpy(to, ip_2_ip6(from)->addr, 16);
}

static err_t
on_output(struct netif *netif, struct pbuf *p, const ip6_addr_t *dest)
{
	Netstack *ns = netif->state;
	uint8_t packet[NETSTACK_MTU];

	(void) dest;
	if (p->tot_len > sizeof(packet))
		return ERR_BUF;
	pbuf_copy_partial(p, packet, p->tot_len, 0);
	ns->config.output(ns->config.arg, packet, p->tot_len);
	return ERR_OK;
}

static err_t
on_netif_init(struct netif *netif)
{
	netif->mtu = NETSTACK_MTU;
#if LWIP_ND6_ALLOW_RA_UPDATES
	netif->mtu6 = NETSTACK_MTU;
#endif
	netif->output_ip6 = on_output;
	netif->name[0] = 't';
	netif->name[1] = 'n';
	return ERR_OK;
}

Netstack *
netstack_create(Loop *loop, const NetstackConfig *config)
{
	Netstack *ns = calloc(1, sizeof(*ns));

	if (ns == NULL || config->naddresses > NETSTACK_ADDRESSES)
	{
		free(ns);
		return NULL;
	}
	ns->loop = loop;
	ns->config = *config;
	if (ns->config.max_streams == 0)
		ns->config.max_streams = MAX_STREAMS;
	if (stack.users++ == 0)
	{
		static bool once;

		if (!once)
			lwip_init();
		once = true;
		loop_timer_init(&stack.timer, loop, on_stack_timer, NULL);
	}
	netif_add_noaddr(&ns->netif, ns, on_netif_init, ip6_input);
	for (size_t i = 0; i < config->naddresses; i++)
	{
		ip_addr_t address;

		address_to_lwip(&address, config->addresses[i]);
		netif_ip6_addr_set(&ns->netif, (s8_t) i, ip_2_ip6(&address));
		netif_ip6_addr_set_state(&ns->netif, (s8_t) i, IP6_ADDR_PREFERRED);
	}
	netif_set_up(&ns->netif);
	netif_set_link_up(&ns->netif);
	return ns;
}

size_t
netstack_streams(const Netstack *ns)
{
	return ns->nstreams;
}

/* Streams. */

static void
pcb_forget(struct tcp_pcb *pcb)
{
	tcp_arg(pcb, NULL);
	tcp_recv(pcb, NULL);
	tcp_sent(pcb, NULL);
	tcp_err(pcb, NULL);
	tcp_poll(pcb, NULL, 0);
}

/* Set where lwIP was told to abort: its callback in progress must answer ERR_ABRT. */
static bool aborted;

static void
pcb_abort(struct tcp_pcb *pcb)
{
	pcb_forget(pcb);
	tcp_abort(pcb);
	aborted = true;
}

/* Gives n received bytes back to the peer's window. */
static void
recved(Stream *s, size_t n)
{
	while (n > 0 && s->pcb != NULL)
	{
		u16_t part = n > 0xffff ? 0xffff : (u16_t) n;

		tcp_recved(s->pcb, part);
		n -= part;
	}
}

static void
rx_pop(Stream *s)
{
	Received *first = s->rx;

	s->rx = first->next;
	if (s->rx == NULL)
		s->rx_tail = &s->rx;
	if (first->data != NULL)
		pbuf_free(first->data);
	free(first);
}

static void
rx_drop(Stream *s)
{
	size_t n = 0;

	while (s->rx != NULL)
	{
		n += s->rx->data->tot_len;
		rx_pop(s);
	}
	recved(s, n); /* lwIP sends RST in place of FIN while bytes are unread */
}

/* Frees the stream; lwIP keeps a connection that was closed in order. */
static void
stream_free(Stream *s)
{
	Netstack *ns = s->ns;

	if (s->prev != NULL)
		s->prev->next = s->next;
	else
		ns->streams = s->next;
	if (s->next != NULL)
		s->next->prev = s->prev;
	ns->nstreams--;
	loop_fd_del(s->watch);
	close(s->fd);
	rx_drop(s);
	free(s);
}

/* Ends both sides at once: RST to the peer. */
static void
stream_abort(Stream *s)
{
	struct tcp_pcb *pcb = s->pcb;

	s->pcb = NULL;
	if (pcb != NULL)
		pcb_abort(pcb);
	stream_free(s);
}

static bool
can_send(const Stream *s)
{
	return s->pcb != NULL && tcp_sndbuf(s->pcb) > 0 &&
		   tcp_sndqueuelen(s->pcb) < TCP_SND_QUEUELEN - 64;
}

/* What the socket is watched for follows from what each direction waits for. */
static void
stream_watch(Stream *s)
{
	uint32_t events = 0;

	if (!s->tx_done && can_send(s))
		events |= EPOLLIN;
	if (s->rx != NULL)
		events |= EPOLLOUT;
	if (s->watch != NULL)
		loop_fd_set(s->watch, events);
}

/* Both directions have ended: hand the connection to lwIP to finish.  True if the stream is gone. */
static bool
stream_finish(Stream *s)
{
	struct tcp_pcb *pcb;

	if (!s->tx_done || !s->rx_done)
		return false;
	rx_drop(s);
	pcb = s->pcb;
	s->pcb = NULL;
	if (pcb != NULL)
	{
		pcb_forget(pcb);
		if (tcp_close(pcb) != ERR_OK)
			pcb_abort(pcb);
	}
	stream_free(s);
	return true;
}

/* Takes n bytes off the front of what was received. */
static void
rx_consume(Stream *s, size_t n)
{
	while (n > 0)
	{
		size_t here = s->rx->data->tot_len;

		if (n < here)
		{
			s->rx->data = pbuf_free_header(s->rx->data, (u16_t) n);
			return;
		}
		n -= here;
		rx_pop(s);
	}
}

static ssize_t
rx_write(Stream *s)
{
	struct iovec iov[64];
	struct msghdr msg = {.msg_iov = iov};

	for (const Received *r = s->rx; r != NULL; r = r->next)
		for (struct pbuf *p = r->data; p != NULL && msg.msg_iovlen < 64; p = p->next)
			iov[msg.msg_iovlen++] = (struct iovec){.iov_base = p->payload, .iov_len = p->len};
	return sendmsg(s->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Received bytes to the socket.  False if the stream is gone. */
static bool
stream_drain(Stream *s)
{
	size_t taken = 0;

	while (s->rx != NULL && !s->rx_done)
	{
		ssize_t n = rx_write(s);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n < 0)
		{
			s->rx_done = true; /* the owner has closed: nobody to read */
			rx_drop(s);
			break;
		}
		taken += (size_t) n;
		rx_consume(s, (size_t) n);
	}
	recved(s, taken);
	if (s->rx == NULL && s->rx_fin && !s->rx_done)
	{
		s->rx_done = true;
		shutdown(s->fd, SHUT_WR);
	}
	return !stream_finish(s);
}

/* The owner's bytes to lwIP.  False if the stream is gone. */
static bool
stream_fill(Stream *s)
{
	static uint8_t chunk[CHUNK];
	bool wrote = false;

	while (!s->tx_done && can_send(s))
	{
		size_t room = tcp_sndbuf(s->pcb);
		ssize_t n = recv(s->fd, chunk, room > 0xffff ? 0xffff : room, MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n > 0)
		{
			if (tcp_write(s->pcb, chunk, (u16_t) n, TCP_WRITE_FLAG_COPY) != ERR_OK)
			{
				stream_abort(s); /* out of memory, and the bytes are out of the socket */
				return false;
			}
			wrote = true;
			continue;
		}
		s->tx_done = true;
		if (stream_finish(s))
			return false;
		if (tcp_shutdown(s->pcb, 0, 1) != ERR_OK)
		{
			stream_abort(s);
			return false;
		}
	}
	if (wrote && s->pcb != NULL)
		tcp_output(s->pcb);
	return true;
}

/* The owner has closed its end: what it wrote still goes out, what comes is dropped. */
static void
stream_hung_up(Stream *s)
{
	loop_fd_del(s->watch);
	s->watch = NULL;
	s->rx_done = true;
	rx_drop(s);
	stream_finish(s);
}

static void
on_stream_fd(void *arg, uint32_t events)
{
	Stream *s = arg;

	if ((events & EPOLLOUT) != 0 && !stream_drain(s))
		return;
	if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && !stream_fill(s))
		return;
	if ((events & (EPOLLHUP | EPOLLERR)) != 0)
		stream_hung_up(s);
	else
		stream_watch(s);
}

static err_t
on_recv(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err)
{
	Stream *s = arg;
	Received *r;

	(void) err;
	(void) pcb;
	if (p == NULL)
		s->rx_fin = true;
	else if (s->rx_done)
	{
		recved(s, p->tot_len);
		pbuf_free(p);
	}
	else
	{
		r = malloc(sizeof(*r));
		if (r == NULL)
			return ERR_MEM; /* lwIP keeps it and offers it again */
		*r = (Received){.data = p};
		*s->rx_tail = r;
		s->rx_tail = &r->next;
	}
	aborted = false;
	if (stream_drain(s))
		stream_watch(s);
	return aborted ? ERR_ABRT : ERR_OK;
}

static err_t
on_sent(void *arg, struct tcp_pcb *pcb, u16_t n)
{
	Stream *s = arg;

	(void) pcb;
	(void) n;
	aborted = false;
	if (s->watch != NULL)
		stream_watch(s);
	else
		stream_fill(s);
	return aborted ? ERR_ABRT : ERR_OK;
}

/* lwIP has freed the pcb: reset, or too many retransmissions. */
static void
on_error(void *arg, err_t err)
{
	Stream *s = arg;

	(void) err;
	if (s == NULL)
		return;
	s->pcb = NULL;
	stream_free(s);
}

/* Joins an established connection with a new socket pair.  The owner's end, or -errno. */
static int
stream_open(Netstack *ns, struct tcp_pcb *pcb)
{
	int fds[2];
	Stream *s;

	if (ns->nstreams >= ns->config.max_streams)
		return -EMFILE;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	s = calloc(1, sizeof(*s));
	if (s == NULL || (s->watch = loop_fd_add(ns->loop, fds[1], EPOLLIN, on_stream_fd, s)) == NULL)
	{
		free(s);
		close(fds[0]);
		close(fds[1]);
		return -ENOMEM;
	}
	s->ns = ns;
	s->pcb = pcb;
	s->fd = fds[1];
	s->rx_tail = &s->rx;
	s->next = ns->streams;
	if (s->next != NULL)
		s->next->prev = s;
	ns->streams = s;
	ns->nstreams++;
	tcp_nagle_disable(pcb); /* a terminal's keystroke must not wait */
	tcp_arg(pcb, s);
	tcp_recv(pcb, on_recv);
	tcp_sent(pcb, on_sent);
	tcp_err(pcb, on_error);
	return fds[0];
}

/* Accepting. */

static err_t
on_accept(void *arg, struct tcp_pcb *pcb, err_t err)
{
	Listener *listener = arg;
	Netstack *ns;
	uint8_t peer[16];
	int fd;

	if (err != ERR_OK || pcb == NULL || listener == NULL)
		return ERR_VAL;
	ns = listener->ns;
	fd = stream_open(ns, pcb);
	if (fd < 0)
	{
		tcp_abort(pcb);
		return ERR_ABRT;
	}
	address_from_lwip(peer, &pcb->remote_ip);
	ns->config.accepted(ns->config.arg, fd, peer, pcb->remote_port, listener->port);
	return ERR_OK;
}

static void
listener_close(Netstack *ns, Listener **at)
{
	Listener *listener = *at;

	*at = listener->next;
	ns->nlisteners--;
	tcp_arg(listener->pcb, NULL);
	tcp_close(listener->pcb);
	free(listener);
}

static bool
listening(const Netstack *ns, uint16_t port)
{
	for (const Listener *l = ns->listeners; l != NULL; l = l->next)
		if (l->port == port)
			return true;
	return false;
}

static void
listen_on(Netstack *ns, uint16_t port)
{
	struct tcp_pcb *pcb = tcp_new_ip_type(IPADDR_TYPE_V6);
	Listener *listener = malloc(sizeof(*listener));
	struct tcp_pcb *bound;

	if (pcb == NULL || listener == NULL)
		goto fail;
	/* Several tunnels of a process may each listen on the port. */
	pcb->so_options |= SOF_REUSEADDR | SOF_KEEPALIVE; /* accepted connections inherit them */
	tcp_bind_netif(pcb, &ns->netif);
	/* Bound to the address: lwIP tells listeners apart by address and port. */
	if (tcp_bind(pcb, netif_ip_addr6(&ns->netif, 0), port) != ERR_OK)
		goto fail;
	bound = tcp_listen_with_backlog(pcb, TCP_DEFAULT_LISTEN_BACKLOG);
	if (bound == NULL)
		goto fail;
	*listener = (Listener){.next = ns->listeners, .ns = ns, .pcb = bound, .port = port};
	ns->listeners = listener;
	ns->nlisteners++;
	tcp_arg(bound, listener);
	tcp_accept(bound, on_accept);
	return;

fail:
	free(listener);
	if (pcb != NULL)
		tcp_abort(pcb);
}

/* A SYN for a port: see to it that somebody listens, or nobody does. */
static void
prepare_port(Netstack *ns, const uint8_t *packet)
{
	uint16_t port = (uint16_t) (packet[42] << 8 | packet[43]);
	const NetstackConfig *config = &ns->config;
	bool wanted = config->may_accept != NULL && ns->nstreams < config->max_streams &&
				  config->may_accept(config->arg, packet + 8, port);
	Listener **at = &ns->listeners;

	if (wanted && !listening(ns, port))
	{
		/* The oldest goes; connections accepted from it stay. */
		while (ns->nlisteners >= MAX_LISTENERS && (*at)->next != NULL)
			at = &(*at)->next;
		if (ns->nlisteners >= MAX_LISTENERS)
			listener_close(ns, at);
		listen_on(ns, port);
	}
	else if (!wanted)
	{
		while (*at != NULL && (*at)->port != port)
			at = &(*at)->next;
		if (*at != NULL)
			listener_close(ns, at);
	}
}

void
netstack_input(Netstack *ns, const uint8_t *packet, size_t n)
{
	struct pbuf *p;

	if (n < 40 || n > 0xffff)
		return;
	/* SYN without ACK */
	if (packet[6] == IP6_NEXTH_TCP && n >= 60 && (packet[53] & 0x12) == 0x02)
		prepare_port(ns, packet);
	p = pbuf_alloc(PBUF_RAW, (u16_t) n, PBUF_RAM);
	if (p == NULL)
		return;
	pbuf_take(p, packet, (u16_t) n);
	if (ns->netif.input(p, &ns->netif) != ERR_OK)
		pbuf_free(p);
}

/* Dialling. */

static void
dial_free(NetstackDial *d)
{
	if (d->prev != NULL)
		d->prev->next = d->next;
	else
		d->ns->dials = d->next;
	if (d->next != NULL)
		d->next->prev = d->prev;
	loop_timer_stop(&d->timer);
	free(d);
}

static void
on_dial_timer(void *arg)
{
	NetstackDial *d = arg;
	NetstackDialFn fn = d->fn;
	void *fn_arg = d->arg;
	int result = d->result;

	if (d->pcb != NULL)
	{
		pcb_forget(d->pcb);
		tcp_abort(d->pcb);
	}
	dial_free(d);
	fn(fn_arg, result);
}

/* Told from the loop, as lwIP is in the middle of something. */
static void
dial_end(NetstackDial *d, int result)
{
	d->pcb = NULL;
	d->result = result;
	loop_timer_start(&d->timer, 0);
}

static void
on_dial_error(void *arg, err_t err)
{
	dial_end(arg, err == ERR_RST ? -ECONNREFUSED : -ETIMEDOUT);
}

static err_t
on_connected(void *arg, struct tcp_pcb *pcb, err_t err)
{
	NetstackDial *d = arg;
	int fd = stream_open(d->ns, pcb);

	(void) err;
	dial_end(d, fd);
	if (fd >= 0)
		return ERR_OK;
	pcb_forget(pcb);
	tcp_abort(pcb);
	return ERR_ABRT;
}

static void
dial_start(NetstackDial *d, const uint8_t address[static 16], uint16_t port)
{
	ip_addr_t to;

	address_to_lwip(&to, address);
	d->pcb = tcp_new_ip_type(IPADDR_TYPE_V6);
	d->result = -ENOMEM;
	if (d->pcb == NULL)
		return;
	tcp_arg(d->pcb, d);
	tcp_err(d->pcb, on_dial_error);
	tcp_bind_netif(d->pcb, &d->ns->netif);
	if (tcp_bind(d->pcb, netif_ip_addr6(&d->ns->netif, 0), 0) == ERR_OK &&
		tcp_connect(d->pcb, &to, port, on_connected) == ERR_OK)
		d->result = -ETIMEDOUT;
}

NetstackDial *
netstack_dial(Netstack *ns, const uint8_t address[16], uint16_t port, int timeout_ms,
			  NetstackDialFn fn, void *arg)
{
	NetstackDial *d = calloc(1, sizeof(*d));

	if (d == NULL)
		return NULL;
	d->ns = ns;
	d->fn = fn;
	d->arg = arg;
	d->next = ns->dials;
	if (d->next != NULL)
		d->next->prev = d;
	ns->dials = d;
	loop_timer_init(&d->timer, ns->loop, on_dial_timer, d);
	dial_start(d, address, port);
	loop_timer_start(&d->timer, d->result == -ETIMEDOUT ? timeout_ms : 0);
	return d;
}

void
netstack_dial_cancel(NetstackDial *d)
{
	if (d->pcb != NULL)
	{
		pcb_forget(d->pcb);
		tcp_abort(d->pcb);
	}
	if (d->result >= 0)
		close(d->result);
	dial_free(d);
}

/* A connection that lwIP is left alone with: its stream was closed. */
static bool
is_orphan(const Netstack *ns, const struct tcp_pcb *pcb)
{
	return pcb->callback_arg == NULL && pcb->state > SYN_RCVD && pcb->netif_idx == netif_get_index(&ns->netif);
}

static bool
is_to(const struct tcp_pcb *pcb, const uint8_t address[static 16])
{
	return memcmp(ip_2_ip6(&pcb->remote_ip)->addr, address, 16) == 0;
}

void
netstack_abort_peer(Netstack *ns, const uint8_t address[16])
{
	Stream *next_stream;
	struct tcp_pcb *next;

	for (Stream *s = ns->streams; s != NULL; s = next_stream)
	{
		next_stream = s->next;
		if (s->pcb != NULL && is_to(s->pcb, address))
			stream_abort(s);
	}
	for (struct tcp_pcb *pcb = tcp_active_pcbs; pcb != NULL; pcb = next)
	{
		next = pcb->next;
		if (is_orphan(ns, pcb) && is_to(pcb, address))
			tcp_abort(pcb);
	}
}

/* The owner has closed its end, though the loop may not have come to it. */
static bool
is_closed(const Stream *s)
{
	struct pollfd fd = {s->fd, 0, 0};

	return s->watch == NULL || (poll(&fd, 1, 0) > 0 && (fd.revents & POLLHUP) != 0);
}

size_t
netstack_streams_with(const Netstack *ns, const uint8_t address[16])
{
	size_t n = 0;

	for (const Stream *s = ns->streams; s != NULL; s = s->next)
		n += s->pcb != NULL && is_to(s->pcb, address) && !is_closed(s);
	return n;
}

bool
netstack_flushed(const Netstack *ns)
{
	for (const Stream *s = ns->streams; s != NULL; s = s->next)
		if (is_closed(s))
			return false;
	for (const struct tcp_pcb *pcb = tcp_active_pcbs; pcb != NULL; pcb = pcb->next)
		if (is_orphan(ns, pcb) && (pcb->unsent != NULL || pcb->unacked != NULL))
			return false;
	return true;
}

void
netstack_destroy(Netstack *ns)
{
	if (ns == NULL)
		return;
	while (ns->dials != NULL)
	{
		NetstackDial *d = ns->dials;

		if (d->result < 0)
			d->result = -ECANCELED;
		on_dial_timer(d);
	}
	while (ns->streams != NULL)
		stream_abort(ns->streams);
	while (ns->listeners != NULL)
		listener_close(ns, &ns->listeners);
	netif_remove(&ns->netif);
	if (--stack.users == 0)
		loop_timer_stop(&stack.timer);
	free(ns);
}
