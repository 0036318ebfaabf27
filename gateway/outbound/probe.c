/*
 * probe.c -- threads that try relays and STUN servers, for reports of health.
 *
 * A request is the thread's until done is called.
 *
 * SPDX-License-Identifier: MIT
 */
#include "probe.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "tunnel/probe.h"

#define MAX_PROBES 16

typedef struct Probe
{
	OutboundRequest *request;
	char *ca_file;
	ProbeDone done;
	void *arg;
} Probe;

static struct
{
	pthread_mutex_t lock;
	pthread_cond_t ended;
	int running; /* under the lock */
	atomic_bool stop;
} probes = {.lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};

static void
answer(OutboundRequest *request, json_t *result)
{
	char *text = result != NULL ? json_dumps(result, JSON_COMPACT) : NULL;

	if (text != NULL && outbound_take(request, text, strlen(text)))
		request->status = 200;
	else
		request->error = "protocol";
	free(text);
	json_decref(result);
}

static void
try_target(OutboundRequest *request, const char *scheme, char *host, const char *port, const char *ca_file)
{
	size_t len = strlen(host);
	ProbeTarget target = {.host = host, .port = (uint16_t) atoi(port), .tls = strcmp(scheme, "derps") == 0, .ca_file = ca_file};

	if (len > 1 && host[0] == '[')
	{
		host[len - 1] = '\0';
		target.host = host + 1;
	}
	if (strcmp(scheme, "stun") == 0)
		answer(request, probe_stun(&target, (int) request->timeout_ms, &probes.stop));
	else
		answer(request, probe_relay(&target, (int) request->timeout_ms, &probes.stop));
}

static void *
probe_main(void *arg)
{
	Probe *probe = arg;
	CURLU *url = curl_url();
	char *scheme = NULL, *host = NULL, *port = NULL;

	if (url != NULL && curl_url_set(url, CURLUPART_URL, probe->request->url, CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK &&
		curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK && curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
		curl_url_get(url, CURLUPART_PORT, &port, 0) == CURLUE_OK)
		try_target(probe->request, scheme, host, port, probe->ca_file);
	else
		probe->request->error = "protocol";
	curl_free(scheme);
	curl_free(host);
	curl_free(port);
	curl_url_cleanup(url);
	probe->done(probe->arg);
	free(probe->ca_file);
	free(probe);
	pthread_mutex_lock(&probes.lock);
	probes.running--;
	pthread_cond_broadcast(&probes.ended);
	pthread_mutex_unlock(&probes.lock);
	return NULL;
}

/* One more may run. */
static bool
enter(void)
{
	bool free_one;

	pthread_mutex_lock(&probes.lock);
	free_one = probes.running < MAX_PROBES && !atomic_load(&probes.stop);
	probes.running += free_one;
	pthread_mutex_unlock(&probes.lock);
	return free_one;
}

bool
gw_probe_start(OutboundRequest *request, const char *ca_file, ProbeDone done, void *arg)
{
	Probe *probe = calloc(1, sizeof(*probe));
	pthread_attr_t detached;
	pthread_t thread;
	bool started = false;

	if (probe == NULL || !enter())
	{
		free(probe);
		return false;
	}
	*probe = (Probe){.request = request, .ca_file = ca_file != NULL ? strdup(ca_file) : NULL, .done = done, .arg = arg};
	if (pthread_attr_init(&detached) == 0)
	{
		pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
		started = pthread_create(&thread, &detached, probe_main, probe) == 0;
		pthread_attr_destroy(&detached);
	}
	if (!started)
	{
		free(probe->ca_file);
		free(probe);
		pthread_mutex_lock(&probes.lock);
		probes.running--;
		pthread_mutex_unlock(&probes.lock);
	}
	return started;
}

void
gw_probe_stop(void)
{
	atomic_store(&probes.stop, true);
	pthread_mutex_lock(&probes.lock);
	while (probes.running > 0)
		pthread_cond_wait(&probes.ended, &probes.lock);
	pthread_mutex_unlock(&probes.lock);
}
