/*
 * option.c -- settings from the environment and the command line, named like Coder's.
 *
 * SPDX-License-Identifier: MIT
 */
#include <ctype.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <pwd.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "option.h"
#include "secret.h"

typedef enum OptionType
{
	OPT_TEXT,
	OPT_BOOL,
	OPT_INT
} OptionType;

typedef struct Option
{
	const char *flag;
	const char *env;
	OptionType type;
	size_t offset;
	const char *def;
	bool secret; /* not told to the database */
	const char *help;
} Option;

#define AT(field) offsetof(GwOptions, field)

static const Option options_table[] = {
	{"http-address", "CODER_HTTP_ADDRESS", OPT_TEXT, AT(http_address), "127.0.0.1:7080", false,
	 "host:port to listen on; empty turns plain HTTP off"},
	{"access-url", "CODER_ACCESS_URL", OPT_TEXT, AT(access_url), NULL, false,
	 "the URL users and workspaces reach this server by (default http://<http-address>)"},
	{"wildcard-access-url", "CODER_WILDCARD_ACCESS_URL", OPT_TEXT, AT(wildcard_access_url), NULL, false,
	 "host of workspace apps, such as *.coder.example.com"},
	{"postgres-url", "CODER_PG_CONNECTION_URL", OPT_TEXT, AT(pg_connection_url), NULL, true,
	 "use this database instead of an embedded PostgreSQL"},
	{"pg-bindir", "CODER_PG_BINDIR", OPT_TEXT, AT(pg_bindir), NULL, true,
	 "folder of initdb and postgres for the embedded PostgreSQL (default: pg_config's)"},
	{"global-config", "CODER_CONFIG_DIR", OPT_TEXT, AT(config_dir), NULL, true,
	 "folder of the embedded PostgreSQL (default ~/.config/coderv2)"},
	{"cache-dir", "CODER_CACHE_DIRECTORY", OPT_TEXT, AT(cache_dir), NULL, true,
	 "folder of files that can be made again (default ~/.cache/coder)"},
	{"experiments", "CODER_EXPERIMENTS", OPT_TEXT, AT(experiments), "", false,
	 "comma-separated experiments to turn on, or *"},
	{"site-dir", "CODER_SITE_DIR", OPT_TEXT, AT(site_dir), NULL, true,
	 "folder of the web pages (default: web/dist beside the program)"},
	{"agent-binary", "CODER_AGENT_BINARY", OPT_TEXT, AT(agent_path), NULL, true,
	 "the program workspaces download from /bin (default: ../agent/coder beside the program)"},
	{"tls-enable", "CODER_TLS_ENABLE", OPT_BOOL, AT(tls_enable), "false", false, "listen for HTTPS too"},
	{"tls-address", "CODER_TLS_ADDRESS", OPT_TEXT, AT(tls_address), "127.0.0.1:3443", false,
	 "host:port for HTTPS"},
	{"tls-cert-file", "CODER_TLS_CERT_FILE", OPT_TEXT, AT(tls_cert_file), NULL, true,
	 "PEM file of the certificate and its chain"},
	{"tls-key-file", "CODER_TLS_KEY_FILE", OPT_TEXT, AT(tls_key_file), NULL, true,
	 "PEM file of the private key"},
	{"outbound-ca-file", "CODER_OUTBOUND_CA_FILE", OPT_TEXT, AT(outbound_ca_file), NULL, true,
	 "PEM file of the certificates that this server's own requests trust (default: the system's)"},
	{"redirect-to-access-url", "CODER_REDIRECT_TO_ACCESS_URL", OPT_BOOL, AT(redirect_to_access_url), "false",
	 false, "redirect requests for other hosts to the access URL"},
	{"secure-auth-cookie", "CODER_SECURE_AUTH_COOKIE", OPT_BOOL, AT(secure_auth_cookie), NULL, false,
	 "mark cookies Secure (default: whether the access URL is https)"},
	{"proxy-trusted-headers", "CODER_PROXY_TRUSTED_HEADERS", OPT_TEXT, AT(proxy_trusted_headers), NULL, false,
	 "headers in which trusted proxies name the client's address, such as X-Forwarded-For"},
	{"proxy-trusted-origins", "CODER_PROXY_TRUSTED_ORIGINS", OPT_TEXT, AT(proxy_trusted_origins), NULL, false,
	 "networks of these proxies, such as 10.0.0.0/8,::1"},
	{"samesite-auth-cookie", "CODER_SAMESITE_AUTH_COOKIE", OPT_TEXT, AT(samesite_auth_cookie), "lax", false,
	 "SameSite of cookies: lax or none"},
	{"host-prefix-cookie", "CODER_HOST_PREFIX_COOKIE", OPT_BOOL, AT(host_prefix_cookie), "false", false,
	 "give cookies the prefix __Host-, by which browsers keep them to this host over HTTPS"},
	{"strict-transport-security-options", "CODER_STRICT_TRANSPORT_SECURITY_OPTIONS", OPT_TEXT,
	 AT(strict_transport_security_options), NULL, false, "includeSubDomains, preload"},
	{"additional-csp-policy", "CODER_ADDITIONAL_CSP_POLICY", OPT_TEXT, AT(additional_csp_policy), NULL, false,
	 "directives behind the Content-Security-Policy of pages, separated by semicolons"},
	{"strict-transport-security", "CODER_STRICT_TRANSPORT_SECURITY", OPT_INT, AT(strict_transport_security),
	 "0", false, "max-age in seconds of the Strict-Transport-Security header; 0 = none"},
	{"api-rate-limit", "CODER_API_RATE_LIMIT", OPT_INT, AT(api_rate_limit), "512", false,
	 "requests a minute for each user and path; 0 = no limit"},
	{"dangerous-disable-rate-limits", "CODER_DANGEROUS_DISABLE_RATE_LIMITS", OPT_BOOL,
	 AT(disable_rate_limits), "false", false, "turn every rate limit off, and that of connections of one address"},
	{"dangerous-allow-cors-requests", "CODER_DANGEROUS_ALLOW_CORS_REQUESTS", OPT_BOOL, AT(allow_all_cors),
	 "false", false, "allow requests from any origin"},
	{"provisioner-daemons", "CODER_PROVISIONER_DAEMONS", OPT_INT, AT(provisioner_daemons), "3", false,
	 "builds at a time; 0 = no provisioner in this server"},
	{"derp-server-enable", "CODER_DERP_SERVER_ENABLE", OPT_BOOL, AT(derp_enable), "true", false,
	 "relay encrypted traffic between clients and workspaces"},
	{"derp-server-relay-url", "CODER_DERP_SERVER_RELAY_URL", OPT_TEXT, AT(derp_server_relay_url), NULL, true,
	 "URL at which the other gateways of the same database reach this one, and no other"},
	{"block-direct-connections", "CODER_BLOCK_DIRECT", OPT_BOOL, AT(block_direct), "false", false,
	 "connect to workspaces through the relay only"},
	{"tunnel-idle-seconds", "CODER_TUNNEL_IDLE_SECONDS", OPT_INT, AT(tunnel_idle_seconds), "1800", false,
	 "time after which this server gives up a tunnel to a workspace that it does not use"},
	{"event-loops", "CODER_EVENT_LOOPS", OPT_INT, AT(loops), "0", false,
	 "threads that serve requests (default: cores - 1, at least 1)"},
	{"max-connections", "CODER_MAX_CONNECTIONS", OPT_INT, AT(max_connections), "10000", false,
	 "open connections at a time"},
	{"max-connections-per-address", "CODER_MAX_CONNECTIONS_PER_ADDRESS", OPT_INT, AT(max_connections_per_ip),
	 "1000", false, "open connections of one client address at a time"},
	{"prometheus-enable", "CODER_PROMETHEUS_ENABLE", OPT_BOOL, AT(prometheus_enable), "false", false,
	 "serve metrics of the whole deployment at the Prometheus address"},
	{"prometheus-address", "CODER_PROMETHEUS_ADDRESS", OPT_TEXT, AT(prometheus_address), "127.0.0.1:2112", false,
	 "host:port for Prometheus"},
	{"prometheus-collect-agent-stats", "CODER_PROMETHEUS_COLLECT_AGENT_STATS", OPT_BOOL, AT(prometheus_collect_agent_stats), "false", false,
	 "metrics of agents: of their samples, and what they count themselves"},
	{"prometheus-aggregate-agent-stats-by", "CODER_PROMETHEUS_AGGREGATE_AGENT_STATS_BY", OPT_TEXT, AT(prometheus_aggregate_by), NULL, false,
	 "labels by which they are kept apart: of agent_name,template_name,username,workspace_name"},
	{"prometheus-collect-db-metrics", "CODER_PROMETHEUS_COLLECT_DB_METRICS", OPT_BOOL, AT(prometheus_collect_db_metrics), "false", false,
	 "times of statements by name, and statements by route"},
	{"telemetry", "CODER_TELEMETRY_ENABLE", OPT_BOOL, AT(telemetry_enable), "false", false, "send telemetry to the telemetry URL"},
	{"telemetry-url", "CODER_TELEMETRY_URL", OPT_TEXT, AT(telemetry_url), NULL, false, "where telemetry is sent; nowhere without it"},
	{"verbose", "CODER_VERBOSE", OPT_BOOL, AT(verbose), "false", false, "log more"},
};

#define N_OPTIONS (sizeof(options_table) / sizeof(options_table[0]))

/* Words of a Go bool; -1 for anything else. */
static int
parse_bool(const char *value)
{
	static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"};
	static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False"};

	for (size_t i = 0; i < 6; i++)
	{
		if (strcmp(value, yes[i]) == 0)
			return 1;
		if (strcmp(value, no[i]) == 0)
			return 0;
	}
	return -1;
}

/* Puts a value where the option says; false after a message. */
static bool
set_option(GwOptions *options, const Option *opt, const char *value, const char *origin)
{
	char *field = (char *) options + opt->offset;
	char *end;
	long number;
	int truth;

	switch (opt->type)
	{
		case OPT_TEXT:
			free(*(char **) field);
			*(char **) field = *value == '\0' && opt->offset != AT(http_address) ? NULL : strdup(value);
			return true;
		case OPT_BOOL:
			truth = parse_bool(value);
			if (truth < 0)
			{
				fprintf(stderr, "coder-server: %s is \"%s\", not true or false\n", origin, value);
				return false;
			}
			*(bool *) field = truth == 1;
			return true;
		case OPT_INT:
			errno = 0;
			number = strtol(value, &end, 10);
			if (*value == '\0' || *end != '\0' || errno != 0 || number < -1 || number > INT_MAX)
			{
				fprintf(stderr, "coder-server: %s is \"%s\", not a number of its range\n", origin, value);
				return false;
			}
			*(int *) field = (int) number;
			return true;
	}
	return false;
}

static void
print_help(void)
{
	printf("coder-server %s -- Coder's control plane on PostgreSQL\n\n"
		   "Usage:\n"
		   "  coder-server [server] [flags]    run the server\n"
		   "  coder-server provisioner [...]   run builds for a server elsewhere\n"
		   "  coder-server dbcrypt rotate      seal secrets in the database with the first of the keys\n"
		   "  coder-server dbcrypt decrypt     write them in plain text again\n"
		   "  coder-server --version\n\n"
		   "Each flag is also an environment variable; flags win.\n\nFlags:\n",
		   GW_VERSION);
	for (size_t i = 0; i < N_OPTIONS; i++)
	{
		const Option *opt = &options_table[i];

		printf("  --%s%s  (%s)\n        %s", opt->flag,
			   opt->type == OPT_TEXT ? " text" : opt->type == OPT_INT ? " number" : "", opt->env, opt->help);
		if (opt->def != NULL && *opt->def != '\0')
			printf(" [%s]", opt->def);
		printf("\n");
	}
}

static const Option *
find_flag(const char *name, size_t len)
{
	for (size_t i = 0; i < N_OPTIONS; i++)
		if (strlen(options_table[i].flag) == len && strncmp(options_table[i].flag, name, len) == 0)
			return &options_table[i];
	return NULL;
}

/* One flag at argv[*i]; moves *i behind its value. */
static bool
parse_flag(GwOptions *options, int argc, char **argv, int *i)
{
	const char *arg = argv[*i];
	const char *eq = strchr(arg, '=');
	const Option *opt;
	const char *value;

	if (strcmp(arg, "-v") == 0)
		arg = "--verbose";
	if (strncmp(arg, "--", 2) != 0)
	{
		fprintf(stderr, "coder-server: unknown argument \"%s\"; try --help\n", arg);
		return false;
	}
	opt = find_flag(arg + 2, eq ? (size_t) (eq - arg - 2) : strlen(arg + 2));
	if (opt == NULL)
	{
		fprintf(stderr, "coder-server: unknown flag \"%s\"; try --help\n", arg);
		return false;
	}
	if (eq != NULL)
		value = eq + 1;
	else if (opt->type == OPT_BOOL)
		value = "true";
	else if (*i + 1 < argc)
		value = argv[++*i];
	else
	{
		fprintf(stderr, "coder-server: %s needs a value\n", arg);
		return false;
	}
	return set_option(options, opt, value, arg);
}

static char *
path_below(const char *dir, const char *rest)
{
	char *path = NULL;

	if (asprintf(&path, "%s/%s", dir, rest) < 0)
		abort();
	return path;
}

static const char *
home_dir(void)
{
	const char *home = getenv("HOME");
	struct passwd *pw;

	if (home != NULL && *home == '/')
		return home;
	pw = getpwuid(getuid());
	return pw != NULL ? pw->pw_dir : "/";
}

static void
make_absolute(char **path)
{
	char cwd[PATH_MAX];
	char *absolute;

	if (*path == NULL || **path == '/' || getcwd(cwd, sizeof(cwd)) == NULL)
		return;
	absolute = path_below(cwd, *path);
	free(*path);
	*path = absolute;
}

/* Folders that depend on the user and on where the program lies. */
static void
default_paths(GwOptions *options)
{
	char exe[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	const char *xdg = getenv("XDG_CONFIG_HOME");
	const char *dir;

	exe[n > 0 ? n : 0] = '\0';
	dir = dirname(exe);
	if (options->config_dir == NULL)
		options->config_dir =
			xdg != NULL && *xdg == '/' ? path_below(xdg, "coderv2") : path_below(home_dir(), ".config/coderv2");
	if (options->cache_dir == NULL)
		options->cache_dir = path_below(home_dir(), ".cache/coder");
	if (options->site_dir == NULL)
	{
		options->site_dir = path_below(dir, "web/dist");
		if (access(options->site_dir, F_OK) != 0 && access("/usr/local/share/coder/site", F_OK) == 0)
		{
			free(options->site_dir);
			options->site_dir = strdup("/usr/local/share/coder/site");
		}
	}
	if (options->agent_path == NULL)
	{
		options->agent_path = path_below(dir, "../agent/coder");
		if (access(options->agent_path, F_OK) != 0)
		{
			free(options->agent_path);
			options->agent_path = path_below(dir, "coder");
		}
	}
	make_absolute(&options->config_dir);
	make_absolute(&options->cache_dir);
	make_absolute(&options->site_dir);
	make_absolute(&options->agent_path);
	make_absolute(&options->pg_bindir);
}

static void
default_url(GwOptions *options)
{
	bool tls = options->tls_enable;
	const char *address = tls ? options->tls_address : options->http_address;
	size_t len;

	if (options->access_url == NULL)
	{
		bool any = strncmp(address, "0.0.0.0:", 8) == 0 || strncmp(address, "[::]:", 5) == 0 || *address == ':';
		const char *port = strrchr(address, ':');

		if (asprintf(&options->access_url, "%s://%s%s", tls ? "https" : "http", any ? "127.0.0.1" : "",
					 any && port != NULL ? port : address) < 0)
			abort();
	}
	for (len = strlen(options->access_url); len > 0 && options->access_url[len - 1] == '/'; len--)
		options->access_url[len - 1] = '\0';
}

/* May it stand in a header?  NULL may. */
static bool
is_header_text(const char *text)
{
	for (; text != NULL && *text != '\0'; text++)
		if (*text < 0x20 || *text > 0x7e)
			return false;
	return true;
}

static bool
check_options(GwOptions *options)
{
	if (*options->http_address == '\0' && !options->tls_enable)
		fprintf(stderr, "coder-server: --http-address is empty and --tls-enable is off: nothing to listen on\n");
	else if (options->tls_enable && (options->tls_cert_file == NULL || options->tls_key_file == NULL))
		fprintf(stderr, "coder-server: --tls-enable needs --tls-cert-file and --tls-key-file\n");
	else if (strncmp(options->access_url, "http://", 7) != 0 && strncmp(options->access_url, "https://", 8) != 0)
		fprintf(stderr, "coder-server: --access-url is \"%s\", but must begin with http:// or https://\n",
				options->access_url);
	else if (strcmp(options->samesite_auth_cookie, "lax") != 0 && strcmp(options->samesite_auth_cookie, "none") != 0)
		fprintf(stderr, "coder-server: --samesite-auth-cookie is \"%s\", not lax or none\n",
				options->samesite_auth_cookie);
	else if (!gw_origins_parse(&options->origins, options->proxy_trusted_origins))
		fprintf(stderr, "coder-server: --proxy-trusted-origins is \"%s\", not a list of up to %d networks\n",
				options->proxy_trusted_origins, GW_ORIGINS_MAX);
	else if (!is_header_text(options->strict_transport_security_options) ||
			 !is_header_text(options->additional_csp_policy))
		fprintf(stderr, "coder-server: a header's text must be printable ASCII\n");
	else
		return true;
	return false;
}

static const char *
setting_name(const char *flag, char dst[static 64])
{
	size_t i;

	for (i = 0; flag[i] != '\0' && i < 63; i++)
		dst[i] = (char) (flag[i] == '-' ? '_' : tolower((unsigned char) flag[i]));
	dst[i] = '\0';
	return dst;
}

/* Of a secret that is only compared with others, the SHA-256 is told; null where it is not set. */
static void
add_digest(json_t *settings, const char *env, const char *name)
{
	const char *value = getenv(env);
	unsigned char digest[crypto_hash_sha256_BYTES];
	char hex[2 * sizeof(digest) + 1];

	if (value == NULL || *value == '\0')
	{
		json_object_set_new(settings, name, json_null());
		return;
	}
	crypto_hash_sha256(digest, (const unsigned char *) value, strlen(value));
	json_object_set_new(settings, name, json_string(sodium_bin2hex(hex, sizeof(hex), digest, sizeof(digest))));
}

/* Named like an agent's, but the server's. */
static bool
is_of_server(const char *env)
{
	return strncmp(env, "CODER_AGENT_STATS_REFRESH_INTERVAL=", 35) == 0 || strncmp(env, "CODER_AGENT_FALLBACK_TROUBLESHOOTING_URL=", 41) == 0;
}

/*
 * What the database is told: the options of the table that are no secrets and no
 * paths of this machine, and every other CODER_ variable, since the functions
 * know settings that the gateway does not.
 */
static json_t *
collect_settings(const GwOptions *options)
{
	static const char *const own[] = {
		"CODER_SESSION_TOKEN", "CODER_AGENT_", "CODER_PG_", "CODER_URL", "CODER_SCIM_AUTH_HEADER"};
	json_t *settings = json_object();
	char name[64];

	for (char **env = environ; *env != NULL; env++)
	{
		const char *eq = strchr(*env, '=');
		bool skip = strncmp(*env, "CODER_", 6) != 0 || eq == NULL || eq - *env > 60 || eq[1] == '\0';

		for (size_t i = 0; i < sizeof(own) / sizeof(own[0]) && !skip; i++)
			skip = strncmp(*env, own[i], strlen(own[i])) == 0 && !is_of_server(*env);
		for (size_t i = 0; i < N_OPTIONS && !skip; i++)
			skip = strlen(options_table[i].env) == (size_t) (eq - *env) &&
				   strncmp(*env, options_table[i].env, (size_t) (eq - *env)) == 0;
		if (skip)
			continue;
		setting_name(*env + 6, name);
		name[eq - *env - 6] = '\0';
		/* An older server may have told it. */
		json_object_set_new(settings, name, gw_is_secret(name) ? json_null() : json_string(eq + 1));
	}
	for (size_t i = 0; i < N_OPTIONS; i++)
	{
		const Option *opt = &options_table[i];
		const char *field = (const char *) options + opt->offset;
		const char *text;

		if (opt->secret)
			continue;
		setting_name(opt->flag, name);
		if (opt->type == OPT_BOOL)
			json_object_set_new(settings, name, json_boolean(*(const bool *) field));
		else if (opt->type == OPT_INT)
			json_object_set_new(settings, name, json_integer(*(const int *) field));
		else if ((text = *(char *const *) field) != NULL)
			json_object_set_new(settings, name, json_string(text));
		else
			json_object_set_new(settings, name, json_null());
	}
	add_digest(settings, "CODER_SCIM_AUTH_HEADER", "scim_auth_hash");
	json_object_set_new(settings, "version", json_string(GW_VERSION));
	return settings;
}

int
gw_options_parse(GwOptions *options, int argc, char **argv)
{
	bool secure_known = getenv("CODER_SECURE_AUTH_COOKIE") != NULL;
	int i = 1;

	for (size_t k = 0; k < N_OPTIONS; k++)
	{
		const char *value = getenv(options_table[k].env);

		if (options_table[k].def != NULL && !set_option(options, &options_table[k], options_table[k].def, ""))
			return 2;
		if (value != NULL && *value != '\0' &&
			!set_option(options, &options_table[k], value, options_table[k].env))
			return 2;
	}
	if (i < argc && strcmp(argv[i], "server") == 0)
		i++;
	for (; i < argc; i++)
	{
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
		{
			print_help();
			return 0;
		}
		if (strcmp(argv[i], "--version") == 0 || strcmp(argv[i], "version") == 0)
		{
			printf("coder-server %s\n", GW_VERSION);
			return 0;
		}
		secure_known |= strncmp(argv[i], "--secure-auth-cookie", 20) == 0;
		if (!parse_flag(options, argc, argv, &i))
			return 2;
	}
	default_paths(options);
	default_url(options);
	if (!check_options(options))
		return 2;
	if (!secure_known)
		options->secure_auth_cookie = strncmp(options->access_url, "https://", 8) == 0;
	options->settings = collect_settings(options);
	return -1;
}
