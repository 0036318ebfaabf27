/*
 * main.c -- coder-server: starts the database, the event loops and its children, and ends them.
 *
 * The main thread forks and supervises the children (PostgreSQL dies with the
 * thread that forked it) and waits for signals; the loops are threads.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "accept.h"
#include "apphost.h"
#include "api.h"
#include "chat/chat.h"
#include "child.h"
#include "cluster.h"
#include "db.h"
#include "event.h"
#include "listen.h"
#include "metrics.h"
#include "option.h"
#include "outbound/outbound.h"
#include "reply.h"
#include "request.h"
#include "rate.h"
#include "route.h"
#include "secret.h"
#include "stream/stream.h"

#define STOP_MS 10000 /* for requests and streams to end */
#define MAX_BODY ((size_t) 110 * 1024 * 1024)
#define READ_CONNECTIONS 2 /* a loop */
#define FAST_CONNECTIONS 4 /* the others for writes, when many come at once */
#define SLOW_CONNECTIONS 4

int provisioner_main(int argc, char **argv) __attribute__((weak));

GwServer gw_server;

static GwCluster *cluster;

static uint64_t restart_cluster_at;
static unsigned cluster_backoff_ms = 100;

static uint64_t
now_ms(void)
{
	return gw_micros() / 1000;
}

/* HTTP ----------------------------------------------------------------------- */

static int
on_request(h2o_handler_t *handler, h2o_req_t *req)
{
	(void) handler;
	gw_api_serve(gw_request_begin(req));
	return 0;
}

/* Each listener has one host, whatever name a request gives. */
static h2o_hostconf_t *hosts[2];
static h2o_hostconf_t *metrics_hosts[2];

static void
init_http(void)
{
	h2o_globalconf_t *config = &gw_server.config;
	h2o_hostconf_t *host;
	h2o_pathconf_t *path;
	h2o_handler_t *handler;

	h2o_config_init(config);
	config->server_name = (h2o_iovec_t){NULL, 0};
	config->max_request_entity_size = MAX_BODY;
	config->http1.req_timeout = 600 * 1000; /* the sweep is stricter, see accept.c */
	config->http1.upgrade_to_http2 = 0;
	config->handshake_timeout = 10000;
	host = h2o_config_register_host(config, h2o_iovec_init(H2O_STRLIT("default")), 65535);
	path = h2o_config_register_path(host, "/", 0);
	handler = h2o_create_handler(path, sizeof(*handler));
	handler->on_req = on_request;
	hosts[0] = host;
	host = h2o_config_register_host(config, h2o_iovec_init(H2O_STRLIT("metrics")), 65535);
	path = h2o_config_register_path(host, "/", 0);
	handler = h2o_create_handler(path, sizeof(*handler));
	handler->on_req = gw_metrics_scrape;
	metrics_hosts[0] = host;
}

static bool
init_tls(void)
{
	const GwOptions *options = &gw_server.options;
	SSL_CTX *ctx;

	if (!options->tls_enable)
		return true;
	ctx = SSL_CTX_new(TLS_server_method());
	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	if (SSL_CTX_use_certificate_chain_file(ctx, options->tls_cert_file) != 1)
		gw_log(GW_ERROR, "could not read the certificate in %s", options->tls_cert_file);
	else if (SSL_CTX_use_PrivateKey_file(ctx, options->tls_key_file, SSL_FILETYPE_PEM) != 1 ||
			 SSL_CTX_check_private_key(ctx) != 1)
		gw_log(GW_ERROR, "the private key in %s cannot be read, or is not the certificate's", options->tls_key_file);
	else
	{
		gw_server.ssl_ctx = ctx;
		return true;
	}
	return false;
}

/* Loops ---------------------------------------------------------------------- */

static bool
loop_idle(GwLoop *loop)
{
	return atomic_load(&loop->connections) == 0 && gw_db_idle(loop->db);
}

static void
on_second(void *arg)
{
	GwLoop *loop = arg;
	static __thread GwTimer timer;

	gw_accept_sweep(loop);
	gw_api_sweep(loop);
	gw_timer_start(&timer, loop, loop->stopping ? 100 : 1000, on_second, loop);
}

static void
stop_loop(GwLoop *loop, void *arg)
{
	(void) arg;
	gw_accept_stop(loop);
	gw_loop_stop_streams(loop);
	h2o_context_request_shutdown(&loop->ctx);
	on_second(loop);
}

/* Between the threads and start_loops(): all loops are made; all may run. */
static struct
{
	pthread_barrier_t made;
	pthread_barrier_t run;
	pthread_mutex_t lock;
	GwRouteTable *routes;
} starting = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void
make_loop(GwLoop *loop)
{
	pthread_mutex_lock(&starting.lock);
	gw_loop_init(loop, loop->index);
	loop->accept = (h2o_accept_ctx_t){.ctx = &loop->ctx, .hosts = hosts};
	loop->accept_metrics = (h2o_accept_ctx_t){.ctx = &loop->ctx, .hosts = metrics_hosts};
	loop->accept_tls = loop->accept;
	loop->accept_tls.ssl_ctx = gw_server.ssl_ctx;
	loop->routes = gw_routes_ref(starting.routes);
	gw_metrics_init(loop);
	gw_event_init(loop);
	loop->db = gw_db_create(loop, gw_server.conninfo, READ_CONNECTIONS, FAST_CONNECTIONS, SLOW_CONNECTIONS);
	pthread_mutex_unlock(&starting.lock);
}

/*
 * A loop is made by the thread that runs it: h2o's sockets keep the free
 * buffers of the thread that made them, without a lock, and the one that wakes
 * the loop reads.
 */
static void *
loop_main(void *arg)
{
	GwLoop *loop = arg;
	uint64_t deadline = 0;

	make_loop(loop);
	pthread_barrier_wait(&starting.made);
	pthread_barrier_wait(&starting.run);
	on_second(loop);
	for (;;)
	{
		if (h2o_evloop_run(loop->ctx.loop, loop->stopping ? 50 : INT32_MAX) != 0 && errno != EINTR)
			break;
		if (!loop->stopping)
			continue;
		if (deadline == 0)
			deadline = now_ms() + STOP_MS;
		if (loop_idle(loop))
			break;
		if (now_ms() > deadline)
		{
			gw_log(GW_WARN, "%d connections did not end in time", atomic_load(&loop->connections));
			break;
		}
	}
	if (loop->index == 0)
		gw_event_stop();
	gw_db_close(loop->db);
	atomic_store(&loop->done, true);
	return NULL;
}

static bool
start_loops(GwRouteTable *routes, int http_fd, int tls_fd, int metrics_fd)
{
	int n = gw_server.options.loops;
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	if (n <= 0)
		n = cores > 1 ? (int) cores - 1 : 1;
	gw_server.n_loops = n < GW_MAX_LOOPS ? n : GW_MAX_LOOPS;
	n = gw_server.n_loops;
	pthread_barrier_init(&starting.made, NULL, (unsigned) n + 1);
	pthread_barrier_init(&starting.run, NULL, (unsigned) n + 1);
	starting.routes = routes;
	for (int i = 0; i < n; i++)
	{
		GwLoop *loop = calloc(1, sizeof(*loop));

		if (loop == NULL)
			h2o_fatal("out of memory");
		loop->index = i;
		gw_server.loops[i] = loop;
		if (pthread_create(&loop->thread, NULL, loop_main, loop) != 0)
			return false;
	}
	pthread_barrier_wait(&starting.made);
	gw_event_start(gw_server.loops[0]);
	for (int i = 0; i < gw_server.n_loops; i++)
	{
		if (http_fd >= 0)
			gw_accept_start(gw_server.loops[i], http_fd, &gw_server.loops[i]->accept);
		if (tls_fd >= 0)
			gw_accept_start(gw_server.loops[i], tls_fd, &gw_server.loops[i]->accept_tls);
		if (metrics_fd >= 0)
			gw_accept_start(gw_server.loops[i], metrics_fd, &gw_server.loops[i]->accept_metrics);
	}
	if (gw_stream_start != NULL)
		gw_stream_start();
	if (!gw_outbound_start())
		return false;
	pthread_barrier_wait(&starting.run);
	gw_listen_start();
	gw_rate_start();
	gw_carriers_start();
	return true;
}

/* Database ------------------------------------------------------------------- */

static bool
run_sql(PGconn *pg, const char *sql, const char *param, bool quiet)
{
	PGresult *result = param != NULL ? PQexecParams(pg, sql, 1, NULL, &param, NULL, NULL, 0) : PQexec(pg, sql);
	bool ok = PQresultStatus(result) == PGRES_COMMAND_OK || PQresultStatus(result) == PGRES_TUPLES_OK;

	if (!ok && !quiet)
		gw_log(GW_ERROR, "%s: %s", sql, PQresultErrorMessage(result));
	PQclear(result);
	return ok;
}

/* Half a second; false if a signal asks to stop. */
static bool
pause_start(void)
{
	struct timespec half = {.tv_nsec = 500000000};
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	return sigtimedwait(&signals, NULL, &half) < 0;
}

/* NULL after so many tries, or when a signal asks to stop. */
static PGconn *
connect_db(const char *conninfo, int tries)
{
	char *secrets = gw_secrets_option();
	const char *keys[] = {"dbname", "options", NULL};
	const char *values[] = {conninfo, *secrets != '\0' ? secrets : NULL, NULL};
	PGconn *pg = NULL;

	for (int i = 0; i < tries; i++)
	{
		if (i > 0)
		{
			if (i == 2)
				gw_log(GW_WARN, "waiting for the database: %s", PQerrorMessage(pg));
			if (!pause_start())
				break;
			PQfinish(pg);
		}
		pg = PQconnectdbParams(keys, values, 1);
		if (PQstatus(pg) == CONNECTION_OK)
			break;
	}
	free(secrets);
	if (PQstatus(pg) == CONNECTION_OK)
		return pg;
	gw_log(GW_ERROR, "could not connect to the database: %s", PQerrorMessage(pg));
	PQfinish(pg);
	return NULL;
}

static bool
create_database(void)
{
	char *conninfo = gw_cluster_conninfo(cluster, "postgres");
	PGconn *pg = connect_db(conninfo, 4);
	PGresult *result;
	bool ok = pg != NULL;

	free(conninfo);
	if (!ok)
		return false;
	result = PQexec(pg, "SELECT 1 FROM pg_catalog.pg_database WHERE datname = 'coder'");
	if (PQntuples(result) == 0)
		ok = run_sql(pg, "CREATE DATABASE coder", NULL, false);
	PQclear(result);
	PQfinish(pg);
	return ok;
}

static void
no_notices(void *arg, const PGresult *result)
{
	(void) arg;
	(void) result;
}

/* The extension at its newest version, our settings in it, its routes out of it. */
static GwRouteTable *
prepare_database(void)
{
	PGconn *pg = connect_db(gw_server.conninfo, cluster != NULL ? 4 : 60);
	GwRouteTable *routes = NULL;
	char *settings = json_dumps(gw_server.options.settings, JSON_COMPACT);

	if (pg == NULL)
		return NULL;
	PQsetNoticeReceiver(pg, no_notices, NULL);
	if (run_sql(pg, "CREATE EXTENSION IF NOT EXISTS coder", NULL, cluster == NULL) ||
		run_sql(pg, "SELECT 'coder.routes'::regclass", NULL, false))
	{
		run_sql(pg, "ALTER EXTENSION coder UPDATE", NULL, cluster == NULL);
		if (run_sql(pg, "SELECT coder.keys_start()", NULL, false) && run_sql(pg, "SELECT coder.configure($1::jsonb, true)", settings, false))
			routes = gw_listen_read_routes(pg);
		/*
		 * A server of somebody else's has not preloaded the worker.  Of the embedded
		 * one it has ended for good where it looked before the extension was there.
		 */
		run_sql(pg, "SELECT coder.ensure_worker()", NULL, true);
	}
	free(settings);
	PQfinish(pg);
	return routes;
}

static bool
start_database(void)
{
	const GwOptions *options = &gw_server.options;

	if (options->pg_connection_url != NULL)
	{
		gw_server.conninfo = strdup(options->pg_connection_url);
		return true;
	}
	cluster = gw_cluster_start(options->config_dir, options->pg_bindir);
	if (cluster == NULL || !create_database())
		return false;
	gw_server.conninfo = gw_cluster_conninfo(cluster, "coder");
	return true;
}

/* Supervision ---------------------------------------------------------------- */

static void
reap_children(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
	{
		if (!gw_children_reaped(pid, status) && gw_cluster_reaped(cluster, pid))
		{
			gw_log(GW_ERROR, "PostgreSQL has ended; starting it again");
			restart_cluster_at = now_ms() + cluster_backoff_ms;
		}
	}
}

/* Starts what has ended and may be started again; true where something still waits for its time. */
static bool
run_due(void)
{
	uint64_t now = now_ms();

	if (restart_cluster_at != 0 && now >= restart_cluster_at)
	{
		restart_cluster_at = 0;
		if (gw_cluster_restart(cluster))
			cluster_backoff_ms = 100;
		else
		{
			cluster_backoff_ms = cluster_backoff_ms < 5000 ? cluster_backoff_ms * 2 : 5000;
			restart_cluster_at = now_ms() + cluster_backoff_ms;
		}
	}
	return gw_children_run_due() || restart_cluster_at != 0;
}

static void
renew_connections(GwLoop *loop, void *arg)
{
	(void) arg;
	gw_db_renew(loop->db);
}

/* SIGHUP: keys and secrets are read again, and taken if the database's data can do with them. */
static void
reload_secrets(void)
{
	char *before = gw_secrets_option();
	char *after = gw_secrets_read();
	PGconn *pg;
	bool good;

	if (after == NULL)
	{
		gw_log(GW_ERROR, "the keys stay as they are");
		free(before);
		return;
	}
	gw_secrets_use(after);
	pg = connect_db(gw_server.conninfo, 1);
	good = pg != NULL && run_sql(pg, "SELECT coder.keys_start()", NULL, false);
	PQfinish(pg);
	if (!good)
	{
		gw_log(GW_ERROR, "the keys stay as they are");
		gw_secrets_use(before);
		return;
	}
	free(before);
	for (int i = 0; i < gw_server.n_loops; i++)
		gw_loop_post(gw_server.loops[i], renew_connections, NULL);
	gw_log(GW_INFO, "keys and secrets have been read again");
}

/* Until a signal asks to stop. */
static void
supervise(const sigset_t *signals)
{
	bool due = false;

	for (;;)
	{
		struct timespec wait = {due ? 0 : 60, due ? 50000000 : 0};
		int sig = sigtimedwait(signals, NULL, &wait);

		if (sig == SIGINT || sig == SIGTERM)
			return;
		if (sig == SIGHUP)
			reload_secrets();
		reap_children();
		due = run_due();
	}
}

static bool
loops_done(void)
{
	for (int i = 0; i < gw_server.n_loops; i++)
		if (!atomic_load(&gw_server.loops[i]->done))
			return false;
	return true;
}

/* Builds first, then requests and streams, the database last. */
static void
stop_all(const sigset_t *signals)
{
	bool hurry = false;

	gw_log(GW_INFO, "stopping");
	atomic_store(&gw_server.stopping, true);
	for (int i = 0; i < gw_server.n_loops; i++)
		gw_loop_post(gw_server.loops[i], stop_loop, NULL);
	gw_children_stop();
	while (!loops_done() && !hurry)
	{
		struct timespec wait = {0, 20000000};
		int sig = sigtimedwait(signals, NULL, &wait);

		hurry = sig == SIGINT || sig == SIGTERM;
		if (sig == SIGCHLD)
			reap_children();
	}
	for (int i = 0; i < gw_server.n_loops && !hurry; i++)
		pthread_join(gw_server.loops[i]->thread, NULL);
	if (gw_stream_stop != NULL && !hurry)
		gw_stream_stop();
	if (!hurry)
	{
		gw_outbound_stop();
		gw_listen_stop();
		gw_rate_stop();
	}
	gw_cluster_stop(cluster);
	gw_log(GW_INFO, "stopped");
}

static void
raise_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
	{
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
		if ((rlim_t) gw_server.options.max_connections + 200 > limit.rlim_cur)
			gw_server.options.max_connections = limit.rlim_cur > 400 ? (int) limit.rlim_cur - 200 : 200;
	}
}

static void
print_welcome(void)
{
	const GwOptions *options = &gw_server.options;

	printf("\ncoder-server %s is ready:\n\n  Open        %s\n", GW_VERSION, options->access_url);
	printf("  Sign in     coder login %s\n", options->access_url);
	if (cluster != NULL)
		printf("  Database    psql \"%s\"\n", gw_server.conninfo);
	printf("\nThe first page asks for the first user.  Ctrl-C stops everything.\n\n");
	fflush(stdout);
}

static int
run_server(void)
{
	const GwOptions *options = &gw_server.options;
	int http_fd = -1;
	int tls_fd = -1;
	int metrics_fd = -1;
	GwRouteTable *routes;
	sigset_t signals;
	int status = 1;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGCHLD);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL); /* all threads inherit it */
	signal(SIGPIPE, SIG_IGN);
	raise_limits();
	if (*options->http_address != '\0' && (http_fd = gw_accept_bind(options->http_address)) < 0)
		return 1;
	if (options->tls_enable && (tls_fd = gw_accept_bind(options->tls_address)) < 0)
		return 1;
	if (options->prometheus_enable && (metrics_fd = gw_accept_bind(options->prometheus_address)) < 0)
		return 1;
	if (!init_tls())
		return 1;
	init_http();
	gw_site_init();
	routes = start_database() ? prepare_database() : NULL;
	if (routes != NULL && (http_fd < 0 || gw_accept_listen(http_fd)) && (tls_fd < 0 || gw_accept_listen(tls_fd)) &&
		(metrics_fd < 0 || gw_accept_listen(metrics_fd)) && start_loops(routes, http_fd, tls_fd, metrics_fd))
	{
		gw_routes_unref(routes);
		if (http_fd >= 0)
			close(http_fd); /* each loop has its own */
		if (tls_fd >= 0)
			close(tls_fd);
		if (metrics_fd >= 0)
			close(metrics_fd);
		gw_children_start();
		print_welcome();
		supervise(&signals);
		stop_all(&signals);
		status = 0;
	}
	else
		gw_cluster_stop(cluster);
	return status;
}

/* dbcrypt rotate, dbcrypt decrypt: sealed values of a running database. */
static int
run_dbcrypt(const char *what)
{
	static const char *const commands[][2] = {{"rotate", "SELECT coder.keys_rotate()"}, {"decrypt", "SELECT coder.keys_decrypt()"}};
	const char *sql = NULL;
	char *secrets = gw_secrets_read();
	char *conninfo = NULL;
	PGconn *pg;
	PGresult *result;
	int status = 1;

	for (size_t i = 0; i < 2; i++)
		if (what != NULL && strcmp(what, commands[i][0]) == 0)
			sql = commands[i][1];
	if (sql == NULL)
		fprintf(stderr, "coder-server: usage: coder-server dbcrypt rotate|decrypt\n");
	if (sql == NULL || secrets == NULL)
		return 2;
	gw_secrets_use(secrets);
	if (gw_server.options.pg_connection_url != NULL)
		conninfo = strdup(gw_server.options.pg_connection_url);
	else if (asprintf(&conninfo, "host='%s/postgres/run' user=coder dbname=coder", gw_server.options.config_dir) < 0)
		return 1;
	pg = connect_db(conninfo, 1);
	free(conninfo);
	if (pg == NULL)
		return 1;
	result = PQexec(pg, sql);
	if (PQresultStatus(result) == PGRES_TUPLES_OK)
	{
		printf("%s values have been written anew.\n", PQgetvalue(result, 0, 0));
		status = 0;
	}
	else
		fprintf(stderr, "coder-server: %s", PQresultErrorMessage(result));
	PQclear(result);
	PQfinish(pg);
	return status;
}

int
main(int argc, char **argv)
{
	const char *dbcrypt = argc > 2 && strcmp(argv[1], "dbcrypt") == 0 ? argv[2] : NULL;
	char *secrets;
	int status;

	if (argc > 1 && strcmp(argv[1], "provisioner") == 0)
	{
		if (provisioner_main != NULL)
			return provisioner_main(argc - 1, argv + 1);
		fprintf(stderr, "coder-server: this program was built without a provisioner\n");
		return 2;
	}
	if (argc > 1 && strcmp(argv[1], "chat-runner") == 0)
		return chat_main(argc - 1, argv + 1);
	if (sodium_init() < 0)
		return 1;
	status = gw_options_parse(&gw_server.options, dbcrypt != NULL ? argc - 2 : argc, dbcrypt != NULL ? argv + 2 : argv);
	if (status >= 0)
		return status;
	if (dbcrypt != NULL)
		return run_dbcrypt(dbcrypt);
	gw_apphost_init(gw_server.options.wildcard_access_url, gw_server.options.access_url);
	secrets = gw_secrets_read();
	if (secrets == NULL)
		return 2;
	gw_secrets_use(secrets);
	status = run_server();
	fflush(stdout);
	/* Threads that did not end in time must not meet freed globals. */
	_exit(status);
}
