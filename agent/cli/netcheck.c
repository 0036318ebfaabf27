/*
 * netcheck.c -- coder netcheck: which relays and STUN servers are within reach from here.
 *
 * The report has the form of the server's own (derp of GET /debug/health), and the
 * interfaces of this machine.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cli/netcheck.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tunnel/probe.h"

#define PROBE_MS 5000
#define SAFE_MTU 1378 /* what a packet of the tunnel takes at most */

typedef struct Report
{
	json_t *regions, *warnings;
	json_t *latency, *latency4, *latency6;
	char *error; /* of the first region that does not work */
	const char *global4, *global6;
	json_int_t home, home_ns;
	bool udp;
} Report;

static char *
span_text(json_int_t ns)
{
	if (ns >= 1000000)
		return cli_format("%.6gms", (double) ns / 1e6);
	return cli_format("%.6gµs", (double) ns / 1e3);
}

static json_t *
warning(const char *code, const char *message)
{
	return json_pack("{s:s, s:s}", "code", code, "message", message);
}

static void
note_latency(Report *report, const json_t *region, const json_t *relay)
{
	json_int_t ns = js_int(relay, "latency_ns"), id = js_int(region, "RegionID");
	char *key = cli_format("%lld", (long long) id);
	json_t *family = js_bool(relay, "ipv6") ? report->latency6 : report->latency4;

	if (!js_bool(relay, "can_exchange_messages"))
		return;
	json_object_set_new(report->latency, key, json_integer(ns));
	json_object_set_new(family, key, json_integer(ns));
	if (report->home == 0 || ns < report->home_ns)
	{
		report->home = id;
		report->home_ns = ns;
	}
}

static json_t *
check_stun(Report *report, const json_t *node)
{
	json_int_t port = js_int(node, "STUNPort");
	ProbeTarget target = {.host = js_text(node, "HostName"), .port = (uint16_t) (port == 0 ? 3478 : port)};
	json_t *answer;

	if (port < 0)
		return NULL;
	answer = probe_stun(&target, PROBE_MS, NULL);
	if (js_bool(answer, "can_stun"))
	{
		report->udp = true;
		*(js_bool(answer, "ipv6") ? &report->global6 : &report->global4) = js_text(answer, "address");
	}
	return answer;
}

/* DERPNodeReport. */
static json_t *
check_node(Report *report, const json_t *region, json_t *node)
{
	json_int_t port = js_int(node, "DERPPort");
	ProbeTarget target = {.host = js_text(node, "HostName"), .port = (uint16_t) (port == 0 ? 443 : port), .tls = !js_bool(node, "ForceHTTP"),
						  .ca_file = getenv("SSL_CERT_FILE")};
	json_t *stun = check_stun(report, node);
	json_t *relay = js_bool(node, "STUNOnly") ? NULL : probe_relay(&target, PROBE_MS, NULL);
	bool works = (relay == NULL || js_bool(relay, "can_exchange_messages")) && (stun == NULL || js_bool(stun, "can_stun"));
	const char *error = relay != NULL && js_text(relay, "error")[0] != '\0' ? js_text(relay, "error") : js_text(stun, "error");
	json_t *warnings = json_array();
	json_t *result;

	if (relay != NULL)
		note_latency(report, region, relay);
	if (js_bool(relay, "uses_websocket"))
		json_array_append_new(warnings, warning("EDERP01", "The relay is reached by a WebSocket only."));
	result = json_pack("{s:b, s:s, s:O, s:O, s:{s:i, s:i}, s:b, s:s, s:I, s:b, s:o, s:o, s:{s:b, s:b, s:o}}", "healthy", works, "severity",
					   !works ? "error" : json_array_size(warnings) > 0 ? "warning" : "ok", "warnings", warnings, "node", node, "node_info",
					   "TokenBucketBytesPerSecond", 0, "TokenBucketBytesBurst", 0, "can_exchange_messages", js_bool(relay, "can_exchange_messages"),
					   "round_trip_ping", span_text(js_int(relay, "round_trip_ns")), "round_trip_ping_ms", js_int(relay, "round_trip_ns") / 1000000,
					   "uses_websocket", js_bool(relay, "uses_websocket"), "client_logs",
					   relay ? json_incref(js_at(relay, "client_logs")) : json_array(), "client_errs",
					   relay ? json_incref(js_at(relay, "client_errs")) : json_array(), "stun", "Enabled", stun != NULL, "CanSTUN", js_bool(stun, "can_stun"),
					   "Error", js_text(stun, "error")[0] != '\0' ? json_string(js_text(stun, "error")) : json_null());
	if (!works)
		json_object_set_new(result, "error", json_string(error));
	return result;
}

static void
check_region(Report *report, const char *key, json_t *region)
{
	json_t *nodes = json_array(), *warnings = json_array();
	json_t *node, *result;
	size_t i, well = 0, total;
	const char *error = "there is no node";

	json_array_foreach(json_object_get(region, "Nodes"), i, node)
	{
		json_t *checked = check_node(report, region, node);

		well += js_bool(checked, "healthy");
		if (!js_bool(checked, "healthy"))
			error = js_text(checked, "error");
		json_array_append_new(nodes, checked);
	}
	total = json_array_size(nodes);
	if (well > 0 && well < total)
	{
		json_array_append_new(warnings, warning("EDERP02", "Region is operational, but performance might be degraded as one node is unhealthy."));
		json_array_extend(report->warnings, warnings);
	}
	result = json_pack("{s:b, s:s, s:o, s:O, s:o}", "healthy", well > 0, "severity", well == 0 ? "error" : well < total ? "warning" : "ok", "warnings",
					   warnings, "region", region, "node_reports", nodes);
	if (well == 0)
	{
		json_object_set_new(result, "error", json_string(error));
		if (report->error == NULL)
			report->error = cli_format("region %s: %s", key, error);
	}
	json_object_set_new(report->regions, key, result);
}

static json_t *
netcheck_json(const Report *report)
{
	bool v4 = json_object_size(report->latency4) > 0 || report->global4 != NULL;
	bool v6 = json_object_size(report->latency6) > 0 || report->global6 != NULL;
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd >= 0)
		close(fd);
	return json_pack("{s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:n, s:n, s:b, s:b, s:b, s:I, s:O, s:O, s:O, s:s, s:s, s:n}", "UDP", report->udp, "IPv4", v4,
					 "IPv6", v6, "IPv4CanSend", report->global4 != NULL, "IPv6CanSend", report->global6 != NULL, "OSHasIPv6", fd >= 0, "ICMPv4", 0,
					 "MappingVariesByDestIP", "HairPinning", "UPnP", 0, "PMP", 0, "PCP", 0, "PreferredDERP", report->home, "RegionLatency",
					 report->latency, "RegionV4Latency", report->latency4, "RegionV6Latency", report->latency6, "GlobalV4",
					 report->global4 ? report->global4 : "", "GlobalV6", report->global6 ? report->global6 : "", "CaptivePortal");
}

/* The report of an interface by its name, made when first seen. */
static json_t *
interface_named(json_t *list, const char *name, int fd)
{
	struct ifreq request = {0};
	json_t *one;
	size_t i;

	json_array_foreach(list, i, one)
	{
		if (strcmp(js_text(one, "name"), name) == 0)
			return one;
	}
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (ioctl(fd, SIOCGIFMTU, &request) != 0)
		request.ifr_mtu = 0;
	one = json_pack("{s:s, s:i, s:[]}", "name", name, "mtu", request.ifr_mtu, "addresses");
	json_array_append_new(list, one);
	return one;
}

static int
prefix_length(const struct sockaddr *mask)
{
	const uint8_t *bytes = mask == NULL ? NULL
		: mask->sa_family == AF_INET6	? ((const struct sockaddr_in6 *) (const void *) mask)->sin6_addr.s6_addr
										: (const uint8_t *) &((const struct sockaddr_in *) (const void *) mask)->sin_addr;
	int n = 0;

	for (int i = 0; bytes != NULL && i < (mask->sa_family == AF_INET6 ? 16 : 4); i++)
		n += __builtin_popcount(bytes[i]);
	return n;
}

json_t *
cli_interfaces(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	json_t *list = json_array(), *warnings = json_array();
	struct ifaddrs *all = NULL;
	json_t *one;
	size_t i;

	getifaddrs(&all);
	for (const struct ifaddrs *a = all; a != NULL; a = a->ifa_next)
	{
		char text[64] = "";
		socklen_t len = 0;

		if (a->ifa_addr == NULL || (a->ifa_flags & IFF_UP) == 0 || (a->ifa_flags & IFF_LOOPBACK) != 0)
			continue;
		if (a->ifa_addr->sa_family == AF_INET)
			len = sizeof(struct sockaddr_in);
		else if (a->ifa_addr->sa_family == AF_INET6)
			len = sizeof(struct sockaddr_in6);
		if (len == 0 || getnameinfo(a->ifa_addr, len, text, sizeof(text), NULL, 0, NI_NUMERICHOST) != 0)
			continue;
		text[strcspn(text, "%")] = '\0';
		json_array_append_new(js_at(interface_named(list, a->ifa_name, fd), "addresses"), json_sprintf("%s/%d", text, prefix_length(a->ifa_netmask)));
	}
	json_array_foreach(list, i, one)
	{
		if (js_int(one, "mtu") > 0 && js_int(one, "mtu") < SAFE_MTU)
			json_array_append_new(warnings, warning("EIF01", cli_format("Packets on %s hold %lld bytes; direct connections want %d.", js_text(one, "name"), (long long) js_int(one, "mtu"), SAFE_MTU)));
	}
	freeifaddrs(all);
	close(fd);
	return json_pack("{s:s, s:o, s:b, s:o}", "severity", json_array_size(warnings) > 0 ? "warning" : "ok", "warnings", warnings, "dismissed", 0, "interfaces", list);
}

json_t *
cli_netcheck(const json_t *derp_map)
{
	Report report = {.regions = json_object(), .warnings = json_array(), .latency = json_object(), .latency4 = json_object(), .latency6 = json_object()};
	json_t *region, *derp;
	const char *key;

	json_object_foreach(json_object_get(derp_map, "Regions"), key, region)
	{
		check_region(&report, key, region);
	}
	derp = json_pack("{s:b, s:s, s:O, s:b, s:O, s:o, s:[]}", "healthy", report.error == NULL, "severity",
					 report.error != NULL ? "error" : json_array_size(report.warnings) > 0 ? "warning" : "ok", "warnings", report.warnings, "dismissed",
					 0, "regions", report.regions, "netcheck", netcheck_json(&report), "netcheck_logs");
	if (report.error != NULL)
		json_object_set_new(derp, "error", json_string(report.error));
	return json_pack("{s:o, s:o}", "derp", derp, "interfaces", cli_interfaces());
}

static int
run_netcheck(Cli *cli)
{
	json_t *report;

	cli_need_login(cli);
	cli_note("Trying relays and STUN servers ...");
	report = cli_netcheck(json_object_get(cli_get(cli, "/api/v2/workspaceagents/connection"), "derp_map"));
	json_dumpf(report, stdout, JSON_INDENT(2));
	putchar('\n');
	return js_bool(report, "derp.healthy") ? 0 : 1;
}

const CliCommand cli_netcheck_commands[] = {
	{"netcheck", "", "Show which relays and STUN servers are within reach from here", NULL, 0, 0, run_netcheck, NULL},
	{NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
