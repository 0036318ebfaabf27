/*
 * confine.c -- a command in the network of all, that may only connect to one
 * port by TCP: Landlock forbids connections to others, and a filter of system
 * calls the sockets that Landlock does not look at.
 *
 * SPDX-License-Identifier: MIT
 */
#include "boundary/jail.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* As <linux/landlock.h> of Linux 6.12 has them. */
#define RULE_NET_PORT 2
#define NET_CONNECT_TCP (1ull << 1)
#define SCOPE_ABSTRACT_SOCKETS (1ull << 0)
#define SCOPE_SIGNALS (1ull << 1)
#define GET_VERSION 1
#define WITH_NETWORK 4 /* versions */
#define WITH_SCOPES 6

typedef struct Ruleset
{
	uint64_t handled_fs;
	uint64_t handled_net;
	uint64_t scoped;
} Ruleset;

typedef struct PortRule
{
	uint64_t allowed;
	uint64_t port;
} PortRule;

#define LOW_HALF(i) (offsetof(struct seccomp_data, args) + 8 * (i))
#define LOAD(at) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at)
#define IF_EQUAL(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
#define REFUSE(error) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* Of the internet, streams of TCP only; besides local sockets and the kernel's own.  No io_uring, which makes sockets too. */
static bool
filter_sockets(void)
{
	struct sock_filter code[] = {
		LOAD(offsetof(struct seccomp_data, arch)),
		IF_EQUAL(AUDIT_ARCH_X86_64, 1, 0),
		REFUSE(ENOSYS), /* the system calls of other machines have other numbers */
		LOAD(offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1),
		REFUSE(ENOSYS),
		IF_EQUAL(SYS_io_uring_setup, 0, 1),
		REFUSE(ENOSYS),
		IF_EQUAL(SYS_socket, 1, 0),
		ALLOW,
		LOAD(LOW_HALF(0)),
		IF_EQUAL(AF_UNIX, 10, 0),
		IF_EQUAL(AF_NETLINK, 9, 0),
		IF_EQUAL(AF_INET, 2, 0),
		IF_EQUAL(AF_INET6, 1, 0),
		REFUSE(EAFNOSUPPORT),
		LOAD(LOW_HALF(1)),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xf), /* without its flags */
		IF_EQUAL(SOCK_STREAM, 0, 4),
		LOAD(LOW_HALF(2)),
		IF_EQUAL(0, 1, 0),
		IF_EQUAL(IPPROTO_TCP, 0, 1),
		ALLOW,
		REFUSE(EACCES),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

const char *
jail_confine(uint16_t port)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0, GET_VERSION);
	Ruleset ruleset = {.handled_net = NET_CONNECT_TCP, .scoped = version >= WITH_SCOPES ? SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS : 0};
	PortRule rule = {NET_CONNECT_TCP, port};
	long fd;
	bool ok;

	if (version < WITH_NETWORK)
		return "this kernel has no rules of Landlock for connections (they came with Linux 6.7); use nsjail";
	fd = syscall(SYS_landlock_create_ruleset, &ruleset, version >= WITH_SCOPES ? sizeof(ruleset) : offsetof(Ruleset, scoped), 0);
	if (fd < 0)
		return "could not make rules of Landlock";
	ok = syscall(SYS_landlock_add_rule, (int) fd, RULE_NET_PORT, &rule, 0) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
		syscall(SYS_landlock_restrict_self, (int) fd, 0) == 0;
	close((int) fd);
	if (!ok)
		return "could not set the rules of Landlock";
	return filter_sockets() ? NULL : "could not set the filter of system calls";
}
