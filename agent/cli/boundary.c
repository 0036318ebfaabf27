/*
 * boundary.c -- "coder boundary": a command that reaches only what rules allow.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "boundary/audit.h"
#include "boundary/config.h"
#include "boundary/frame.h"
#include "boundary/proxy.h"
#include "cli/cli.h"

#define CONFIG_NAME "/.config/coder_boundary/config.yaml"
#define PROXY_PORT 8080

extern char **environ;

/* What flags, environment and file say together. */
typedef struct Settings
{
	BoundaryRules rules;
	BoundaryConfig file;
	AuditLevel level;
	const char *log_dir;
	const char *socket; /* NULL: no logs for the agent */
	JailOptions jail;
	bool real_dns;
} Settings;

static const char *
setting(const Cli *cli, const char *flag, const char *from_file, const char *preset)
{
	const char *value = cli_flag(cli, flag);

	return value != NULL ? value : from_file != NULL ? from_file : preset;
}

static bool
is_on(const Cli *cli, const char *flag, const char *from_file)
{
	const char *value = setting(cli, flag, from_file, "false");

	return strcmp(value, "false") != 0 && strcmp(value, "0") != 0 && strcmp(value, "") != 0;
}

/* The file that is named must be there; the usual one may be. */
static void
read_config(const Cli *cli, Settings *settings)
{
	const char *named = cli_flag(cli, "config");
	const char *home = getenv("HOME");
	char *path = named != NULL ? strdup(named) : cli_format("%s" CONFIG_NAME, home != NULL ? home : "");
	char *text = malloc(BOUNDARY_CONFIG_MAX + 1);
	char error[600];
	FILE *file;
	size_t size;

	file = fopen(path, "re");
	if (file == NULL && (named != NULL || errno != ENOENT))
		cli_fail("could not read %s: %s", path, strerror(errno));
	if (file == NULL || text == NULL)
		return;
	size = fread(text, 1, BOUNDARY_CONFIG_MAX + 1, file);
	fclose(file);
	if (!boundary_config_read(&settings->file, &settings->rules, text, size, error, sizeof(error)))
		cli_fail("%s, %s", path, error);
	free(text);
	free(path);
}

static void
read_rules(const Cli *cli, Settings *settings)
{
	const char *given[CLI_MAX_VALUES];
	int n = cli_flag_all(cli, "allow", given, CLI_MAX_VALUES);
	const char *env = getenv("BOUNDARY_ALLOW");
	char error[600];

	if (n == 0 && env != NULL && *env != '\0')
		given[n++] = env;
	for (int i = 0; i < n; i++)
		if (!boundary_rules_add(&settings->rules, given[i], error, sizeof(error)))
			cli_fail("%s", error);
}

static void
read_settings(const Cli *cli, Settings *settings)
{
	static char socket_path[4096];
	const char *port, *jail, *level;
	char *end;

	read_config(cli, settings);
	read_rules(cli, settings);
	level = setting(cli, "log-level", settings->file.log_level, "warn");
	if (!audit_level(&settings->level, level))
		cli_fail("log level \"%s\": expected error, warn, info or debug", level);
	jail = setting(cli, "jail-type", settings->file.jail_type, "nsjail");
	settings->jail.landlock = strcmp(jail, "landjail") == 0;
	if (!settings->jail.landlock && strcmp(jail, "nsjail") != 0)
		cli_fail("jail type \"%s\": expected nsjail (a network of its own) or landjail (Landlock)", jail);
	port = setting(cli, "proxy-port", settings->file.proxy_port, NULL);
	settings->jail.proxy_named = port != NULL;
	settings->jail.proxy_port = port != NULL ? (int) strtol(port, &end, 10) : PROXY_PORT;
	if (port != NULL && (*end != '\0' || settings->jail.proxy_port < 1 || settings->jail.proxy_port > 65535))
		cli_fail("\"%s\" is no port", port);
	settings->log_dir = setting(cli, "log-dir", settings->file.log_dir, NULL);
	settings->real_dns = is_on(cli, "use-real-dns", settings->file.use_real_dns);
	settings->jail.no_user_namespace = is_on(cli, "no-user-namespace", settings->file.no_user_namespace);
	boundary_socket_path(socket_path, sizeof(socket_path), setting(cli, "log-proxy-socket-path", settings->file.log_proxy_socket_path, NULL));
	settings->socket = is_on(cli, "disable-audit-logs", settings->file.disable_audit_logs) ? NULL : socket_path;
}

static const char *const authority_files[] = {"SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
											  "PIP_CERT", "CARGO_HTTP_CAINFO", "AWS_CA_BUNDLE", "DENO_CERT", "NIX_SSL_CERT_FILE"};
static const char *const proxies[] = {"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"};
#define NFILES (sizeof(authority_files) / sizeof(authority_files[0]))
#define NPROXIES (sizeof(proxies) / sizeof(proxies[0]))

static bool
names(const char *variable, const char *name)
{
	size_t len = strlen(name);

	return strncmp(variable, name, len) == 0 && variable[len] == '=';
}

/* Variables that the command gets otherwise, or not. */
static bool
is_replaced(const char *variable, bool proxied)
{
	bool found = names(variable, "SSL_CERT_DIR") || (proxied && (names(variable, "NO_PROXY") || names(variable, "no_proxy")));

	for (size_t i = 0; i < NFILES; i++)
		found = found || names(variable, authority_files[i]);
	for (size_t i = 0; proxied && i < NPROXIES; i++)
		found = found || names(variable, proxies[i]);
	return found;
}

/*
 * The environment of the command: ours, and where its programs find the
 * boundary's authority.  Ours stays as it is: it says whom the proxy trusts.
 */
static char **
make_environment(const char *certificate, const char *folder, const Jail *jail, int proxy_port)
{
	size_t n = 0;
	char **env;

	while (environ[n] != NULL)
		n++;
	env = calloc(n + NFILES + NPROXIES + 2, sizeof(*env));
	if (env == NULL)
		cli_fail("out of memory");
	n = 0;
	for (char **p = environ; *p != NULL; p++)
		if (!is_replaced(*p, !jail->redirected))
			env[n++] = *p;
	for (size_t i = 0; i < NFILES; i++)
		env[n++] = cli_format("%s=%s", authority_files[i], certificate);
	env[n++] = cli_format("SSL_CERT_DIR=%s", folder);
	for (size_t i = 0; !jail->redirected && i < NPROXIES; i++)
		env[n++] = cli_format("%s=http://127.0.0.1:%d", proxies[i], proxy_port);
	return env;
}

static int
block_signals(void)
{
	static const int signals[] = {SIGCHLD, SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaddset(&set, signals[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

/* Until the command ends; the status to end with. */
static int
run(Settings *settings, const char *folder, const char *certificate)
{
	ProxyConfig config = {.rules = &settings->rules, .real_dns = settings->real_dns};
	char error[512];
	Jail jail;
	int status;

	config.signals = block_signals();
	/* Before there is any thread, or a secret that a copy of this process would have. */
	if (!jail_start(&jail, &settings->jail, error, sizeof(error)))
	{
		fprintf(stderr, "coder boundary: %s\n", error);
		return 1;
	}
	prctl(PR_SET_DUMPABLE, 0);
	config.jail = &jail;
	config.ca = ca_create(certificate, error, sizeof(error));
	if (config.ca == NULL || !audit_start(settings->level, settings->log_dir, settings->socket))
	{
		fprintf(stderr, "coder boundary: %s\n", config.ca == NULL ? error : strerror(errno));
		kill(jail.pid, SIGKILL);
		return 1;
	}
	if (settings->jail.landlock)
		audit_log(AUDIT_INFO, "the command may connect to port %d only, of any host; names are resolved here", jail.proxy_port);
	else if (!jail.redirected)
		audit_log(AUDIT_WARN, "the kernel has no rules for redirection: only ports 80, 443 and 8443, and programs that use a proxy, can connect");
	jail_go(&jail, make_environment(certificate, folder, &jail, jail.proxy_port));
	status = proxy_run(&config);
	audit_stop();
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int
run_boundary(Cli *cli)
{
	Settings settings = {0};
	const char *temporary = getenv("TMPDIR");
	char *folder, *certificate;
	static char *argv[4096];
	int n = 0, status;

	for (int i = 0; i < cli->nargs && n < 4000; i++)
		argv[n++] = (char *) (uintptr_t) cli->args[i];
	for (const char **p = cli->rest; p != NULL && *p != NULL && n < 4000; p++)
		argv[n++] = (char *) (uintptr_t) *p;
	if (n == 0)
		cli_fail("name a command: coder boundary --allow \"domain=github.com\" -- git pull");
	read_settings(cli, &settings);
	settings.jail.argv = argv;
	folder = cli_format("%s/coder-boundary-XXXXXX", temporary != NULL && *temporary != '\0' ? temporary : "/tmp");
	if (mkdtemp(folder) == NULL)
		cli_fail("could not make %s: %s", folder, strerror(errno));
	chmod(folder, 0755);
	certificate = cli_format("%s/ca-cert.pem", folder);
	status = run(&settings, folder, certificate);
	unlink(certificate);
	rmdir(folder);
	return status;
}

static const CliFlag boundary_flags[] = {
	{"allow", 0, "rule", "BOUNDARY_ALLOW", "Lets requests through: \"method=GET domain=*.github.com path=/x/*\"; repeat it for more."},
	{"config", 0, "file", "BOUNDARY_CONFIG", "YAML with allowlist and the names of these flags; ~" CONFIG_NAME " where there is one."},
	{"log-level", 0, "level", "BOUNDARY_LOG_LEVEL", "error, warn (what is denied; the default), info (what is allowed too), debug."},
	{"log-dir", 0, "dir", "BOUNDARY_LOG_DIR", "Writes boundary.log there instead of standard error."},
	{"proxy-port", 0, "port", "PROXY_PORT", "A port of the command's loopback that is a proxy too."},
	{"jail-type", 0, "type", "BOUNDARY_JAIL_TYPE", "nsjail, or landjail: programs must use the proxy that their variables name."},
	{"use-real-dns", 0, NULL, "BOUNDARY_USE_REAL_DNS", "Resolves names outside (questions for names can then carry data out)."},
	{"no-user-namespace", 0, NULL, "BOUNDARY_NO_USER_NAMESPACE", "Makes no user namespace; needs root."},
	{"disable-audit-logs", 0, NULL, "DISABLE_AUDIT_LOGS", "Does not tell the workspace's agent."},
	{"log-proxy-socket-path", 0, "path", BOUNDARY_SOCKET_ENV, "The agent's socket."},
	{NULL, 0, NULL, NULL, NULL},
};

static const char *const examples[] = {
	"coder boundary --allow \"domain=github.com\" -- git pull",
	"coder boundary --allow \"method=GET,HEAD domain=*.npmjs.org\" --log-level info -- npm install",
	"coder boundary -- bash",
	NULL,
};

const CliCommand cli_boundary_commands[] = {
	{"boundary", "[--] command [args]", "Run a command that reaches only what rules allow", boundary_flags, 0, -1, run_boundary, examples},
	{"agent-firewall", "[--] command [args]", "Another name of boundary", boundary_flags, 0, -1, run_boundary, examples},
	{NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
