/*
 * jail.h -- a command in a network of its own, whose every connection ends at a boundary.
 *
 * The network has a loopback device only.  A route makes every address local to
 * it, and a rule of netfilter leads each TCP connection, but those to loopback
 * itself, to one listener; the listeners are made inside and handed out.  So
 * nothing a command does with variables, addresses or ports leads anywhere else.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_BOUNDARY_JAIL_H
#define AGENT_BOUNDARY_JAIL_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define JAIL_LISTENERS 16

typedef struct JailOptions
{
	bool landlock; /* no network of its own: see jail_confine */
	bool no_user_namespace;
	int proxy_port; /* of a listener on loopback, for programs that name a proxy */
	bool proxy_named; /* even where all is led here anyway */
	char *const *argv;
} JailOptions;

typedef struct Jail
{
	pid_t pid;
	int fd; /* to the waiting child */
	int listeners[JAIL_LISTENERS];
	int nlisteners;
	int dns[2]; /* UDP, port 53; -1: none */
	int proxy_port; /* of the listener that a program may name as its proxy */
	bool redirected; /* every port leads here; else the listeners' ports only */
} Jail;

/* The command waits until jail_go.  Must be called before there are threads.  False with the reason in error. */
bool jail_start(Jail *jail, const JailOptions *options, char *error, size_t error_size);

/* env: its environment. */
void jail_go(Jail *jail, char *const *env);

/* Where a connection was meant to go before it was led here. */
bool jail_destination(int fd, struct sockaddr_storage *address);

/* confine.c: this process and those it starts connect to this port only, for ever.  NULL, or why not. */
const char *jail_confine(uint16_t port);

/* netlink.c: loopback up and every address local; TCP to these ports of it.  0 or an errno. */
int jail_make_routes(bool *ipv6);
int jail_redirect(int family, uint16_t port);

#endif
