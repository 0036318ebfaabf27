/*
 * netlink.c -- routes and netfilter rules of a boundary's network, told to the kernel.
 *
 * SPDX-License-Identifier: MIT
 */
#include "boundary/jail.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define NAT_PRIORITY (-100)
#define TABLE "coder_boundary"
#define CHAIN "output"

typedef struct Request
{
	_Alignas(NLMSG_ALIGNTO) uint8_t data[4096];
	size_t size;
	size_t begin; /* of the message that is being written */
	uint32_t seq;
} Request;

static void
put(Request *r, const void *data, size_t size)
{
	if (r->size + NLMSG_ALIGN(size) > sizeof(r->data))
		return;
	memset(r->data + r->size, 0, NLMSG_ALIGN(size));
	if (size > 0)
		memcpy(r->data + r->size, data, size);
	r->size += NLMSG_ALIGN(size);
}

static void
begin(Request *r, int type, int flags, const void *head, size_t size)
{
	struct nlmsghdr h = {.nlmsg_type = (uint16_t) type, .nlmsg_flags = (uint16_t) (NLM_F_REQUEST | flags), .nlmsg_seq = ++r->seq};

	r->begin = r->size;
	put(r, &h, sizeof(h));
	put(r, head, size);
}

static void
end(Request *r)
{
	uint32_t size = (uint32_t) (r->size - r->begin);

	memcpy(r->data + r->begin, &size, sizeof(size));
}

static void
attribute(Request *r, int type, const void *data, size_t size)
{
	struct nlattr a = {(uint16_t) (sizeof(a) + size), (uint16_t) type};

	put(r, &a, sizeof(a));
	put(r, data, size);
}

static void
number(Request *r, int type, uint32_t value)
{
	value = htonl(value);
	attribute(r, type, &value, sizeof(value));
}

static void
text(Request *r, int type, const char *value)
{
	attribute(r, type, value, strlen(value) + 1);
}

static size_t
open_nest(Request *r, int type)
{
	size_t at = r->size;

	attribute(r, type | NLA_F_NESTED, NULL, 0);
	return at;
}

static void
close_nest(Request *r, size_t at)
{
	uint16_t size = (uint16_t) (r->size - at);

	memcpy(r->data + at, &size, sizeof(size));
}

/* Sends all; 0, or the errno of the first message that failed.  The last one asks for an answer. */
static int
transact(int protocol, const Request *r)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	struct timeval patience = {5, 0};
	_Alignas(NLMSG_ALIGNTO) uint8_t answer[8192];
	int error = EIO;
	bool more = true;

	if (fd < 0)
		return errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (sendto(fd, r->data, r->size, 0, (struct sockaddr *) &kernel, sizeof(kernel)) < 0)
	{
		error = errno;
		more = false;
	}
	while (more)
	{
		ssize_t n = recv(fd, answer, sizeof(answer), 0);
		size_t left = n > 0 ? (size_t) n : 0;

		if (n <= 0)
			break;
		for (struct nlmsghdr *h = (struct nlmsghdr *) (void *) answer; more && NLMSG_OK(h, left); h = NLMSG_NEXT(h, left))
		{
			const struct nlmsgerr *e = NLMSG_DATA(h);

			if (h->nlmsg_type != NLMSG_ERROR)
				continue;
			error = -e->error;
			more = false;
		}
	}
	close(fd);
	return error;
}

static int
loopback_up(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int error = fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) != 0 ? errno : 0;

	if (fd >= 0)
		close(fd);
	return error;
}

/* "local default dev lo": whoever is called, it is us. */
static int
everything_local(int family)
{
	Request r = {0};
	struct rtmsg route = {.rtm_family = (uint8_t) family,
						  .rtm_table = RT_TABLE_LOCAL,
						  .rtm_protocol = RTPROT_BOOT,
						  .rtm_scope = family == AF_INET ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE,
						  .rtm_type = RTN_LOCAL};
	uint32_t device = if_nametoindex("lo");

	begin(&r, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, &route, sizeof(route));
	attribute(&r, RTA_OIF, &device, sizeof(device));
	end(&r);
	return transact(NETLINK_ROUTE, &r);
}

/* An address that is not loopback's: without one, programs think that there is no IPv4 and ask for no addresses. */
static int
own_address(void)
{
	static const uint8_t address[] = {198, 19, 255, 254};
	Request r = {0};
	struct ifaddrmsg head = {.ifa_family = AF_INET, .ifa_prefixlen = 32, .ifa_scope = RT_SCOPE_UNIVERSE, .ifa_index = if_nametoindex("lo")};

	begin(&r, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, &head, sizeof(head));
	attribute(&r, IFA_LOCAL, address, sizeof(address));
	attribute(&r, IFA_ADDRESS, address, sizeof(address));
	end(&r);
	return transact(NETLINK_ROUTE, &r);
}

int
jail_make_routes(bool *ipv6)
{
	int error = loopback_up();

	if (error == 0)
		error = own_address();

	if (error == 0)
		error = everything_local(AF_INET);
	*ipv6 = error == 0 && everything_local(AF_INET6) == 0;
	return error;
}

static void
begin_nft(Request *r, int type, int flags, int family)
{
	struct nfgenmsg head = {.nfgen_family = (uint8_t) family, .version = NFNETLINK_V0};

	begin(r, NFNL_SUBSYS_NFTABLES << 8 | type, flags, &head, sizeof(head));
}

static void
batch(Request *r, int type)
{
	struct nfgenmsg head = {.nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0, .res_id = htons(NFNL_SUBSYS_NFTABLES)};

	begin(r, type, 0, &head, sizeof(head));
	end(r);
}

/* An expression of a rule; its data is written between this and close_expression. */
typedef struct Expression
{
	size_t element;
	size_t data;
} Expression;

static Expression
open_expression(Request *r, const char *name)
{
	Expression e;

	e.element = open_nest(r, NFTA_LIST_ELEM);
	text(r, NFTA_EXPR_NAME, name);
	e.data = open_nest(r, NFTA_EXPR_DATA);
	return e;
}

static void
close_expression(Request *r, Expression e)
{
	close_nest(r, e.data);
	close_nest(r, e.element);
}

static void
value(Request *r, int type, const void *data, size_t size)
{
	size_t nest = open_nest(r, type);

	attribute(r, NFTA_DATA_VALUE, data, size);
	close_nest(r, nest);
}

static void
compare(Request *r, const void *data, size_t size)
{
	Expression e = open_expression(r, "cmp");

	number(r, NFTA_CMP_SREG, NFT_REG_1);
	number(r, NFTA_CMP_OP, NFT_CMP_EQ);
	value(r, NFTA_CMP_DATA, data, size);
	close_expression(r, e);
}

static void
load_destination(Request *r, uint32_t offset, uint32_t size)
{
	Expression e = open_expression(r, "payload");

	number(r, NFTA_PAYLOAD_DREG, NFT_REG_1);
	number(r, NFTA_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER);
	number(r, NFTA_PAYLOAD_OFFSET, offset);
	number(r, NFTA_PAYLOAD_LEN, size);
	close_expression(r, e);
}

static void
leave_alone(Request *r)
{
	Expression e = open_expression(r, "immediate");
	size_t data, verdict;

	number(r, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
	data = open_nest(r, NFTA_IMMEDIATE_DATA);
	verdict = open_nest(r, NFTA_DATA_VERDICT);
	number(r, NFTA_VERDICT_CODE, (uint32_t) NFT_RETURN);
	close_nest(r, verdict);
	close_nest(r, data);
	close_expression(r, e);
}

static size_t
open_rule(Request *r, int family, int flags)
{
	begin_nft(r, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND | flags, family);
	text(r, NFTA_RULE_TABLE, TABLE);
	text(r, NFTA_RULE_CHAIN, CHAIN);
	return open_nest(r, NFTA_RULE_EXPRESSIONS);
}

static void
add_chain(Request *r, int family)
{
	size_t hook;

	begin_nft(r, NFT_MSG_NEWTABLE, NLM_F_CREATE, family);
	text(r, NFTA_TABLE_NAME, TABLE);
	end(r);
	begin_nft(r, NFT_MSG_NEWCHAIN, NLM_F_CREATE, family);
	text(r, NFTA_CHAIN_TABLE, TABLE);
	text(r, NFTA_CHAIN_NAME, CHAIN);
	text(r, NFTA_CHAIN_TYPE, "nat");
	hook = open_nest(r, NFTA_CHAIN_HOOK);
	number(r, NFTA_HOOK_HOOKNUM, NF_INET_LOCAL_OUT);
	number(r, NFTA_HOOK_PRIORITY, (uint32_t) NAT_PRIORITY);
	close_nest(r, hook);
	end(r);
}

int
jail_redirect(int family, uint16_t port)
{
	static const uint8_t loopback4[] = {127};
	static const uint8_t loopback6[16] = {[15] = 1};
	static const uint8_t tcp = IPPROTO_TCP;
	int table = family == AF_INET ? NFPROTO_IPV4 : NFPROTO_IPV6;
	Request r = {0};
	Expression e;
	size_t rule;

	port = htons(port);
	batch(&r, NFNL_MSG_BATCH_BEGIN);
	add_chain(&r, table);
	rule = open_rule(&r, table, 0);
	load_destination(&r, family == AF_INET ? 16 : 24, family == AF_INET ? sizeof(loopback4) : sizeof(loopback6));
	compare(&r, family == AF_INET ? loopback4 : loopback6, family == AF_INET ? sizeof(loopback4) : sizeof(loopback6));
	leave_alone(&r);
	close_nest(&r, rule);
	end(&r);
	rule = open_rule(&r, table, NLM_F_ACK);
	e = open_expression(&r, "meta");
	number(&r, NFTA_META_DREG, NFT_REG_1);
	number(&r, NFTA_META_KEY, NFT_META_L4PROTO);
	close_expression(&r, e);
	compare(&r, &tcp, sizeof(tcp));
	e = open_expression(&r, "immediate");
	number(&r, NFTA_IMMEDIATE_DREG, NFT_REG_1);
	value(&r, NFTA_IMMEDIATE_DATA, &port, sizeof(port));
	close_expression(&r, e);
	e = open_expression(&r, "redir");
	number(&r, NFTA_REDIR_REG_PROTO_MIN, NFT_REG_1);
	close_expression(&r, e);
	close_nest(&r, rule);
	end(&r);
	batch(&r, NFNL_MSG_BATCH_END);
	return transact(NETLINK_NETFILTER, &r);
}
